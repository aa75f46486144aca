import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { zstdDecompressSync } from "node:zlib";
import {
  cut,
  decompressed,
  flip,
  forge,
  type Forgery,
  overwrite,
  proven,
  red,
  redInPairs,
  runDrill,
  TWENTIETHS,
  withoutLastByte,
} from "../helpers/drill";
import type { FoundGeneration } from "../helpers/pod/target";
import { temporaryDirectory } from "../helpers/process";
import { application } from "../helpers/sqlite-application";
import { DAMAGES } from "../helpers/sqlite-damage";
import { backUp, synthesise, vault } from "./sqlite-setup";

const STORED = "db.sqlite3.zst";
const FILES = "files.tar.zst";
const json = synthesise();
let generation: FoundGeneration;

beforeAll(async () => {
  generation = await backUp(json, await vault());
});

const drill = (forgery: Forgery, settings = json): ReturnType<typeof runDrill> =>
  runDrill(settings, forge(settings, generation, forgery, "backup").target, { backup: "backup" });
const reason = async (forgery: Forgery, settings = json): Promise<string> => red(await drill(forgery, settings));

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
    return shell("tar -c --sort=name --format=ustar --numeric-owner -f - rsa_key.pem attachments sends config.json 2>/dev/null || test $? = 2");
  };
  return { change: { [FILES]: decompressed(change) } };
}

test("the archive that GNU tar made of the very files is green", async () => {
  proven(await drill(files("true")));
});

describe("is red, though all hashes of the files are right, when", () => {
  test("the stored database is damaged, at every twentieth of it", async () => {
    const damages = TWENTIETHS.flatMap((at) => [overwrite(at), decompressed(cut(at)), decompressed(overwrite(at))]);
    const all = [...damages, cut(0.5), decompressed(withoutLastByte), flip(0.37), decompressed(flip(0.61))];
    for (const found of await redInPairs(all.map((damage) => ({ change: { [STORED]: damage } })), drill)) {
      expect(found).toMatch(/^db\.sqlite3\.zst is damaged: |^what came back is not what was backed up: the database: .*sha256 is "/);
    }
  });

  test("the stored side files are damaged, at every twentieth of them", async () => {
    const damages = TWENTIETHS.flatMap((at) => [overwrite(at), decompressed(cut(at)), decompressed(overwrite(at))]);
    const all = [...damages, decompressed(withoutLastByte), decompressed(flip(0.41))];
    const expected = /^files\.tar\.zst is damaged: |^the archive |^what came back is not what was backed up: the side files: |damaged|the stored tree has/;
    for (const found of await redInPairs(all.map((damage) => ({ change: { [FILES]: damage } })), drill)) expect(found).toMatch(expected);
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
    expect(await reason(empty)).toMatch(/: the database: bytes is 4096, but was 528384$/);
    expect(await reason(content(Buffer.alloc(0)))).toMatch(/: the database: bytes is 0, but was 528384$/);
    const padded = await database(`sql("CREATE TABLE filler (a); INSERT INTO filler VALUES (zeroblob(521000)); DROP TABLE filler")`, true, Buffer.alloc(0));
    expect(await reason(padded)).toMatch(/: the database: tableCount is 0, but was 8, .* tables item is not there, but was 2000, /);
  });

  test("it has fewer tables than it must, whatever the fingerprint says", async () => {
    expect(await reason({}, synthesise({ minTables: 9 }))).toBe("the database has 8 tables, at least 9 expected");
  });

  test.each(Object.entries(DAMAGES))("it is damaged as a file: %s", async (_, { inflict }) => {
    const path = join(temporaryDirectory("forged"), "db.sqlite3");
    writeFileSync(path, zstdDecompressSync(readFileSync(join(generation.path, STORED))));
    await inflict(path);
    const expected = /^the database that came back is corrupt: .|: the database: bytes is \d+, but was 528384$/;
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

  test("a byte is missing, or one bit is another, as the manifest tells", async () => {
    const { exitCodes, failure, verdict } = await drill({ change: { [STORED]: withoutLastByte }, rehash: false });
    expect([exitCodes.runner, failure, verdict]).toEqual([1, expect.stringMatching(/db\.sqlite3\.zst has \d+ bytes instead of \d+$/), undefined]);
    expect(await reason({ change: { [FILES]: flip(0.5) }, rehash: false })).toMatch(/^files\.tar\.zst is damaged: /);
  });

  test("the generation is yesterday's", async () => {
    expect(await reason({ hoursOlder: 24 })).toMatch(/^the newest generation is 24\.0 h old, but may be \d+\.\d h at most$/);
  });
});
