import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { copyFileSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { zstdDecompressSync } from "node:zlib";
import type { Assertion } from "../../lib/runtime/settings";
import {
  cut,
  decompressed,
  DRILL_ROUNDS,
  flip,
  forge,
  type Forgery,
  overwrite,
  proven,
  red,
  runDrill,
  TWENTIETHS,
  withoutLastByte,
} from "../helpers/drill";
import { makeTarget, withSettings, type FoundGeneration } from "../helpers/pod/target";
import { temporaryDirectory } from "../helpers/process";
import { application, startApplication } from "../helpers/sqlite-application";
import { DAMAGES, SCHEMA } from "../helpers/sqlite-damage";
import { backUp, fingerprintOf, synthesise, vault } from "./sqlite-setup";

const json = synthesise();
const STORED = "db.sqlite3.zst";
const FILES = "files.tar.zst";
let generation: FoundGeneration;

beforeAll(async () => {
  generation = await backUp(json, await vault());
});

const drill = (forgery: Forgery, settings = json): ReturnType<typeof runDrill> =>
  runDrill(settings, forge(settings, generation, forgery, "backup").target, { backup: "backup" });
const green = async (forgery: Forgery = {}, settings = json): Promise<readonly string[]> => proven(await drill(forgery, settings));
const reason = async (forgery: Forgery, settings = json): Promise<string> => red(await drill(forgery, settings));

/** Reasons of many red drills, two at a time, as most of each is waiting. */
async function reasons(forgeries: readonly Forgery[]): Promise<readonly string[]> {
  const found: string[] = [];
  const next = forgeries.entries();
  await Promise.all([1, 2].map(async () => { for (const [index, forgery] of next) found[index] = await reason(forgery); })); // prettier-ignore
  return found;
}

/**
 * Another database in the place of the one that was backed up, or the same after a script.
 * @param knowing whether the manifest has its hash, so that only what is in it can tell
 */
async function database(script: string, knowing = true, from = zstdDecompressSync(readFileSync(join(generation.path, STORED)))): Promise<Forgery> {
  const path = join(temporaryDirectory("forged"), "db.sqlite3");
  writeFileSync(path, from);
  if (script !== "") await application(path, script);
  return content(readFileSync(path), knowing);
}

function content(bytes: Buffer, knowing = true): Forgery {
  const sha256 = createHash("sha256").update(bytes).digest("hex");
  const change = { [STORED]: decompressed(() => bytes) };
  return { change, manifest: (manifest) => (knowing ? { ...manifest, fingerprint: { ...manifest.fingerprint, sha256 } } : manifest) };
}

/** The archive of the side files after a command in a directory with them. */
function files(command: string): Forgery {
  const change = (archive: Buffer): Buffer => {
    const directory = temporaryDirectory("files");
    const shell = (text: string, input?: Buffer): Buffer => {
      const { status, stdout, stderr } = spawnSync("sh", ["-ec", text], { cwd: directory, input, maxBuffer: 2 ** 28 });
      if (status !== 0) throw new Error(stderr.toString());
      return stdout;
    };
    shell("tar -x -p", archive);
    shell(command);
    return shell("tar -c --format=ustar --numeric-owner -f - rsa_key.pem attachments sends config.json 2>/dev/null || test $? = 2");
  };
  return { change: { [FILES]: decompressed(change) } };
}

describe("a drill", () => {
  test("opens the database that it restored, compares it in full, and reads the files back", async () => {
    const result = await drill({});
    expect(proven(result)).toEqual([
      "the database was opened for writing in journal mode delete, and written to",
      "integrity_check: ok; foreign_key_check as in the backup: 0 violations",
      expect.stringMatching(/^equal to the fingerprint: 8 tables, \d+ rows, schema, 573440 bytes, and every byte$/),
      "side files equal to the fingerprint: 23 files, 445004 bytes, modes, times and links",
    ]);
    expect(result.verdict).toMatchObject({ generation: generation.name, restoreSeconds: expect.any(Number) as number });
  });

  test.each([
    ["a write-ahead log", `sql("PRAGMA journal_mode = wal")`, "wal"],
    ["an application that was killed", `sql("PRAGMA journal_mode = wal; INSERT INTO owner VALUES (3, 'c')"); die()`, "wal"],
    ["pages of 64 KiB", `sql("PRAGMA page_size = 65536; VACUUM")`, "delete"],
  ])("is of a database with %s", async (_, script, mode) => {
    const other = await backUp(json, await vault(script));
    const checks = proven(await runDrill(json, forge(json, other, {}, "backup").target, { backup: "backup" }));
    expect(checks[0]).toBe(`the database was opened for writing in journal mode ${mode}, and written to`);
  });

  test("is of a database alone, whose foreign keys are violated", async () => {
    const alone = synthesise({ files: [] });
    const other = await backUp(alone, await vault(`sql("INSERT INTO item VALUES (9999, 77, 1, '')")`));
    const checks = proven(await runDrill(alone, forge(alone, other, {}, "backup").target, { backup: "backup" }));
    expect(checks[1]).toBe("integrity_check: ok; foreign_key_check as in the backup: 1 violations");
    expect(checks).toHaveLength(3);
  });

  test.each<[string, string, string | undefined]>([
    ["SELECT name FROM owner WHERE id = 2", "b", undefined],
    ["SELECT count(*) FROM item; -- all of them", "2000", 'is more than one statement'],
    ["SELECT sum(id) * 1.0 FROM owner", "3.0", undefined],
    ["SELECT name FROM owner WHERE id = 1", "b", 'returned "a" instead of "b"'],
    ["SELECT max(text) FROM item WHERE id < 0", "", 'returned null instead of ""'],
    ["SELECT * FROM owner", "1", "returned 2 rows of 2 columns instead of one value"],
    ["SELECT name FROM owner WHERE id = 7", "", "returned 0 rows of 1 columns instead of one value"],
    ["SELECT 1; DROP TABLE item", "1", "is more than one statement"],
    ["DELETE FROM item RETURNING 1", "1", "failed: attempt to write a readonly database"],
    ["SELECT nothing", "1", "failed: no such column: nothing"],
  ])("asks %s", async (query, expect_, problem) => {
    const assertions: Assertion[] = [{ query: "SELECT count(*) FROM owner", expect: "2" }, { query, expect: expect_ }];
    const asking = synthesise({ drill: { assertions } });
    if (problem === undefined) expect(await green({}, asking)).toContain("2 assertions hold");
    else expect(await reason({}, asking)).toBe(`assertion ${JSON.stringify(query)} ${problem}`);
  });

  test("is red where the data that are backed up can be reached", async () => {
    const live = "/etc/cdktf-backup/settings.json";
    const reaching = withSettings(json, (settings) => ({ ...settings, engine: { ...settings.engine, database: live } as never }), "backup-drill");
    expect(await reason({}, reaching)).toBe(`${live} exists: a drill must not reach the data that is backed up`);
  });

  test("is red where the scratch space is too small", async () => {
    const small = withSettings(json, (settings) => ({ ...settings, drill: { ...settings.drill, scratchBytes: 1_000_000 } as never }), "backup-drill");
    expect(await reason({}, small)).toMatch(
      /^the scratch space has room for 927\.7 KiB, and 1\.\d MiB are restored: enlarge the drill's size$/,
    );
  });
});

describe("is red, though all hashes of the files are right, when", () => {
  test("the stored database is damaged, at every twentieth of it", async () => {
    const damages = TWENTIETHS.flatMap((at) => [overwrite(at), decompressed(cut(at)), decompressed(overwrite(at))]);
    const all = [...damages, cut(0.5), withoutLastByte, decompressed(withoutLastByte), flip(0.37), decompressed(flip(0.61))];
    for (const found of await reasons(all.map((damage) => ({ change: { [STORED]: damage } })))) {
      expect(found).toMatch(/^db\.sqlite3\.zst is damaged: |^what came back is not what was backed up: the database: sha256 is "/);
    }
  });

  test("the stored side files are damaged, at every twentieth of them", async () => {
    const damages = TWENTIETHS.flatMap((at) => [overwrite(at), decompressed(cut(at)), decompressed(overwrite(at))]);
    const all = [...damages, withoutLastByte, decompressed(withoutLastByte), decompressed(flip(0.41))];
    const expected = /^files\.tar\.zst is damaged: |^the archive |^what came back is not what was backed up: the side files: |damaged|the stored tree has/;
    for (const found of await reasons(all.map((damage) => ({ change: { [FILES]: damage } })))) expect(found).toMatch(expected);
  });

  test.each<[string, string, RegExp]>([
    ["another database", `sql("DROP TABLE item; DROP VIEW codes; CREATE TABLE other (a)")`, /: the database: .*tables item is not there, but was 2000/],
    ["one table is missing", `sql("DROP TABLE owner")`, /tableCount is 7, but was 8, the database: .*tables owner is not there, but was 2/],
    ["one table is empty", `sql("DELETE FROM owner")`, /: the database: foreignKeyViolations is 2000, but was 0, the database: tables owner is 0, but was 2$/],
    ["one row is missing", `sql("DELETE FROM item WHERE id = 77")`, /tables item is 1999, but was 2000$/],
    ["one index is missing", `sql("DROP INDEX item_code")`, /: the database: schema is /],
    ["the version of its schema is another", `sql("PRAGMA user_version = 8")`, /: the database: userVersion is 8, but was 7$/],
  ])("it is %s", async (_, script, expected) => {
    expect(await reason(await database(script))).toMatch(expected);
    expect(await reason(await database(script, false))).toMatch(/: the database: sha256 is "/);
  });

  test("it is an empty database, or an empty file", async () => {
    const empty = await database(`sql("PRAGMA user_version = 7; PRAGMA application_id = 1234")`, true, Buffer.alloc(0));
    expect(await reason(empty)).toMatch(/: the database: pages is 1, but was 140, the database: tableCount is 0, but was 8, /);
    expect(await reason(content(Buffer.alloc(0)))).toMatch(/: the database: pageSize|: the database: pages is 0/);
  });

  test("it has fewer tables than it must, whatever the fingerprint says", async () => {
    expect(await reason({}, synthesise({ minTables: 9 }))).toBe("the database has 8 tables, at least 9 expected");
  });

  test.each(Object.entries(DAMAGES))("it is damaged as a file: %s", async (_, { inflict }) => {
    const path = join(temporaryDirectory("forged"), "db.sqlite3");
    writeFileSync(path, zstdDecompressSync(readFileSync(join(generation.path, STORED))));
    await inflict(path);
    const expected = /^(file is not a database|database disk image is malformed|malformed database schema|.*row \d+ missing|.*the database: pages? |\*\*\* in database|Tree |Freelist|Page )/;
    expect(await reason(content(readFileSync(path)))).toMatch(expected);
  });

  test.each([
    ["a file is missing", "rm attachments/cipher-1/file-7", /: the side files: archive files is 22, but was 23/],
    ["a required one is missing", "rm rsa_key.pem", /^the generation has no \/source\/data\/rsa_key\.pem, which the backup requires$/],
    ["a directory is missing", "rm -r sends", /: the side files: present 2 is not there, but was "sends"/],
    ["there is one more", "echo '{}' >config.json", /: the side files: present 3 is "config.json", but was not there/],
    ["the content of one is another", "printf secret_ >rsa_key.pem", /: the side files: archive sha256 is "/],
    ["the mode of one is another", "chmod 644 rsa_key.pem", /: the side files: archive sha256 is "/],
    ["a link leads elsewhere", "ln -sf cipher-1/file-4 attachments/link", /: the side files: archive sha256 is "/],
  ])("of the side files, %s", async (_, command, expected) => {
    expect(await reason(files(command))).toMatch(expected);
  });

  test("the side files are absent", async () => {
    const forged = await reason({ manifest: (manifest) => ({ ...manifest, files: manifest.files.slice(0, 1) }) });
    expect(forged).toBe("the generation has no /source/data/rsa_key.pem, which the backup requires");
  });

  test("the generation is yesterday's", async () => {
    expect(await reason({ hoursOlder: 24 })).toMatch(/^the newest generation is 24\.0 h old, but may be \d+\.\d h at most$/);
  });
});

test("the archive that GNU tar made of the very files is green", async () => {
  await green(files("true"));
});

test(`under a busy writer, ${DRILL_ROUNDS} of ${DRILL_ROUNDS} drills are green`, async () => {
  const volume = await vault(`sql("PRAGMA journal_mode = wal; CREATE TABLE entry (id INTEGER PRIMARY KEY, text TEXT)")`, 256 * 2 ** 20);
  const writer = await startApplication(
    join(volume, "db.sqlite3"),
    `const { writeFileSync, renameSync } = require("node:fs");
     let count = 0;
     const step = () => {
       sql("BEGIN IMMEDIATE; INSERT INTO entry (text) VALUES (hex(randomblob(500))); DELETE FROM entry WHERE id % 7 = abs(random()) % 7; COMMIT");
       writeFileSync("${volume}/sends/new", String(++count));
       renameSync("${volume}/sends/new", "${volume}/sends/" + (count % 5));
       setTimeout(step, 1);
     };
     step(); console.log("ready");`,
  );
  const rows = new Set<number>();
  for (let round = 0; round < DRILL_ROUNDS; round++) {
    const target = makeTarget(json, { name: "backup" });
    const made = await backUp(json, volume, target);
    proven(await runDrill(json, target, { backup: "backup" }));
    rows.add(fingerprintOf(made).tables.entry ?? 0);
  }
  await writer.kill();
  // It did write meanwhile.
  expect(rows.size).toBeGreaterThan(DRILL_ROUNDS / 2);
});

test("the schema that all of this is about is the application's", async () => {
  const path = join(temporaryDirectory("sample"), "db.sqlite3");
  await application(path, SCHEMA);
  const copy = `${path}.copy`;
  copyFileSync(path, copy);
  expect(fingerprintOf(generation).tables).toMatchObject({ item: 2000, owner: 2, search_content: 49 });
});
