import { spawn } from "node:child_process";
import { once } from "node:events";
import { cut, decompressed, flip, forge, type Forgery, type RestoreResult } from "../helpers/drill";
import { hostProgram, type RunningPod } from "../helpers/pod";
import type { FoundGeneration } from "../helpers/pod/target";
import { Postgres } from "../helpers/servers/postgres";
import { addRestorer, backUp, databasesOf, fill, fillShop, PASSWORD, restoreFrom, SHOP_ONLY, succeeded, synthesise } from "./postgres-setup";

const json = synthesise(SHOP_ONLY);
const ADDRESS = "pg-cluster-rw.dbaas:5432";
const CONTENT = "SELECT md5(string_agg(t::text, ',' ORDER BY id)) FROM item t";
let server: Postgres;
let generation: FoundGeneration;

beforeEach(async () => {
  server = await Postgres.start();
  fillShop(server);
  addRestorer(server);
  if (generation === undefined) generation = succeeded(await backUp({ json }));
});

afterEach(() => server?.stop());

const names = (): string[] => server.sql("SELECT datname FROM pg_database WHERE NOT datistemplate ORDER BY 1").split("\n");
/** Everything that a restore might change, but for names of databases. */
const SETTINGS = "(SELECT setconfig FROM pg_db_role_setting WHERE setrole = a.oid AND setdatabase = 0)";
const roles = (): string => server.sql(`SELECT rolname, rolpassword, ${SETTINGS} FROM pg_authid a WHERE oid > 16000 ORDER BY 1`);

/** A restore of the newest generation, or of a forged copy of it. */
function restore(env: { readonly [option: string]: string }, forgery: Forgery = {}): Promise<RestoreResult> {
  return restoreFrom(json, forge(json, generation, forgery).target, { GENERATION: "newest", ...env });
}

async function done(env: { readonly [option: string]: string }, forgery?: Forgery): Promise<RestoreResult> {
  const result = await restore(env, forgery);
  if (!result.ok) throw new Error(JSON.stringify(result.logs, undefined, 2));
  return result;
}

/** The reason of a restore that failed and left everything as it was. */
async function refused(env: { readonly [option: string]: string }, forgery?: Forgery): Promise<string> {
  const before = [names(), roles(), server.sql(CONTENT, "shop")];
  const { exitCodes, failure } = await restore(env, forgery);
  expect([names(), roles(), server.sql(CONTENT, "shop")]).toEqual(before);
  expect(exitCodes.runner).toBe(1);
  return failure;
}

const asked = (what: string, database = "shop"): string => server.sql(what, database);

describe("one database", () => {
  test("is shown in a plan, confirmed, and replaced by what was backed up; the old one stays", async () => {
    const before = asked(CONTENT);
    const described = (): string => server.sql("SELECT datdba::regrole, datcollate, datacl FROM pg_database WHERE datname = 'shop'");
    const properties = described();
    asked("DELETE FROM item WHERE id > 10; DROP TABLE sale; CREATE TABLE late AS SELECT 1");
    const damaged = asked(CONTENT);

    const dry = await done({ DATABASE: "shop", DRY_RUN: "true" });
    expect(dry.plan).toEqual([
      expect.stringMatching(/^restore database "shop" as "shop_restoring_\d{14}", compare it with the backup, then name it "shop"$/),
      expect.stringMatching(/^the database that is "shop" now stays as "shop_replaced_\d{14}"$/),
    ]);
    expect(await refused({ DATABASE: "shop" })).toMatch(/nothing was changed; to replace it, set CONFIRM to "shop"$/);
    expect(await refused({ DATABASE: "shop", CONFIRM: "blog" })).toMatch(/set CONFIRM to "shop"$/);

    const { logs } = await done({ DATABASE: "shop", CONFIRM: "shop" });
    const [aside = "", ...more] = names().filter((name) => name.startsWith("shop_"));
    expect([asked(CONTENT), described(), more]).toEqual([before, properties, []]);
    expect(asked("SELECT count(*) FROM sale; SELECT last_value FROM item_id_seq")).toBe("500\n20000");
    // Neither what the old one still had, nor what it had got, is lost.
    expect(server.sql(CONTENT, aside)).toBe(damaged);
    expect(server.sql("SELECT count(*) FROM late", aside)).toBe("1");
    expect(logs.runner).toMatch(/database "shop": 20500 rows in 2 tables, .* the schema, owners, encoding and collation are as backed up/);
    expect(logs.runner).toMatch(new RegExp(`what was there is in database "${aside}": remove it`));
    // Queries are planned by what there is.
    expect(asked("SELECT reltuples FROM pg_class WHERE relname = 'item'")).toBe("20000");
  });

  test("that is gone comes back without a question, with the roles that it needs, and these alone", async () => {
    const before = asked(CONTENT);
    server.sql("CREATE ROLE heir; REASSIGN OWNED BY seller TO heir", "shop");
    server.sql("DROP DATABASE shop; DROP ROLE seller; ALTER ROLE clerk SET work_mem = '1MB'; ALTER ROLE clerk LOGIN PASSWORD 'new'");
    const kept = server.sql("SELECT * FROM pg_authid WHERE rolname = 'clerk'");
    const { plan } = await done({ DATABASE: "shop" });
    expect(plan[0]).toBe('make the roles that are missing, without passwords: "seller"');
    expect(asked(CONTENT)).toBe(before);
    expect(asked("SELECT tableowner FROM pg_tables WHERE tablename = 'item'")).toBe("seller");
    const made = `SELECT rolpassword IS NULL, ${SETTINGS}, pg_has_role('seller', 'clerk', 'MEMBER') FROM pg_authid a WHERE rolname = 'seller'`;
    expect(server.sql(made)).toBe("t|{search_path=x}|t");
    // Whoever has a newer password than the backup keeps it.
    expect(server.sql("SELECT * FROM pg_authid WHERE rolname = 'clerk'")).toBe(kept);
    expect(names().filter((name) => name.startsWith("shop"))).toEqual(["shop"]);
  });

  test("comes back beside the one that there is, under another name", async () => {
    const before = asked(CONTENT);
    asked("UPDATE item SET name = 'changed' WHERE id = 1");
    const after = asked(CONTENT);
    await done({ DATABASE: "shop", INTO: `Shop of "may's"` });
    expect([asked(CONTENT), asked(CONTENT, `Shop of "may's"`)]).toEqual([after, before]);
    expect(await refused({ DATABASE: "shop", INTO: "blog" })).toMatch(/set CONFIRM to "blog"$/);
  });

  test("is left as it is where the backup does not restore, or is not what it says", async () => {
    const { shop } = databasesOf(generation);
    const damaged = { change: { "databases/shop.dump.zst": decompressed(cut(0.5)) } };
    const env = { DATABASE: "shop", CONFIRM: "shop" };
    expect(await refused(env, damaged)).toMatch(/^restore failed: pg_restore: error: could not read from input file: end of file$/);
    const flipped = { change: { "databases/shop.dump.zst": flip(0.5) }, rehash: false };
    expect(await refused(env, flipped)).toMatch(/^databases\/shop\.dump\.zst is damaged: /);
    const fingerprint = { ...generation.manifest.fingerprint, databases: { shop: { ...shop, tables: { "public.item": 20001 } } } };
    expect(await refused(env, { manifest: (manifest) => ({ ...manifest, fingerprint: fingerprint as never }) })).toMatch(
      /^database "shop" does not come back as it was backed up: table public\.item has 20000 rows instead of 20001, table public\.sale was/,
    );
  });

  test("is left as it is where the pod is killed", async () => {
    const before = asked(CONTENT);
    const { target } = forge(json, generation);
    const begun = (pod: RunningPod): boolean => / restoring$/m.test(pod.log("runner"));
    const kill = { when: (pod: RunningPod) => begun(pod) && names().some((name) => name.startsWith("shop_restoring_")) };
    const result = await restoreFrom(json, target, { GENERATION: "newest", DATABASE: "shop", CONFIRM: "shop" }, { kill });
    expect(result.ok).toBe(false);
    expect(asked(CONTENT)).toBe(before);
    const [left = ""] = names().filter((name) => name.startsWith("shop_restoring_"));
    // The next one says what is left, and is not hindered by it.
    const { plan } = await done({ DATABASE: "shop", DRY_RUN: "true" });
    expect(plan[0]).toBe(`note: a restore that did not end left "${left}": DROP DATABASE "${left}" removes it`);
  });

  test("is not replaced under the feet of whoever uses it", async () => {
    const session = server.session("shop");
    const ended = once(session, "exit");
    const wait = (seconds: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, seconds * 1000));
    await wait(6);
    const sessions = "there are sessions of postgres from the socket in database shop";
    expect(await refused({ DATABASE: "shop", CONFIRM: "shop" })).toBe(`${sessions}: stop what they belong to first`);
    const { plan } = await done({ DATABASE: "shop", DRY_RUN: "true" });
    expect(plan.at(-1)).toBe(`before that, stop what these belong to: ${sessions}`);
    session.stdin?.end();
    await ended;

    // One that comes while the new database is made: nothing of the work is lost.
    asked("UPDATE item SET name = 'late' WHERE id = 1");
    const late = asked(CONTENT);
    const { target } = forge(json, generation);
    const running = restoreFrom(json, target, { GENERATION: "newest", DATABASE: "shop", CONFIRM: "shop" });
    const intruder = spawn(hostProgram("psql"), ["-XqAt", "-c", "SELECT pg_sleep(60)"], { env: { ...server.env, PGDATABASE: "shop" } });
    const { failure } = await running;
    intruder.kill();
    const sql = /not given the names of the old: there are sessions of .*; end that and run: (BEGIN; .* COMMIT;)$/.exec(failure)?.[1] ?? "";
    expect(asked(CONTENT)).toBe(late);
    server.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'shop'");
    server.sql(sql);
    expect(asked("SELECT name = md5('1') FROM item WHERE id = 1")).toBe("t");
  });

  test("can be any but what the backup does not have, or its options do not fit", async () => {
    expect(await refused({ DATABASE: "strange" })).toBe('the backup has no database "strange"; it has "blog", "shop"');
    expect(await refused({ INTO: "other" })).toBe('INTO and TABLE need a DATABASE, one of "blog", "shop"');
    expect(await refused({ TABLE: "public.item" })).toBe('INTO and TABLE need a DATABASE, one of "blog", "shop"');
    expect(await refused({ DATABASE: "shop", TABLE: "public.item", INTO: "x" })).toMatch(/^INTO is the name of a database/);
    expect(await refused({ DATABASE: "shop", TABLE: "item" })).toBe(
      'the backup has no table item in database "shop"; it has public.item, public.sale',
    );
  });
});

describe("refuses", () => {
  const versions = (server: string, program: string): Forgery => ({
    manifest: (manifest) => ({
      ...manifest,
      versions: { ...manifest.versions, pg_dump: program },
      fingerprint: { ...manifest.fingerprint, server },
    }),
  });

  test("a server, or a program, that is older than the backup", async () => {
    expect(await refused({ DATABASE: "shop" }, versions("99.1", "99.1"))).toMatch(
      /^the backup is of PostgreSQL 99\.1, which a server of version 15\.\d+ cannot be given$/,
    );
    expect(await refused({ DATABASE: "shop" }, versions("15.1", "99.1"))).toMatch(
      /^pg_restore 15\.\d+ cannot read what pg_dump 99\.1 wrote: use a newer image$/,
    );
  });

  test("a role that may not do all of it, and leaves everything as it is", async () => {
    server.sql("ALTER ROLE restorer NOSUPERUSER CREATEDB CREATEROLE BYPASSRLS; GRANT pg_read_all_data TO restorer");
    expect(await refused({ DATABASE: "shop", CONFIRM: "shop" })).toMatch(/ERROR: {2}(must be|permission denied)/);
  });

  test("a password that is wrong, without printing it", async () => {
    server.sql("ALTER ROLE restorer PASSWORD 'another'");
    const { failure, logs } = await restore({ DATABASE: "shop" });
    expect(failure).toMatch(/password authentication failed for user "restorer"/);
    expect(JSON.stringify(logs)).not.toContain(PASSWORD);
  });
});

describe("one table", () => {
  test("comes back beside what there is, and takes its old place in one statement", async () => {
    const before = asked(CONTENT);
    asked("CREATE TABLE part_of (item int REFERENCES item); INSERT INTO part_of VALUES (1)");
    asked("DELETE FROM item WHERE id > 1; CREATE VIEW seen AS SELECT * FROM item");
    const { plan, logs } = await done({ DATABASE: "shop", TABLE: "public.item" });
    const [, schema = ""] = /^restore table public\.item of database "shop" as "(restored_\d{14})"\."item"; no table that/.exec(plan[0] ?? "") ?? [];
    expect(asked(CONTENT.replace("item", `${schema}.item`))).toBe(before);
    expect(asked("SELECT count(*) FROM item")).toBe("1");
    // With all that belongs to it: key, index, sequence, owner.
    const belongings = `SELECT count(*) FROM pg_class WHERE relnamespace = '${schema}'::regnamespace`;
    expect(asked(belongings)).toBe("4");
    expect(asked(`SELECT tableowner FROM pg_tables WHERE schemaname = '${schema}'`)).toBe("seller");
    expect(names()).toEqual(["blog", "postgres", "shop", "strange"]);
    const [, move = ""] = /to give it its old place: (ALTER TABLE .*)$/m.exec(logs.runner ?? "") ?? [];
    asked(`DROP TABLE item CASCADE; ${move}`);
    expect(asked(CONTENT)).toBe(before);
    expect(asked("SELECT nextval('item_id_seq')")).toBe("20001");
  });

  test.each(["public.child", "public.parts_low", "public.heir", '"Strange ""schema"""."we""ird; na\'me\ntwo lines"'])(
    "may be bound to others, as %j is, which are not touched",
    async (table) => {
      await server.stop();
      server = await Postgres.start();
      fill(server);
      addRestorer(server);
      const all = synthesise();
      const { target } = forge(all, succeeded(await backUp({ json: all })));
      const rows = ["parent", "parts", table].map((name) => server.sql(`SELECT count(*) FROM ${name}`, "app"));
      const result = await restoreFrom(all, target, { GENERATION: "newest", DATABASE: "app", TABLE: table });
      if (!result.ok) throw new Error(JSON.stringify(result.logs, undefined, 2));
      expect(["parent", "parts", table].map((name) => server.sql(`SELECT count(*) FROM ${name}`, "app"))).toEqual(rows);
      const [, copy = ""] = /; to give it its old place: ALTER TABLE (.*) SET SCHEMA /.exec(result.logs.runner ?? "") ?? [];
      const found = copy.replace(" | ", "\n");
      expect(server.sql(`SELECT count(*) FROM ${found}`, "app")).toBe(rows[2]);
      expect(server.sql(`SELECT count(*) FROM pg_inherits WHERE inhrelid = '${found.replaceAll("'", "''")}'::regclass`, "app")).toBe("0");
      const told = (result.logs.runner ?? "").includes('ADD CONSTRAINT "child_parent_fkey" FOREIGN KEY ("parent") REFERENCES');
      expect(told).toBe(table === "public.child");
    },
  );

  test("has no place in a database that is gone", async () => {
    server.sql("DROP DATABASE blog");
    expect(await refused({ DATABASE: "blog", TABLE: "public.item" })).toBe(
      'there is no database "blog" that a table could be put into; restore the database itself',
    );
  });

  test("leaves nothing behind where it cannot be restored", async () => {
    const cut50 = { change: { "databases/shop.dump.zst": decompressed(cut(0.5)) } };
    expect(await refused({ DATABASE: "shop", TABLE: "public.item" }, cut50)).toMatch(/^restore_chosen failed: pg_restore: error: /);
  });
});

describe("the whole server", () => {
  test("comes back on an empty one: roles without passwords, then every database", async () => {
    const before = [asked(CONTENT), server.sql("SELECT count(*) FROM item", "blog"), asked("SELECT relacl FROM pg_class WHERE relname = 'sale'")];
    await server.stop();
    server = await Postgres.start({ superuser: "admin" });
    addRestorer(server);
    server.sql("CREATE ROLE seller LOGIN PASSWORD 'the current one'");
    const current = server.sql("SELECT rolpassword FROM pg_authid WHERE rolname = 'seller'");
    const { plan } = await done({});
    expect(plan).toContain(
      'make the roles that are missing, without passwords: "backup", "clerk", "postgres", of which superusers: "postgres"',
    );
    const after = [asked(CONTENT), server.sql("SELECT count(*) FROM item", "blog"), asked("SELECT relacl FROM pg_class WHERE relname = 'sale'")];
    expect(after).toEqual(before);
    expect(server.sql("SELECT rolpassword FROM pg_authid WHERE rolname = 'seller'")).toBe(current);
    expect(server.sql("SELECT rolname FROM pg_authid WHERE rolpassword IS NOT NULL ORDER BY 1")).toBe("restorer\nseller");
  });

  test("replaces what is there only where its address is confirmed, all of it in one moment", async () => {
    asked("DELETE FROM item WHERE id > 10");
    server.sql("DROP DATABASE blog; CREATE DATABASE blog");
    expect(await refused({})).toMatch(`nothing was changed; to replace it, set CONFIRM to "${ADDRESS}"`);
    const { plan } = await done({ CONFIRM: ADDRESS });
    expect(plan[0]).toBe('note: databases that are not in the backup stay as they are: "postgres", "strange"');
    expect([asked("SELECT count(*) FROM item"), server.sql("SELECT count(*) FROM item", "blog")]).toEqual(["20000", "1"]);
    expect(names().map((name) => name.replace(/\d{14}/, "*"))).toEqual([
      ...["blog", "blog_replaced_*", "postgres", "shop", "shop_replaced_*", "strange"],
    ]);
  });
});
