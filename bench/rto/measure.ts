/** The measurement; runs as root in a namespace of its own, see index.ts. Prints JSON. */
import { statSync } from "node:fs";
import { join } from "node:path";
import { SqliteBackup } from "../../constructs/backup";
import { NfsBackupVolume, PodVolume } from "../../constructs/storage";
import { mysqlBackupUserSql } from "../../lib/privileges/mysql";
import { Retention } from "../../lib/retention";
import { Schedule } from "../../lib/schedule";
import { runRestore } from "../../test/helpers/drill";
import { runCronJob } from "../../test/helpers/pod";
import { execute, makeNode } from "../../test/helpers/etcd-node";
import { makeTarget, type FoundGeneration } from "../../test/helpers/pod/target";
import { chownTree, run, temporaryDirectory } from "../../test/helpers/process";
import { Etcd, Pki } from "../../test/helpers/servers/etcd";
import { MariaDb } from "../../test/helpers/servers/mariadb";
import { VaultServer, vaultProgram } from "../../test/helpers/servers/vault";
import { Template } from "../../test/helpers/template";
import * as etcdSetup from "../../test/engines/etcd-setup";
import * as mysqlSetup from "../../test/engines/mysql-setup";
import * as vaultSetup from "../../test/engines/vault-setup";
import { load, print, runJob, say, startServer, synthesise } from "../postgres/cluster";
import { TABLES } from "../postgres/data";
import type { MeasuredRto } from "./index";

/** Of each kind of data, about. */
const MEGABYTES = Number(process.env.BENCH_MEGABYTES ?? 400);

const DATABASE = "db.sqlite3";
/** Of the runner's image. */
const USER = 1000;

const KINDS: readonly (() => Promise<MeasuredRto | undefined>)[] = [postgres, mysql, vault, vaultwarden, etcd];

async function measure(): Promise<readonly MeasuredRto[]> {
  const measured: MeasuredRto[] = [];
  for (const kind of KINDS) {
    say(`${kind.name}: making data, backing them up, restoring them`);
    const one = await kind();
    if (one !== undefined) measured.push(one);
  }
  return measured;
}

async function postgres(): Promise<MeasuredRto> {
  let server = await startServer();
  await load(server, TABLES, MEGABYTES * 3e6);
  const one = "woodpecker";
  const bytes = Number(server.sql(`SELECT pg_database_size('${one}')`));
  const json = synthesise();
  const target = makeTarget(json);
  await runJob(json, "backup", target);
  await server.stop();
  server = await startServer();
  const { durationMs } = await runJob(json, "backup-restore", target, { GENERATION: "newest", DATABASE: one });
  await server.stop();
  return { what: "a single PostgreSQL database", bytes, seconds: durationMs / 1000, promisedMinutes: 5 };
}

async function mysql(): Promise<MeasuredRto> {
  const { backUp, PASSWORD, restoreFrom, RESTORER, addRestorer, succeeded } = mysqlSetup;
  let server = await MariaDb.start();
  for (const [index, share] of [0.4, 0.2, 0.2, 0.1, 0.05, 0.05].entries()) {
    const rows = Math.round(MEGABYTES * share * 5000);
    server.sql(`CREATE DATABASE app${index}; USE app${index}; CREATE TABLE item (id INT PRIMARY KEY, parent INT, text TEXT, KEY (parent));
      INSERT INTO item SELECT seq, seq % 1000, CONCAT(MD5(seq), REPEAT('words of a text ', 3), SHA2(seq, 256)) FROM seq_1_to_${rows}`);
  }
  server.sql(mysqlBackupUserSql({ user: "backup" }));
  server.sql(`ALTER USER 'backup'@'%' IDENTIFIED BY '${PASSWORD.replace(/['\\]/g, "\\$&")}' ACCOUNT UNLOCK`);
  const bytes = Number(server.sql("SELECT SUM(data_length + index_length) FROM information_schema.tables WHERE table_schema LIKE 'app%'"));
  const json = mysqlSetup.synthesise({ restore: RESTORER });
  const generation = succeeded(await backUp({ json }));
  await server.stop();
  server = await MariaDb.start();
  addRestorer(server);
  const result = await restoreFrom(json, join(generation.path, "../.."), { GENERATION: "newest" }, { timeoutSeconds: 1800 });
  await server.stop();
  return took("the full MySQL server", bytes, result, 15);
}

async function vault(): Promise<MeasuredRto | undefined> {
  const program = vaultProgram();
  if (program === undefined) {
    say("vault: not measured, no vault or bao is on PATH");
    return undefined;
  }
  const source = await vaultSetup.startPrepared({ program });
  const value = "a secret of some length ".repeat(400);
  for (let index = 0; index < 20 * MEGABYTES; index += 50) {
    await Promise.all(Array.from({ length: 50 }, (_, at) => source.vault.call("POST", `kv/large-${index + at}`, { value: `${value}${index + at}` })));
  }
  const generation = await source.backUp();
  await source.stop();
  const fresh = await VaultServer.start({ program });
  const { name, key } = vaultSetup.TOKEN_SECRET;
  const result = await runRestore(vaultSetup.synthesise(), join(generation.path, "../.."), {
    ...{ backup: vaultSetup.NAME, services: vaultSetup.SERVICES, env: { GENERATION: "newest" } },
    secrets: { [name]: { [key]: fresh.rootToken } },
  });
  await fresh.stop();
  return took("Vault", bytesOf(generation), result, 10);
}

async function vaultwarden(): Promise<MeasuredRto> {
  const json = JSON.stringify(
    Template.of((stack) => {
      new SqliteBackup(stack, "backup", {
        namespace: "app",
        data: PodVolume.fromClaim("data"),
        database: DATABASE,
        colocateWith: { labels: { app: "app" } },
        volume: new NfsBackupVolume(stack, "volume", { name: "target", namespace: "app", server: "192.0.2.1", path: "/mnt/main/target" }),
        schedule: Schedule.cron("0 */6 * * *"),
        retention: Retention.keepDays(30),
        files: [{ path: "attachments" }],
      });
    }).json,
  );
  const volume = temporaryDirectory("data");
  const rows = `WITH n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ${MEGABYTES * 900}) INSERT INTO item SELECT i, randomblob(1000), 'text ' || i FROM n;`;
  await run("sqlite3", [join(volume, DATABASE), `CREATE TABLE item (id INTEGER PRIMARY KEY, data BLOB, text TEXT); CREATE INDEX by_text ON item (text); ${rows}`]);
  await run("sh", ["-ec", `mkdir '${volume}/attachments' && for i in $(seq 100); do head -c 100000 /dev/urandom > '${volume}/attachments/'$i; done`]);
  chownTree(volume, USER);
  const target = makeTarget(json, { name: "backup" });
  const { ok, logs } = await runCronJob(json, { name: "backup", volumes: { data: volume, target }, timeoutSeconds: 1800 });
  if (!ok) throw new Error(JSON.stringify(logs, undefined, 2));
  const empty = temporaryDirectory("empty", USER);
  const options = { backup: "backup", volumes: { data: empty }, env: { GENERATION: "newest" }, timeoutSeconds: 1800 };
  return took("Vaultwarden", statSync(join(volume, DATABASE)).size, await runRestore(json, target, options), 5);
}

async function etcd(): Promise<MeasuredRto> {
  const pki = await Pki.make();
  const source = await Etcd.start(pki);
  await source.fill(50 * MEGABYTES, (index) => [`/registry/pods/default/pod-${index}`, `an object of the cluster ${index} `.repeat(30)]);
  const generation = mysqlSetup.succeeded(await etcdSetup.backUp(pki));
  await source.stop();
  const { root, commands } = makeNode(generation.path, "/usr/bin");
  const began = performance.now();
  await execute(root, commands);
  const seconds = (performance.now() - began) / 1000;
  await run("diff", ["-r", pki.path, join(root, "etc/kubernetes/pki")]);
  return { what: "etcd, by its runbook's commands", bytes: bytesOf(generation), seconds, promisedMinutes: 20 };
}

function took(what: string, bytes: number, result: Awaited<ReturnType<typeof runRestore>>, promisedMinutes: number): MeasuredRto {
  if (!result.ok) throw new Error(JSON.stringify(result.logs, undefined, 2));
  return { what, bytes, seconds: result.durationMs / 1000, promisedMinutes };
}

/** Before they were compressed. */
function bytesOf({ manifest }: FoundGeneration): number {
  return manifest.files.reduce((sum, { bytes, uncompressedBytes = bytes }) => sum + uncompressedBytes, 0);
}

print(measure);
