import { readFileSync } from "node:fs";
import { join } from "node:path";
import { addForged, cut, decompressed, forge, type Forgery, proven, red, runDrill } from "../helpers/drill";
import { generationsOn, type FoundGeneration } from "../helpers/pod/target";
import { temporaryDirectory } from "../helpers/process";
import { Postgres } from "../helpers/servers/postgres";
import { backUp, databasesOf, fillShop, SHOP_ONLY, succeeded, synthesise } from "./postgres-setup";

const json = synthesise(SHOP_ONLY);
const SHOP = "databases/shop.dump.zst";
let server: Postgres;
let generation: FoundGeneration;

beforeAll(async () => {
  server = await Postgres.start();
  fillShop(server);
  generation = succeeded(await backUp({ json }));
});

afterAll(() => server?.stop());

const drill = async (forgery: Forgery): ReturnType<typeof runDrill> => runDrill(json, forge(json, generation, forgery).target);
const reason = async (forgery: Forgery): Promise<string> => red(await drill(forgery));

/** A dump of a database as it is after `change`, which is undone. */
function dumped(change = "", undo = "", args: readonly string[] = [], database = "shop"): (content: Buffer) => Buffer {
  const file = join(temporaryDirectory("dump"), "dump");
  server.sql(change, database);
  server.run("pg_dump", ["-Fc", "-Z0", "--quote-all-identifiers", "-f", file, ...args], { database });
  server.sql(undo, database);
  return decompressed(() => readFileSync(file));
}

const instead = (...args: Parameters<typeof dumped>): Forgery => ({ change: { [SHOP]: dumped(...args) } });
const without = (pattern: RegExp): Forgery => ({
  change: { "globals.sql": (content) => Buffer.from(content.toString().replace(pattern, "")) },
});

/** A fingerprint that says something else of a database than there is in its dump. */
function wanting(database: string, facts: object): Forgery {
  const databases = databasesOf(generation);
  const changed = { ...databases, [database]: { ...databases[database], ...facts } };
  return { manifest: (manifest) => ({ ...manifest, fingerprint: { ...manifest.fingerprint, databases: changed } as never }) };
}

test("the same dump made again is green", async () => {
  proven(await drill(instead()));
});

describe("is red where", () => {
  test("the generation is yesterday's, though it restores", async () => {
    expect(await reason({ hoursOlder: 30 })).toMatch(/^the newest generation is 30\.0 h old, but may be \d+\.\d h at most$/);
  });

  test("the newest generation is damaged, though an older one restores", async () => {
    const { target } = forge(json, generation, { hoursOlder: 1 });
    addForged(json, target, generation, { change: { [SHOP]: cut(0.5) } });
    expect(generationsOn(json, target)).toHaveLength(2);
    expect(red(await runDrill(json, target))).toMatch(/^databases\/shop\.dump\.zst is damaged: /);
  });

  test.each<[string, () => Forgery, RegExp]>([
    [
      "the dump is of another database",
      () => ({ change: { [SHOP]: () => readFileSync(join(generation.path, "databases/blog.dump.zst")) } }),
      /^databases are missing from what was restored: "shop"|ERROR: {2}database "blog" already exists/,
    ],
    [
      "the dump is of a database that was not backed up",
      () => ({ change: { "databases/blog.dump.zst": dumped("", "", [], "strange") } }),
      /^databases are missing from what was restored: "blog"; there is "shop", "strange"$/,
    ],
    [
      "the dump is of an empty database",
      () => instead("", "", ["--exclude-schema=public", "--no-blobs", "--extension=plpgsql"]),
      /: table public\.item is missing, table public\.sale is missing, sequence public\.item_id_seq is missing, 0 large objects/,
    ],
    ["a table is missing", () => instead("", "", ["--exclude-table=sale"]), /: table public\.sale is missing, role "clerk" owns nothing/],
    [
      "a row is missing",
      () => instead("DELETE FROM sale WHERE id = 500", "INSERT INTO sale VALUES (500)"),
      /^database "shop" is not what was backed up: table public\.sale has 499 rows instead of 500$/,
    ],
    ["the rows are missing", () => instead("", "", ["--schema-only"]), /: table public\.item has 0 rows instead of 20000, table public\.sale/],
    [
      "a table has more",
      () => instead("CREATE TABLE more AS SELECT 1", "DROP TABLE more"),
      /: table public\.more was not in the backup, the schema differs/,
    ],
    [
      "a sequence is behind",
      () => instead("SELECT setval('item_id_seq', 19999)", "SELECT setval('item_id_seq', 20000)"),
      /^[^:]*: sequence public\.item_id_seq is at 19999, which is before 20000$/,
    ],
    ["large objects are missing", () => instead("", "", ["--no-blobs"]), /^[^:]*: 0 large objects instead of 1$/],
    [
      "an index is missing",
      () => instead("DROP INDEX by_name", "CREATE INDEX by_name ON item (lower(name))"),
      /^[^:]*: the schema differs in something other than names of tables and sequences$/,
    ],
    [
      "nobody may read what a role could read",
      () => instead("REVOKE SELECT ON sale FROM clerk", "GRANT SELECT ON sale TO clerk"),
      /^[^:]*: role "clerk" owns nothing and may do nothing there any more$/,
    ],
    [
      "an extension is older or missing, or one has come with it",
      () => wanting("shop", { extensions: { pg_trgm: "99.1", vector: "1" } }),
      /: extension pg_trgm has version 1\.\d, which is older than 99\.1, extension vector is missing, extension plpgsql was not in the/,
    ],
    [
      "encoding or collation are others",
      () => wanting("shop", { encoding: "LATIN2", collation: "bg_BG" }),
      /: the encoding is UTF8 instead of LATIN2, the collation is C\.UTF-8 instead of bg_BG$/,
    ],
    ["the globals end early", () => without(/\n--[^\n]*dump complete[^]*$/), /^globals\.sql does not end with its last line/],
    [
      "the globals lack a role",
      () => without(/^(?:(?:CREATE|ALTER) ROLE "clerk"|GRANT "clerk").*\n/gm),
      /^restore failed: .*ERROR: {2}role "clerk" does not exist/,
    ],
    ["the globals set what they do not make", () => without(/^CREATE ROLE "seller";\n/m), /^query failed: .*ERROR: {2}role "seller" does not/],
    [
      "a dump is not there",
      () => ({ manifest: (manifest) => ({ ...manifest, files: manifest.files.filter(({ path }) => path !== SHOP) }) }),
      /^the backup has no databases\/shop\.dump$/,
    ],
  ])("%s", async (_, forgery, expected) => {
    expect(await reason(forgery())).toMatch(expected);
  });
});
