import { addForged, cut, decompressed, forge, refused, restored } from "../helpers/drill";
import { generationsOn, type FoundGeneration } from "../helpers/pod/target";
import { MariaDb } from "../helpers/servers/mariadb";
import { addRestorer, backUp, contentOf, fill, ODD, RESTORER, restoreFrom, succeeded, synthesise } from "./mysql-setup";

const SERVER = "mysql.dbaas:3306";
const json = synthesise({ restore: RESTORER });
let server: MariaDb;
let generation: FoundGeneration;
/** Everything in the databases that were backed up. */
let before: { readonly [database: string]: unknown };

const everything = (): typeof before => Object.fromEntries(["app", ODD, "hollow"].map((name) => [name, contentOf(server, name)]));
const databases = (): readonly string[] => server.sql("SHOW DATABASES").split("\n").sort();
const target = (): string => forge(json, generation).target;
beforeAll(async () => {
  server = await MariaDb.start({ args: ["--local-infile=0", "--event-scheduler=OFF"] });
  fill(server);
  addRestorer(server);
  generation = succeeded(await backUp({ json }));
  before = everything();
});

afterAll(() => server?.stop("SIGKILL"));

describe("all databases", () => {
  test("a dry run prints the plan, and changes nothing", async () => {
    server.sql("DELETE FROM child", "app");
    const changed = everything();
    const dry = await restoreFrom(json, target(), { GENERATION: "newest", DRY_RUN: "true" });
    expect(restored(dry)).toContain(SERVER);
    const plan = dry.plan.join("\n");
    expect(plan).toMatch(/restore the 1\d tables of app, 3\d{3} rows, into the new database app_restoring_\d{14}, and compare them/);
    expect(plan).toMatch(/then drop what is there now, with all that is in it: .*app/);
    expect(everything()).toEqual(changed);
  });

  test.each([
    ["is not there", undefined],
    ["is another server's", "mysql.other:3306"],
    ["is a database's", "app"],
  ])("are not replaced where the confirmation %s", async (_, confirm) => {
    const changed = everything();
    const on = target();
    const env = { GENERATION: "newest", ...(confirm === undefined ? {} : { CONFIRM: confirm }) };
    expect(refused(await restoreFrom(json, on, env))).toContain(SERVER);
    expect(everything()).toEqual(changed);
    expect(generationsOn(json, on)).toHaveLength(1);
  });

  test("come back as they were, after a backup of what they replace", async () => {
    server.sql("DROP TABLE no_key; DELETE FROM parent WHERE id > 10; DROP VIEW above; DROP PROCEDURE fill; CREATE TABLE later (a INT)", "app");
    server.sql("DROP DATABASE hollow; DROP USER 'o''brien'@'%'; DROP ROLE reader");
    const others = databases();
    const on = target();
    restored(await restoreFrom(json, on, { GENERATION: "newest", CONFIRM: SERVER }));
    expect(everything()).toEqual(before);
    expect(databases()).toEqual([...others, "hollow"].sort());
    expect(server.sql("SHOW GRANTS FOR 'o''brien'@'%'")).toContain("GRANT `reader`");
    const safety = generationsOn(json, on).find(({ manifest }) => manifest.purpose === "safety");
    expect(safety?.manifest.fingerprint.databases).toMatchObject({ app: { tables: { later: { rows: 0 } } } });
  });

  test("come back to a server that has nothing, without a confirmation", async () => {
    for (const name of ["app", ODD, "hollow"]) server.sql(`DROP DATABASE \`${name.replaceAll("`", "``")}\``);
    restored(await restoreFrom(json, target(), { GENERATION: "newest" }));
    expect(everything()).toEqual(before);
  });
});

describe("one database", () => {
  test("comes back alone, confirmed by its name", async () => {
    server.sql("DELETE FROM child", "app");
    server.sql("DELETE FROM t", ODD);
    const odd = contentOf(server, ODD);
    const env = { GENERATION: "newest", DATABASE: "app" };
    expect(refused(await restoreFrom(json, target(), { ...env, CONFIRM: SERVER }))).toContain("app");
    restored(await restoreFrom(json, target(), { ...env, CONFIRM: "app" }));
    expect(contentOf(server, "app")).toEqual(before.app);
    expect(contentOf(server, ODD)).toEqual(odd);
    restored(await restoreFrom(json, target(), { GENERATION: "newest", DATABASE: ODD, CONFIRM: ODD }));
    expect(everything()).toEqual(before);
  });

  test("comes back beside the other under another name", async () => {
    restored(await restoreFrom(json, target(), { GENERATION: "newest", DATABASE: ODD, INTO: "look" }));
    expect(server.sql("SELECT a FROM look.t ORDER BY a")).toBe("1\n2");
    expect(everything()).toEqual(before);
    server.sql("DROP DATABASE look");
  });

  test("comes back under another name as far as its programs do not name the first, and says where they do", async () => {
    const failure = refused(await restoreFrom(json, target(), { GENERATION: "newest", DATABASE: "app", INTO: "look" }));
    expect(failure).toMatch(/^look has its tables and rows, but not all else: .*'app.after child' already exists/);
    expect(server.sql("SELECT COUNT(*) FROM look.parent")).toBe(server.sql("SELECT COUNT(*) FROM app.parent"));
    expect(everything()).toEqual(before);
    server.sql("DROP DATABASE look");
  });

  test("one table comes back in a database of its own", async () => {
    const there = databases();
    restored(await restoreFrom(json, target(), { GENERATION: "newest", DATABASE: "app", TABLE: "child" }));
    const [made = ""] = databases().filter((name) => !there.includes(name));
    expect(made).toMatch(/^app_restored_\d{14}$/);
    expect(server.sql("CHECKSUM TABLE child", made).split("\t")[1]).toBe(server.sql("CHECKSUM TABLE child", "app").split("\t")[1]);
    expect(contentOf(server, "app")).toEqual(before.app);
    server.sql(`DROP DATABASE ${made}`);
  });

  test.each([
    ["a database that is not in the backup", { DATABASE: "shop" }, /^the backup has no database shop; it has app, hollow/],
    ["a table that is not in it", { DATABASE: "app", TABLE: "orders" }, /^the backup has no table orders in app; it has /],
    ["a table without its database", { TABLE: "child" }, /^INTO and TABLE need a DATABASE/],
    ["a name that is the server's own", { DATABASE: "app", INTO: "mysql" }, /^INTO must be a name of 1 to 64 characters/],
  ])("%s is refused", async (_, env, expected) => {
    const there = databases();
    expect(refused(await restoreFrom(json, target(), { GENERATION: "newest", ...env }))).toMatch(expected);
    expect(databases()).toEqual(there);
  });
});

test("nothing is replaced where the backup is damaged so that its hashes agree", async () => {
  const { target: on } = forge(json, generation, { hoursOlder: 1 });
  addForged(json, on, generation, { change: { "databases/app.sql.zst": decompressed(cut(0.9)) } });
  const there = databases();
  expect(refused(await restoreFrom(json, on, { GENERATION: "newest", CONFIRM: SERVER }))).toMatch(/^app: /);
  expect(everything()).toEqual(before);
  expect(databases()).toEqual(there);
});

test("an account that may not do it gets the statement that lets it", async () => {
  server.sql(`REVOKE DROP ON *.* FROM '${RESTORER.user}'@'%'`);
  try {
    expect(refused(await restoreFrom(json, target(), { GENERATION: "newest", CONFIRM: SERVER }))).toMatch(/GRANT DROP ON \*\.\* TO 'restorer'@'%'/);
    expect(everything()).toEqual(before);
  } finally {
    server.sql(`GRANT DROP ON *.* TO '${RESTORER.user}'@'%' WITH GRANT OPTION`);
  }
});
