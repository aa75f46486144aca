import { createHash } from "node:crypto";
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { join } from "node:path";
import { Testing, type App, type TerraformStack } from "cdktf";
import type { Settings } from "../../lib/runtime/settings";
import { mysqlBackupUserSql, mysqlRestoreUserSql } from "../../lib/privileges/mysql";
import { postgresBackupRoleSql, postgresRestoreRoleSql } from "../../lib/privileges/postgres";
import { addStacks } from "../../stacks";
import { site } from "../../stacks/site";
import { generationsOn, runOnExport, type FoundGeneration } from "../helpers/pod/target";
import type { Block, Synthesised } from "../helpers/pod/terraform";
import { chownTree, run, waitFor } from "../helpers/process";
import { Etcd, Pki } from "../helpers/servers/etcd";
import { ROOT } from "../helpers/servers/vault-double";
import { Cluster } from "./cluster";
import { objectsOf, removals, type KubernetesObject } from "./direct";
import { importImages } from "./images";
import { ETCD, IMAGES, objectsOfServer, PASSWORD, SERVERS_OF_THE_HOMELAB, type Server } from "./services";
import { VaultOnTheNode } from "./vault";

/** A stack as JSON, and the objects it stands for. */
export interface AppliedStack {
  readonly id: string;
  readonly json: string;
  readonly objects: readonly KubernetesObject[];
}

/** One CronJob of the homelab. */
export interface BackupJob {
  readonly name: string;
  readonly namespace: string;
  /** What the runner does: `backup`, `check-integrity`. */
  readonly command: string;
  readonly json: string;
  readonly settings: Settings;
}

/** Synthesises the homelab's stacks. */
export function synthesiseHomelab(add: (app: App) => readonly TerraformStack[] = addStacks): readonly AppliedStack[] {
  return add(Testing.app()).map((stack) => {
    const json = Testing.synth(stack, true);
    return { id: stack.node.id, json, objects: objectsOf(JSON.parse(json) as Synthesised) };
  });
}

/** Every CronJob in stacks, with what its runner is told. */
export function jobsOf(stacks: readonly AppliedStack[]): readonly BackupJob[] {
  return stacks.flatMap(({ json, objects }) =>
    objects
      .filter(({ kind }) => kind === "CronJob")
      .map(({ metadata: { name, namespace = "" }, spec }) => {
        const command = runnerCommand(spec as CronJobSpec);
        const config = objects.find(({ kind, metadata }) => kind === "ConfigMap" && metadata.name === name && metadata.namespace === namespace);
        return { name, namespace, command, json, settings: JSON.parse(String((config?.["data"] as Block)["settings.json"])) as Settings };
      }),
  );
}

interface CronJobSpec {
  readonly jobTemplate: { readonly spec: { readonly template: { readonly spec: { readonly containers: readonly { readonly name: string; readonly command: readonly string[] }[] } } } };
}

function runnerCommand({ jobTemplate }: CronJobSpec): string {
  return jobTemplate.spec.template.spec.containers.find(({ name }) => name === "runner")?.command.at(-1) ?? "";
}

/** Applies objects as `direct` does: all at once, in the order given. */
export async function apply(cluster: Cluster, objects: readonly object[]): Promise<void> {
  if (objects.length === 0) return;
  const input = objects.map((object) => JSON.stringify(object)).join("\n---\n");
  await cluster.tryKubectl({ input }, "apply", "--server-side", "--force-conflicts", "-f", "-");
}

/**
 * Makes a stack of another as `direct` does: what is no longer in it is deleted.
 * @param after `{}` destroys it
 * @throws before anything is changed, where `prevent_destroy` forbids it
 */
export async function replace(cluster: Cluster, before: string, after: string): Promise<void> {
  const next = JSON.parse(after) as Synthesised;
  const gone = removals(JSON.parse(before) as Synthesised, next);
  await apply(cluster, objectsOf(next));
  for (const { kind, metadata } of gone) await cluster.kubectl("delete", kind, metadata.name, ...namespaceFlag(metadata));
}

/** `--namespace`, where the object has one. */
export function namespaceFlag({ namespace }: KubernetesObject["metadata"]): readonly string[] {
  return namespace === undefined ? [] : ["--namespace", namespace];
}

/** The namespaces that the stacks use and do not bring themselves, each at the strictest level of Pod Security. */
export function namespacesOf(stacks: readonly AppliedStack[]): readonly KubernetesObject[] {
  const objects = stacks.flatMap((stack) => stack.objects);
  const own = new Set(objects.filter(({ kind }) => kind === "Namespace").map(({ metadata }) => metadata.name));
  const used = new Set(objects.flatMap(({ metadata }) => metadata.namespace ?? []));
  const labels = Object.fromEntries(["enforce", "warn", "audit"].map((mode) => [`pod-security.kubernetes.io/${mode}`, "restricted"]));
  return [...used].filter((name) => !own.has(name)).map((name) => ({ apiVersion: "v1", kind: "Namespace", metadata: { name, ...{ labels } } }));
}

/** The homelab on a cluster of its own: stacks applied, exports prepared, servers and applications running behind their Services. */
export class Homelab {
  /**
   * @param names what to run besides the Pushgateway: Deployments, `etcd`, `vault` @default - all
   * @param data "none" is a homelab that was just installed anew: servers with their accounts and nothing in them, exports not prepared
   */
  public static async start(names?: readonly string[], data: "all" | "none" = "all"): Promise<Homelab> {
    const homelab = new Homelab(await Cluster.start());
    try {
      await homelab.install(names, data === "all");
      if (data === "all") await homelab.fill(names);
      return homelab;
    } catch (error) {
      const why = await homelab.cluster.diagnosis();
      await homelab.stop();
      throw new Error(`${String(error)}\n${why}`, { cause: error });
    }
  }

  public readonly stacks = synthesiseHomelab();
  public readonly jobs = jobsOf(this.stacks);
  /** Directories of this machine that are the volumes of servers and applications, by their names. */
  public readonly data = new Map<string, string>();
  public etcd: Etcd | undefined;
  /** The PKI of the node that etcd is on. */
  public pki: Pki | undefined;
  public vault: VaultOnTheNode | undefined;

  private constructor(public readonly cluster: Cluster) {}

  public async stop(): Promise<void> {
    await this.etcd?.stop("SIGKILL");
    await this.vault?.stop();
    await this.cluster.stop();
  }

  public job(name: string): BackupJob {
    const found = this.jobs.find((job) => job.name === name);
    if (found === undefined) throw new Error(`no CronJob ${name}; there is ${this.jobs.map((job) => job.name).join(", ")}`);
    return found;
  }

  /** The directory of this machine that stands for the export a backup writes to. */
  public export({ json, settings }: BackupJob): string {
    const claim = settings.target?.sentinel;
    const volume = objectsOf(JSON.parse(json) as Synthesised).find(({ kind, metadata }) => kind === "PersistentVolume" && metadata.name === claim);
    const { share } = ((volume?.["spec"] as Block)["csi"] as Block)["volumeAttributes"] as { readonly share: string };
    return join(this.cluster.exports, share);
  }

  /** Makes the export as the file server has it when it is new, and prepares it by the command that the settings name. */
  public prepare(job: BackupJob): void {
    const { target } = job.settings;
    if (target === undefined) return;
    const path = this.export(job);
    mkdirSync(path, { recursive: true });
    runOnExport(target.prepare, target.directory, path);
  }

  /** Published generations, each checked: the manifest is this backup's, and every file has the size and hash it states. */
  public generations(job: BackupJob): readonly FoundGeneration[] {
    const all = generationsOn(job.json, this.export(job), job.name);
    for (const { name, path, manifest } of all) {
      if (manifest.backup !== job.name || manifest.namespace !== job.namespace || manifest.generation !== name) {
        throw new Error(`${path}: the manifest is of another backup`);
      }
      for (const file of manifest.files) {
        const content = readFileSync(join(path, file.path));
        const sha256 = createHash("sha256").update(content).digest("hex");
        if (content.length !== file.bytes || sha256 !== file.sha256) throw new Error(`${path}/${file.path} is not what the manifest states`);
      }
    }
    return all;
  }

  /** Where a backup's generations and locks are. */
  public directory(job: BackupJob): string {
    return join(this.export(job), job.settings.target?.directory ?? "");
  }

  /** What a backup left that is no generation: partial ones, probes. */
  public leftovers(job: BackupJob): readonly string[] {
    return readdirSync(this.directory(job)).filter((name) => name.startsWith(".") && !name.startsWith(".lock.") && name !== ".cdktf-backup-target");
  }

  /** A metric of a backup in the Pushgateway; undefined where it has none. */
  public async metric(name: string, { namespace, name: backup }: { readonly namespace: string; readonly name: string }): Promise<number | undefined> {
    const [service, of] = site.pushgateway.host.split(".");
    const address = await this.cluster.kubectl("get", "service", service ?? "", "--namespace", of ?? "", "-o", "jsonpath={.spec.clusterIP}");
    const text = await (await fetch(`http://${address}:${site.pushgateway.port}/metrics`)).text();
    const line = text
      .split("\n")
      .find((of) => of.startsWith(`${name}{`) && of.includes(`backup="${backup}"`) && of.includes(`namespace="${namespace}"`));
    return line === undefined ? undefined : Number(line.split(" ").at(-1));
  }

  /** Runs a program in the pod of a Deployment, with input. */
  public async exec({ name, namespace }: { readonly name: string; readonly namespace: string }, input: string, ...command: readonly string[]): Promise<string> {
    return (await this.cluster.tryKubectl({ input }, "exec", "--stdin", "--namespace", namespace, `deployment/${name}`, "--", ...command)).stdout;
  }

  /** Runs SQL in the homelab's MySQL, as its root. */
  public mysql(sql: string): Promise<string> {
    return this.exec({ name: "mysql", namespace: "dbaas" }, sql, "mariadb", "--no-defaults", "--user=root", "--socket=/data/socket", "--batch", "--skip-column-names");
  }

  /**
   * Calls `work` while another session holds a table, so that a dump of MySQL lasts until `work` has ended. The server lets the dump
   * wait for 30 seconds.
   */
  public async whileHeld(work: () => Promise<void>): Promise<void> {
    const sessions = (): Promise<string> => this.mysql("SHOW PROCESSLIST");
    const holding = this.mysql(`LOCK TABLES ${site.mysql.expectDatabases[0]}.item WRITE; SELECT SLEEP(600)`).catch(() => "");
    await waitFor(async () => (await sessions()).includes("SLEEP(600)"), "the lock to be held", 20);
    try {
      await work();
    } finally {
      await this.mysql(`KILL ${/^(\d+)\t.*SLEEP\(600\)/m.exec(await sessions())?.[1]}`);
      await holding;
    }
  }

  /** Waits until a run writes its generation. */
  public async dumping(job: BackupJob): Promise<void> {
    await waitFor(() => this.leftovers(job).some((name) => name.startsWith(".partial-")), `${job.name} to dump`, 60);
  }

  /** Stops or starts the pod of a server or an application, and waits until that is so. */
  public async scale(name: string, replicas: 0 | 1): Promise<void> {
    const { cluster } = this;
    const server = SERVERS_OF_THE_HOMELAB.find((one) => one.name === name);
    if (server === undefined) throw new Error(`no server ${name}`);
    const { namespace, labels } = server;
    await cluster.kubectl("scale", "--namespace", namespace, `deployment/${name}`, `--replicas=${replicas}`);
    if (replicas === 1) return this.ready(server);
    const selector = Object.entries(labels).map(([label, value]) => `${label}=${value}`);
    const pods = ["get", "pods", "--namespace", namespace, "--selector", selector.join(), "-o", "name"];
    await waitFor(async () => (await cluster.kubectl(...pods)) === "", `${name} to stop`, 60);
  }

  /** Stops all servers and applications, but for the Pushgateway. */
  public async stopServers(): Promise<void> {
    await this.etcd?.stop("SIGKILL");
    await this.vault?.stop();
    const [gateway] = site.pushgateway.host.split(".");
    await Promise.all(SERVERS_OF_THE_HOMELAB.filter(({ name }) => name !== gateway).map(({ name }) => this.scale(name, 0)));
  }

  /** Waits until a Deployment's pod is ready and its Service, where it has one, leads to it: kube-proxy comes a little later. */
  private async ready({ name, namespace }: { readonly name: string; readonly namespace: string }): Promise<void> {
    const { cluster } = this;
    await cluster.kubectl("rollout", "status", "--namespace", namespace, `deployment/${name}`, "--timeout=90s");
    const address = ["get", "service", name, "--namespace", namespace, "--ignore-not-found", "-o", "jsonpath={.spec.clusterIP} {.spec.ports[0].port}"];
    const [host = "", port] = (await cluster.kubectl(...address)).split(" ");
    if (host !== "") await waitFor(() => accepts(host, Number(port)), `the Service ${name}.${namespace} to answer`, 30);
  }

  /** Stacks, exports, and servers that the accounts of backups and restores are in. */
  private async install(names: readonly string[] | undefined, prepared: boolean): Promise<void> {
    const { cluster, stacks } = this;
    const { postgresql, mysql, immich } = site;
    const wanted = SERVERS_OF_THE_HOMELAB.filter(({ name }) => names === undefined || names.includes(name) || name.endsWith("pushgateway"));
    const importing = importImages(cluster.containerdSocket, IMAGES);
    await apply(cluster, namespacesOf(stacks));
    await apply(cluster, [
      ...stacks.flatMap(({ objects }) => objects),
      ...[postgresql, mysql, immich].flatMap(({ namespace, password, restore }) => [password, restore.password].map((secret) => secretOf(namespace, secret))),
    ]);
    if (prepared) {
      await apply(cluster, [secretOf(site.vault.namespace, site.vault.restore.token, ROOT)]);
      for (const job of this.jobs) this.prepare(job);
    }
    await importing;
    for (const server of wanted) {
      const directory = mkdtempSync(join(cluster.directory, `${server.name}-`));
      this.data.set(server.name, directory);
      await seed(server, directory, prepared);
      chownTree(directory, server.user);
      await apply(cluster, objectsOfServer(server, directory));
    }
    for (const server of wanted) await this.ready(server);
    const running = new Set(wanted.map(({ name }) => name));
    const password = PASSWORD.replaceAll("'", "''");
    if (running.has("pg-cluster-rw")) await this.psql("pg-cluster-rw", postgresql.namespace, `ALTER ROLE ${postgresql.restore.user} PASSWORD '${password}'`);
    if (running.has("immich-postgresql")) {
      const role = immich.restore.user;
      await this.psql("immich-postgresql", immich.namespace, `${postgresRestoreRoleSql({ role })}; ALTER ROLE "${role}" PASSWORD '${password}'`);
    }
    if (running.has("mysql")) await this.mysql(`${mysqlRestoreUserSql({ user: mysql.restore.user })}\n${unlocked(mysql.restore.user)}`);
    if (names?.includes("vault") ?? true) {
      this.vault = await VaultOnTheNode.start(cluster, prepared ? {} : { foreign: true, mounts: [] });
      await apply(cluster, this.vault.objects());
    }
  }

  /** What is in the servers. */
  private async fill(names: readonly string[] | undefined): Promise<void> {
    const { postgresql, immich } = site;
    const running = (name: string): boolean => names?.includes(name) ?? true;
    if (running("pg-cluster-rw")) await this.fillPostgres("pg-cluster-rw", postgresql.namespace, postgresql.expectDatabases);
    if (running("immich-postgresql")) await this.fillPostgres("immich-postgresql", immich.namespace, immich.expectDatabases);
    if (running("mysql")) await this.fillMysql();
    if (running("redis")) await this.fillRedis();
    if (running("etcd")) await this.startEtcd();
  }

  private async fillPostgres(name: string, namespace: string, databases: readonly string[]): Promise<void> {
    const sql = [
      ...databases.map((database) => `CREATE DATABASE "${database}";`),
      postgresBackupRoleSql({ role: site.postgresql.user, databases }),
      ...databases.map(
        (database) => `\\connect "${database}"
        CREATE TABLE item (id int PRIMARY KEY, text text); INSERT INTO item SELECT i, md5(i::text) FROM generate_series(1, 1000) i;`,
      ),
    ].join("\n");
    await this.psql(name, namespace, sql);
    await this.letBackUp(name, namespace);
  }

  /** Gives the backup's role of a PostgreSQL its password, which is in no backup. */
  public async letBackUp(name: string, namespace: string): Promise<void> {
    await this.psql(name, namespace, `ALTER ROLE "${site.postgresql.user}" PASSWORD '${PASSWORD.replaceAll("'", "''")}'`);
  }

  /** Runs SQL in one of the homelab's PostgreSQL, as its superuser. */
  public psql(name: string, namespace: string, sql: string): Promise<string> {
    return this.exec({ name, namespace }, sql, "psql", "--host=/data", "--username=postgres", "--no-psqlrc", "--quiet", "--tuples-only", "--set=ON_ERROR_STOP=1");
  }

  private async fillMysql(): Promise<void> {
    const { user, expectDatabases } = site.mysql;
    const databases = expectDatabases.map(
      (database) => `CREATE DATABASE ${database}; USE ${database}; CREATE TABLE item (id INT PRIMARY KEY, text VARCHAR(100));
      INSERT INTO item SELECT seq, MD5(seq) FROM seq_1_to_1000;`,
    );
    await this.mysql([...databases, mysqlBackupUserSql({ user }), unlocked(user)].join("\n"));
  }

  private async fillRedis(): Promise<void> {
    const commands = Array.from({ length: 500 }, (_, key) => `SET key:${key} value-${key}\n`).join("");
    await this.exec({ name: "redis", namespace: site.redis.namespace }, commands, "redis-cli");
  }

  /** On the node's loopback, with the PKI where kubeadm keeps it. */
  private async startEtcd(): Promise<void> {
    const pki = (this.pki = await Pki.make());
    cpSync(pki.path, site.etcd.pki, { recursive: true });
    this.etcd = await Etcd.start(pki, { program: ETCD });
    await this.etcd.fill(300, (index) => [`/registry/item/${index}`, `value ${index}`]);
  }
}

/** Whether something accepts connections there. */
function accepts(host: string, port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ host, port, timeout: 2000 });
    const end = (answer: boolean): void => {
      socket.destroy();
      resolve(answer);
    };
    socket.on("connect", () => end(true));
    socket.on("timeout", () => end(false));
    socket.on("error", () => end(false));
  });
}

function secretOf(namespace: string, { name, key }: { readonly name: string; readonly key: string }, value = PASSWORD): KubernetesObject {
  return { apiVersion: "v1", kind: "Secret", metadata: { name, namespace }, stringData: { [key]: value } };
}

/** Lets an account of MySQL log in, with the password that the Secrets have. */
function unlocked(user: string): string {
  return `ALTER USER '${user}'@'%' IDENTIFIED BY '${PASSWORD.replace(/['\\]/g, "\\$&")}' ACCOUNT UNLOCK;`;
}

/** What a volume holds before its server first starts. @param filled whether the application has been used */
async function seed({ name }: Server, directory: string, filled: boolean): Promise<void> {
  if (name === "mysql") {
    await run("mariadb-install-db", [
      ...["--no-defaults", `--datadir=${join(directory, "db")}`, "--auth-root-authentication-method=normal", "--skip-test-db", "--user=root"],
    ]);
  } else if (!filled) {
    return;
  } else if (name === "vaultwarden") {
    mkdirSync(join(directory, "attachments"));
    writeFileSync(join(directory, "rsa_key.pem"), "-----BEGIN RSA PRIVATE KEY-----\n");
    writeFileSync(join(directory, "attachments", "a"), "attachment");
  } else if (name === "nextcloud") {
    mkdirSync(join(directory, "data/alice/files"), { recursive: true });
    for (let file = 0; file < 50; file++) writeFileSync(join(directory, `data/alice/files/${file}.txt`), `file ${file}\n`.repeat(file));
    writeFileSync(join(directory, "nextcloud.log"), "excluded");
  }
}
