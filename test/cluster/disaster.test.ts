import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { Testing } from "cdktf";
import { protectedServices } from "../../constructs/backup";
import { commandsOf, fileOf, type ProtectedService } from "../../lib/runbooks";
import type { Manifest } from "../../lib/runtime/manifest";
import { addStacks } from "../../stacks";
import { site } from "../../stacks/site";
import { execute, makeNode } from "../helpers/etcd-node";
import { ROOT } from "../helpers/servers/vault-double";
import { run, startProcess, temporaryDirectory, waitFor, type ManagedProcess } from "../helpers/process";
import { Etcd, type Pki } from "../helpers/servers/etcd";
import { PROGRAMS } from "./cluster";
import { Homelab, type BackupJob } from "./homelab";
import { endOfJob, startJob, succeeded } from "./jobs";
import { ETCD } from "./services";

const SFTP = { port: 2022, user: "backup", password: "of the second NAS" };
/** Files whose content is random, so that no new installation has them. */
const PICTURES = `SELECT group_concat(hex(data)) FROM (SELECT data FROM item WHERE id <= 2000 ORDER BY id)`;

/** A runbook as `npm run docs` wrote it. */
const text = (file: string): string => readFileSync(join(__dirname, "../../docs/generated", file), "utf8");

function servicesOfTheHomelab(): readonly ProtectedService[] {
  const app = Testing.app();
  addStacks(app);
  return protectedServices(app);
}

function fail(message: string): never {
  throw new Error(message);
}

/** A fingerprint, without the hash of a Redis snapshot's bytes: one that was made anew has the same keys in another order. */
function facts(manifest: Manifest | undefined): unknown {
  const { snapshot, ...others } = manifest?.fingerprint ?? {};
  return typeof snapshot === "object" ? { ...others, snapshot: { ...snapshot, sha256: undefined } } : { ...others, snapshot };
}

/**
 * Everything is lost but the copy on the second NAS: the cluster, the file server, every volume. A new cluster with new servers is filled
 * again by what the generated runbooks say, and by nothing else.
 */
describe("after the loss of everything but the offsite copy", () => {
  const services = servicesOfTheHomelab();
  const root = temporaryDirectory("second");
  const offsite = join(root, site.offsite.remote.split(":")[1] ?? "");
  const remote = { PATH: process.env["PATH"] ?? "", HOME: root };
  let nas: ManagedProcess;
  let rclone: { readonly [name: string]: string };
  let homelab: Homelab;
  const before = new Map<string, Manifest>();
  const pictures = new Map<string, string>();
  let etcd: Awaited<ReturnType<Etcd["content"]>>;
  let pki: Pki;
  const seconds = new Map<string, number>();

  const exported = (): string => join(homelab.cluster.exports, site.offsite.below);
  /** On the file server, whose root is a directory here. */
  const onFileServer = async (commands: string): Promise<string> =>
    (await run("sh", ["-euc", commands.replaceAll(`${site.offsite.below}/`, `${exported()}/`)], { env: { ...remote, ...rclone }, mayFail: true })).stdout;
  const database = (name: string, path: string): string => join(homelab.data.get(name) ?? fail(name), path);
  const picturesOf = async (path: string): Promise<string> => (await run("sqlite3", ["-readonly", path, PICTURES])).stdout;
  const SQLITE: { readonly [name: string]: string } = { vaultwarden: site.vaultwarden.database, "plotting-book": site.plottingBook.database };

  async function runAll(jobs: readonly BackupJob[]): Promise<void> {
    const names = await Promise.all(jobs.map(({ name, namespace }) => startJob(homelab.cluster, namespace, name)));
    for (const [index, { namespace }] of jobs.entries()) succeeded(await endOfJob(homelab.cluster, namespace, names[index] ?? "", 200));
  }
  const jobs = (command: string): readonly BackupJob[] => homelab.jobs.filter((job) => job.command === command);

  beforeAll(async () => {
    mkdirSync(offsite, { recursive: true });
    nas = await startProcess({
      command: "rclone",
      args: ["serve", "sftp", "--addr", `127.0.0.1:${SFTP.port}`, "--user", SFTP.user, "--pass", SFTP.password, root],
      ready: { port: SFTP.port },
    });
    const obscured = (await run("rclone", ["obscure", SFTP.password])).stdout.trim();
    const is = { TYPE: "sftp", HOST: "127.0.0.1", PORT: String(SFTP.port), USER: SFTP.user, PASS: obscured, SHELL_TYPE: "unix" };
    rclone = Object.fromEntries(Object.entries(is).map(([name, value]) => [`RCLONE_CONFIG_SYNOLOGY_${name}`, value]));

    homelab = await Homelab.start();
    await runAll(jobs("backup"));
    await runAll(jobs("drill"));
    for (const job of jobs("backup")) before.set(job.name, homelab.generations(job).at(-1)?.manifest ?? fail(job.name));
    for (const [name, path] of Object.entries(SQLITE)) pictures.set(name, await picturesOf(database(name, path)));
    etcd = (await homelab.etcd?.content()) ?? fail("etcd");
    pki = homelab.pki ?? fail("pki");

    await onFileServer(`rclone copy --checksum --create-empty-src-dirs ${site.offsite.below}/ ${site.offsite.remote}`);
    // The end of it all.
    const lost = [homelab.cluster.exports, site.etcd.pki, ...homelab.data.values()];
    await homelab.stop();
    for (const directory of lost) rmSync(directory, { recursive: true });

    homelab = await Homelab.start(undefined, "none");
  }, 900_000);
  afterAll(async () => {
    const took = [...seconds].map(([name, time]) => `${name} ${time.toFixed(1)} s`).join(", ");
    process.stderr.write(`disaster: restored from the second copy, each with its plan first: ${took}\n`);
    await homelab?.stop();
    await nas?.stop("SIGKILL");
  });

  test("the file server has everything again, whole, and its backups own it", async () => {
    const began = performance.now();
    for (const commands of commandsOf(text("restore-full-cluster.md"), "file server")) expect(await onFileServer(commands)).not.toContain("damaged");
    seconds.set("the file server", (performance.now() - began) / 1000);
    for (const job of jobs("backup")) expect(homelab.generations(job).map(({ manifest }) => manifest)).toEqual([before.get(job.name)]);
  });

  /** What a runbook says to restore all of a service, from the commands that begin so. */
  function steps(service: ProtectedService): readonly string[] {
    const all = commandsOf(text(fileOf(service)));
    return all.filter((commands) => /^(restore |kubectl scale |kubectl create secret )/.test(commands) && !/\b(DATABASE|TABLE|ONLY|INTO)=/.test(commands));
  }

  const restorable = services.filter(({ restore }) => restore !== undefined);
  test.each(restorable)("$name comes back by its runbook", async (service) => {
    const began = performance.now();
    const [define = ""] = commandsOf(text(fileOf(service))).filter((commands) => commands.includes("\nrestore() {"));
    const typed = async (commands: string): Promise<string> => homelab.cluster.shell(`${define}\n${commands}`);
    const log: string[] = [];
    const all = steps(service);
    for (const [index, commands] of all.entries()) {
      if (commands.startsWith("kubectl create secret ")) {
        await typed(`printf %s '${ROOT}' | { ${commands}; }`);
        continue;
      }
      const output = await typed(commands);
      log.push(output);
      if (!commands.includes("DRY_RUN=true") || all[index + 1]?.startsWith("restore ") === true) continue;
      // "Then again without DRY_RUN, and where the target is not empty with CONFIRM set to the name that the plan says."
      const [, confirm] = /needs CONFIRM="(.*)"/.exec(output) ?? [];
      log.push(await typed(commands.replace("DRY_RUN=true", confirm === undefined ? "DRY_RUN=false" : `CONFIRM=${confirm}`)));
    }
    // Each call of `restore` waits for its job. Its log is not always whole: a kubelet may be asked before it has made the file.
    expect(log.join("\n").match(/job\.batch\/\S+ condition met/g) ?? []).toHaveLength(2);
    seconds.set(service.name, (performance.now() - began) / 1000);
  }, 200_000);

  test("etcd comes back by the commands for the node, every key and the PKI", async () => {
    const generation = join(homelab.directory(homelab.job("etcd-backup")), before.get("etcd-backup")?.generation ?? "");
    const { root: node, commands } = makeNode(generation, PROGRAMS);
    await execute(node, commands);
    await run("diff", ["-r", pki.path, join(node, "etc/kubernetes/pki")]);
    const restored = await Etcd.start(pki, { program: ETCD, data: join(node, "var/lib/etcd"), cluster: ["--name", "k8s-master"] });
    try {
      expect({ ...(await restored.content()), revision: 0 }).toEqual({ ...etcd, revision: 0 });
    } finally {
      await restored.stop("SIGKILL");
    }
  });

  test.each(Object.entries(SQLITE))("%s has the rows that only the lost one had", async (name, path) => {
    await waitFor(() => existsSync(database(name, path)), "the database");
    expect(await picturesOf(database(name, path))).toBe(pictures.get(name));
  });

  test("Prometheus has the blocks that were backed up", () => {
    const blocks = before.get("prometheus-backup")?.fingerprint["blocks"] as unknown as readonly { readonly ulid: string }[];
    expect(readdirSync(database("prometheus-server", "."))).toEqual(expect.arrayContaining(blocks.map(({ ulid }) => ulid)));
  });

  test("once everything is backed up again, nothing differs from what was backed up before", async () => {
    // Passwords are in no backup, and whoever has the old keys has unsealed Vault.
    await homelab.letBackUp("pg-cluster-rw", site.postgresql.namespace);
    await homelab.letBackUp("immich-postgresql", site.immich.namespace);
    if (homelab.vault !== undefined) homelab.vault.double.state.sealed = false;
    const commands = commandsOf(text("restore-full-cluster.md")).find((block) => block.includes("-backup-first ")) ?? "";
    const served = commands.split("\n").filter((line) => !line.includes("etcd-backup") && !line.includes("-drill-first"));
    await homelab.cluster.shell(served.join("\n"));
    const found: { [name: string]: unknown } = {};
    const wanted: { [name: string]: unknown } = {};
    for (const job of jobs("backup")) {
      // The control plane's own is on another node here; the applications and Prometheus write all the time.
      if (/^(etcd|vaultwarden|plotting-book|prometheus)-/.test(job.name)) continue;
      succeeded(await endOfJob(homelab.cluster, job.namespace, `${job.name}-first`, 200));
      found[job.name] = facts(homelab.generations(job).at(-1)?.manifest);
      wanted[job.name] = facts(before.get(job.name));
    }
    expect(found).toEqual(wanted);
    expect(Object.keys(found)).toHaveLength(6);
  }, 300_000);
});
