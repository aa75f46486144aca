import { spawnSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { PostgresEngine } from "../../lib/runtime/engines/postgres";
import { withAgent } from "../helpers/agent-run";
import { Postgres } from "../helpers/servers/postgres";
import { addRole, backUp, environment, failure, instead, SETTINGS, succeeded, synthesise, withEngine } from "./postgres-setup";

let server: Postgres;

beforeAll(async () => {
  server = await Postgres.start();
  server.sql("CREATE DATABASE app; CREATE DATABASE other; CREATE DATABASE hollow; CREATE DATABASE unwanted");
  server.sql("CREATE TABLE big (id serial PRIMARY KEY, t text)", "app");
  server.sql("INSERT INTO big (t) SELECT md5(i::text) FROM generate_series(1, 60000) i", "app");
  server.sql("CREATE TABLE small (id int PRIMARY KEY, t text); INSERT INTO small SELECT i, 'x' FROM generate_series(1, 5000) i", "app");
  server.sql("SELECT lo_create(0)", "app");
  server.sql("CREATE TABLE big (id serial PRIMARY KEY, t text); INSERT INTO big (t) VALUES ('of the other')", "other");
  addRole(server, ["app", "other", "hollow", "postgres"]);
  server.sql("ALTER ROLE backup SET lo_compat_privileges = on");
});

afterAll(() => server?.stop());

const NOT_APP = 'case "$PGDATABASE" in app) ;; *) exec real "$@" ;; esac\n';

describe("fails when", () => {
  test("expected databases are missing, and names them", async () => {
    const json = synthesise({ expectDatabases: ["app", "rybbit", "woodpecker"] });
    expect(failure(await backUp({ json }))).toBe(
      'expected databases are missing: "rybbit", "woodpecker"; those that can be dumped are "app", "hollow", "other", "postgres"',
    );
  });

  test("an expected database allows no connections", async () => {
    server.sql("ALTER DATABASE hollow ALLOW_CONNECTIONS false");
    const reason = failure(await backUp({ json: synthesise({ expectDatabases: ["hollow"] }) }));
    server.sql("ALTER DATABASE hollow ALLOW_CONNECTIONS true");
    expect(reason).toMatch(/^expected databases are missing: "hollow"; /);
  });

  test("there is nothing to dump", async () => {
    const json = synthesise({ excludeDatabases: ["app", "other", "hollow", "postgres", "unwanted"] });
    expect(failure(await backUp({ json }))).toBe("the server has no database to dump");
  });

  test("the password is wrong", async () => {
    expect(failure(await backUp({ password: "guess" }))).toMatch(
      /^query failed: .*FATAL: +password authentication failed for user "backup"$/,
    );
  });

  test("the server is down", async () => {
    await server.stop();
    try {
      expect(failure(await backUp())).toMatch(/^query failed: psql: error: connection to server at .* failed: Connection refused$/);
    } finally {
      await server.up();
    }
  });

  test("the server is newer than the program, before anything is dumped", async () => {
    const images = instead("pg_dump", "exit 1");
    const path = images["docker.io/library/postgres"]?.programs?.pg_dump ?? "";
    writeFileSync(path, "#!/bin/sh\necho 'pg_dump (PostgreSQL) 9.6.24'\n");
    const [version = ""] = server.sql("SHOW server_version").split(" ");
    const [major] = version.split(".");
    expect(failure(await backUp({ images }))).toBe(
      `pg_dump 9.6.24 cannot dump a server of version ${version}: the image must have version ${major} or later`,
    );
  });

  test.each([
    ["is cut in half", 'real "$@" | head -c 900000', /^decode failed: pg_restore: error: could not read from input file: end of file$/],
    ["lacks its last byte", 'real "$@" > "$EXCHANGE/d"; head -c -1 "$EXCHANGE/d"', /^decode failed: .*end of file$/],
    ["has a bit flipped in its contents", 'real "$@" | sed "1s/PGDMP/PGDMQ/"', /^decode failed: .*not appear to be a valid archive$/],
    ["is empty", ":", /^decode failed: .*input file is too short/],
    [
      "is of another database", 'PGDATABASE=other; unset SNAPSHOT; exec real --format=custom --compress=0 --quote-all-identifiers',
      /table public.big has 1 rows instead of 60000, .* sequence public.big_id_seq is at 1, which is before 60000, /,
    ],
    [
      "is of an empty database", 'PGDATABASE=hollow exec real --format=custom',
      /table public.big is missing, table public.small is missing, sequence public.big_id_seq is missing/,
    ],
    [
      "lacks a table", 'exec real --exclude-table=small "$@"',
      /^the dump of database "app" is not what the database held: table public.small is missing$/,
    ],
    ["lacks a table's rows", 'exec real --exclude-table-data=small "$@"', /table public.small is missing$/],
    ["has no rows at all", 'exec real --schema-only "$@"', /table public.big is missing, table public.small is missing, sequence/],
    ["lacks large objects", 'exec real --no-blobs "$@"', /: 0 large objects instead of 1$/],
    [
      "is not of the snapshot",
      'export PGDATABASE; psql -qc "DELETE FROM small WHERE id = 1"; exec real --format=custom --compress=0 --quote-all-identifiers',
      /table public.small has 4999 rows instead of 5000$/,
    ],
    ["is not an archive", 'exec real --no-password --quote-all-identifiers', /^decode failed: .*text format dump/],
  ])("a dump %s, though the program ends with 0", async (_, script, reason) => {
    if (script.includes("DELETE")) server.sql("GRANT DELETE ON small TO backup", "app");
    const images = instead("pg_dump", `${NOT_APP}${script}`, ["head", "sed"]);
    try {
      expect(failure(await backUp({ images }))).toMatch(reason);
    } finally {
      server.sql("REVOKE DELETE ON small FROM backup; INSERT INTO small VALUES (1, 'x') ON CONFLICT DO NOTHING", "app");
    }
  });

  test("the facts do not come", async () => {
    const images = instead("psql", 'case "$*" in *pg_dump*) exit 0 ;; esac; exec real "$@"');
    expect(failure(await backUp({ images }))).toMatch(/^(the dump does not begin with what the database holds|dump failed .*)$/);
  });

  test("the globals are cut, though the program ends with 0", async () => {
    expect(failure(await backUp({ images: instead("pg_dumpall", 'real "$@" | head -n 12', ["head"]) }))).toBe(
      'globals.sql does not end with its last line, "-- PostgreSQL database cluster dump complete"',
    );
  });

  test.each([
    [
      "that pg_dump reads", "query LIKE 'COPY %big%'",
      /^dump failed: pg_dump: error: Dumping the contents of table "big" failed: .* Error message from server: .*/,
    ],
    [
      "that keeps the snapshot", "query LIKE 'ROLLBACK TO SAVEPOINT described%'",
      /^dump failed: .*FATAL: +terminating connection due to administrator command$/,
    ],
  ])("the server ends the connection %s in the middle", async (_, which, reason) => {
    const killer = server.session("app");
    killer.stdout?.resume();
    const dumping = "EXISTS (SELECT FROM pg_stat_activity WHERE query LIKE 'COPY %big%' AND now() - query_start > '10 ms')";
    const kill = `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'backup' AND ${which} AND ${dumping};\n`;
    const timer = setInterval(() => void killer.stdin?.write(kill), 10);
    server.sql("INSERT INTO big (t) SELECT repeat(md5(i::text), 10) FROM generate_series(1, 300000) i", "app");
    try {
      expect(failure(await backUp())).toMatch(reason);
    } finally {
      clearInterval(timer);
      killer.stdin?.end();
      server.sql("DELETE FROM big WHERE id > 60000; VACUUM FULL big", "app");
    }
  });

  test("a database is dropped while others are dumped, and names it", async () => {
    await withEngine(async (engine, run) => {
      await engine.preflight(run);
      const store: typeof run.store = (name, ...rest) => {
        if (name.includes("app")) server.sql("DROP DATABASE hollow");
        return run.store(name, ...rest);
      };
      await expect(engine.dump({ ...run, agent: run.agent, store })).rejects.toThrow(
        /^dump failed: .*FATAL: +database "hollow" does not exist$/,
      );
    });
    server.sql("CREATE DATABASE hollow");
    addGrant("hollow");
  });

  test("a table is dropped between the fingerprint and the dump", async () => {
    server.sql("CREATE TABLE short_lived (a int)", "other");
    server.sql("GRANT ALL ON short_lived TO backup; ALTER TABLE short_lived OWNER TO backup", "other");
    const script = 'case "$PGDATABASE" in other) psql -qc "DROP TABLE short_lived" ;; esac; exec real "$@"';
    expect(failure(await backUp({ images: instead("pg_dump", script) }))).toMatch(
      /^dump failed: .*relation "public.short_lived" does not exist$/,
    );
  });
});

function addGrant(database: string): void {
  server.sql(`GRANT CONNECT ON DATABASE ${database} TO backup`);
}

describe("the documented role", () => {
  test("is enough, on a server that lets nobody in by default", async () => {
    server.sql(["app", "other", "hollow", "postgres"].map((name) => `REVOKE CONNECT ON DATABASE ${name} FROM PUBLIC`).join(";"));
    server.sql("CREATE TABLE tenants (t text); INSERT INTO tenants VALUES ('a'), ('b')", "other");
    server.sql("ALTER TABLE tenants ENABLE ROW LEVEL SECURITY", "other");
    succeeded(await backUp());
  });

  test.each([
    ["LOGIN", "ALTER ROLE backup NOLOGIN", "ALTER ROLE backup LOGIN", /^query failed: .*role "backup" is not permitted to log in$/],
    [
      "pg_read_all_data",
      "REVOKE pg_read_all_data FROM backup",
      "GRANT pg_read_all_data TO backup",
      /^role "backup" may not read public.big, .*, public.small of database "app": GRANT pg_read_all_data TO "backup"; role .*"other"/,
    ],
    [
      "BYPASSRLS",
      "ALTER ROLE backup NOBYPASSRLS",
      "ALTER ROLE backup BYPASSRLS",
      /^row security hides rows of public.tenants of database "other" from role "backup": ALTER ROLE "backup" BYPASSRLS$/,
    ],
    [
      "CONNECT",
      "REVOKE CONNECT ON DATABASE app FROM backup",
      "GRANT CONNECT ON DATABASE app TO backup",
      /^role "backup" may not connect to database "app": GRANT CONNECT ON DATABASE "app" TO "backup"$/,
    ],
    [
      "reading large objects",
      "ALTER ROLE backup RESET lo_compat_privileges",
      "ALTER ROLE backup SET lo_compat_privileges = on",
      /^role "backup" may not read 1 large objects of database "app": ALTER ROLE "backup" SET lo_compat_privileges = on$/,
    ],
  ])("needs %s, and the run says what mends it", async (_, revoke, grant, reason) => {
    server.sql(revoke);
    const result = await backUp();
    server.sql(grant);
    expect(failure(result)).toMatch(reason);
    succeeded(await backUp());
  });

  test("never dumps a table that row security hides, even where nobody looked before", async () => {
    server.sql("ALTER ROLE backup NOBYPASSRLS");
    try {
      await withAgent({ env: environment() }, async ({ run }) => {
        await expect(new PostgresEngine(SETTINGS).dump(run)).rejects.toThrow(
          'query would be affected by row-level security policy for table "tenants"',
        );
      });
    } finally {
      server.sql("ALTER ROLE backup BYPASSRLS");
    }
  });

  test("runs no function that the owner of a database gave the name of a server's own", async () => {
    const trap = "RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE 'trapped'; END $$";
    server.sql("CREATE SCHEMA trap; GRANT USAGE ON SCHEMA trap TO PUBLIC", "other");
    server.sql(`CREATE FUNCTION trap.has_table_privilege(oid, text) ${trap}`, "other");
    server.sql("ALTER DATABASE other SET search_path = trap, pg_catalog");
    try {
      succeeded(await backUp());
    } finally {
      server.sql("ALTER DATABASE other RESET search_path; DROP SCHEMA trap CASCADE", "other");
    }
  });

  test("may read and not write", () => {
    const env = { ...server.env, PGUSER: "backup", PGDATABASE: "app" };
    const psql = (sql: string): string => spawnSync("psql", ["-XAtc", sql], { env, encoding: "utf8" }).stderr;
    const changes = ["DELETE FROM small", "UPDATE small SET t = 'y'", "SELECT setval('big_id_seq', 1)"];
    for (const sql of [...changes, "CREATE TABLE t ()", "CREATE ROLE x"]) {
      expect(psql(sql)).toMatch(/permission denied/);
    }
  });
});
