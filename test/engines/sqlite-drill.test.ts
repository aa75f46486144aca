import { join } from "node:path";
import type { Assertion } from "../../lib/runtime/settings";
import { DRILL_ROUNDS, forge, type Forgery, proven, red, runDrill } from "../helpers/drill";
import { makeTarget, withSettings, type FoundGeneration } from "../helpers/pod/target";
import { startApplication } from "../helpers/sqlite-application";
import { backUp, synthesise, vault } from "./sqlite-setup";

const json = synthesise();
let generation: FoundGeneration;

beforeAll(async () => {
  generation = await backUp(json, await vault());
});

const drill = (forgery: Forgery, settings = json): ReturnType<typeof runDrill> =>
  runDrill(settings, forge(settings, generation, forgery, "backup").target, { backup: "backup" });
const reason = async (forgery: Forgery, settings = json): Promise<string> => red(await drill(forgery, settings));

describe("a drill", () => {
  test("opens the database that it restored, compares it in full, and reads the files back", async () => {
    const result = await drill({});
    expect(proven(result)).toEqual([
      "the database was opened for writing in journal mode delete, and written to",
      "integrity_check: ok; foreign_key_check as in the backup: 0 violations",
      expect.stringMatching(/^equal to the fingerprint: 8 tables, \d+ rows, schema, 528384 bytes, and every byte$/),
      "side files equal to the fingerprint: 23 files, 150011 bytes, modes, times and links",
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
    ["SELECT 1 FROM absent", "1", "failed: no such table: absent"],
  ])("asks %s", async (query, expect_, problem) => {
    const assertions: Assertion[] = [{ query: "SELECT count(*) FROM owner", expect: "2" }, { query, expect: expect_ }];
    const asking = synthesise({ drill: { assertions } });
    if (problem === undefined) expect(proven(await drill({}, asking))).toContain("2 assertions hold");
    else expect(await reason({}, asking)).toBe(`assertion ${JSON.stringify(query)} ${problem}`);
  });

  test("is red where the data that are backed up can be reached", async () => {
    const live = "/etc/cdktf-backup/settings.json";
    const reaching = withSettings(json, (settings) => ({ ...settings, engine: { ...settings.engine, database: live } as never }), "backup-drill");
    expect(await reason({}, reaching)).toBe(`${live} exists: a drill must not reach the data that is backed up`);
  });

  test("is red where the scratch space is too small", async () => {
    const small = withSettings(json, (settings) => ({ ...settings, drill: { ...settings.drill, scratchBytes: 500_000 } as never }), "backup-drill");
    expect(await reason({}, small)).toMatch(
      /^the scratch space has room for 463\.9 KiB, and \d+\.\d KiB are restored: enlarge the drill's size$/,
    );
  });
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
  const states = new Set<string>();
  for (let round = 0; round < DRILL_ROUNDS; round++) {
    const target = makeTarget(json, { name: "backup" });
    const made = await backUp(json, volume, target);
    proven(await runDrill(json, target, { backup: "backup" }));
    states.add(String(made.manifest.fingerprint.sha256));
  }
  await writer.kill();
  // It did write meanwhile.
  expect(states.size).toBe(DRILL_ROUNDS);
});
