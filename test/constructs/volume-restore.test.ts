import { FileBackup, SqliteBackup, type FileBackupProps, type SqliteBackupProps } from "../../constructs/backup";
import { InlineNfsVolume, PodVolume } from "../../constructs/storage";
import { Quantity } from "../../lib/quantity";
import type { Settings } from "../../lib/runtime/settings";
import { at, Template, testStack, type Attributes } from "../helpers/template";
import { COLOCATED, required } from "./fixtures";

const CRON_JOB = "kubernetes_cron_job_v1";
const POD = "spec.job_template.spec.template.spec";

const sqliteProps = (props: Partial<SqliteBackupProps>): SqliteBackupProps => ({
  ...required("app"),
  data: PodVolume.fromClaim("app-data", { subPath: "data" }),
  database: "db.sqlite3",
  colocateWith: COLOCATED,
  ...props,
});
const filesProps = (props: Partial<FileBackupProps>): FileBackupProps => ({
  ...required("app"),
  sources: [{ name: "data", volume: PodVolume.fromClaim("app-data") }],
  consistency: "crash-consistent",
  colocateWith: COLOCATED,
  ...props,
});
const sqlite = (props: Partial<SqliteBackupProps> = {}): Template => Template.of((stack) => new SqliteBackup(stack, "app", sqliteProps(props)));
const files = (props: Partial<FileBackupProps> = {}): Template => Template.of((stack) => new FileBackup(stack, "app", filesProps(props)));

function settings(template: Template, name: string): Settings {
  const { data } = template.resource("kubernetes_config_map_v1", name);
  return JSON.parse(String((data as Attributes)["settings.json"])) as Settings;
}

const mounts = (template: Template, name: string): readonly Attributes[] => {
  const [runner] = template.value(CRON_JOB, `${POD}.container`, name) as readonly Attributes[];
  return (runner?.volume_mount as readonly Attributes[]).filter(({ mount_path: path }) => String(path).startsWith("/source"));
};

describe.each([["SqliteBackup", sqlite], ["FileBackup", files]] as const)("a %s", (_, synthesise) => {
  test("has a drill that cannot see the data, and whose scratch space is as large as what it may restore", () => {
    const template = synthesise();
    expect(JSON.stringify(template.resource(CRON_JOB, "app-drill"))).not.toContain("app-data");
    expect(template.value(CRON_JOB, `${POD}.affinity`, "app-drill")).toBeUndefined();
    const scratch = (of: Template): unknown =>
      (of.value(CRON_JOB, `${POD}.volume`, "app-drill") as readonly Attributes[]).find(({ name }) => name === "scratch")?.empty_dir;
    expect(scratch(template)).toEqual({ size_limit: "20Gi" });
    expect(settings(template, "app-drill").drill?.scratchBytes).toBe(20 * 2 ** 30);
    expect(scratch(synthesise({ drill: { size: Quantity.mebibytes(1500) } }))).toEqual({ size_limit: "1500Mi" });
    expect(scratch(synthesise({ scratchSize: Quantity.gibibytes(30) }))).toEqual({ size_limit: "30Gi" });
    expect(scratch(synthesise({ scratchSize: Quantity.gibibytes(3) }))).toEqual({ size_limit: "20Gi" });
  });

  test("has a restore that may write the data, is never started by itself, and knows how the application is stopped", () => {
    const template = synthesise();
    expect(mounts(template, "app").map(({ read_only: readOnly }) => readOnly)).toEqual([true]);
    expect(mounts(template, "app-restore").map(({ read_only: readOnly }) => readOnly)).toEqual([undefined]);
    expect(mounts(template, "app-restore").map(({ sub_path: path }) => path)).toEqual(mounts(template, "app").map(({ sub_path: path }) => path));
    expect(template.value(CRON_JOB, "spec.suspend", "app-restore")).toBe(true);
    expect(template.value(CRON_JOB, "spec.job_template.spec.backoff_limit", "app-restore")).toBe(0);
    const { stop } = settings(template, "app-restore").engine as { readonly stop?: string };
    expect(stop).toBe("kubectl scale deployment,statefulset -n apps -l app=app --replicas=0");
    expect(settings(template, "app").engine).not.toHaveProperty("stop");
  });

  test("lets its restore be another user of its group, who can use the volume with the backups", () => {
    const own = synthesise({ runAs: { uid: 1001, gid: 33 }, restore: { runAs: { uid: 33 } } });
    const user = (name: string): readonly unknown[] => ["run_as_user", "run_as_group"].map((key) => own.value(CRON_JOB, `${POD}.security_context.${key}`, name));
    expect([user("app"), user("app-drill"), user("app-restore")]).toEqual([["1001", "33"], ["1001", "33"], ["33", "33"]]);
    const prepare = (of: Template, name: string): string => settings(of, name).target?.prepare ?? "";
    for (const name of ["app", "app-drill", "app-restore"]) {
      expect(prepare(own, name)).toContain("chown 1001:33 /mnt/main/app/app && chmod 770 /mnt/main/app/app");
    }
    expect(prepare(synthesise(), "app")).toContain("chmod 750 /mnt/main/app/app");
  });
});

test.each<[string, () => unknown, RegExp]>([
  ["a restore of another group", () => new SqliteBackup(testStack(), "app", sqliteProps({ restore: { runAs: { uid: 33, gid: 34 } } })), /'restore\.runAs\.gid' must be the backup's own, 1000, by which both can use the volume/],
  ["a restore as root without a reason", () => new FileBackup(testStack(), "app", filesProps({ restore: { runAs: { uid: 0 } } })), /'runAs\.reason' must be why this backup must run as root/],
  ["an assertion that names a database", () => new SqliteBackup(testStack(), "app", sqliteProps({ drill: { assertions: [{ database: "x", query: "SELECT 1", expect: "1" }] } })), /'drill\.assertions' must be assertions without 'database'/],
  ["an assertion about files", () => new FileBackup(testStack(), "app", filesProps({ drill: { assertions: [{ query: "SELECT 1", expect: "1" }] } })), /'drill\.assertions' must be none, since files answers no statements/],
])("refuses %s", (_, make, message) => {
  expect(make).toThrow(message);
});

test("a snapshot has a restore only where it is said to which volume", () => {
  const [volume, restoreTo] = ["snapshot", "live"].map((name) => PodVolume.fromNfs("10.0.10.15", `/mnt/main/${name}`));
  if (volume === undefined) throw new Error("there is no volume");
  const jobs = (source: object): readonly string[] =>
    files({ consistency: "snapshot", sources: [{ name: "data", volume, ...source }], volume: InlineNfsVolume.of("10.0.10.15", "/mnt/backup/app") })
      .resources(CRON_JOB)
      .map((job) => String(at(job, "metadata.name")))
      .sort();
  expect(jobs({})).toEqual(["app", "app-drill"]);
  expect(jobs({ restoreTo })).toEqual(["app", "app-drill", "app-restore"]);
});
