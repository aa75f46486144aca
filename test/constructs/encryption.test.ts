import { Lazy } from "cdktf";
import { SecretRef } from "../../constructs/backup";
import type { Settings } from "../../lib/runtime/settings";
import { ANNE, BERT } from "../runtime/support/age";
import { at, type Json, Template } from "../helpers/template";
import { KINDS, make } from "./fixtures";

const CRON_JOB = "kubernetes_cron_job_v1";
const POD = "spec.job_template.spec.template.spec";
const ENCRYPTION = { recipients: [ANNE.recipient, BERT.recipient], identity: SecretRef.of("backup-escrow", "age.txt") };
const BACKUPS = KINDS.filter((kind) => kind !== "integrity");

const synthesise = (kind: string, encryption = ENCRYPTION): Template => Template.of((stack) => void make(kind, stack, "app", { encryption }));

function settings(template: Template, name: string): Settings {
  return JSON.parse(String(template.value("kubernetes_config_map_v1", "data", name)?.["settings.json" as never])) as Settings;
}

function list(json: Json | undefined): readonly { readonly [key: string]: Json }[] {
  return (json ?? []) as readonly { readonly [key: string]: Json }[];
}

/** Names of the jobs that a backup is, and that come with it. */
function jobs(template: Template): readonly string[] {
  return template.resources(CRON_JOB).map((job) => String(at(job, "metadata.name"))).sort();
}

test.each(BACKUPS)("the backup has public keys alone: %s", (kind) => {
  const template = synthesise(kind);
  expect(settings(template, "app").encryption).toEqual({ recipients: [ANNE.recipient, BERT.recipient] });
  expect(settings(template, "app").identity).toBeUndefined();
  const job = JSON.stringify(template.resource(CRON_JOB, "app"));
  for (const word of ["backup-escrow", "age.txt", "/identity"]) expect(job).not.toContain(word);
});

test.each(BACKUPS)("the runners of drill and restore, and no other container, see the private key: %s", (kind) => {
  const template = synthesise(kind);
  for (const name of jobs(template).filter((job) => job !== "app")) {
    const pod = at(template.resource(CRON_JOB, name), POD);
    expect(list(at(pod, "volume")).filter(({ name: volume }) => volume === "identity")).toEqual([
      {
        name: "identity",
        secret: { secret_name: "backup-escrow", optional: true, default_mode: "0444", items: [{ key: "age.txt", path: "age.txt" }] },
      },
    ]);
    for (const container of [...list(at(pod, "init_container")), ...list(at(pod, "container"))]) {
      const isRunner = (container.command as readonly string[])[0] === "node";
      const mounts = list(container.volume_mount).filter(({ name: volume }) => volume === "identity");
      expect(mounts).toEqual(isRunner ? [{ name: "identity", mount_path: "/identity/backup-escrow", read_only: true }] : []);
    }
    expect(settings(template, name).identity).toBe("/identity/backup-escrow/age.txt");
  }
});

test("a drill cannot encrypt, and a restore encrypts what it replaces", () => {
  const template = synthesise("sqlite");
  expect(jobs(template)).toEqual(["app", "app-drill", "app-restore"]);
  expect(settings(template, "app-drill").encryption).toBeUndefined();
  expect(settings(template, "app-restore").encryption).toEqual({ recipients: ENCRYPTION.recipients });
});

test.each(BACKUPS)("without it nothing of it is there: %s", (kind) => {
  const template = Template.of((stack) => void make(kind, stack, "app"));
  for (const name of jobs(template)) {
    const { encryption, identity } = settings(template, name);
    expect({ encryption, identity }).toEqual({ encryption: undefined, identity: undefined });
    expect(JSON.stringify(template.resource(CRON_JOB, name))).not.toContain("identity");
  }
});

test("keys and names that only Terraform knows are taken", () => {
  const unknown = (name: string): string => Lazy.stringValue({ produce: () => `\${data.external.${name}}` });
  const identity = SecretRef.of(unknown("secret"), "age.txt");
  const template = Template.of((stack) => void make("sqlite", stack, "app", { encryption: { recipients: [unknown("key")], identity } }));
  const text = String(template.value("kubernetes_config_map_v1", "data", "app-drill")?.["settings.json" as never]);
  expect(text).toContain("data.external.secret");
  expect(JSON.stringify(template.resource(CRON_JOB, "app-drill"))).toContain("/identity/${data.external.secret}");
  expect(String(template.value("kubernetes_config_map_v1", "data", "app")?.["settings.json" as never])).toContain("data.external.key");
});
