import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Fact, Manifest } from "../../lib/runtime/manifest";
import { cut, decompressed, DRILL_ROUNDS, flip, forge, overwrite, proven, red, runDrill, TWENTIETHS, withoutLastByte, type Forgery } from "../helpers/drill";
import { hostProgram, type CronJobOptions, type ImageProfile } from "../helpers/pod";
import { settingsOf, type FoundGeneration } from "../helpers/pod/target";
import { temporaryDirectory } from "../helpers/process";
import { Redis } from "../helpers/servers/redis";
import { backUp, fill, IMAGE, POD, start, succeeded, synthesise, VERSION } from "./redis-setup";

const FILE = "dump.rdb.zst";
const JSON_TEXT = synthesise();
/** No key of any: what is small is drilled fast. */
const FEW = 300;

/** Seconds until some keys expire: after the backup, before the drill. */
const SOON = 8;

let server: Redis;
let filled: number;
let good: FoundGeneration;
let target: string;

beforeAll(async () => {
  // It waits five seconds for other replicas unless told not to.
  server = await start({ "repl-diskless-sync-delay": "0" });
  fill(server, FEW);
  server.pipe([`SETEX gone ${SOON} v`, "SELECT 9", `SETEX gone-too ${SOON} v`]);
  filled = Date.now();
  const backup = await backUp();
  good = succeeded(backup);
  target = backup.target;
});

afterAll(() => server?.stop("SIGKILL"));

const drill = (json: string, on: string, options: CronJobOptions = {}): ReturnType<typeof runDrill> => runDrill(json, on, { ...POD, ...options });

/** Why the drill of a forged copy is red. */
async function refused(forgery: Forgery, json = JSON_TEXT): Promise<string> {
  return red(await drill(json, forge(json, good, forgery).target));
}

type Snapshot = { readonly [fact: string]: Fact };

const factsOf = ({ fingerprint }: Manifest): Snapshot => fingerprint["snapshot"] as Snapshot;

/** A manifest that says something else of the snapshot. */
function told(manifest: Manifest, facts: Snapshot): Manifest {
  return { ...manifest, fingerprint: { ...manifest.fingerprint, snapshot: { ...factsOf(manifest), ...facts } } };
}

/** Why the drill is red of a generation with another one's snapshot. @param hashed whether the fingerprint has the other's hash, too */
function withSnapshotOf(other: FoundGeneration, hashed = false): Promise<string> {
  const content = readFileSync(join(other.path, FILE));
  const { sha256 = "" } = factsOf(other.manifest);
  const manifest = (old: Manifest): Manifest => ({ ...told(old, hashed ? { sha256 } : {}), files: other.manifest.files });
  return refused({ change: { [FILE]: () => content }, manifest });
}

/** The fingerprint says that the changed snapshot is what the source sent: only a server can tell. */
function believed(change: (rdb: Buffer) => Buffer): Forgery {
  let sha256 = "";
  const see = (rdb: Buffer): Buffer => {
    const changed = change(rdb);
    sha256 = createHash("sha256").update(changed).digest("hex");
    return changed;
  };
  return { change: { [FILE]: decompressed(see) }, manifest: (old) => told(old, { sha256 }) };
}

describe("a drill", () => {
  test("loads the snapshot and finds in it what was there, expired meanwhile or not", async () => {
    await new Promise((resolve) => setTimeout(resolve, filled + (SOON + 1) * 1000 - Date.now()));
    const checks = proven(await drill(JSON_TEXT, target));
    expect(checks).toEqual([
      `loaded by Redis ${VERSION}, the very bytes that the source sent`,
      `equal to the fingerprint, in each database: ${FEW + 16} keys in 3 databases, of which 4 expire`,
    ]);
    expect(good.manifest.fingerprint["snapshot"]).toMatchObject({ databases: { db9: { keys: 1, expiring: 1 } } });
  });

  test.each(["busybox", "bash"] as const)("is the same by %s", async (shell) => {
    expect(proven(await drill(JSON_TEXT, target, { shell }))).toHaveLength(2);
  });

  test("asks what it is told to", async () => {
    const assertions = [
      { database: "3", query: "GET here", expect: "v" },
      { query: "HGET h b", expect: "2" },
      { query: "LRANGE l 0 -1", expect: "a\nb\nc" },
    ];
    const asking = synthesise(undefined, { drill: { assertions } });
    const checks = proven(await drill(asking, forge(asking, good).target));
    expect(checks.slice(2)).toEqual([
      'database 3 answers "v" to "GET here"',
      'database 0 answers "2" to "HGET h b"',
      'database 0 answers "a\\nb\\nc" to "LRANGE l 0 -1"',
    ]);
  });

  test.each([
    ["another value", { query: "HGET h b", expect: "3" }, 'database 0 answers "2" instead of "3" to "HGET h b"'],
    ["an error", { query: "HGET l b", expect: "2" }, /^database 0 answers "WRONGTYPE .*" instead of "2" to "HGET l b"$/],
    ["a write", { query: "DEL h", expect: "1" }, /^database 0 answers "READONLY .*" instead of "1" to "DEL h"$/],
    ["a database that no server has", { database: "99", query: "DBSIZE", expect: "0" }, /^(ask failed|database 99 answers)/],
  ])("is red where what it is told to ask has %s", async (_, assertion, reason) => {
    const asking = synthesise(undefined, { drill: { assertions: [assertion] } });
    expect(await refused({}, asking)).toMatch(reason);
  });

  test("reads a snapshot with more databases than a server has by itself, and more keys than fit a short length", async () => {
    const other = await start({ databases: "300" }, 6381);
    try {
      other.pipe(["DEBUG POPULATE 70 a 1", "SELECT 299", "SET a b", "SELECT 20", "DEBUG POPULATE 20000 a 1", "SETEX e 10000 v"]);
      const json = synthesise("redis.redis:6381");
      const backup = await backUp({ json });
      expect(succeeded(backup).manifest.fingerprint["snapshot"]).toMatchObject({
        databases: { db0: { keys: 70, expiring: 0 }, db20: { keys: 20_001, expiring: 1 }, db299: { keys: 1, expiring: 0 } },
      });
      expect(proven(await drill(json, backup.target))[1]).toMatch(/^equal to the fingerprint, in each database: 20072 keys in 3 databases/);
    } finally {
      await other.stop("SIGKILL");
    }
  });

  test("of an empty server is green, as it was empty", async () => {
    const other = await start({}, 6381);
    try {
      const json = synthesise("redis.redis:6381");
      const backup = await backUp({ json });
      succeeded(backup);
      expect(proven(await drill(json, backup.target))[1]).toMatch(/: 0 keys in 0 databases/);
    } finally {
      await other.stop("SIGKILL");
    }
  });

  test("compares the sums where the snapshot does not say how many keys each database has", async () => {
    const databases = { db0: null, db3: null, db9: null };
    const { target: forged } = forge(JSON_TEXT, good, { manifest: (manifest) => told(manifest, { databases }) });
    expect(proven(await drill(JSON_TEXT, forged))[1]).toMatch(/^equal to the fingerprint, of all databases together: /);
    expect(await refused({ manifest: (manifest) => told(manifest, { databases, keys: FEW + 15 }) })).toContain(`the snapshot: keys is ${FEW + 16}, but was ${FEW + 15}`);
  });

  test(`is green ${DRILL_ROUNDS} of ${DRILL_ROUNDS} times while the source is written to`, async () => {
    const writer = spawn(hostProgram("redis-cli"), ["-p", "6379"], { env: { REDISCLI_AUTH: "of the owner" }, stdio: ["pipe", "ignore", "ignore"] });
    // What it has not read by the time that it is killed.
    writer.stdin.on("error", () => undefined);
    let round = 0;
    const timer = setInterval(() => {
      round++;
      // It reads no faster than the server answers.
      if (writer.stdin.writableLength > 100_000) return;
      for (let i = 0; i < 100; i++) writer.stdin.write(`SELECT ${round % 4}\nPSETEX w${round}.${i} ${1 + i * 20} v\nSET s${i} ${round}\nDEL s${i + 40}\n`);
    }, 5);
    const before: number[] = [];
    try {
      for (let i = 0; i < DRILL_ROUNDS; i++) {
        const backup = await backUp({ pauseMs: 0 });
        before.push(Number(factsOf(succeeded(backup).manifest)["keys"]));
        expect(proven(await drill(JSON_TEXT, backup.target))).toHaveLength(2);
      }
    } finally {
      clearInterval(timer);
      const ended = new Promise((resolve) => writer.once("exit", resolve));
      writer.kill();
      await ended;
    }
    expect(round).toBeGreaterThan(10 * DRILL_ROUNDS);
    expect(new Set(before).size).toBeGreaterThan(DRILL_ROUNDS / 5);
  }, 600_000);

  test("has neither the address of the live server nor its password", () => {
    const { engine } = settingsOf(JSON_TEXT, "redis-backup-drill");
    expect(engine).toEqual({ kind: "redis" });
    const resources = JSON.parse(JSON_TEXT) as { resource: { kubernetes_cron_job_v1: Record<string, object>; kubernetes_network_policy_v1: Record<string, object> } };
    const of = (all: Record<string, object>): string => JSON.stringify(Object.entries(all).filter(([id]) => id.includes("Drill")));
    const text = of(resources.resource.kubernetes_cron_job_v1) + of(resources.resource.kubernetes_network_policy_v1);
    expect(text).toContain("redis-backup-drill");
    for (const secret of ["REDIS_HOST", "REDISCLI_AUTH", "6379"]) expect(text).not.toContain(secret);
  });
});

describe("a drill is red where the snapshot", () => {
  test("is damaged at any twentieth, as it lies on the target", async () => {
    for (const at of TWENTIETHS) {
      expect(await refused({ change: { [FILE]: overwrite(at) }, rehash: false })).toMatch(/^dump.rdb.zst is damaged: /);
    }
  });

  test("is damaged at any twentieth, and has the hash that it should", async () => {
    for (const at of TWENTIETHS) expect(await refused({ change: { [FILE]: overwrite(at) } })).not.toBe("");
  });

  test("was damaged at any twentieth before it was compressed, and has the hash that it should", async () => {
    for (const at of TWENTIETHS) {
      expect(await refused({ change: { [FILE]: decompressed(overwrite(at)) } })).toMatch(/^what came back is not what was backed up: dump.rdb: sha256/);
    }
  });

  test("was damaged at any twentieth before the source sent it", async () => {
    for (const at of TWENTIETHS) {
      // The first bytes say what it is; all others are covered by its checksum.
      expect(await refused(believed(overwrite(at)))).toMatch(/^(dump.rdb is no whole snapshot: |the scratch server ended: |scratch failed )/);
    }
  });

  test.each<[string, (content: Buffer) => Buffer]>([
    ["lacks its last byte", withoutLastByte],
    ["is half", cut(0.5)],
    ["is empty", () => Buffer.alloc(0)],
    ["has one bit flipped", flip(0.6)],
  ])("%s, in every way that can be", async (_, change) => {
    // Where even the size is wrong, it counts as no generation.
    const { exitCodes, failure } = await drill(JSON_TEXT, forge(JSON_TEXT, good, { change: { [FILE]: change }, rehash: false }).target);
    expect({ code: exitCodes.runner, failure }).toEqual({ code: 1, failure: expect.stringMatching(/dump\.rdb\.zst (has \d+ bytes instead of|is damaged)/) as string });
    expect(await refused({ change: { [FILE]: decompressed(change) } })).toMatch(/^what came back is not what was backed up: dump.rdb: sha256/);
    expect(await refused(believed(change))).toMatch(/^(dump.rdb is no whole snapshot: |the scratch server ended: )/);
  });

  test("is that of another server, of yesterday, of an empty one, or lacks a database", async () => {
    const at6381 = synthesise("redis.redis:6381");
    const other = await start({}, 6381);
    const take = async (): Promise<FoundGeneration> => succeeded(await backUp({ json: at6381 }));
    try {
      const empty = await take();
      fill(other, FEW);
      other.pipe(["SETEX gone 3000 v", "SELECT 9", "SETEX gone-too 3000 v", "SELECT 0", "DEL soon", "PSETEX soon 300000 v"]);
      // As many keys, other values.
      other.pipe(["HSET h a 2"]);
      const yesterday = await take();
      other.pipe(["DEL z", "SET y v"]);
      const swapped = await take();
      other.pipe(["SELECT 3", "FLUSHDB"]);
      const lacking = await take();
      for (const wrong of [empty, yesterday, swapped, lacking]) {
        expect(await withSnapshotOf(wrong)).toMatch(/^what came back is not what was backed up: dump.rdb: sha256/);
      }
      // Where even the hash was made to fit, the server counts.
      expect(await withSnapshotOf(empty, true)).toMatch(/^what came back is not what was backed up: the snapshot: keys is 0, but was 316, /);
      expect(await withSnapshotOf(lacking, true)).toMatch(/the snapshot: databases db3 is not there, but was /);
    } finally {
      await other.stop("SIGKILL");
    }
  });

  test("is of the day before yesterday, and nothing newer is there", async () => {
    expect(await refused({ hoursOlder: 24 * 9 })).toMatch(/^the newest generation is 216\.\d h old, but may be 17\d.\d h at most$/);
  });
});

describe("a drill is red where the server", () => {
  /** The image with a program that does what the script says; `real` is the real one. */
  function instead(program: string, script: string): { readonly [repository: string]: ImageProfile } {
    const path = join(temporaryDirectory("stub"), program);
    writeFileSync(path, `#!/bin/sh\n${script}\n`, { mode: 0o755 });
    const tools = ["sh", "sleep", "cat", "mkdir", "sed", "redis-server", "redis-cli"];
    return { [IMAGE]: { tools, programs: { [program]: path, real: hostProgram(program) } } };
  }
  const reason = async (program: string, script: string): Promise<string> =>
    red(await drill(JSON_TEXT, forge(JSON_TEXT, good).target, { images: instead(program, script) }));

  test.each([
    ["ends at once", "redis-server", "echo 'cannot work' >&2; exit 3", /^scratch failed \(exit status 1\): cannot work$/],
    ["cannot be started", "redis-server", "exit 127", /^scratch failed \(exit status 1\)/],
    ["is killed", "redis-server", "kill -9 $$", /^scratch failed \(exit status 1\)/],
    [
      "is another one than that which was made", "redis-cli", 'case "$*" in *config*) echo dir; echo /var/lib/redis ;; *) exec real "$@" ;; esac',
      /^the server that answers has its data in "\/var\/lib\/redis", and is not the scratch instance drill-[0-9a-f]{16}$/,
    ],
    [
      "has lost a key", "redis-cli", 'real "$@" | sed s/keys=2/keys=1/',
      /^what came back is not what was backed up: the snapshot: .*db3 keys is 1, but was 2/,
    ],
    ["knows nothing of it", "redis-cli", "exit 1", /^the scratch server has not answered for 30 s$/],
  ])("%s", async (_, program, script, why) => {
    expect(await reason(program, script)).toMatch(why);
  });
});
