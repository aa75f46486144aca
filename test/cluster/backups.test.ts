import { readdirSync, readFileSync } from "node:fs";
import { site } from "../../stacks/site";
import { run, temporaryDirectory } from "../helpers/process";
import { Homelab, jobsOf, synthesiseHomelab } from "./homelab";
import { endOfJob, runJob, startJob, succeeded, type FinishedJob, type JobOptions } from "./jobs";
import { ENGINES } from "./services";

const jobs = jobsOf(synthesiseHomelab());
const backups = jobs.filter(({ command }) => command === "backup");
const drills = jobs.filter(({ command }) => command === "drill");
const restores = jobs.filter(({ command }) => command === "restore");
/** Whose data lie on a volume, so that the application has to be stopped, where those of others need their server. */
const onVolumes = restores.filter(({ settings: { engine } }) => ["sqlite", "files", "prometheus"].includes(engine.kind));
const onServers = restores.filter((job) => !onVolumes.includes(job));
const checks = jobs.filter(({ command }) => command === "check-integrity");
/** What the backups of servers say when the server is down; the others read files. */
const DOWN: { readonly [job: string]: RegExp } = {
  "postgresql-backup": /connection to server at "pg-cluster-rw\.dbaas".* failed/,
  "immich-backup": /connection to server at "immich-postgresql\.immich".* failed/,
  "mysql-backup": /Can't connect to (MySQL )?server on 'mysql\.dbaas'/,
  "redis-backup": /redis\.redis/,
  "vault-backup": /vault-active\.vault/,
  "etcd-backup": /127\.0\.0\.1:2379/,
};

describe("every backup under a real kubelet", () => {
  let homelab: Homelab;
  const ended = new Map<string, FinishedJob>();

  beforeAll(async () => {
    homelab = await Homelab.start();
    const keep = (all: Awaited<ReturnType<typeof runAll>>): void => all.forEach((job) => ended.set(job.cronJob, job));
    keep(await runAll([...backups, ...checks]));
    // They read what the backups wrote, and a restore by default what a drill has proven.
    keep(await runAll(drills));
    keep(await runAll(onServers, { env: { DRY_RUN: "true" } }));
  }, 600_000);
  afterAll(() => homelab?.stop());

  /** Starts the Jobs of CronJobs all at once, and waits for all of them. */
  async function runAll(all: typeof jobs, options: JobOptions = {}): Promise<readonly (FinishedJob & { readonly cronJob: string })[]> {
    const names = await Promise.all(all.map(({ name, namespace }) => startJob(homelab.cluster, namespace, name, options)));
    return Promise.all(
      all.map(async ({ name, namespace }, index) => ({ ...(await endOfJob(homelab.cluster, namespace, names[index] ?? "", 200)), cronJob: name })),
    );
  }

  test.each([...backups, ...checks, ...drills, ...onServers])("$namespace/$name: its Job completes", ({ name }) => {
    expect(succeeded(ended.get(name)).log).not.toContain("not pushed");
  });

  test.each(backups)("$namespace/$name: one generation is on the volume, whole, and nothing else", ({ name }) => {
    const job = homelab.job(name);
    expect(homelab.generations(job)).toHaveLength(1);
    expect(homelab.leftovers(job)).toEqual([]);
  });

  test.each(backups)("$namespace/$name: its metrics are in the Pushgateway", async ({ name }) => {
    const job = homelab.job(name);
    const [generation] = homelab.generations(job);
    expect(await homelab.metric("backup_last_exit_code", job)).toBe(0);
    expect(await homelab.metric("backup_last_success_timestamp", job)).toBe(Math.floor(Date.parse(generation?.manifest.finishedAt ?? "") / 1000));
    expect(await homelab.metric("backup_generations", job)).toBe(1);
  });

  test("the integrity check of Vaultwarden's database reports that it is sound", async () => {
    const check = homelab.job("vaultwarden-integrity-check");
    expect(await homelab.metric("vaultwarden_sqlite_integrity_ok", check)).toBe(1);
  });

  test.each(drills)("$namespace/$name: the newest generation is proven", ({ name, settings }) => {
    const [generation] = homelab.generations(homelab.job(settings.backup));
    const verdict = JSON.parse(readFileSync(`${generation?.path}.drill.json`, "utf8")) as { readonly green: boolean };
    expect({ name, ...verdict }).toMatchObject({ green: true });
  });

  test.each(ENGINES)("the image $reference has the tools that its script names, and no others", async ({ reference, profile }) => {
    const root = temporaryDirectory("image");
    const ctr = ["--address", homelab.cluster.containerdSocket, "--namespace", "k8s.io", "images"];
    await run("ctr", [...ctr, "mount", reference, root]);
    const found = readdirSync(`${root}/usr/bin`);
    await run("ctr", [...ctr, "unmount", "--rm", root]);
    expect(found.sort()).toEqual([...new Set(profile.tools)].sort());
  });

  describe("restores of what lies on volumes", () => {
    test.each(onVolumes)("$namespace/$name: plans while nothing is changed, replaces what is confirmed, and the application starts", async (restore) => {
      const { cluster } = homelab;
      const { name, namespace, settings } = restore;
      const [generation] = homelab.generations(homelab.job(settings.backup));
      // The Deployments of applications are named like their namespaces.
      const application = settings.engine.kind === "prometheus" ? site.prometheus.endpoint.service : namespace;
      await homelab.scale(application, 0);

      const dry = succeeded(await runJob(cluster, namespace, name, { env: { DRY_RUN: "true" } }));
      expect(dry.log).toContain(`generation ${generation?.name}`);
      const refused = await runJob(cluster, namespace, name);
      expect(refused.succeeded).toBe(false);
      const [, CONFIRM = ""] = /restore failed: .* nothing was changed; .* set CONFIRM to "(.*)"/.exec(refused.log) ?? [refused.log];
      const done = succeeded(await runJob(cluster, namespace, name, { env: { CONFIRM } }));
      expect(done.log).toContain(`restored ${generation?.name}`);
      await homelab.scale(application, 1);
    });
  });

  describe("without its server", () => {
    const failed = new Map<string, FinishedJob>();
    const served = backups.filter(({ name }) => DOWN[name] !== undefined);

    beforeAll(async () => {
      await homelab.stopServers();
      for (const job of await runAll(served, { change: (spec) => (spec["backoffLimit"] = 0) })) failed.set(job.cronJob, job);
    });

    test.each(served)("fails when the server of $namespace/$name is down: one line says so, and nothing is published", async ({ name }) => {
      const job = homelab.job(name);
      const { succeeded: passed, log = "" } = failed.get(name) ?? {};
      expect(passed).toBe(false);
      const lines = log.split("\n").filter((line) => line.includes("backup failed: "));
      expect(lines).toEqual([expect.stringMatching(DOWN[name] ?? /^$/)]);
      expect(homelab.generations(job)).toHaveLength(1);
      expect(homelab.leftovers(job)).toEqual([]);
      expect(await homelab.metric("backup_last_exit_code", job)).toBe(1);
    });

    test("fails when the application beside which it runs is down: no pod is started, the deadline ends it", async () => {
      const job = homelab.job("prometheus-backup");
      const [ended] = await runAll([job], { change: (spec) => (spec["activeDeadlineSeconds"] = 10) });
      expect(ended).toMatchObject({ succeeded: false, reason: "DeadlineExceeded", log: "" });
      const events = await homelab.cluster.kubectl("get", "events", "--namespace", job.namespace, "--field-selector", "reason=FailedScheduling");
      expect(events).toContain("didn't match pod affinity rules");
    });
  });
});
