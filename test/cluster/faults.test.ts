import { readdirSync, rmSync, utimesSync } from "node:fs";
import { join } from "node:path";
import { site } from "../../stacks/site";
import { mountTmpfs, unmount } from "../helpers/pod/target";
import { run } from "../helpers/process";
import { Homelab, type BackupJob } from "./homelab";
import { endOfJob, podsOf, runJob, startJob, succeeded, type FinishedJob, type JobOptions } from "./jobs";
import { PASSWORD } from "./services";

/** One attempt is enough to see why it failed. */
const once: JobOptions = { change: (spec) => (spec["backoffLimit"] = 0) };

describe("faults under a real kubelet", () => {
  let homelab: Homelab;
  let mysql: BackupJob;
  let vaultwarden: BackupJob;

  beforeAll(async () => {
    homelab = await Homelab.start(["mysql", "vaultwarden"]);
    mysql = homelab.job("mysql-backup");
    vaultwarden = homelab.job("vaultwarden-backup");
    // A generation that no fault may take away.
    for (const { name, namespace } of [mysql, vaultwarden]) succeeded(await runJob(homelab.cluster, namespace, name));
  }, 300_000);
  afterAll(() => homelab?.stop());

  /** Runs a backup under a fault and gives its Job, after the target was seen to be as before and the failure reported. */
  async function failing(job: BackupJob, options: JobOptions = once): Promise<FinishedJob> {
    const before = homelab.generations(job).map(({ name }) => name);
    const ended = await runJob(homelab.cluster, job.namespace, job.name, options);
    expect(ended).toMatchObject({ succeeded: false });
    expect(homelab.generations(job).map(({ name }) => name)).toEqual(before);
    expect(homelab.leftovers(job)).toEqual([]);
    expect(await homelab.metric("backup_last_exit_code", job)).not.toBe(0);
    return ended;
  }

  /** The one line that says what is wrong. */
  function reason({ log }: FinishedJob): string {
    const lines = log.split("\n").filter((line) => line.includes("backup failed: "));
    expect(lines).toHaveLength(1);
    return (lines[0] ?? "").replace(/^.*backup failed: /, "");
  }

  test("fails when the server is down, and tries once more", async () => {
    await homelab.scale("mysql", 0);
    try {
      const ended = await failing(mysql, {});
      expect(ended.reason).toBe("BackoffLimitExceeded");
      const lines = ended.log.split("\n").filter((line) => line.includes("backup failed: "));
      expect(lines).toHaveLength(2);
      for (const line of lines) expect(line).toMatch(/Can't connect to (MySQL )?server on 'mysql\.dbaas'/);
    } finally {
      await homelab.scale("mysql", 1);
    }
  });

  test("fails when the password is wrong", async () => {
    const change = (password: string): Promise<string> => {
      const quoted = password.replace(/['\\]/g, "\\$&");
      return homelab.mysql(`ALTER USER '${site.mysql.user}'@'%' IDENTIFIED BY '${quoted}'`);
    };
    await change("another");
    try {
      const ended = await failing(mysql);
      expect(reason(ended)).toMatch(/Access denied for user 'backup'@/);
      expect(ended.log).not.toContain(PASSWORD);
    } finally {
      await change(PASSWORD);
    }
  });

  test("fails when the export is not prepared, and says what mends it", async () => {
    rmSync(join(homelab.export(vaultwarden), ".cdktf-backup-target"));
    const said = reason(await failing(vaultwarden));
    expect(said).toContain(`on the file server run: ${vaultwarden.settings.target?.prepare}`);
    homelab.prepare(vaultwarden);
    expect(succeeded(await runJob(homelab.cluster, vaultwarden.namespace, vaultwarden.name)).log).toContain("published");
  });

  test("fails when the volume is full", async () => {
    const path = homelab.export(vaultwarden);
    mountTmpfs(path, 256 * 1024);
    try {
      homelab.prepare(vaultwarden);
      expect(reason(await failing(vaultwarden))).toMatch(/no space left \(ENOSPC\)/);
    } finally {
      unmount(path);
    }
  });

  test("fails when the export is gone from the file server: the pod waits, the deadline ends it", async () => {
    const path = homelab.export(vaultwarden);
    await run("mv", [path, `${path}.away`]);
    const name = await startJob(homelab.cluster, vaultwarden.namespace, vaultwarden.name, { change: (spec) => (spec["activeDeadlineSeconds"] = 15) });
    const ended = await endOfJob(homelab.cluster, vaultwarden.namespace, name);
    await run("mv", [`${path}.away`, path]);
    expect(ended).toMatchObject({ succeeded: false, reason: "DeadlineExceeded", log: "" });
    const events = await homelab.cluster.kubectl("get", "events", "--namespace", vaultwarden.namespace, "--field-selector", "reason=FailedMount");
    expect(events).toMatch(/No such file or directory/);
  });

  test("fails when the deadline is over, and says so before it ends", async () => {
    await homelab.whileHeld(async () => {
      const ended = await failing(mysql, { change: (spec) => (spec["activeDeadlineSeconds"] = 15) });
      expect(ended.reason).toBe("DeadlineExceeded");
      expect(reason(ended)).toMatch(/stopped by SIGTERM/);
      expect(await homelab.metric("backup_last_exit_code", mysql)).toBe(143);
    });
  });

  test("fails when the runner is killed, and the next run clears away what it left", async () => {
    const { cluster } = homelab;
    const before = homelab.generations(mysql).map(({ name }) => name);
    await homelab.whileHeld(async () => {
      const name = await startJob(cluster, mysql.namespace, mysql.name, once);
      await homelab.dumping(mysql);
      // From the node, as the kernel does when memory runs out: process 1 of a container is deaf to its own.
      const { stdout } = await run("pgrep", ["--full", "/etc/cdktf-backup/runner.js"]);
      for (const pid of stdout.trim().split("\n")) process.kill(Number(pid), "SIGKILL");
      expect(await endOfJob(cluster, mysql.namespace, name)).toMatchObject({ succeeded: false, reason: "BackoffLimitExceeded" });
    });
    expect(homelab.generations(mysql).map(({ name }) => name)).toEqual(before);
    expect(homelab.leftovers(mysql)).toEqual([expect.stringMatching(/^\.partial-/)]);

    // Nobody has held the lock for longer than its lease.
    const path = homelab.directory(mysql);
    for (const lock of readdirSync(path).filter((name) => name.startsWith(".lock."))) utimesSync(join(path, lock), new Date(0), new Date(0));
    succeeded(await runJob(cluster, mysql.namespace, mysql.name));
    expect(homelab.generations(mysql)).toHaveLength(before.length + 1);
    expect(homelab.leftovers(mysql)).toEqual([]);
  });

  test("fails when the pod is deleted by force", async () => {
    const { cluster } = homelab;
    const before = homelab.generations(mysql).length;
    await homelab.whileHeld(async () => {
      const name = await startJob(cluster, mysql.namespace, mysql.name, once);
      await homelab.dumping(mysql);
      const [pod = ""] = await podsOf(cluster, mysql.namespace, name);
      await cluster.kubectl("delete", "pod", pod, "--namespace", mysql.namespace, "--force", "--grace-period=0");
      expect(await endOfJob(cluster, mysql.namespace, name)).toMatchObject({ succeeded: false });
    });
    expect(homelab.generations(mysql)).toHaveLength(before);
  });
});
