/** The restore's measurement; runs as root in a namespace of its own, see index.ts. Prints JSON. */
import type { MeasuredRestore } from "./index";
import { join } from "node:path";
import { makeTarget } from "../../test/helpers/pod/target";
import { temporaryDirectory } from "../../test/helpers/process";
import type { Postgres } from "../../test/helpers/servers/postgres";
import { clusterBytesOf, load, print, runJob, say, startServer, synthesise, timed } from "./cluster";
import { TABLES, type Table } from "./data";

/** Bytes of rows' text that are loaded. */
const TEXT_BYTES = Number(process.env.BENCH_MEGABYTES ?? 400) * 1e6;
/** A homelab's twelve: each database of the bench, and a second one of its kind. */
const TWELVE: readonly Table[] = ["", "_two"].flatMap((suffix) =>
  TABLES.map((table) => ({ ...table, database: table.database + suffix, share: table.share / 2 })),
);
/** The largest one, so that the figure is that of no other. */
const ONE = "woodpecker";

async function measure(): Promise<MeasuredRestore> {
  say("starting a server and loading twelve databases");
  let server = await startServer();
  await load(server, TWELVE, TEXT_BYTES);
  const rows = (): string => server.sql("SELECT count(*) FROM log_entries", ONE);
  const wanted = rows();
  const clusterBytes = clusterBytesOf(server);
  const oneBytes = Number(server.sql(`SELECT pg_database_size('${ONE}')`));
  const file = join(temporaryDirectory("hand"), "backup.sql.gz");
  timed(`pg_dumpall | gzip > ${file}`);
  const json = synthesise();
  const target = makeTarget(json);
  await runJob(json, "backup", target);

  const empty = async (): Promise<Postgres> => {
    await server.stop();
    return startServer();
  };
  const check = (): void => {
    if (rows() !== wanted) throw new Error(`${ONE} did not come back whole`);
  };
  say("gunzip | psql of all of it, into an empty server");
  server = await empty();
  const handSeconds = timed(`gunzip -c ${file} | psql -Xq postgres > /dev/null`);
  check();

  say(`the restore's pod, ${ONE} alone, into an empty server`);
  server = await empty();
  const one = await runJob(json, "backup-restore", target, { GENERATION: "newest", DATABASE: ONE });
  check();

  say("the restore's pod, everything, into an empty server");
  server = await empty();
  const all = await runJob(json, "backup-restore", target, { GENERATION: "newest" });
  check();
  await server.stop();
  return { clusterBytes, oneBytes, handSeconds, oneSeconds: one.durationMs / 1000, allSeconds: all.durationMs / 1000 };
}

print(measure);
