import type { Subject } from "./subject";
import { dirname, join } from "node:path";
import { PgDumpBackup, SecretRef } from "../../../constructs/backup";
import { ImageReference } from "../../../lib/image-reference";
import { ServiceEndpoint } from "../../../lib/service-endpoint";
import { postgresBackupRoleSql } from "../../../lib/privileges/postgres";
import { hostProgram } from "../pod";
import { run } from "../process";
import { Postgres } from "../servers/postgres";
import { COMMON_SERVICES, hanging, synthesise } from "./subject";

const PRODUCER = { program: "pg_dump" };
const PASSWORD = "backup-password";
/** Hash of all rows of both tables. */
const CONTENT = `SELECT md5(string_agg(t::text, ',' ORDER BY id))
  FROM (SELECT id, data::text FROM item UNION ALL SELECT -id, at::text FROM event) t`;

/** A PostgreSQL server with two databases. */
export async function startPostgres(): Promise<Subject> {
  const server = await Postgres.start();
  server.sql("CREATE DATABASE shop");
  server.sql("CREATE DATABASE blog");
  server.sql(
    "CREATE TABLE post (id int PRIMARY KEY, text text); INSERT INTO post SELECT i, repeat('text ', i % 50) FROM generate_series(1, 500) i",
    "blog",
  );
  server.sql(
    `CREATE TABLE item (id int PRIMARY KEY, data bytea);
     INSERT INTO item SELECT i, sha512(i::text::bytea) FROM generate_series(1, 8000) i;
     CREATE TABLE event (id serial PRIMARY KEY, at timestamptz);
     INSERT INTO event (at) SELECT '2026-01-01'::timestamptz + i * interval '1 minute' FROM generate_series(1, 2000) i;`,
    "shop",
  );
  server.sql(postgresBackupRoleSql({ role: "backup", databases: ["shop", "blog"] }));
  const password = (text: string): string => server.sql(`ALTER ROLE backup PASSWORD '${text}'`);
  password(PASSWORD);
  const wanted = server.sql(CONTENT, "shop");
  const renamed = (from: string, to: string): string => server.sql(`ALTER DATABASE ${from} RENAME TO ${to}`);
  // A server of its own: the backup dumps every database that its server has.
  const other = await Postgres.start({ port: 5433 });
  let restores = 0;
  return {
    name: "postgres",
    synthesised: synthesise((stack, common) => {
      new PgDumpBackup(stack, "postgresql", {
        ...common,
        image: ImageReference.parse("docker.io/library/postgres:15.14-bookworm"),
        endpoint: ServiceEndpoint.of("pg-rw.dbaas:5432"),
        user: "backup",
        password: SecretRef.of("pg-backup", "password"),
        expectDatabases: ["shop", "blog"],
        excludeDatabases: ["postgres"],
      });
    }),
    options: { secrets: { "pg-backup": { password: PASSWORD } }, services: [...COMMON_SERVICES, "pg-rw.dbaas"] },
    producer: PRODUCER,
    stall: hanging(PRODUCER),
    sourceFaults: [
      {
        name: "missing",
        reason: /connection to server at "pg-rw\.dbaas" .*refused/,
        inject: async () => {
          await server.stop();
          return () => server.up();
        },
      },
      {
        name: "empty",
        reason: /expected databases are missing: "blog"/,
        inject: () => {
          renamed("blog", "aside");
          return Promise.resolve(() => {
            renamed("aside", "blog");
          });
        },
      },
      {
        name: "refusing",
        reason: /password authentication failed for user "backup"/,
        inject: () => {
          password("another");
          return Promise.resolve(() => {
            password(PASSWORD);
          });
        },
      },
    ],
    load: {
      write: async (round) => {
        const sql = `CREATE TABLE IF NOT EXISTS load (id serial, text text);
          INSERT INTO load (text) SELECT md5(i::text) FROM generate_series(1, 200) i; DELETE FROM load WHERE id % 7 = ${round % 7}`;
        await run("psql", ["-Xq", "-d", "blog", "-c", sql], { env: { ...server.env, PGOPTIONS: "-c client_min_messages=error" } });
      },
      undo: async () => {
        await run("psql", ["-Xq", "-d", "blog", "-c", "DROP TABLE IF EXISTS load"], { env: server.env });
      },
    },
    restoreEqual: async ({ path }) => {
      const database = `restored_${restores++}`;
      const { env } = other;
      await run("psql", ["-Xq", "-c", `CREATE DATABASE ${database} TEMPLATE template0`], { env });
      const dump = join(path, "databases/shop.dump.zst");
      const restore = 'set -o pipefail; zstd -dcq "$0" | pg_restore --exit-on-error --single-transaction --no-owner --dbname="$1"';
      await run("bash", ["-c", restore, dump, database], { env: { ...env, PATH: `${dirname(hostProgram("pg_restore"))}:/usr/bin:/bin` } });
      const { stdout } = await run("psql", ["-XqAt", "-d", database, "-c", CONTENT], { env });
      await run("psql", ["-Xq", "-c", `DROP DATABASE ${database} WITH (FORCE)`], { env });
      if (stdout.trim() !== wanted) throw new Error("the database that was restored differs from the source");
    },
    stop: async () => {
      await other.stop();
      await server.stop();
    },
  };
}
