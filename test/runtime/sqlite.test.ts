import { createHash } from "node:crypto";
import { appendFileSync, copyFileSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import promises from "node:fs/promises";
import { join } from "node:path";
import { zstdCompressSync, zstdDecompressSync } from "node:zlib";
import type { Dump, Run } from "../../lib/runtime/engine";
import { commonDirectory, SqliteEngine, type SqliteSettings } from "../../lib/runtime/engines/sqlite";
import { checkIntegrity, type Integrity } from "../../lib/runtime/engines/sqlite-integrity";
import { createRun } from "../../lib/runtime/run";
import { sqlite, SqliteError } from "../../lib/runtime/sqlite-process";
import { checkSource, copySource, CorruptError } from "../../lib/runtime/sqlite-source";
import { application, startApplication } from "../helpers/sqlite-application";
import { DAMAGES, SCHEMA } from "../helpers/sqlite-damage";
import { temporary } from "./support";

let sample: string;
beforeAll(async () => {
  sample = join(temporary(), "db.sqlite3");
  await application(sample, SCHEMA);
});

/** The sample, after a script went over it. */
async function database(script = ""): Promise<string> {
  const path = join(temporary(), "db.sqlite3");
  copyFileSync(sample, path);
  if (script !== "") await application(path, script);
  return path;
}

/** What is in a file, and when it was last written. */
function state(path: string): string {
  return `${statSync(path).mtimeMs} ${createHash("sha256").update(readFileSync(path)).digest("hex")}`;
}

function newRun(signal = new AbortController().signal): { readonly run: Run; readonly log: string[] } {
  const log: string[] = [];
  return { run: createRun({ directory: temporary(), scratch: temporary(), signal, log: (line) => log.push(line), level: 1 }), log };
}

async function backUp(settings: Partial<SqliteSettings> & { readonly database: string }) {
  const { run, log } = newRun();
  const engine = new SqliteEngine({ kind: "sqlite", minTables: 1, files: [], ...settings });
  await engine.preflight(run);
  const dump = await engine.dump(run);
  return { run, log, engine, dump };
}

describe("a backup", () => {
  test("holds every page, leaves no scratch behind and describes what is in it", async () => {
    const path = await database(
      `sql('CREATE TABLE "a ""quoted"" name; DROP TABLE item" (a); INSERT INTO "a ""quoted"" name; DROP TABLE item" VALUES (1), (2)');
       sql("CREATE TABLE without (a PRIMARY KEY) WITHOUT ROWID; INSERT INTO without VALUES (1)");
       sql("CREATE TABLE counted (a INTEGER PRIMARY KEY AUTOINCREMENT); INSERT INTO counted VALUES (5)");`,
    );
    const { run, engine, dump } = await backUp({ database: path });
    const restored = zstdDecompressSync(readFileSync(join(run.directory, "db.sqlite3.zst")));
    // The first page counts changes of the file, and the backup is one.
    expect(restored.subarray(4096).equals(readFileSync(path).subarray(4096))).toBe(true);
    expect(readdirSync(run.scratch)).toEqual([]);
    expect(dump.fingerprint).toEqual({
      pageSize: 4096,
      pages: restored.length / 4096,
      tableCount: 11,
      tables: {
        'a "quoted" name; DROP TABLE item': 2,
        counted: 1,
        item: 2000,
        owner: 2,
        search_config: 1,
        search_content: 49,
        search_data: expect.any(Number),
        search_docsize: 49,
        search_idx: expect.any(Number),
        without: 1,
      },
      foreignKeyViolations: 0,
      userVersion: 7,
      applicationId: 1234,
      schema: expect.stringMatching(/^[0-9a-f]{64}$/),
      sha256: createHash("sha256").update(restored).digest("hex"),
    });
    expect(await engine.verify(run, dump)).toHaveLength(4);
  });

  test("the schema's hash tells schemas apart and not rows", async () => {
    const hash = async (script: string): Promise<unknown> => {
      const { dump } = await backUp({ database: await database(script) });
      return dump.fingerprint.schema;
    };
    const whole = await hash("");
    expect(await hash(`sql("DELETE FROM item")`)).toBe(whole);
    expect(await hash(`sql("CREATE INDEX more ON item (text)")`)).not.toBe(whole);
    expect(await hash(`sql("ALTER TABLE owner ADD COLUMN more TEXT")`)).not.toBe(whole);
  });

  test("foreign keys that cannot be checked are said to be so", async () => {
    const path = await database(`sql("CREATE TABLE c (a REFERENCES item (code)); INSERT INTO c VALUES (1)")`);
    const { run, engine, dump, log } = await backUp({ database: path });
    expect(dump.fingerprint.foreignKeyViolations).toBeNull();
    const said = "foreign_key_check of the copy: impossible, a foreign key refers to columns that are not unique";
    expect(await engine.verify(run, dump)).toContain(said);
    expect(log).toEqual([`warning: ${said}`]);
  });

  test("fails when what is on the target is not the copy that was checked, though its own hash is right", async () => {
    const { run, engine, dump } = await backUp({ database: await database() });
    const [file] = dump.files;
    const whole = zstdDecompressSync(readFileSync(join(run.directory, "db.sqlite3.zst")));
    const replaced = async (content: Buffer): Promise<readonly string[]> => {
      const bytes = zstdCompressSync(content);
      writeFileSync(join(run.directory, "db.sqlite3.zst"), bytes);
      const sha256 = createHash("sha256").update(bytes).digest("hex");
      const entry = { path: "db.sqlite3.zst", ...file, bytes: bytes.length, sha256, uncompressedBytes: content.length };
      return engine.verify(run, { ...dump, files: [entry] });
    };
    const altered = Buffer.from(whole);
    altered[whole.length - 20] = (altered[whole.length - 20] ?? 0) ^ 1;
    await expect(replaced(altered)).rejects.toThrow("the copy on the target is not the copy that was checked");
    await expect(replaced(whole.subarray(0, -4096))).rejects.toThrow(`is no database of ${whole.length} bytes`);
    await expect(replaced(Buffer.alloc(whole.length))).rejects.toThrow(`is no database of ${whole.length} bytes`);
    expect(await replaced(whole)).toHaveLength(4);
  });

  test("fails when one bit anywhere of what is stored is another", async () => {
    const { run, engine, dump } = await backUp({ database: await database() });
    const path = join(run.directory, "db.sqlite3.zst");
    const whole = readFileSync(path);
    for (let percent = 0; percent <= 100; percent += 10) {
      const damaged = Buffer.from(whole);
      const at = Math.min(whole.length - 1, Math.floor((whole.length * percent) / 100));
      damaged[at] = (damaged[at] ?? 0) ^ 1;
      writeFileSync(path, damaged);
      await expect(engine.verify(run, dump)).rejects.toThrow("db.sqlite3.zst is damaged");
    }
  });
});

describe("side files", () => {
  async function withFiles(): Promise<{ readonly path: string; readonly root: string }> {
    const path = await database();
    const root = join(path, "..");
    mkdirSync(join(root, "attachments", "a"), { recursive: true });
    writeFileSync(join(root, "attachments", "a", "one"), "1");
    return { path, root };
  }
  const file = (path: string, required: boolean) => ({ path, required });

  test("all optional and all absent: there is no archive", async () => {
    const { path, root } = await withFiles();
    const { run, dump, engine, log } = await backUp({ database: path, files: [file(join(root, "none"), false)] });
    expect(readdirSync(run.directory)).toEqual(["db.sqlite3.zst"]);
    expect(dump.fingerprint.files).toEqual({ absent: ["none"], archive: null, present: [] });
    expect(log).toContain("absent, and not required: none");
    expect(await engine.verify(run, dump)).toHaveLength(4);
  });

  test("an empty directory counts as there", async () => {
    const { path, root } = await withFiles();
    mkdirSync(join(root, "sends"));
    const { dump } = await backUp({ database: path, files: [file(join(root, "sends"), true)] });
    expect(dump.fingerprint.files).toMatchObject({ absent: [], archive: { files: 0, directories: 1 } });
  });

  test("fails when the archive on the target holds something else", async () => {
    const { path, root } = await withFiles();
    const files = [file(join(root, "attachments"), true)];
    const first = await backUp({ database: path, files });
    writeFileSync(join(root, "attachments", "a", "one"), "2");
    const { run, engine, dump } = await backUp({ database: path, files });
    const mixed: Dump = { ...dump, fingerprint: { ...dump.fingerprint, files: first.dump.fingerprint.files ?? null } };
    await expect(engine.verify(run, mixed)).rejects.toThrow("the side files on the target are not what was read");
  });

  test("refuses a directory that holds the database itself", async () => {
    const { path, root } = await withFiles();
    await expect(backUp({ database: path, files: [file(root, true)] })).rejects.toThrow(`${root} holds the database itself`);
  });

  test("the archive is relative to the directory that holds everything", () => {
    expect(commonDirectory(["/source/data/db.sqlite3", "/source/data/attachments"])).toBe("/source/data");
    expect(commonDirectory(["/source/data/db/db.sqlite3", "/source/data/attachments"])).toBe("/source/data");
    expect(commonDirectory(["/source/data/db.sqlite3", "/source/data2/x"])).toBe("/source");
    expect(commonDirectory(["/a/db", "/b/x"])).toBe("/");
  });
});

describe("a source", () => {
  const quick = Object.entries(DAMAGES).filter(([damage]) => damage !== "something appended");
  test.each(quick)("%s is corrupt", async (_, { inflict, reason }) => {
    const path = await database();
    await inflict(path);
    const before = state(path);
    const result = await checkIntegrity({ kind: "sqlite", database: path, minTables: 1, files: [] }, () => undefined, temporary());
    expect(result).toEqual({ state: "corrupt", detail: expect.stringMatching(reason) });
    expect(state(path)).toBe(before);
  });

  test("a sound one is ok, a missing one unknown and not created", async () => {
    const path = await database();
    const check = (file: string): Promise<Integrity> =>
      checkIntegrity({ kind: "sqlite", database: file, minTables: 3, files: [] }, () => undefined, temporary());
    expect(await check(path)).toEqual({ state: "ok", detail: "" });
    expect(await check(`${path}.none`)).toEqual({ state: "unknown", detail: `${path}.none does not exist` });
    expect(readdirSync(join(path, ".."))).toEqual(["db.sqlite3"]);
  });

  test("paths are never read as URLs", async () => {
    const path = join(temporary(), "a?mode=memory&x#y%41 ü.db");
    await application(path, SCHEMA);
    expect(await checkSource(path, temporary())).toMatchObject({ tableCount: 8 });
    const { run } = await backUp({ database: path });
    expect(readdirSync(run.directory)).toEqual(["a?mode=memory&x#y%41 ü.db.zst"]);
  });

  const HALF_WRITTEN = `sql("PRAGMA cache_size = 5; BEGIN; UPDATE item SET text = text || 'x'"); die();`;

  test("an unfinished transaction is undone in a copy and not in the source", async () => {
    const path = await database(HALF_WRITTEN);
    const before = [state(path), state(`${path}-journal`)];
    const { run } = await backUp({ database: path });
    expect([state(path), state(`${path}-journal`)]).toEqual(before);
    const restored = join(temporary(), "restored");
    writeFileSync(restored, zstdDecompressSync(readFileSync(join(run.directory, "db.sqlite3.zst"))));
    await application(restored, `if (all("SELECT 1 FROM item WHERE text LIKE '%x'").length > 0) process.exit(3)`);
  });

  const files = [["db.sqlite3"], ["db.sqlite3-journal"]] as const;
  test.each(files)("an application that starts while %s is copied makes that copy void", async (copied) => {
    const path = await database(HALF_WRITTEN);
    const copyFile = promises.copyFile;
    let starts = 0;
    const spy = jest.spyOn(promises, "copyFile").mockImplementation(async (from, to) => {
      await copyFile(from, to);
      if (!String(from).endsWith(copied)) return;
      starts++;
      await application(path, `sql("INSERT INTO owner VALUES (3, 'newer')")`);
    });
    const to = join(temporary(), "copy");
    await copySource(path, temporary(), to).finally(() => spy.mockRestore());
    expect(starts).toBe(1);
    await application(to, `if (all("SELECT 1 FROM owner WHERE name = 'newer'").length !== 1) process.exit(3)`);
  });

  test("fails when only the application can undo its transaction", async () => {
    const path = await database(HALF_WRITTEN);
    const name = Buffer.from("/data/other-mj12345678");
    const record = Buffer.alloc(4 + name.length + 16);
    name.copy(record, 4);
    record.writeUInt32BE(name.length, 4 + name.length);
    record.writeUInt32BE(name.reduce((sum, byte) => sum + byte, 0), 8 + name.length);
    record.set([0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7], 12 + name.length);
    appendFileSync(`${path}-journal`, record);
    const reason = "has an unfinished transaction over several databases, which only its application can undo";
    await expect(checkSource(path, temporary())).rejects.toThrow(reason);
  });

  test("is corrupt rather than unreadable where a copy of it shows the damage", async () => {
    const path = await database(HALF_WRITTEN);
    // Pages of the full-text index, which the journal does not bring back.
    writeFileSync(path, readFileSync(path).fill(0xa5, 124 * 4096, 129 * 4096));
    await expect(checkSource(path, temporary())).rejects.toThrow(CorruptError);
  });
});

describe("the process that works for the runner", () => {
  test("is ended by the signal while it waits for a lock", async () => {
    const path = await database();
    await startApplication(path, `sql("BEGIN EXCLUSIVE"); stay();`);
    const control = new AbortController();
    setTimeout(() => control.abort(new Error("told to stop")), 300);
    const started = Date.now();
    await expect(checkSource(path, temporary(), control.signal)).rejects.toThrow("told to stop");
    expect(Date.now() - started).toBeLessThan(2000);
  });

  test("says with SQLite's own code why it failed", async () => {
    const failure = await sqlite({ task: "check", file: join(temporary(), "none") }).catch((error: unknown) => error);
    expect(failure).toBeInstanceOf(SqliteError);
    expect(failure).toMatchObject({ primary: 14, message: "unable to open database file" });
  });

  test("does not run at all under a signal that was given before", async () => {
    const aborted = AbortSignal.abort(new Error("before"));
    expect(() => sqlite({ task: "check", file: "/none" }, aborted)).toThrow("before");
  });
});
