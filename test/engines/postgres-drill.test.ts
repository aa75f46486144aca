import { statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { forge, proven, red, runDrill, type Forgery } from "../helpers/drill";
import { hostProgram, type CronJobOptions } from "../helpers/pod";
import type { FoundGeneration } from "../helpers/pod/target";
import { temporaryDirectory } from "../helpers/process";
import { Postgres } from "../helpers/servers/postgres";
import { addRole, backUp, databasesOf, DRILL_TOOLS, fill, IMAGE, PASSWORD, succeeded, synthesise } from "./postgres-setup";

let server: Postgres;
let generation: FoundGeneration;
const json = synthesise();

beforeAll(async () => {
  server = await Postgres.start();
  fill(server);
  server.sql(`ALTER ROLE postgres PASSWORD '${PASSWORD.replaceAll("'", "''")}'`);
  generation = succeeded(await backUp({ json }));
});

afterAll(() => server?.stop());

/** The checks of a drill that is green. */
async function green(forgery: Forgery = {}, settings = json, of = generation, options: CronJobOptions = {}): Promise<readonly string[]> {
  return proven(await runDrill(settings, forge(settings, of, forgery).target, options));
}

/** The reason of one that is red. */
async function reason(forgery: Forgery, settings = json): Promise<string> {
  return red(await runDrill(settings, forge(settings, generation, forgery).target));
}

/** A fingerprint that says something else of a database than there is in its dump. */
function wanting(database: string, facts: object): Forgery {
  const databases = databasesOf(generation);
  const changed = { ...databases, [database]: { ...databases[database], ...facts } };
  return { manifest: (manifest) => ({ ...manifest, fingerprint: { ...manifest.fingerprint, databases: changed } as never }) };
}

describe("a drill", () => {
  test.each(["dash", "busybox", "bash"] as const)("proves that every database comes back with all that it had, by %s", async (shell) => {
    const result = await runDrill(json, forge(json, generation).target, { shell });
    const checks = proven(result);
    expect(checks[0]).toMatch(/^globals\.sql and 5 databases restored by PostgreSQL 15\.\d+ without an error$/);
    expect(checks).toContain(
      'database "app": 3089 rows in 10 tables, 6 sequences, 2 large objects, 2 extensions, the schema, owners, encoding and collation ' +
        "are as backed up",
    );
    expect(checks).toHaveLength(6);
    expect(result.verdict).toMatchObject({ generation: generation.name, restoreSeconds: expect.any(Number) as number });
  });

  test("is of a server whose first role, tablespaces and settings are its own", async () => {
    const json = synthesise({ excludeDatabases: [] });
    await server.stop();
    const other = await Postgres.start({ superuser: "the first one" });
    try {
      const place = temporaryDirectory("tablespace", statSync(other.socket).uid);
      other.sql(`CREATE TABLESPACE "fast's" LOCATION '${place}'; CREATE ROLE member; CREATE ROLE "Group"; GRANT "Group" TO member`);
      other.sql('CREATE DATABASE locked OWNER member TABLESPACE "fast\'s"');
      other.sql("CREATE TABLE t (id serial PRIMARY KEY, at timestamptz DEFAULT now()); INSERT INTO t DEFAULT VALUES", "locked");
      other.sql('GRANT SELECT ON t TO "Group"; ALTER DATABASE locked SET default_transaction_read_only = on', "locked");
      addRole(other, ["locked", "postgres"]);
      const checks = await green({}, json, succeeded(await backUp({ json })));
      expect(checks).toContainEqual(expect.stringMatching(/^database "locked": 1 rows in 1 tables, 1 sequences/));
    } finally {
      await other.stop();
      await server.up();
    }
  });

  test("asks assertions, and is red where one is answered otherwise", async () => {
    const asking = (query: string, expect: string, database = "app"): string =>
      synthesise({ drill: { assertions: [{ database, query, expect }] } });
    const one = asking("SELECT count(*) FROM ONLY parent WHERE status LIKE 'row %'", "3000");
    expect(await green({}, one)).toContain(
      `database "app" answers "3000" to "SELECT count(*) FROM ONLY parent WHERE status LIKE 'row %'"`,
    );
    expect(await reason({}, asking("SELECT 1;", "2"))).toBe('database "app" answers "1" instead of "2" to "SELECT 1;"');
    expect(await reason({}, asking("SELECT nothing", "2"))).toMatch(/^query failed: psql:<stdin>:1: ERROR: {2}column "nothing" does not/);
    expect(await reason({}, asking("SELECT 1", "1", "nowhere"))).toMatch(/^the assertion "SELECT 1" needs its 'database', one of "Odd/);
  });

  test("loads the libraries that extensions need, and is red where the image has them not", async () => {
    const query = "SHOW shared_preload_libraries";
    const assertions = [{ database: "app", query, expect: "auto_explain, pg_stat_statements" }];
    const preloading = (...preloadLibraries: string[]): string => synthesise({ drill: { preloadLibraries, assertions } });
    await green({}, preloading("auto_explain", "pg_stat_statements"));
    expect(await reason({}, preloading("vchord"))).toMatch(/FATAL: {2}could not access file "vchord": No such file or directory$/);
  });

  test("says what it could not compare", async () => {
    const { app } = databasesOf(generation);
    const tables = { ...app?.tables, "public.parent": { estimate: 5 } };
    const extensions = { ...app?.extensions, pg_trgm: "1.2.9" };
    const forgery = wanting("app", { tables, extensions });
    const checks = await green({
      manifest: (manifest) => {
        const { fingerprint, ...rest } = forgery.manifest?.(manifest) ?? manifest;
        return { ...rest, fingerprint: { ...fingerprint, server: "14.9" } };
      },
    });
    expect(checks).toEqual(
      expect.arrayContaining([
        expect.stringMatching(/^database "app": 88 rows in 9 tables, .* 2 extensions, owners, encoding/),
        'database "app": the schema is not compared, as the servers have different major versions',
        'database "app": not compared, since the backup could only estimate their rows: public.parent',
        `database "app": newer versions of extensions: pg_trgm ${app?.extensions.pg_trgm} instead of 1.2.9`,
      ]),
    );
  });

  test("does not touch the server that the backup is of, even where a program leads there", async () => {
    const state = "SELECT oid, datname FROM pg_database ORDER BY 1; SELECT rolname FROM pg_roles ORDER BY 1";
    const before = server.sql(state);
    const path = join(temporaryDirectory("stub"), "psql");
    const live = `PGHOST=127.0.0.1 PGUSER=postgres PGPASSWORD='${PASSWORD.replaceAll("'", `'\\''`)}'`;
    writeFileSync(path, `#!/bin/sh\nunset PGSERVICE\n${live} exec real "$@"\n`, { mode: 0o755 });
    const images = {
      [IMAGE]: { tools: [...DRILL_TOOLS, "real"], programs: { psql: path, real: hostProgram("psql") }, users: { postgres: 999 } },
    };
    expect(red(await runDrill(json, forge(json, generation).target, { images }))).toMatch(
      /^the server that answers is "", and not the scratch instance drill-[0-9a-f]{16}$/,
    );
    expect(server.sql(state)).toBe(before);
  });

  test("may run as a user that has no name in the image", async () => {
    const json = synthesise({ runAs: { uid: 4321 } });
    const images = { [IMAGE]: { tools: DRILL_TOOLS } };
    await green({}, json, succeeded(await backUp({ json })), { images });
  });

  test("is red where the engine's container dies", async () => {
    const result = await runDrill(json, forge(json, generation).target, {
      kill: { container: "engine", when: (pod) => pod.log("runner").includes("started drill-") },
    });
    expect(result.exitCodes.runner).toBe(1);
    expect(result.failure).toMatch(/the engine's container died/);
    expect(result.verdict).toMatchObject({ green: false, reason: "the engine's container died" });
  });
});
