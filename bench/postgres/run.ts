/** The measurement itself; runs as root in a namespace of its own, see index.ts. Prints JSON. */
import type { Measured } from "./index";
import { once } from "node:events";
import { spawn, spawnSync } from "node:child_process";
import { rmSync, statSync } from "node:fs";
import { dirname, join } from "node:path";
import { TerraformStack, Testing } from "cdktf";
import { PgDumpBackup, SecretRef } from "../../constructs/backup";
import { NfsBackupVolume } from "../../constructs/storage";
import { ImageReference, Retention, Schedule, ServiceEndpoint } from "../../lib";
import { postgresBackupRoleSql } from "../../lib/privileges/postgres";
import { hostProgram, runCronJob } from "../../test/helpers/pod";
import { generationsOn, makeTarget } from "../../test/helpers/pod/target";
import { temporaryDirectory } from "../../test/helpers/process";
import { Postgres } from "../../test/helpers/servers/postgres";
import { seeded } from "../../test/helpers/random";
import { TABLES } from "./data";

/** Bytes of rows' text that are loaded; with row headers and indexes the databases take about 1 GB. */
const TEXT_BYTES = Number(process.env.BENCH_MEGABYTES ?? 830) * 1e6;
const PASSWORD = "bench";

function say(text: string): void {
  process.stderr.write(`${text}\n`);
}

async function load(server: Postgres): Promise<void> {
  for (const database of new Set(TABLES.map((table) => table.database))) server.sql(`CREATE DATABASE ${database}`);
  for (const [index, table] of TABLES.entries()) {
    server.sql(table.ddl, table.database);
    const row = table.rows(seeded(1000 + index));
    const copy = spawn(hostProgram("psql"), ["-Xq", "-v", "ON_ERROR_STOP=1", "-c", `COPY ${table.name} FROM STDIN`], {
      env: { ...server.env, PGDATABASE: table.database },
      stdio: ["pipe", "inherit", "inherit"],
    });
    const ended = once(copy, "exit");
    for (let id = 1, bytes = 0; bytes < table.share * TEXT_BYTES; ) {
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
}

/** Seconds that a line of bash takes; any program in it that fails, fails it. */
function timed(line: string): number {
  const path = `${dirname(hostProgram("pg_dump"))}:/usr/bin:/bin`;
  const env = { PATH: path, PGHOST: "127.0.0.1", PGUSER: "postgres", PGPASSWORD: PASSWORD };
  const begun = process.hrtime.bigint();
  const { status, stderr } = spawnSync("bash", ["-euo", "pipefail", "-c", line], { env, encoding: "utf8" });
  if (status !== 0) throw new Error(`${line}: ${stderr}`);
  return Number(process.hrtime.bigint() - begun) / 1e9;
}

function synthesise(): string {
  const stack = new TerraformStack(Testing.app(), "bench");
  new PgDumpBackup(stack, "backup", {
    namespace: "dbaas",
    image: ImageReference.parse("docker.io/library/postgres:15.14-bookworm"),
    endpoint: ServiceEndpoint.of("postgres.dbaas:5432"),
    user: "backup",
    password: SecretRef.of("postgres-backup", "password"),
    schedule: Schedule.cron("0 0 * * *"),
    retention: Retention.keepDays(14),
    volume: new NfsBackupVolume(stack, "volume", { name: "target", namespace: "dbaas", server: "192.0.2.1", path: "/mnt/main/target" }),
  });
  return Testing.synth(stack);
}

async function main(): Promise<Measured> {
  say("starting a server and loading it");
  const server = await Postgres.start({ settings: { max_wal_size: "8GB", autovacuum: "off" } });
  await load(server);
  const databases = [...new Set(TABLES.map((table) => table.database)), "postgres"];
  server.sql(`ALTER USER postgres PASSWORD '${PASSWORD}'`);
  server.sql(postgresBackupRoleSql({ role: "backup", databases }));
  server.sql(`ALTER USER backup PASSWORD '${PASSWORD}'`);
  const clusterBytes = Number(server.sql("SELECT sum(pg_database_size(oid)) FROM pg_database WHERE datname <> 'template0'"));

  say("pg_dump > /dev/null, twice: the first reads everything into memory");
  const raw = databases.map((database) => `pg_dump ${database} > /dev/null`).join("\n");
  timed(raw);
  const rawSeconds = timed(raw);

  say("pg_dumpall | gzip -9");
  const file = join(temporaryDirectory("hand"), "backup.sql.gz");
  const handSeconds = timed(`pg_dumpall | gzip -9 > ${file}`);
  const handBytes = statSync(file).size;
  rmSync(file);

  say("the backup's pod");
  const json = synthesise();
  const target = makeTarget(json);
  const result = await runCronJob(json, {
    volumes: { target },
    secrets: { "postgres-backup": { password: PASSWORD } },
    services: ["postgres.dbaas"],
    timeoutSeconds: 1800,
  });
  const [generation] = generationsOn(json, target);
  if (!result.ok || generation === undefined) throw new Error(`the backup failed: ${JSON.stringify(result.logs, undefined, 2)}`);
  await server.stop();
  return {
    clusterBytes,
    rawSeconds,
    handSeconds,
    handBytes,
    podSeconds: result.durationMs / 1000,
    podBytes: generation.manifest.files.reduce((sum, { bytes }) => sum + bytes, 0),
  };
}

main().then(
  (measured) => process.stdout.write(`${JSON.stringify(measured)}\n`),
  (error: unknown) => {
    say(String(error));
    process.exitCode = 1;
  },
);
