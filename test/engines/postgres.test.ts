import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { DatabaseFacts } from "../../lib/runtime/engines/postgres-facts";
import type { FoundGeneration } from "../helpers/pod/target";
import { Postgres } from "../helpers/servers/postgres";
import {
  archiveOf,
  type Backup,
  backUp,
  databasesOf,
  factsOf,
  fill,
  ODD,
  PASSWORD,
  restore,
  succeeded,
  synthesise,
  withEngine,
} from "./postgres-setup";

let server: Postgres;

beforeAll(async () => {
  server = await Postgres.start();
  fill(server);
});

afterAll(() => server?.stop());

/** Everything in a database that is no row, as pg_dump writes it. */
function schemaOf(of: Postgres, database: string): string {
  return of
    .run("pg_dump", ["--schema-only"], { database })
    .replace(/^\\(un)?restrict .*$/gm, "")
    // The server writes `ARRAY['a'::varchar]::text[]` otherwise once it has read it back.
    .replace(/::(character varying|text)(\[\])*/g, "")
    .replace(/[()]/g, "");
}

function rowsOf(of: Postgres, database: string): string {
  return of.run("pg_dump", ["--data-only"], { database }).replace(/^\\(un)?restrict .*$/gm, "").replace(/lo_open\('\d+'/g, "lo_open(");
}

describe("a backup", () => {
  let generation: FoundGeneration;
  let result: Backup;
  let copy: Postgres;

  beforeAll(async () => {
    result = await backUp();
    generation = succeeded(result);
    copy = await Postgres.start({ port: 5433, superuser: "somebody else" });
    copy.sql("CREATE ROLE tester LOGIN PASSWORD 'a newer one'");
    restore(generation, copy);
  });

  afterAll(() => copy?.stop());

  test("has the globals and one dump for each database, named so that the name can be read back", () => {
    expect(Object.keys(databasesOf(generation)).sort()).toEqual(["app", "hollow", "latin", "postgres", ODD].sort());
    const files = generation.manifest.files.map(({ path }) => path);
    expect(files).toHaveLength(6);
    expect(files).toEqual(expect.arrayContaining(["globals.sql", "databases/app.dump.zst"]));
    const [odd = ""] = files.filter((path) => path.includes("Odd"));
    expect(decodeURIComponent(odd.replace(/^databases\/(.*)\.dump\.zst$/, "$1"))).toBe(ODD);
    expect(odd).toMatch(/^databases\/[^/ `'"$=]*$/);
  });

  test("says which database allows no connections", () => {
    expect(result.logs.runner).toContain('database "closed" allows no connections and is not dumped');
  });

  test.each(["app", ODD, "latin", "hollow", "postgres"])("restores %s with every row, object, owner and privilege", (name) => {
    expect(schemaOf(copy, name)).toBe(schemaOf(server, name));
    expect(rowsOf(copy, name)).toBe(rowsOf(server, name));
  });

  test("has the fingerprint that a restored copy has", async () => {
    for (const [name, recorded] of Object.entries(databasesOf(generation))) {
      const restored = await factsOf(copy, name);
      // The copy's superuser, who owns what every database has, goes by another name.
      expect({ ...restored, roles: [] }).toEqual({ ...(await factsOf(server, name)), roles: [] });
      const { schema, largeObjects, extensions } = recorded;
      expect(restored).toMatchObject({ schema, largeObjects, extensions });
    }
  });

  test("has the server's own counts in its fingerprint", () => {
    const { app } = databasesOf(generation);
    expect(app?.tables).toEqual({
      ...{ "public.parent": 3001, "public.child": 50, "public.order": 0, "public.no_columns": 4, "public.unlogged": 1 },
      "public.tenants": 10,
      ...{ "public.parts_low": 9, "public.parts_high": 11, "public.heir": 1 },
      '"Strange ""schema"""."we""ird; na\'me\ntwo lines"': 2,
    });
    expect(app?.sequences).toEqual({
      "public.parent_id_seq": { last: "3002", direction: 1 },
      "public.child_id_seq": { last: "345", direction: 1 },
      "public.falls": { last: "-32", direction: -1 },
      'public."Round \'it"': { last: "1", direction: 0 },
      "public.large": { last: "9223372036854775806", direction: 1 },
      "public.unused": { last: null, direction: 1 },
    });
    expect(app).toMatchObject({ encoding: "UTF8", collation: "C.UTF-8", largeObjects: 2 });
    expect(Object.keys(app?.extensions ?? {}).sort()).toEqual(["pg_trgm", "plpgsql"]);
    expect(databasesOf(generation).latin).toMatchObject({ encoding: "LATIN1", collation: "C" });
    expect(generation.manifest.checks).toContain(
      'database "app": decoded by pg_restore to the last byte, 3089 rows in 10 tables as in its snapshot',
    );
    const version = server.sql("SELECT split_part(current_setting('server_version'), ' ', 1)");
    expect(generation.manifest.versions).toEqual({ postgresql: version, pg_dump: version });
  });

  test("has no password, and gives no role its old one", () => {
    const globals = readFileSync(join(generation.path, "globals.sql"), "utf8");
    expect(globals).not.toMatch(/PASSWORD|SCRAM|md5/);
    expect(globals).toContain('CREATE ROLE "owner"');
    expect(copy.sql("SELECT rolname FROM pg_authid WHERE rolpassword IS NOT NULL")).toBe("tester");
    expect(JSON.stringify([generation.manifest, result.logs])).not.toContain(PASSWORD);
  });

  test("keeps one database restorable by itself, under another name", () => {
    copy.sql("CREATE DATABASE elsewhere TEMPLATE template0");
    copy.run("pg_restore", ["--exit-on-error", "-d", "elsewhere"], { input: archiveOf(generation, "app") });
    expect(copy.sql("SELECT count(*) FROM ONLY parent", "elsewhere")).toBe("3001");
  });

  test("estimates the rows of a table that is larger than asked for, and says so", async () => {
    server.sql("ANALYZE parent", "app");
    const estimated = succeeded(await backUp({ json: synthesise({ exactCountMaxBytes: 100_000 }) }));
    const { app } = databasesOf(estimated);
    expect(app?.tables).toMatchObject({ "public.parent": { estimate: 3001 }, "public.child": 50 });
  });

  test.each(["busybox", "bash"] as const)("is the same by %s", async (shell) => {
    const other = succeeded(await backUp({ shell }));
    expect(databasesOf(other)).toEqual(databasesOf(generation));
  });
});

describe("the fingerprint of a schema", () => {
  test.each([
    ["a column's type", "ALTER TABLE q ALTER b TYPE bigint"],
    ["a column's default", "ALTER TABLE t ALTER a SET DEFAULT 2"],
    ["a column that may be null", "ALTER TABLE t ALTER b DROP NOT NULL"],
    ["a column more", "ALTER TABLE t ADD c int"],
    ["a column less", "ALTER TABLE t DROP b"],
    ["a constraint", "ALTER TABLE t DROP CONSTRAINT positive"],
    ["the condition of a constraint", "ALTER TABLE t DROP CONSTRAINT positive, ADD CONSTRAINT positive CHECK (a > -1)"],
    ["an index", "DROP INDEX i"],
    ["the condition of an index", "DROP INDEX i; CREATE INDEX i ON t (a) WHERE a > 6"],
    ["a view", "CREATE OR REPLACE VIEW v AS SELECT a FROM t WHERE a > 3"],
    ["a function's body", "CREATE OR REPLACE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT (1 + 1) * 2'"],
    ["a trigger", "ALTER TABLE t DISABLE TRIGGER g"],
    ["a label of an enumeration", "ALTER TYPE e ADD VALUE 'z'"],
    ["a domain", "ALTER DOMAIN d SET NOT NULL"],
    ["a sequence", "ALTER SEQUENCE s INCREMENT BY 2"],
    ["a policy", "ALTER POLICY p ON t USING (a > 1)"],
    ["row security", "ALTER TABLE t DISABLE ROW LEVEL SECURITY"],
    ["a rule", "DROP RULE r ON t"],
    ["a table more", "CREATE TABLE u ()"],
    ["a schema more", "CREATE SCHEMA u"],
    ["an operator", "DROP OPERATOR === (int, int)"],
    ["a partition's bounds", "DROP TABLE q1; CREATE TABLE q1 PARTITION OF q FOR VALUES IN (2)"],
  ])("tells %s", async (_, change) => {
    server.sql("DROP DATABASE IF EXISTS probe; CREATE DATABASE probe");
    server.sql(
      `CREATE TYPE e AS ENUM ('x', 'y'); CREATE DOMAIN d AS int; CREATE SEQUENCE s;
      CREATE TABLE t (a int DEFAULT 1 CONSTRAINT positive CHECK (a > 0), b d NOT NULL); CREATE INDEX i ON t (a) WHERE a > 5;
      CREATE VIEW v AS SELECT a FROM t WHERE a > 2; CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1 + (1 * 2)';
      CREATE FUNCTION g() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
      CREATE TRIGGER g BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION g(); CREATE RULE r AS ON DELETE TO t DO INSTEAD NOTHING;
      ALTER TABLE t ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON t USING (a > 0);
      CREATE OPERATOR === (LEFTARG = int, RIGHTARG = int, FUNCTION = int4eq);
      CREATE TABLE q (a int, b int) PARTITION BY LIST (a); CREATE TABLE q1 PARTITION OF q FOR VALUES IN (1)`,
      "probe",
    );
    const before = await factsOf(server, "probe");
    server.sql("INSERT INTO t VALUES (1, 1); ANALYZE; GRANT SELECT ON t TO reader; SELECT nextval('s')", "probe");
    const same = await factsOf(server, "probe");
    server.sql(change, "probe");
    const after = await factsOf(server, "probe");
    server.sql("DROP DATABASE probe");
    expect(same.schema).toBe(before.schema);
    expect(after.schema).not.toBe(before.schema);
  });

  test("is taken of 300 tables within seconds, and within the locks of a small server", async () => {
    const settings = { max_connections: "10", max_locks_per_transaction: "16", autovacuum: "off" };
    const small = await Postgres.start({ port: 5434, settings });
    try {
      const table = "CREATE TABLE t%s (id serial PRIMARY KEY, a int UNIQUE, b text UNIQUE); INSERT INTO t%s (a) VALUES (1)";
      small.sql(`SELECT format('${table}', i, i) FROM generate_series(1, 300) i \\gexec`);
      const started = Date.now();
      const { tables, sequences } = await factsOf(small, "postgres");
      expect([tables, sequences]).toEqual([Array(300).fill(expect.anything()), Array(300).fill(expect.anything())]);
      expect(Date.now() - started).toBeLessThan(5000);
    } finally {
      await small.stop();
    }
  });
});

test("twenty dumps of tables that are written to all the while are all equal to their fingerprints", async () => {
  server.sql("CREATE DATABASE busy");
  server.sql("CREATE TABLE log (id bigserial PRIMARY KEY, at timestamptz DEFAULT now(), t text); CREATE TABLE scratch (a int)", "busy");
  server.sql("CREATE TABLE stock (id int PRIMARY KEY, n int); INSERT INTO stock SELECT i, 0 FROM generate_series(1, 1000) i", "busy");
  server.sql("CREATE SEQUENCE down INCREMENT BY -1", "busy");
  const writers = [
    "INSERT INTO log (t) SELECT md5(i::text) FROM generate_series(1, 50) i; SELECT nextval('down');",
    "DELETE FROM log WHERE id <= (SELECT max(id) - 5000 FROM log); UPDATE stock SET n = n + 1 WHERE id % 10 = 1;",
    "BEGIN; TRUNCATE scratch; INSERT INTO scratch SELECT i FROM generate_series(1, 100) i; COMMIT; ANALYZE log;",
  ].map((statements) => {
    const session = server.session("busy");
    const ended = new Promise((resolve) => session.once("exit", resolve));
    const write = (): void => void session.stdin?.write(`${statements} \\echo\n`);
    session.stdout?.on("data", write);
    write();
    return async (): Promise<void> => {
      session.stdout?.off("data", write).resume();
      session.stdin?.end();
      await ended;
    };
  });
  const seen = new Set<string>();
  try {
    for (let round = 0; round < 20; round++) {
      const tables = await withEngine(
        async (engine, run) => {
          const dump = await engine.dump(run);
          expect(await engine.verify(run, dump)).toHaveLength(2);
          return (dump.fingerprint.databases as Record<string, DatabaseFacts>).busy?.tables;
        },
        { excludeDatabases: ["app", "hollow", "latin", "postgres", "unwanted", ODD] },
      );
      seen.add(JSON.stringify(tables));
    }
  } finally {
    for (const stop of writers) await stop();
    server.sql("DROP DATABASE busy WITH (FORCE)");
  }
  expect(seen.size).toBeGreaterThan(10);
});
