/** The backup's measurement; runs as root in a namespace of its own, see index.ts. Prints JSON. */
import type { MeasuredBackup } from "./index";
import { rmSync, statSync } from "node:fs";
import { join } from "node:path";
import { generationsOn, makeTarget } from "../../test/helpers/pod/target";
import { temporaryDirectory } from "../../test/helpers/process";
import { clusterBytesOf, load, print, runJob, say, startServer, synthesise, timed } from "./cluster";
import { TABLES } from "./data";

/** Bytes of rows' text that are loaded; with row headers and indexes the databases take about 1 GB. */
const TEXT_BYTES = Number(process.env.BENCH_MEGABYTES ?? 830) * 1e6;

async function measure(): Promise<MeasuredBackup> {
  say("starting a server and loading it");
  const server = await startServer();
  await load(server, TABLES, TEXT_BYTES);
  const databases = [...new Set(TABLES.map((table) => table.database)), "postgres"];
  const clusterBytes = clusterBytesOf(server);

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
  const { durationMs } = await runJob(json, "backup", target);
  const files = generationsOn(json, target).flatMap(({ manifest }) => manifest.files);
  await server.stop();
  const podBytes = files.reduce((sum, { bytes }) => sum + bytes, 0);
  return { clusterBytes, rawSeconds, handSeconds, handBytes, podSeconds: durationMs / 1000, podBytes };
}

print(measure);
