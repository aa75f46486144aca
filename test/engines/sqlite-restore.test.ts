import { spawnSync } from "node:child_process";
import { chmodSync, chownSync, existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { forge, proven, runDrill, refused, restored, runRestore, type CompanionOptions } from "../helpers/drill";
import { startCronJob } from "../helpers/pod";
import { generationsDirectory, makeTarget, mountTmpfs, type FoundGeneration } from "../helpers/pod/target";
import { chownTree, temporaryDirectory, waitFor } from "../helpers/process";
import { application, startApplication } from "../helpers/sqlite-application";
import { asideIn, partOf, stateOf, without } from "../helpers/tree-state";
import { backUp, DATABASE, synthesise, USER, vault } from "./sqlite-setup";

const json = synthesise();
const SIDES = ["rsa_key.pem", "attachments", "sends"];
const STOP = "stop its application first: kubectl scale deployment,statefulset -n app -l app=app --replicas=0";
let generation: FoundGeneration;
/** What the volume was when it was backed up. */
let wanted: ReturnType<typeof stateOf>;
let dump: string;

beforeAll(async () => {
  const volume = await vault();
  wanted = stateOf(volume);
  dump = dumpOf(join(volume, DATABASE));
  generation = await backUp(json, volume);
});

function shell(command: string): string {
  const { status, stdout, stderr } = spawnSync("sh", ["-ec", command], { encoding: "utf8", maxBuffer: 2 ** 28 });
  if (status !== 0) throw new Error(`${command}: ${stderr}`);
  return stdout;
}

function dumpOf(database: string): string {
  return shell(`sqlite3 -batch '${database}' .dump`);
}

/** Restores the generation to a volume. */
function restore(volume: string, env: NonNullable<CompanionOptions["env"]> = {}, options: CompanionOptions & { readonly json?: string } = {}) {
  const { json: settings = json, ...rest } = options;
  const { target } = forge(settings, generation, {}, "backup");
  const chosen = { GENERATION: "newest", ...env };
  return runRestore(settings, target, { backup: "backup", volumes: { "app-data": volume }, env: chosen, ...rest });
}

/** Everything else in a volume is as it was backed up. */
function expectRestored(volume: string, ...more: readonly string[]): void {
  const found = without(stateOf(volume), ...readdirSync(volume).filter((name) => name.startsWith(".cdktf-backup-")), ...more);
  // SQLite counts in the file's header how often it was copied, and the file is a new one.
  expect(without(found, DATABASE)).toEqual(without(wanted, DATABASE));
  expect(dumpOf(join(volume, DATABASE))).toBe(dump);
}

/** A volume on which much happened since it was backed up: the application was killed, and left a write-ahead log. */
async function later(script = `sql("PRAGMA journal_mode = wal; DELETE FROM item WHERE id > 3; INSERT INTO owner VALUES (9, 'late')"); die()`) {
  const volume = await vault(script);
  writeFileSync(join(volume, "rsa_key.pem"), "another");
  writeFileSync(join(volume, "config.json"), "{}");
  rmSync(join(volume, "attachments", "cipher-1"), { recursive: true });
  writeFileSync(join(volume, "attachments", "new"), "new");
  rmSync(join(volume, "sends"), { recursive: true });
  chownTree(volume, USER);
  return volume;
}

describe("a restore", () => {
  test("brings database and files back, and keeps what was there with its log", async () => {
    const volume = await later();
    const before = stateOf(volume);
    expect(Object.keys(before)).toContain(`${DATABASE}-wal`);
    const log = restored(await restore(volume, { CONFIRM: DATABASE }));
    const kept = asideIn(volume);
    expect(readdirSync(join(volume, kept)).sort()).toEqual(
      ["attachments", "config.json", DATABASE, `${DATABASE}-shm`, `${DATABASE}-wal`, "rsa_key.pem"].sort(),
    );
    expect(stateOf(join(volume, kept))).toEqual(before);
    expectRestored(volume);
    expect(log).toMatch(/db\.sqlite3: integrity_check ok, 8 tables, equal to the fingerprint in each of its 528384 bytes/);
    expect(log).toMatch(/side files equal to the fingerprint: rsa_key\.pem, attachments, sends; 23 files, modes, times and links/);
    expect(log).toContain(`what was there is in /source/data/${kept}: remove it once the application works`);
    // With its log the old database has its last commits, to the aid of whoever misses one.
    expect(shell(`sqlite3 -batch '${join(volume, kept, DATABASE)}' "SELECT name FROM owner WHERE id = 9; SELECT count(*) FROM item"`)).toBe("late\n3\n");
  });

  test("is not undone by the application that starts then", async () => {
    const volume = await later();
    restored(await restore(volume, { CONFIRM: DATABASE }));
    await application(join(volume, DATABASE), `if (all("SELECT * FROM item").length !== 2000) throw new Error("undone"); sql("DELETE FROM owner")`);
    expect(shell(`sqlite3 '${join(volume, DATABASE)}' 'PRAGMA integrity_check; SELECT count(*) FROM item'`)).toBe("ok\n2000\n");
  });

  test("is of the newest generation that a drill proved", async () => {
    const volume = await later();
    const { target } = forge(json, generation, {}, "backup");
    const volumes = { "app-data": volume };
    const env = { CONFIRM: DATABASE };
    expect(refused(await runRestore(json, target, { backup: "backup", volumes, env }))).toMatch(/^no drill has proven any generation; set GENERATION/);
    proven(await runDrill(json, target, { backup: "backup" }));
    restored(await runRestore(json, target, { backup: "backup", volumes, env }));
    expectRestored(volume);
  });

  test.each([
    ["a rollback journal, killed while it wrote", `sql("PRAGMA cache_size = 5; BEGIN; UPDATE item SET text = text || 'x'"); die()`],
    ["a rollback journal that is kept", `sql("PRAGMA journal_mode = persist; INSERT INTO owner VALUES (9, 'late')")`],
  ])("moves %s away with its database", async (_, script) => {
    const volume = await later(script);
    restored(await restore(volume, { CONFIRM: DATABASE }));
    expectRestored(volume);
    expect(readdirSync(join(volume, asideIn(volume)))).toContain(`${DATABASE}-journal`);
  });

  test("takes a log that was left without its database away", async () => {
    const volume = await later();
    rmSync(join(volume, DATABASE));
    restored(await restore(volume, { CONFIRM: DATABASE }));
    expectRestored(volume);
  });

  test("needs no word to restore to an empty volume", async () => {
    const volume = temporaryDirectory("empty", USER);
    const log = restored(await restore(volume));
    expect(log).not.toContain("keep what is there");
    expectRestored(volume);
    const { mode, uid, gid } = statSync(join(volume, DATABASE));
    expect([mode & 0o777, uid, gid]).toEqual([0o600, USER, USER]);
  });

  test("replaces a database that is damaged beyond reading", async () => {
    const volume = await later("");
    writeFileSync(join(volume, DATABASE), "not a database any more".repeat(1000));
    const log = restored(await restore(volume, { CONFIRM: DATABASE }));
    expect(log).toContain(
      `plan: whether an application uses /source/data/${DATABASE} cannot be told (file is not a database): make sure that none does`,
    );
    expectRestored(volume);
  });

  test("gives the database the mode and the group of the one that it replaces", async () => {
    const volume = await later();
    chmodSync(join(volume, DATABASE), 0o640);
    restored(await restore(volume, { CONFIRM: DATABASE }));
    expect(statSync(join(volume, DATABASE)).mode & 0o777).toBe(0o640);
  });

  test("works on the database below its files, in directories that are not there any more", async () => {
    const deep = synthesise({ database: "app/data/db.sqlite3", files: [{ path: "app/keys" }, { path: "etc/app.conf" }] });
    const volume = temporaryDirectory("deep");
    mkdirSync(join(volume, "app", "data"), { recursive: true });
    mkdirSync(join(volume, "app", "keys"));
    mkdirSync(join(volume, "etc"));
    await application(join(volume, "app/data/db.sqlite3"), `sql("CREATE TABLE t (a); INSERT INTO t VALUES (1)")`);
    writeFileSync(join(volume, "app/keys/one"), "1");
    writeFileSync(join(volume, "etc/app.conf"), "conf");
    chownTree(volume, USER);
    const target = makeTarget(deep, { name: "backup" });
    await backUp(deep, volume, target);
    const empty = temporaryDirectory("empty", USER);
    const volumes = { "app-data": empty };
    restored(await runRestore(deep, target, { backup: "backup", volumes, env: { GENERATION: "newest" } }));
    expect(readFileSync(join(empty, "app/keys/one"), "utf8") + readFileSync(join(empty, "etc/app.conf"), "utf8")).toBe("1conf");
    expect(shell(`sqlite3 '${join(empty, "app/data/db.sqlite3")}' 'SELECT a FROM t'`)).toBe("1\n");
  });
});

describe("a part", () => {
  test("the database alone", async () => {
    const volume = await later();
    const before = stateOf(volume);
    restored(await restore(volume, { ONLY: DATABASE, CONFIRM: DATABASE }));
    expect(dumpOf(join(volume, DATABASE))).toBe(dump);
    const found = stateOf(volume);
    const database = [DATABASE, `${DATABASE}-wal`, `${DATABASE}-shm`];
    expect(without(found, asideIn(volume), ...database)).toEqual(without(before, ...database));
    expect(readdirSync(join(volume, asideIn(volume))).sort()).toEqual(database.sort());
  });

  test.each([
    ["rsa_key.pem", ["rsa_key.pem"]],
    ["attachments/cipher-1", ["attachments/cipher-1"]],
    ["sends", ["sends"]],
    ["attachments", ["attachments"]],
  ])("%s alone", async (only, paths) => {
    const volume = await later();
    const before = stateOf(volume);
    const there = existsSync(join(volume, only));
    restored(await restore(volume, { ONLY: only, CONFIRM: there ? only : "" }));
    const kept = there ? [asideIn(volume)] : [];
    const found = stateOf(volume);
    // Of a file that has another name outside, that other name is another file now.
    const names = (state: ReturnType<typeof stateOf>) => JSON.parse(JSON.stringify(state).replaceAll(/ \d"/g, '"')) as typeof state;
    expect(names(partOf(found, ...paths))).toEqual(names(partOf(wanted, ...paths)));
    // The directory that it is in is another for it.
    expect(without(found, ...paths, ...kept, "attachments")).toEqual(without(before, ...paths, "attachments"));
    if (there) expect(partOf(stateOf(join(volume, kept[0] ?? "")), ...paths)).toEqual(partOf(before, ...paths));
  });

  test("another name of a file that is not in it becomes a file of its own", async () => {
    const volume = await later();
    rmSync(join(volume, "attachments/twin"));
    restored(await restore(volume, { ONLY: "attachments/twin" }));
    expect(readFileSync(join(volume, "attachments/twin"), "utf8")).toBe("7".repeat(5000));
  });

  test("refuses one that the generation does not have", async () => {
    const volume = await later();
    expect(refused(await restore(volume, { ONLY: "config.json" }))).toBe('there is no "config.json" in the generation');
    expect(refused(await restore(volume, { ONLY: "../etc" }))).toBe('ONLY must be a path below /source/data, but is "../etc"');
  });

  test("goes to a directory beside while the application runs", async () => {
    const volume = await later("");
    const app = await startApplication(join(volume, DATABASE), `sql("PRAGMA journal_mode = wal; BEGIN IMMEDIATE"); stay()`);
    restored(await restore(volume, { INTO: "look/here" }));
    const before = stateOf(volume);
    expectRestored(join(volume, "look/here"));
    expect(refused(await restore(volume, { INTO: "look/here" }))).toBe(
      "INTO must name a directory that is new or empty, but /source/data/look/here is not",
    );
    expect(stateOf(volume)).toEqual(before);
    await app.kill();
  });
});

describe("refuses, and changes nothing,", () => {
  test("to replace anything without a word, or with the wrong one", async () => {
    const volume = await later();
    const before = stateOf(volume);
    const refusal = `the target is not empty, and nothing was changed; to replace it, set CONFIRM to "${DATABASE}"`;
    expect(refused(await restore(volume))).toBe(refusal);
    expect(refused(await restore(volume, { CONFIRM: "db" }))).toBe(refusal);
    expect(refused(await restore(volume, { ONLY: "rsa_key.pem", CONFIRM: DATABASE }))).toMatch(/set CONFIRM to "rsa_key\.pem"$/);
    expect(stateOf(volume)).toEqual(before);
  });

  test("when it is only to say what it would do", async () => {
    const volume = await later();
    const before = stateOf(volume);
    const result = await restore(volume, { DRY_RUN: "true" });
    restored(result);
    expect(result.plan).toEqual([
      "write db.sqlite3 (8 tables, 516.0 KiB) and its side files (146.5 KiB) beside what is there, and check it against what was backed up",
      STOP,
      expect.stringMatching(
        /^keep what is there in \/source\/data\/\.cdktf-backup-replaced-\d{8}T\d{6}Z: db\.sqlite3, db\.sqlite3-wal, db\.sqlite3-shm, rsa_key\.pem, attachments, config\.json$/,
      ),
      "put the new files into their places in /source/data",
    ]);
    expect(stateOf(volume)).toEqual(before);
  });

  test.each([
    ["has it open and does nothing", `sql("PRAGMA journal_mode = wal"); all("SELECT * FROM owner"); stay()`],
    ["reads", `sql("PRAGMA journal_mode = delete; BEGIN"); all("SELECT * FROM owner"); stay()`],
    ["writes", `sql("PRAGMA journal_mode = delete; BEGIN IMMEDIATE; DELETE FROM owner"); stay()`],
    ["holds the lock", `sql("BEGIN EXCLUSIVE"); stay()`],
  ])("while an application %s", async (_, script) => {
    const volume = await later("");
    const app = await startApplication(join(volume, DATABASE), script);
    const before = stateOf(volume);
    expect(refused(await restore(volume, { CONFIRM: DATABASE }))).toBe(`/source/data/${DATABASE} is in use: ${STOP}; nothing was changed`);
    expect(stateOf(volume)).toEqual(before);
    await app.kill();
    restored(await restore(volume, { CONFIRM: DATABASE }));
    expectRestored(volume);
  });

  test("while an application that keeps a rollback journal writes now and then", async () => {
    const volume = await later("");
    const writer = await startApplication(
      join(volume, DATABASE),
      `setInterval(() => sql("UPDATE owner SET name = name || 'x' WHERE id = 1"), 300); console.log("ready")`,
    );
    expect(refused(await restore(volume, { CONFIRM: DATABASE }))).toBe(`something writes to /source/data: ${STOP}; nothing was changed`);
    await writer.kill();
    expect(readdirSync(volume).filter((name) => name.startsWith(".cdktf-backup-"))).toEqual([]);
    expect(shell(`sqlite3 '${join(volume, DATABASE)}' 'PRAGMA integrity_check'`)).toBe("ok\n");
  });

  test("when the data belong to another user, and names what mends it", async () => {
    const volume = await later();
    chownTree(volume, 0);
    const before = stateOf(volume);
    const mend = "cannot be replaced by uid 1000, gid 1000: let the restore run as its owner (the backup's 'restore: { runAs }')";
    expect(refused(await restore(volume, { CONFIRM: DATABASE }))).toBe(`/source/data (owner 0:0, mode 755) ${mend}`);
    chownSync(volume, USER, USER);
    expect(refused(await restore(volume, { CONFIRM: DATABASE }))).toMatch(mend);
    expect(stateOf(volume)).toEqual(before);
  });

  test("when the volume has no room for both", async () => {
    const volume = temporaryDirectory("small");
    mountTmpfs(volume, 600_000);
    chownSync(volume, USER, USER);
    expect(refused(await restore(volume))).toMatch(/^\/source\/data has \d+\.\d KiB free, and 662\.5 KiB are written beside what is there: /);
    expect(readdirSync(volume)).toEqual([]);
  });

  test.each(["db.sqlite3.zst", "files.tar.zst"])("when %s is damaged", async (name) => {
    const volume = await later();
    const before = stateOf(volume);
    const damage = (content: Buffer): Buffer => Buffer.concat([content.subarray(0, -9), Buffer.alloc(9)]);
    const { target } = forge(json, generation, { change: { [name]: damage } }, "backup");
    const env = { GENERATION: "newest", CONFIRM: DATABASE };
    expect(refused(await runRestore(json, target, { backup: "backup", volumes: { "app-data": volume }, env }))).toMatch(`${name} is damaged: `);
    expect(stateOf(volume)).toEqual(before);
  });

  test("when what comes out of a generation is not what its fingerprint says", async () => {
    const volume = await later();
    const before = stateOf(volume);
    const manifest = (of: FoundGeneration["manifest"]) => ({ ...of, fingerprint: { ...of.fingerprint, userVersion: 9 } });
    const { target } = forge(json, generation, { manifest }, "backup");
    const env = { GENERATION: "newest", CONFIRM: DATABASE };
    expect(refused(await runRestore(json, target, { backup: "backup", volumes: { "app-data": volume }, env }))).toBe(
      "what came back is not what was backed up: the database: userVersion is 7, but was 9",
    );
    expect(stateOf(volume)).toEqual(before);
  });
});

describe("a restore that is ended", () => {
  const large = `sql("CREATE TABLE large AS WITH n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 60000) SELECT randomblob(1000) AS a FROM n")`;
  let target: string;
  let volume: string;
  beforeEach(async () => {
    target = makeTarget(json, { name: "backup" });
    volume = await vault(large);
    await backUp(json, volume, target);
  });

  const start = () => {
    const volumes = { "app-data": volume, "app-backup": target };
    return startCronJob(json, { name: "backup-restore", volumes, env: { GENERATION: "newest", CONFIRM: DATABASE } });
  };
  const begun = (): boolean => readdirSync(volume).some((name) => name.startsWith(".cdktf-backup-restoring-") && existsSync(join(volume, name, "tree")));

  test("by TERM, leaves everything as it was", async () => {
    const before = stateOf(volume);
    const pod = start();
    await waitFor(begun, "the restore to have begun", 30, 2);
    pod.delete();
    const { exitCodes, logs } = await pod.done;
    expect([exitCodes.runner, logs.runner]).toEqual([143, expect.stringContaining("restore failed: stopped by SIGTERM")]);
    expect(stateOf(volume)).toEqual(before);
  });

  test("by a crash, leaves everything as it was, and the next one clears up", async () => {
    const before = stateOf(volume);
    const pod = start();
    await waitFor(begun, "the restore to have begun", 30, 2);
    pod.kill();
    await pod.done;
    const left = readdirSync(volume).filter((name) => name.startsWith(".cdktf-backup-"));
    expect(left).toHaveLength(1);
    expect(without(stateOf(volume), ...left)).toEqual(before);
    const lock = readdirSync(generationsDirectory(json, target, "backup")).find((name) => name.startsWith(".lock.")) ?? "";
    rmSync(join(generationsDirectory(json, target, "backup"), lock));
    const { ok, logs } = await start().done;
    expect([ok, logs.runner]).toEqual([true, expect.stringMatching(/removing \/source\/data\/\.cdktf-backup-restoring-\w+, left by a restore that did not end/)]);
    asideIn(volume);
  });
});

test("a user of its own restores what the application, which is root, owns", async () => {
  const reason = "the application runs as root";
  const own = synthesise({ restore: { runAs: { uid: 0, reason } } });
  const volume = await later();
  chownTree(volume, 0, USER);
  const { target } = forge(own, generation, {}, "backup");
  const env = { GENERATION: "newest", CONFIRM: DATABASE };
  restored(await runRestore(own, target, { backup: "backup", volumes: { "app-data": volume }, env }));
  expect(dumpOf(join(volume, DATABASE))).toBe(dump);
  for (const name of [DATABASE, ...SIDES]) expect(statSync(join(volume, name)).uid).toBe(0);
  // The backup goes on with what the restore left on its target.
  shell(`chmod -R g+rX '${volume}'`);
  renameSync(join(volume, asideIn(volume)), `${volume}.aside`);
  await backUp(own, volume, target);
});
