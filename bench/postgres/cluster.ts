/** What the measurements share: a server with the bench's data, commands by hand that are timed, the jobs of a backup. */
import { once } from "node:events";
import { spawn, spawnSync } from "node:child_process";
import { dirname } from "node:path";
import { TerraformStack, Testing } from "cdktf";
import { PgDumpBackup, SecretRef } from "../../constructs/backup";
import { NfsBackupVolume } from "../../constructs/storage";
import { ImageReference, Retention, Schedule, ServiceEndpoint } from "../../lib";
import { postgresBackupRoleSql } from "../../lib/privileges/postgres";
import { hostProgram, runCronJob, type PodResult } from "../../test/helpers/pod";
import { seeded } from "../../test/helpers/random";
import { Postgres } from "../../test/helpers/servers/postgres";
import type { Table } from "./data";

const PASSWORD = "bench";

/** Tells whoever waits what is done. */
export function say(text: string): void {
  process.stderr.write(`${text}\n`);
}

/** A server without data, whose roles have passwords. */
export async function startServer(): Promise<Postgres> {
  const server = await Postgres.start({ settings: { max_wal_size: "8GB", autovacuum: "off" } });
  server.sql(`ALTER USER postgres PASSWORD '${PASSWORD}'`);
  return server;
}

/** Loads tables into databases of their own names, and makes the role that backs them up. @param bytes of all rows' text */
export async function load(server: Postgres, tables: readonly Table[], bytes: number): Promise<void> {
  const databases = [...new Set(tables.map(({ database }) => database))];
  for (const database of databases) server.sql(`CREATE DATABASE ${database}`);
  for (const [index, table] of tables.entries()) await loadTable(server, table, table.share * bytes, 1000 + index);
  server.sql(postgresBackupRoleSql({ role: "backup", databases: [...databases, "postgres"] }));
  server.sql(`ALTER USER backup PASSWORD '${PASSWORD}'`);
}

async function loadTable(server: Postgres, table: Table, wanted: number, seed: number): Promise<void> {
  server.sql(table.ddl, table.database);
  const row = table.rows(seeded(seed));
  const copy = spawn(hostProgram("psql"), ["-Xq", "-v", "ON_ERROR_STOP=1", "-c", `COPY ${table.name} FROM STDIN`], {
    env: { ...server.env, PGDATABASE: table.database },
    stdio: ["pipe", "inherit", "inherit"],
  });
  const ended = once(copy, "exit");
  for (let id = 1, bytes = 0; bytes < wanted; ) {
    let chunk = "";
    for (; chunk.length < 1 << 20; id++) chunk += `${row(id)}\n`;
    bytes += chunk.length;
    if (!copy.stdin.write(chunk)) await once(copy.stdin, "drain");
  }
  copy.stdin.end();
  const [status] = (await ended) as [number | null];
  if (status !== 0) throw new Error(`COPY ${table.name} ended with ${String(status)}`);
  server.sql(`VACUUM (ANALYZE) ${table.name}`, table.database);
}

/** Bytes of all databases, tables with their indexes. */
export function clusterBytesOf(server: Postgres): number {
  return Number(server.sql("SELECT sum(pg_database_size(oid)) FROM pg_database WHERE datname <> 'template0'"));
}

/** Seconds that a line of bash takes; any program in it that fails, fails it. */
export function timed(line: string): number {
  const path = `${dirname(hostProgram("pg_dump"))}:/usr/bin:/bin`;
  const env = { PATH: path, PGHOST: "127.0.0.1", PGUSER: "postgres", PGPASSWORD: PASSWORD };
  const begun = process.hrtime.bigint();
  const { status, stderr } = spawnSync("bash", ["-euo", "pipefail", "-c", line], { env, encoding: "utf8" });
  if (status !== 0) throw new Error(`${line}: ${stderr}`);
  return Number(process.hrtime.bigint() - begun) / 1e9;
}

/** The backup and its restore, as Terraform JSON. */
export function synthesise(): string {
  const stack = new TerraformStack(Testing.app(), "bench");
  const password = SecretRef.of("postgres", "password");
  new PgDumpBackup(stack, "backup", {
    namespace: "dbaas",
    image: ImageReference.parse("docker.io/library/postgres:15.14-bookworm"),
    endpoint: ServiceEndpoint.of("postgres.dbaas:5432"),
    user: "backup",
    password,
    restore: { user: "postgres", password },
    schedule: Schedule.cron("0 0 * * *"),
    retention: Retention.keepDays(14),
    volume: new NfsBackupVolume(stack, "volume", { name: "target", namespace: "dbaas", server: "192.0.2.1", path: "/mnt/main/target" }),
  });
  return Testing.synth(stack);
}

/** Runs a job to its end. @throws its logs where it failed */
export async function runJob(json: string, name: string, target: string, env: { readonly [name: string]: string } = {}): Promise<PodResult> {
  const result = await runCronJob(json, {
    name,
    env,
    volumes: { target },
    secrets: { postgres: { password: PASSWORD } },
    services: ["postgres.dbaas"],
    timeoutSeconds: 1800,
  });
  if (!result.ok) throw new Error(`${name} failed: ${JSON.stringify(result.logs, undefined, 2)}`);
  return result;
}

/** Prints what was measured, as JSON. */
export function print(measure: () => Promise<object>): void {
  measure().then(
    (measured) => process.stdout.write(`${JSON.stringify(measured)}\n`),
    (error: unknown) => {
      say(String(error));
      process.exitCode = 1;
    },
  );
}
