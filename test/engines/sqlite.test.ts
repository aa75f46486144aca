import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { SqliteBackup, SqliteIntegrityCheck } from "../../constructs/backup";
import { NfsBackupVolume, PodVolume } from "../../constructs/storage";
import { Retention } from "../../lib/retention";
import { copySource } from "../../lib/runtime/sqlite-source";
import { Schedule } from "../../lib/schedule";
import { ServiceEndpoint } from "../../lib/service-endpoint";
import { startCronJob, runCronJob, type CronJobOptions } from "../helpers/pod";
import { type Backup, failure } from "../helpers/pod/backup";
import { generationsDirectory, generationsOn, makeTarget, mountTmpfs, type FoundGeneration } from "../helpers/pod/target";
import { chownTree, temporaryDirectory, waitFor } from "../helpers/process";
import { startPushgateway, type Pushgateway } from "../helpers/servers/pushgateway";
import { application, startApplication } from "../helpers/sqlite-application";
import { DAMAGES, SCHEMA } from "../helpers/sqlite-damage";
import { Template } from "../helpers/template";

const PUSHGATEWAY = ServiceEndpoint.of("pushgateway.monitoring:9091");
const GAUGE = "app_sqlite_integrity_ok";
const FILES = [
  { path: "rsa_key.pem" },
  { path: "attachments" },
  { path: "config.json", required: false },
  { path: "sends", required: false },
];

const plain = synthesise();

function synthesise(props: { readonly files?: typeof FILES; readonly minTables?: number } = {}): string {
  const data = PodVolume.fromClaim("app-data");
  const common = { namespace: "app", data, database: "db.sqlite3", colocateWith: { labels: { app: "app" } } };
  const template = Template.of((stack) => {
    const target = { name: "app-backup", namespace: "app", server: "10.0.10.15", path: "/mnt/main/app-backup" };
    new SqliteBackup(stack, "backup", {
      ...common,
      ...props,
      volume: new NfsBackupVolume(stack, "volume", target),
      schedule: Schedule.cron("0 */6 * * *"),
      retention: Retention.keepDays(30),
    });
    new SqliteIntegrityCheck(stack, "integrity", {
      ...common,
      schedule: Schedule.cron("30 * * * *"),
      metric: GAUGE,
      pushgateway: PUSHGATEWAY,
    });
  });
  return JSON.stringify(template.json);
}

/**
 * A volume with a database that a script made, owned by the pod's user.
 * @param bytes size of a file system in memory, for writers that should not wait for a disk
 */
async function source(script: string, bytes?: number): Promise<{ readonly volume: string; readonly database: string }> {
  const volume = temporaryDirectory("data");
  if (bytes !== undefined) mountTmpfs(volume, bytes);
  const database = join(volume, "db.sqlite3");
  await application(database, SCHEMA + script);
  chownTree(volume, 1000);
  return { volume, database };
}

async function backUp(volume: string, options: CronJobOptions & { readonly json?: string } = {}): Promise<Backup> {
  const { json = plain } = options;
  const target = makeTarget(json, { name: "backup" });
  const volumes = { "app-data": volume, "app-backup": target };
  const result = await runCronJob(json, { name: "backup", volumes, ...options });
  return { ...result, generations: generationsOn(json, target, "backup") };
}

function succeeded({ ok, logs, generations }: Backup): FoundGeneration {
  const [generation] = generations;
  if (!ok || generation === undefined) throw new Error(logs.runner);
  expect(generations).toHaveLength(1);
  return generation;
}

/** Puts a backup in a database's place, as a person would. */
function restore({ path }: FoundGeneration): string {
  const restored = join(temporaryDirectory("restored"), "db.sqlite3");
  shell(`zstd -q -d ${join(path, "db.sqlite3.zst")} -o ${restored}`);
  return restored;
}

function shell(command: string): string {
  const { status, stdout, stderr } = spawnSync("sh", ["-ec", command], { encoding: "utf8", maxBuffer: 2 ** 28 });
  if (status !== 0) throw new Error(`${command}: ${stderr}`);
  return stdout;
}

function query(database: string, sql: string): string {
  return shell(`sqlite3 -batch '${database}' "${sql}"`).trim();
}

/** All files of a volume: what is in them, and when they were last written. */
function state(volume: string): { readonly [name: string]: string } {
  return Object.fromEntries(
    readdirSync(volume).map((name) => {
      const { mtimeMs, size } = statSync(join(volume, name));
      return [name, `${size} ${mtimeMs} ${createHash("sha256").update(readFileSync(join(volume, name))).digest("hex")}`];
    }),
  );
}

const ONE_MORE = `sql("INSERT INTO owner VALUES (3, 'the last commit')");`;
/** Leaves a transaction half written into the file. */
const HALF_WRITTEN = `
  sql("PRAGMA cache_size = 5; BEGIN; UPDATE item SET text = text || 'never committed'; INSERT INTO owner VALUES (4, 'never committed')");
  die();
`;
const WAL = `sql("PRAGMA journal_mode = wal; PRAGMA wal_autocheckpoint = 0");`;

describe("the last commit is in the copy, whatever the application left behind", () => {
  test.each<[string, string, readonly string[], readonly string[]]>([
    ["a write-ahead log, stopped", WAL + ONE_MORE, [], []],
    ["a write-ahead log, killed", `${WAL}${ONE_MORE} die();`, ["-shm", "-wal"], []],
    ["a write-ahead log without its index", `${WAL}${ONE_MORE} die();`, ["-wal"], ["-shm"]],
    ["a write-ahead log of a transaction that was not committed", `${WAL}${ONE_MORE}${HALF_WRITTEN}`, ["-wal"], ["-shm"]],
    ["a rollback journal, stopped", ONE_MORE, [], []],
    ["a rollback journal that is kept", `sql("PRAGMA journal_mode = persist");${ONE_MORE}`, ["-journal"], []],
    ["a rollback journal, killed while it wrote", ONE_MORE + HALF_WRITTEN, ["-journal"], []],
    ["pages of 64 KiB", `sql("PRAGMA page_size = 65536; VACUUM");${ONE_MORE}`, [], []],
  ])("%s", async (_, script, expected, removed) => {
    const { volume, database } = await source(script);
    for (const suffix of removed) rmSync(database + suffix);
    expect(readdirSync(volume)).toEqual(["db.sqlite3", ...expected.map((suffix) => `db.sqlite3${suffix}`)]);
    const before = state(volume);

    const { path, manifest } = succeeded(await backUp(volume));
    expect(state(volume)).toEqual(before);
    expect(readdirSync(path).sort()).toEqual(["db.sqlite3.zst", "manifest.json"]);

    const restored = restore({ path, manifest, name: "" });
    expect(query(restored, "SELECT * FROM owner ORDER BY id")).toBe("1|a\n2|b\n3|the last commit");
    expect(query(restored, "SELECT count(*), sum(length(text)) FROM item")).toBe("2000|406893");
    expect(query(restored, "PRAGMA integrity_check; SELECT count(*) FROM search WHERE search MATCH '0*'")).toBe("ok\n49");
    expect(manifest.fingerprint).toMatchObject({
      tables: { item: 2000, owner: 3, search_content: 49 },
      userVersion: 7,
      applicationId: 1234,
      foreignKeyViolations: 0,
      pageSize: script.includes("65536") ? 65536 : 4096,
      sha256: createHash("sha256").update(readFileSync(restore({ path, manifest, name: "" }))).digest("hex"),
    });
    expect(manifest.versions.sqlite).toMatch(/^3\./);
    expect(manifest.checks).toEqual([
      "integrity_check of the live database: ok",
      "integrity_check of the copy: ok",
      "foreign_key_check of the copy: 0 violations",
      expect.stringMatching(/^the copy on the target is the one that was checked: \d+ bytes$/),
    ]);
  });

  test.each([["wal"], ["delete"]])("while the application has it open (%s)", async (mode) => {
    const { volume, database } = await source("");
    const app = await startApplication(database, `sql("PRAGMA journal_mode = ${mode}");${ONE_MORE} stay();`);
    const { path } = succeeded(await backUp(volume));
    expect(readdirSync(volume)).toHaveLength(mode === "wal" ? 3 : 1);
    await app.kill();
    const restored = restore({ path } as FoundGeneration);
    expect(query(restored, "PRAGMA integrity_check; SELECT * FROM owner WHERE id = 3")).toBe("ok\n3|the last commit");
    expect(query(restored, "PRAGMA journal_mode")).toBe(mode);
  });
});

test.each([["wal", 25], ["delete", 10]])("under a busy writer (%s) each of %i backups holds one moment", async (mode, rounds) => {
  const { volume, database } = await source("", 256 * 2 ** 20);
  // Two accounts whose sum never changes, and rows that are numbered without gaps.
  const writer = await startApplication(
    database,
    `sql("PRAGMA journal_mode = ${mode}");
     sql("CREATE TABLE account (id INTEGER PRIMARY KEY, money INTEGER); INSERT INTO account VALUES (1, 0), (2, 0)");
     sql("CREATE TABLE entry (id INTEGER PRIMARY KEY, text TEXT)");
     const step = () => {
       sql("BEGIN IMMEDIATE; UPDATE account SET money = money + 1 WHERE id = 1; INSERT INTO entry (text) VALUES (hex(randomblob(500)))");
       sql("UPDATE account SET money = money - 1 WHERE id = 2; COMMIT");
       setTimeout(step, 1);
     };
     step(); console.log("ready");`,
  );
  let commits = 0;
  for (let round = 0; round < rounds; round++) {
    const { path } = succeeded(await backUp(volume));
    const restored = restore({ path } as FoundGeneration);
    const [integrity, sum, count, last] = query(
      restored,
      "PRAGMA integrity_check; SELECT sum(money) FROM account; SELECT count(*) FROM entry; SELECT max(money) FROM account",
    ).split("\n");
    expect([integrity, sum, last]).toEqual(["ok", "0", count]);
    expect(Number(count)).toBeGreaterThan(commits);
    commits = Number(count);
  }
  await writer.kill();
  expect(query(database, "PRAGMA integrity_check")).toBe("ok");
});

test("an application that is started and stopped all the time keeps no backup from holding one moment", async () => {
  const { volume, database } = await source(`sql("PRAGMA journal_mode = wal; CREATE TABLE one (a); CREATE TABLE two (a)")`);
  const app = await startApplication(
    database,
    `const step = () => {
       if (!db.isOpen) db.open();
       sql("BEGIN; INSERT INTO one VALUES (hex(randomblob(2000))); INSERT INTO two SELECT a FROM one ORDER BY rowid DESC LIMIT 1; COMMIT");
       setTimeout(() => { db.close(); setTimeout(step, 60); }, 60);
     };
     step(); console.log("ready");`,
  );
  for (let round = 0; round < 10; round++) {
    const restored = restore(succeeded(await backUp(volume)));
    const numbers = "SELECT count(*) FROM one; SELECT count(*) FROM two; SELECT count(*) FROM one NATURAL JOIN two";
    const [integrity, one, two, both] = query(restored, `PRAGMA integrity_check; ${numbers}`).split("\n");
    expect([integrity, two, both]).toEqual(["ok", one, one]);
  }
  await app.kill();
});

describe("fails when the database is damaged, publishes nothing and leaves it as it is", () => {
  const cases = Object.entries(DAMAGES).flatMap(([damage, what]) => ["delete", "wal"].map((mode) => [damage, mode, what] as const));
  test.each(cases)("%s (%s)", async (_damage, mode, { inflict, reason }) => {
    const { volume, database } = await source(`sql("PRAGMA journal_mode = ${mode}")`);
    await inflict(database);
    const before = state(volume);
    expect(failure(await backUp(volume))).toMatch(reason);
    expect(state(volume)).toEqual(before);
  });

  test("damage that appears once a copy exists leaves that copy alone", async () => {
    const { volume, database } = await source("");
    const target = makeTarget(plain, { name: "backup" });
    const options = { name: "backup", volumes: { "app-data": volume, "app-backup": target } };
    expect((await runCronJob(plain, options)).ok).toBe(true);
    await DAMAGES["damaged page"]?.inflict(database);
    expect((await runCronJob(plain, options)).ok).toBe(false);
    const generations = generationsOn(plain, target, "backup");
    expect(generations).toHaveLength(1);
    expect(query(restore(generations[0] as FoundGeneration), "SELECT count(*) FROM item")).toBe("2000");
  });
});

describe("fails when the source is", () => {
  test("missing, and creates nothing", async () => {
    const volume = temporaryDirectory("data", 1000);
    expect(failure(await backUp(volume))).toBe("/source/data/db.sqlite3 does not exist");
    expect(readdirSync(volume)).toEqual([]);
  });

  test("a directory", async () => {
    const volume = temporaryDirectory("data", 1000);
    mkdirSync(join(volume, "db.sqlite3"));
    expect(failure(await backUp(volume))).toBe("/source/data/db.sqlite3 is not a file");
  });

  test("a database without tables", async () => {
    const volume = temporaryDirectory("data", 1000);
    await application(join(volume, "db.sqlite3"), `sql("PRAGMA user_version = 1")`);
    expect(failure(await backUp(volume))).toBe("/source/data/db.sqlite3 has 0 tables, at least 1 expected");
  });

  test("one with fewer tables than it must have", async () => {
    const { volume } = await source("");
    expect(failure(await backUp(volume, { json: synthesise({ minTables: 40 }) }))).toMatch(/has \d tables, at least 40 expected$/);
  });

  test.each([
    ["owned by another user", 0, (database: string) => chmodSync(database, 0o600)],
    ["in a directory that cannot be entered", 0, (database: string) => chmodSync(dirname(database), 0o700)],
  ])("%s: the message has the command that mends it", async (_, owner, change) => {
    const { volume, database } = await source("");
    chownTree(volume, owner);
    change(database);
    const reason = failure(await backUp(volume));
    const [, said] = /^\/source\/data\/db\.sqlite3.* (cannot be read by .*: chgrp) /.exec(reason) ?? [];
    expect(said).toBe("cannot be read by uid 1000, gid 1000; where the volume is writable, run: chgrp");
    shell(reason.replace(/^.*run: /, "").replaceAll("/source/data", volume));
    expect(statSync(database).uid).toBe(owner);
    succeeded(await backUp(volume));
  });
});

test("waits for a lock that is let go", async () => {
  const { volume, database } = await source("");
  await startApplication(database, `sql("BEGIN EXCLUSIVE"); setTimeout(() => sql("COMMIT"), 3000); stay();`);
  succeeded(await backUp(volume));
});

test("stops at once when it is told to, also while it waits for a lock", async () => {
  const { volume, database } = await source("");
  await startApplication(database, `sql("BEGIN EXCLUSIVE"); stay();`);
  const target = makeTarget(plain, { name: "backup" });
  const pod = startCronJob(plain, { name: "backup", volumes: { "app-data": volume, "app-backup": target } });
  const generations = generationsDirectory(plain, target, "backup");
  const begun = (): boolean => existsSync(generations) && readdirSync(generations).some((name) => name.startsWith(".lock"));
  await waitFor(begun, "the run to have begun");
  await new Promise((resolve) => setTimeout(resolve, 1000));
  const told = Date.now();
  pod.delete();
  const { exitCodes, logs } = await pod.done;
  expect(exitCodes.runner).toBe(143);
  expect(logs.runner).toContain("backup failed: stopped by SIGTERM");
  expect(Date.now() - told).toBeLessThan(3000);
});

test("fails when the scratch space has no room for the copy, before it fills it", async () => {
  const { database } = await source(`sql("CREATE TABLE large AS SELECT zeroblob(20000000)")`);
  const scratch = temporaryDirectory("scratch");
  mountTmpfs(scratch, 8 * 2 ** 20);
  const reason = /has 8 MiB free, and a copy of the database needs 2\d MiB$/;
  await expect(copySource(database, scratch, join(scratch, "copy"))).rejects.toThrow(reason);
});

test("violated foreign keys are recorded and do not fail the backup", async () => {
  const { volume } = await source(`sql("INSERT INTO item VALUES (9999, 77, 1, ''), (10000, 78, 1, '')")`);
  const result = await backUp(volume);
  const { manifest } = succeeded(result);
  expect(manifest.fingerprint.foreignKeyViolations).toBe(2);
  expect(manifest.checks).toContain("foreign_key_check of the copy: 2 violations (recorded, not fatal)");
  expect(result.logs.runner).toContain("warning: foreign_key_check of the copy: 2 violations");
});

describe("side files", () => {
  const json = synthesise({ files: FILES });

  async function vaultwarden(): Promise<string> {
    const { volume } = await source("");
    writeFileSync(join(volume, "rsa_key.pem"), "private");
    chmodSync(join(volume, "rsa_key.pem"), 0o600);
    mkdirSync(join(volume, "attachments", "cipher-1"), { recursive: true });
    for (let index = 0; index < 20; index++) {
      writeFileSync(join(volume, "attachments", "cipher-1", `file-${index}`), `attachment ${index}`.repeat(1000));
    }
    mkdirSync(join(volume, "attachments", "empty"));
    writeFileSync(join(volume, "attachments", "ü 'odd' name"), "");
    chownTree(volume, 1000);
    return volume;
  }

  test("are restored by one command to where they were; what is absent and optional is recorded", async () => {
    const volume = await vaultwarden();
    const { path, manifest } = succeeded(await backUp(volume, { json }));
    expect(readdirSync(path).sort()).toEqual(["db.sqlite3.zst", "files.tar.zst", "manifest.json"]);
    const restored = temporaryDirectory("restored");
    shell(`zstd -q -dc ${join(path, "files.tar.zst")} | tar -x -C ${restored}`);
    shell(`diff -r --exclude=db.sqlite3 ${volume} ${restored}`);
    expect(shell(`stat -c '%a %u' ${join(restored, "rsa_key.pem")}`)).toBe("600 1000\n");
    expect(manifest.fingerprint.files).toEqual({
      present: ["rsa_key.pem", "attachments"],
      absent: ["config.json", "sends"],
      archive: {
        files: 22,
        directories: 3,
        symlinks: 0,
        bytes: expect.any(Number),
        sha256: expect.stringMatching(/^[0-9a-f]{64}$/),
        attributes: expect.stringMatching(/^[0-9a-f]{64}$/),
      },
    });
    expect(manifest.checks.at(-1)).toBe("the side files on the target are what was read: 22 files");
  });

  test("fails when a required one is missing", async () => {
    const volume = await vaultwarden();
    rmSync(join(volume, "rsa_key.pem"));
    expect(failure(await backUp(volume, { json }))).toBe("/source/data/rsa_key.pem does not exist, and is required");
  });

  test.each([["attachments/cipher-1/file-7"], ["rsa_key.pem"], ["attachments/cipher-1"]])(
    "fails when %s cannot be read, with the command that mends it",
    async (path) => {
      const volume = await vaultwarden();
      chownTree(join(volume, path), 0);
      chmodSync(join(volume, path), statSync(join(volume, path)).isDirectory() ? 0o700 : 0o600);
      const reason = failure(await backUp(volume, { json }));
      expect(reason).toMatch(`/source/data/${path} (owner 0:0, mode `);
      shell(reason.replace(/^.*run: /, "").replaceAll("/source/data", volume));
      succeeded(await backUp(volume, { json }));
    },
  );

  test("fails when an optional one is there and cannot be read", async () => {
    const volume = await vaultwarden();
    writeFileSync(join(volume, "config.json"), "{}", { mode: 0o600 });
    expect(failure(await backUp(volume, { json }))).toContain("/source/data/config.json (owner 0:0, mode 600) cannot be read by uid 1000");
  });
});

describe("integrity check", () => {
  let gateway: Pushgateway;
  beforeAll(async () => {
    gateway = await startPushgateway();
  });
  afterAll(() => gateway.stop());
  beforeEach(() => gateway.wipe());

  interface Check {
    readonly code: number | undefined;
    readonly log: string;
    /** Of the database: 1 or 0. */
    readonly gauge: number | undefined;
    /** Of the check: 0, 1 or 2. */
    readonly state: number | undefined;
  }

  async function check(volume: string): Promise<Check> {
    const options = { name: "integrity", volumes: { "app-data": volume }, services: ["pushgateway.monitoring"] };
    const { exitCodes, logs } = await runCronJob(plain, options);
    const state = await gateway.value("backup_integrity_check_state");
    return { code: exitCodes.runner, log: logs.runner ?? "", gauge: await gateway.value(GAUGE), state };
  }

  test.each<[string, string]>([
    ["stopped", ""],
    ["with a write-ahead log, stopped", WAL],
    ["with a write-ahead log, killed", `${WAL}${ONE_MORE} die();`],
    ["killed while it wrote", HALF_WRITTEN],
  ])("a sound database is ok and stays as it is: %s", async (_, script) => {
    const { volume } = await source(script);
    const before = state(volume);
    expect(await check(volume)).toMatchObject({ code: 0, gauge: 1, state: 0 });
    expect(state(volume)).toEqual(before);
  });

  test.each(Object.entries(DAMAGES))("%s is corrupt: 0 is pushed", async (_, { inflict, reason }) => {
    const { volume, database } = await source("");
    await inflict(database);
    const before = state(volume);
    const { log, ...result } = await check(volume);
    expect(result).toEqual({ code: 1, gauge: 0, state: 1 });
    expect(log).toMatch(reason);
    expect(state(volume)).toEqual(before);
  });

  test("an application that lost its database and began anew is corrupt", async () => {
    const volume = temporaryDirectory("data", 1000);
    await application(join(volume, "db.sqlite3"), `sql("PRAGMA user_version = 1")`);
    expect(await check(volume)).toMatchObject({ code: 1, gauge: 0, state: 1 });
  });

  test("missing or unreadable is unknown: the gauge keeps its value", async () => {
    const { volume, database } = await source("");
    expect(await check(volume)).toMatchObject({ code: 0, gauge: 1 });
    chownTree(volume, 0);
    chmodSync(database, 0o600);
    const unreadable = await check(volume);
    expect(unreadable).toMatchObject({ code: 2, gauge: 1, state: 2 });
    expect(unreadable.log).toContain("cannot be read by uid 1000");
    rmSync(database);
    const missing = await check(volume);
    expect(missing).toMatchObject({ code: 2, gauge: 1, state: 2 });
    expect(missing.log).toContain("/source/data/db.sqlite3 does not exist");
    expect(readdirSync(volume)).toEqual([]);
  });

  test("locked for longer than a commit takes: the check says unknown, and the backup fails", async () => {
    const { volume, database } = await source("");
    expect(await check(volume)).toMatchObject({ code: 0, gauge: 1 });
    await startApplication(database, `sql("BEGIN EXCLUSIVE"); stay();`);
    const [checked, backedUp] = await Promise.all([check(volume), backUp(volume)]);
    expect(checked).toMatchObject({ code: 2, gauge: 1, state: 2 });
    const locked = "/source/data/db.sqlite3 is locked by another process (waited 20 s)";
    expect(checked.log).toContain(`unknown, ${locked}`);
    expect(failure(backedUp)).toBe(locked);
  });
});
