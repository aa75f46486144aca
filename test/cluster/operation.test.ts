import { TerraformStack, Testing } from "cdktf";
import { MySqlDumpBackup } from "../../constructs/backup";
import { NfsBackupVolume, RetiredBackupVolume } from "../../constructs/storage";
import { RUNNER_IMAGE } from "../../constructs/runner/defaults";
import { ImageReference, Retention, Schedule } from "../../lib";
import { site } from "../../stacks/site";
import type { Block, Synthesised } from "../helpers/pod/terraform";
import { run, waitFor } from "../helpers/process";
import { objectsOf, type KubernetesObject } from "./direct";
import { apply, Homelab, replace, type BackupJob } from "./homelab";
import { endOfJob, podsOf, runJob, startJob, succeeded, type JobOptions } from "./jobs";

const NEXT_IMAGE = `${RUNNER_IMAGE.repository}:24.21.1-alpine`;
const NEXT_RUNNER = 'console.log("the next runner");\n';
const once: JobOptions = { change: (spec) => (spec["backoffLimit"] = 0) };

describe("the homelab in operation", () => {
  let homelab: Homelab;
  beforeAll(async () => {
    homelab = await Homelab.start(["mysql", "plotting-book", "prometheus-server", "vault"]);
  }, 300_000);
  afterAll(() => homelab?.stop());

  const get = ({ name, namespace }: BackupJob, path: string): Promise<string> =>
    homelab.cluster.kubectl("get", "cronjob", name, "--namespace", namespace, "-o", `jsonpath={${path}}`);

  test("a CronJob fires by itself, and a change of script and schedule between two runs loses none", async () => {
    const { cluster } = homelab;
    const job = homelab.job("plotting-book-backup");
    const jobs = async (): Promise<readonly string[]> => {
      const names = await cluster.kubectl("get", "jobs", "--namespace", job.namespace, "-o", "jsonpath={.items[*].metadata.name}");
      return names.split(" ").filter((name) => /^plotting-book-backup-\d{8}$/.test(name)).sort();
    };
    await apply(cluster, changed(job, "* * * * *"));
    await waitFor(async () => (await jobs()).length === 1, "the CronJob to fire", 90, 500);
    await apply(cluster, changed(job, "*/1 * * * *", NEXT_RUNNER));
    await waitFor(async () => (await jobs()).length === 2, "the CronJob to fire again", 90, 500);
    await cluster.kubectl("patch", "cronjob", job.name, "--namespace", job.namespace, "--patch", '{"spec":{"suspend":true}}');

    const [first = "", second = ""] = await jobs();
    expect(Number(second.slice(-8)) - Number(first.slice(-8))).toBe(1);
    for (const name of [first, second]) {
      const { log } = succeeded(await endOfJob(cluster, job.namespace, name));
      expect(log).toMatch(/published \d{8}T\d{6}Z-/);
      expect(log.includes("the next runner")).toBe(name === second);
    }
    expect(homelab.generations(job)).toHaveLength(2);
  });

  test("a suspended CronJob is run by hand, with variables of that run alone", async () => {
    const { cluster } = homelab;
    const { name, namespace } = homelab.job("plotting-book-backup");
    expect(await get(homelab.job(name), ".spec.suspend")).toBe("true");
    const job = succeeded(await runJob(cluster, namespace, name, { env: { NOTE: "it's $HOME" } }));
    const [pod = ""] = await podsOf(cluster, namespace, job.name);
    const note = 'jsonpath={.spec.containers[0].env[?(@.name=="NOTE")].value}';
    expect(await cluster.kubectl("get", "pod", pod, "--namespace", namespace, "-o", note)).toBe("it's $HOME");

    await cluster.shell(`kubectl create job by-hand --namespace ${namespace} --from=cronjob/${name} --dry-run=client -o json |
      kubectl set env --local -f - NOTE=shell -o json | kubectl create -f -`);
    expect(succeeded(await endOfJob(cluster, namespace, "by-hand")).log).toContain("published");
    expect(await cluster.kubectl("get", "cronjob", name, "--namespace", namespace, "-o", "json")).not.toContain("NOTE");
  });

  test("a run that is scheduled for the second Sunday of a month is not due, and does nothing", async () => {
    const job = homelab.job("prometheus-backup");
    const minutes = Date.UTC(2026, 2, 8, 4) / 60_000;
    const ended = succeeded(await runJob(homelab.cluster, job.namespace, job.name, { name: `${job.name}-${minutes}` }));
    expect(ended.log).toMatch(/not due: scheduled for day 8 of the month/);
    expect(homelab.generations(job)).toEqual([]);
    expect(await homelab.metric("backup_last_run_timestamp", job)).toBeUndefined();
  });

  test("a change of script, image and schedule is made in place, and the run that is under way ends well", async () => {
    const { cluster } = homelab;
    const job = homelab.job("mysql-backup");
    const uid = await get(job, ".metadata.uid");
    await run("ctr", ["--address", cluster.containerdSocket, "--namespace", "k8s.io", "images", "tag", RUNNER_IMAGE.toString(), NEXT_IMAGE]);
    let before = "";
    await homelab.whileHeld(async () => {
      before = await startJob(cluster, job.namespace, job.name, once);
      await homelab.dumping(job);
      await apply(cluster, upgraded());
      expect(await get(job, ".metadata.uid")).toBe(uid);
      expect(await get(job, ".spec.schedule")).toBe("40 1 * * *");
    });
    expect(succeeded(await endOfJob(cluster, job.namespace, before)).log).not.toContain("the next runner");
    expect(homelab.generations(job)).toHaveLength(1);

    const after = succeeded(await runJob(cluster, job.namespace, job.name));
    const [pod = ""] = await podsOf(cluster, job.namespace, after.name);
    expect(await cluster.kubectl("get", "pod", pod, "--namespace", job.namespace, "-o", "jsonpath={.spec.containers[0].image}")).toBe(NEXT_IMAGE);
    expect(after.log).toContain("the next runner");
    expect(homelab.generations(job)).toHaveLength(2);
  });

  test("no pod has a token of Kubernetes' own, and the ServiceAccount of Vault's backup may do nothing in the API", async () => {
    const { cluster } = homelab;
    const vault = homelab.job("vault-backup");
    succeeded(await runJob(cluster, vault.namespace, vault.name));
    const pods = JSON.parse(await cluster.kubectl("get", "pods", "--all-namespaces", "-o", "json")) as { readonly items: readonly Block[] };
    const names = pods.items.flatMap(({ spec }) => ((spec as Block)["volumes"] as readonly { readonly name: string }[]).map(({ name }) => name));
    expect(names).toContain("token");
    expect(names.filter((name) => name.startsWith("kube-api-access"))).toEqual([]);
    for (const what of ["secrets", "pods", "configmaps", "serviceaccounts"]) {
      for (const verb of ["get", "list", "create"]) {
        const as = `--as=${homelab.vault?.bound.user}`;
        const { stdout } = await cluster.tryKubectl({ mayFail: true }, "auth", "can-i", verb, what, "--namespace", vault.namespace, as);
        expect(`${verb} ${what}: ${stdout.trim()}`).toBe(`${verb} ${what}: no`);
      }
    }
  });

  describe("each grant of Vault's backup is needed", () => {
    const fails = async (): Promise<string> => {
      const vault = homelab.job("vault-backup");
      const before = homelab.generations(vault).length;
      const ended = await runJob(homelab.cluster, vault.namespace, vault.name, once);
      expect(ended).toMatchObject({ succeeded: false });
      expect(homelab.generations(vault)).toHaveLength(before);
      const lines = ended.log.split("\n").filter((line) => line.includes("backup failed: "));
      expect(lines).toHaveLength(1);
      return lines[0] ?? "";
    };

    test("fails when the role is bound to another ServiceAccount", async () => {
      const bound = homelab.vault?.bound as { user: string };
      const { user } = bound;
      bound.user = "system:serviceaccount:vault:another";
      expect(await fails()).toMatch(/permission denied/);
      bound.user = user;
    });

    test("fails when the role asks for another audience", async () => {
      const bound = homelab.vault?.bound as { audience: string };
      bound.audience = "another";
      expect(await fails()).toMatch(/permission denied/);
      bound.audience = "vault";
    });

    test("fails when the policy does not allow snapshots", async () => {
      const state = homelab.vault?.double.state as { maySnapshot: boolean };
      state.maySnapshot = false;
      expect(await fails()).toMatch(/permission denied/);
      state.maySnapshot = true;
    });

    test("fails when the policy does not allow it to give its token back", async () => {
      const state = homelab.vault?.double.state as { mayRevoke: boolean };
      state.mayRevoke = false;
      expect(await fails()).toMatch(/refuses to revoke the backup's token/);
      state.mayRevoke = true;
    });
  });

  describe("a backup that is removed", () => {
    const before = (): string => homelab.job("plotting-book-backup").json;
    const kinds = ["cronjob", "configmap", "networkpolicy"];
    const left = async (): Promise<readonly string[]> => {
      const { stdout } = await homelab.cluster.tryKubectl(
        ...[{ mayFail: true }, "get", [...kinds, "pvc"].join(), "plotting-book-backup", "--namespace", "plotting-book"] as const,
        ...["--ignore-not-found", "-o", "jsonpath={.items[*].kind}"],
      );
      return stdout.split(" ").sort();
    };

    test("is refused without the volume's tombstone, and nothing is changed", async () => {
      await expect(replace(homelab.cluster, before(), without("plotting-book"))).rejects.toThrow(/^prevent_destroy: .*, /);
      expect(await left()).toEqual(["ConfigMap", "CronJob", "NetworkPolicy", "PersistentVolumeClaim"]);
    });

    test("goes with it, but for the volume, its claim and the files", async () => {
      const { cluster } = homelab;
      const job = homelab.job("plotting-book-backup");
      const files = homelab.generations(job).map(({ name }) => name);
      await replace(cluster, before(), without("plotting-book", "plotting-book-volume"));
      expect(await left()).toEqual(["PersistentVolumeClaim"]);
      const phase = (what: string): Promise<string> => cluster.kubectl("get", what, job.name, "--namespace", job.namespace, "-o", "jsonpath={.status.phase}");
      expect([await phase("pvc"), await phase("pv")]).toEqual(["Bound", "Bound"]);
      expect(homelab.generations(job).map(({ name }) => name)).toEqual(files);

      // The end of both, by hand.
      await cluster.kubectl("delete", "pvc", job.name, "--namespace", job.namespace);
      expect(await phase("pv")).toBe("Released");
      await cluster.kubectl("delete", "pv", job.name);
      expect(homelab.generations(job).map(({ name }) => name)).toEqual(files);
    });
  });

  /** The objects of a backup with another schedule and, if given, another beginning of its runner. */
  function changed({ name, json }: BackupJob, schedule: string, runner = ""): readonly object[] {
    const all = objectsOf(JSON.parse(json) as Synthesised).filter(({ metadata }) => metadata.name === name);
    return all.map((object) => {
      if (object.kind === "CronJob") return { ...object, spec: { ...(object["spec"] as object), schedule } };
      if (object.kind !== "ConfigMap") return object;
      const data = object["data"] as { readonly "runner.js": string };
      return { ...object, data: { ...data, "runner.js": `${runner}${data["runner.js"]}` } };
    });
  }
});

/** A stack without its backup, and the tombstone of that backup's volume, if its id is given. */
function without(id: string, volume?: string): string {
  const stack = new TerraformStack(Testing.app(), id);
  if (volume !== undefined) new RetiredBackupVolume(stack, volume, { reason: "the service is gone", since: "2026-11-23" });
  return Testing.synth(stack);
}

/** The MySQL backup of the homelab with another image, schedule and runner. */
function upgraded(): readonly KubernetesObject[] {
  const { namespace, endpoint, image, user, password, expectDatabases, volume } = site.mysql;
  const stack = new TerraformStack(Testing.app(), "dbaas");
  const { server, root, storageClassName } = site.nfs;
  new MySqlDumpBackup(stack, "mysql-backup", {
    ...{ namespace, endpoint, image, user, password, expectDatabases, pushgateway: site.pushgateway, retention: Retention.keepDays(14) },
    volume: new NfsBackupVolume(stack, "mysql-volume", { name: volume.name, namespace, server, path: `${root}/${volume.directory}`, storageClassName }),
    schedule: Schedule.cron("40 1 * * *"),
    runnerImage: ImageReference.parse(NEXT_IMAGE),
  });
  const objects = objectsOf(JSON.parse(Testing.synth(stack)) as Synthesised);
  const data = objects.find(({ kind }) => kind === "ConfigMap")?.["data"] as Record<string, string>;
  data["runner.js"] = `${NEXT_RUNNER}${data["runner.js"]}`;
  return objects;
}
