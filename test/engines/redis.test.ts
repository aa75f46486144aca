import { spawn, spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { chmodSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import type { Dump } from "../../lib/runtime/engine";
import { RedisEngine } from "../../lib/runtime/engines/redis";
import { withAgent, type AgentRun } from "../helpers/agent-run";
import { hostProgram, type ImageProfile } from "../helpers/pod";
import type { FoundGeneration } from "../helpers/pod/target";
import { chownTree, temporaryDirectory } from "../helpers/process";
import { Redis } from "../helpers/servers/redis";
import { backUp, fill, IMAGE, PASSWORD, start, succeeded, synthesise, VERSION, type Backup } from "./redis-setup";

const SCRIPT = resolve(__dirname, "../../lib/scripts/redis.sh");
/** What a snapshot of {@link fill} holds. */
const SNAPSHOT = {
  sha256: expect.stringMatching(/^[0-9a-f]{64}$/) as string,
  keys: 20_014,
  expiring: 2,
  databases: { db0: { keys: 20_012, expiring: 1 }, db3: { keys: 2, expiring: 1 } },
};
const TOOLS = ["sh", "sleep", "cat", "redis-cli", "redis-check-rdb"];

function failure({ ok, logs, exitCodes, generations }: Backup): string {
  expect({ ok, runner: exitCodes.runner, generations }).toEqual({ ok: false, runner: 1, generations: [] });
  const [reason = ""] = (logs.runner ?? "").split("\n").filter((line) => line.includes("backup failed: "));
  return reason.replace(/^.*backup failed: /, "");
}

/** A program of the image that does what the script says; `real` is the real one. */
function instead(program: string, script: string, tools: readonly string[] = []): { readonly [repository: string]: ImageProfile } {
  const path = join(temporaryDirectory("stub"), program);
  writeFileSync(path, `#!/bin/sh\ncase "$*" in --version) exec real --version ;; esac\n${script}\n`);
  chmodSync(path, 0o755);
  return { [IMAGE]: { tools: [...TOOLS, "real", ...tools], programs: { [program]: path, real: hostProgram(program) } } };
}

/** Of the transfer alone. */
const damaged = (script: string): { readonly [repository: string]: ImageProfile } =>
  instead("redis-cli", `case "$*" in *--rdb*) ;; *) exec real "$@" ;; esac\nreal "$@" > "$EXCHANGE/d"\n${script}`, ["head", "sed", "wc"]);

const environment = (first = ""): { readonly [name: string]: string } => ({
  PATH: [first, process.env.PATH].filter((part) => part !== "").join(":"),
  ENGINE_SCRIPT: SCRIPT,
  REDIS_HOST: "127.0.0.1",
  REDIS_PORT: "6379",
  REDIS_USER: "backup",
  REDISCLI_AUTH: PASSWORD,
});

function withEngine<T>(work: (engine: RedisEngine, context: AgentRun) => Promise<T>): Promise<T> {
  return withAgent({ env: environment() }, (context) => work(new RedisEngine(), context));
}

function restore(generation: FoundGeneration, port: number, settings = {}): Promise<Redis> {
  const directory = Redis.directory();
  const { stdout, status } = spawnSync("zstd", ["-dc", join(generation.path, "dump.rdb.zst")], { maxBuffer: 2 ** 30 });
  expect(status).toBe(0);
  writeFileSync(join(directory, "dump.rdb"), stdout);
  chownTree(directory, 6379);
  return Redis.start({ port, directory, settings });
}

let server: Redis;

beforeAll(async () => {
  server = await start();
  fill(server);
});

afterAll(() => server?.stop("SIGKILL"));

describe("a backup", () => {
  test.each([
    ["from memory", "yes"],
    ["through the server's disk", "no"],
  ])("that the server sends %s restores every key, expiry and function", async (_, diskless) => {
    server.call("CONFIG", "SET", "repl-diskless-sync", diskless, "repl-diskless-sync-delay", "0");
    const generation = succeeded(await backUp());
    const copy = await restore(generation, 6380);
    try {
      expect(copy.call("DEBUG", "DIGEST")).toBe(server.call("DEBUG", "DIGEST"));
      expect(copy.pipe(["DBSIZE", "FUNCTION LIST", "SELECT 3", "EXPIRETIME there"])).toBe(
        server.pipe(["DBSIZE", "FUNCTION LIST", "SELECT 3", "EXPIRETIME there"]),
      );
      const { manifest } = generation;
      expect(manifest.fingerprint).toEqual({
        server: VERSION,
        aofEnabled: false,
        snapshot: SNAPSHOT,
        keyspaceBefore: { db0: { keys: 20012, expiring: 1 }, db3: { keys: 2, expiring: 1 } },
        keyspaceAfter: { db0: { keys: 20012, expiring: 1 }, db3: { keys: 2, expiring: 1 } },
      });
      expect(manifest.checks).toEqual(["dump.rdb: 20014 keys decoded by redis-check-rdb to the last byte, checksum right"]);
      expect(manifest.versions).toEqual({ redis: VERSION, "redis-cli": VERSION });
    } finally {
      await copy.stop("SIGKILL");
    }
  });

  test.each(["busybox", "bash"] as const)("is the same by %s", async (shell) => {
    expect(succeeded(await backUp({ shell })).manifest.fingerprint.snapshot).toEqual(SNAPSHOT);
  });

  test("says that the server keeps an append-only file, beside which a restored snapshot would be ignored", async () => {
    const other = await start({ appendonly: "yes" }, 6381);
    try {
      other.call("SET", "a", "b");
      const generation = succeeded(await backUp({ json: synthesise("redis.redis:6381") }));
      expect(generation.manifest.fingerprint).toMatchObject({ aofEnabled: true, snapshot: { keys: 1 } });
      const ignored = await restore(generation, 6382, { appendonly: "yes" });
      const loaded = await restore(generation, 6383);
      expect([ignored.call("DBSIZE"), loaded.call("DBSIZE")]).toEqual(["0", "1"]);
      await Promise.all([ignored.stop("SIGKILL"), loaded.stop("SIGKILL")]);
    } finally {
      await other.stop("SIGKILL");
    }
  });

  test("of an empty server is an empty backup", async () => {
    const other = await start({}, 6381);
    try {
      const generation = succeeded(await backUp({ json: synthesise("redis.redis:6381") }));
      expect(generation.manifest.fingerprint.snapshot).toMatchObject({ keys: 0, expiring: 0, databases: {} });
    } finally {
      await other.stop("SIGKILL");
    }
  });

  test("says that the server writes no checksums", async () => {
    const other = await start({ rdbchecksum: "no" }, 6381);
    try {
      other.call("SET", "a", "b");
      const { manifest } = succeeded(await backUp({ json: synthesise("redis.redis:6381") }));
      expect(manifest.checks[0]).toMatch(/, without a checksum, as the server has rdbchecksum off$/);
    } finally {
      await other.stop("SIGKILL");
    }
  });

  test("does not have the password in its log or manifest", async () => {
    const { logs, generations } = await backUp();
    expect(JSON.stringify([logs, generations])).not.toContain(PASSWORD);
  });

  test("succeeds twenty times while the server is written to", async () => {
    const env = { REDISCLI_AUTH: "of the owner" };
    const writer = spawn(hostProgram("redis-cli"), ["-p", "6379"], { env, stdio: ["pipe", "ignore", "ignore"] });
    let round = 0;
    const timer = setInterval(() => {
      round++;
      for (let i = 0; i < 200; i++) {
        writer.stdin.write(`SETEX w${round}.${i} 1 v\nDEL w${round - 3}.${i}\nDEL key:${(round * 7 + i) % 20000}\n`);
      }
    }, 5);
    try {
      for (let i = 0; i < 20; i++) {
        await withEngine(async (engine, { run }) => {
          const dump = await engine.dump(run);
          expect(await engine.verify(run, dump)).toHaveLength(1);
        });
      }
    } finally {
      clearInterval(timer);
      writer.stdin.end();
      await new Promise((resolve) => writer.once("exit", resolve));
    }
    expect(round).toBeGreaterThan(50);
    server.pipe(["FLUSHALL"]);
    fill(server);
  });
});

describe("fails when", () => {
  test("the password is wrong", async () => {
    expect(failure(await backUp({ password: "guess" }))).toMatch(/^the server refuses the password: WRONGPASS /);
  });

  test("the server is down", async () => {
    expect(failure(await backUp({ json: synthesise("redis.redis:6390") }))).toMatch(
      /^info failed .*Could not connect to Redis at redis.redis:6390: Connection refused$/,
    );
  });

  test.each([
    ["+info", "-info", /^info failed .*NOPERM this user has no permissions to run the 'info' command/],
    ["+sync", "-sync", /^dump failed .*SYNC with master failed: -NOPERM this user has no permissions to run the 'sync' command$/],
  ])("the user lacks %s", async (grant, revoke, reason) => {
    server.call("ACL", "SETUSER", "backup", revoke);
    const result = await backUp();
    server.call("ACL", "SETUSER", "backup", grant);
    expect(failure(result)).toMatch(reason);
  });

  test("the server still loads its data", async () => {
    const directory = Redis.directory();
    const first = await Redis.start({ port: 6381, directory });
    first.pipe(["DEBUG POPULATE 50000 key 40", "SAVE"]);
    await first.stop("SIGKILL");
    writeFileSync(join(directory, "users.acl"), "user default on nopass ~* &* +@all\nuser backup on >pw +info +sync\n");
    const settings = { "key-load-delay": "1000", "loading-process-events-interval-bytes": "1024", aclfile: join(directory, "users.acl") };
    const loading = await Redis.start({ port: 6381, directory, settings, ready: /Loading RDB/ });
    try {
      expect(failure(await backUp({ json: synthesise("redis.redis:6381"), password: "pw" }))).toBe("the server is still loading its data");
    } finally {
      await loading.stop("SIGKILL");
    }
  });

  test("the server is a replica that has lost its primary", async () => {
    const other = await start({ replicaof: "127.0.0.1 1" }, 6381);
    try {
      expect(failure(await backUp({ json: synthesise("redis.redis:6381") }))).toMatch(/^the server is a replica that has lost its primary/);
    } finally {
      await other.stop("SIGKILL");
    }
  });

  test("the server is a shard of a cluster", async () => {
    const other = await start({ "cluster-enabled": "yes" }, 6381);
    try {
      expect(failure(await backUp({ json: synthesise("redis.redis:6381") }))).toMatch(/^the server is a shard of a Redis Cluster/);
    } finally {
      await other.stop("SIGKILL");
    }
  });

  test.each([
    ["a Sentinel", "redis_mode:sentinel", /^the endpoint is a Sentinel, which holds no data/],
    ["newer than the tools", "redis_version:99.0.0", /^redis-check-rdb \S+ cannot read the snapshot of a server of version 99.0.0: /],
    ["of a newer minor version", `redis_version:${VERSION.replace(/\.\d+\..*/, ".99.0")}`, /^redis-check-rdb .* version \d+.99.0: /],
  ])("the server says it is %s", async (_, line, reason) => {
    const images = instead("redis-cli", `real "$@" | sed 's/^${line.split(":")[0]}:.*/${line}/'`, ["sed"]);
    expect(failure(await backUp({ images }))).toMatch(reason);
  });

  test.each([
    ["is cut in half", 'head -c 400000 "$EXCHANGE/d"', /^dump.rdb is no whole snapshot: Unexpected EOF reading RDB file$/],
    ["lacks its last byte", 'head -c -41 "$EXCHANGE/d"', /^dump.rdb is no whole snapshot: Unexpected EOF reading RDB file$/],
    ["has bits flipped", 'sed "s/key:123/kez:123/" "$EXCHANGE/d"', /^dump.rdb is no whole snapshot: RDB CRC error$/],
    [
      "has another format", 'sed "1s/REDIS/REDIZ/" "$EXCHANGE/d"',
      /^dump.rdb is no whole snapshot: Wrong signature trying to load DB from file$/,
    ],
    ["is empty", ":", /^dump.rdb is no whole snapshot: Unexpected EOF reading RDB file$/],
    ["goes on behind its end", 'cat "$EXCHANGE/d"; echo more', /^dump.rdb: the snapshot ends at byte \d+ of \d+$/],
    [
      "is of another server", 'real -p 6384 --rdb -',
      /^the snapshot is of another server or from before a failover: its replication id is \w{40}$/,
    ],
  ])("the snapshot %s, though redis-cli ends with 0", async (_, script, reason) => {
    server.call("CONFIG", "SET", "repl-diskless-sync", "yes", "repl-diskless-sync-delay", "0");
    const other = await Redis.start({ port: 6384 });
    other.call("SET", "a", "b");
    try {
      const images = damaged(script.replace("real -p 6384", "unset REDISCLI_AUTH; real -p 6384"));
      expect(failure(await backUp({ images }))).toMatch(reason);
    } finally {
      await other.stop("SIGKILL");
    }
  });

  test("the snapshot is empty and the server is not", async () => {
    // As the server itself would send it, with its own replication id.
    const script = `case "$*" in *--rdb*) exec real "$@" ;; esac\nreal "$@" | sed '/^db[0-9]/d; $a db0:keys=5,expires=0\\r'`;
    const images = instead("redis-cli", script, ["sed"]);
    const other = await start({}, 6381);
    try {
      expect(failure(await backUp({ json: synthesise("redis.redis:6381"), images }))).toBe(
        "the snapshot is empty, but the server holds 5 keys",
      );
    } finally {
      await other.stop("SIGKILL");
    }
  });

  test("the server dies in the middle", async () => {
    const other = await start({ "rdb-key-save-delay": "100", "repl-diskless-sync-delay": "0" }, 6381);
    other.call("DEBUG", "POPULATE", "50000", "key", "1000");
    setTimeout(() => void other.stop("SIGKILL"), 2500);
    expect(failure(await backUp({ json: synthesise("redis.redis:6381") }))).toMatch(
      /^dump failed \(exit status 1\): (I\/O )?Error reading RDB payload/,
    );
  });

  test("the server cannot make a snapshot", async () => {
    const other = await start({ "repl-diskless-sync": "no" }, 6381);
    other.call("SET", "a", "b");
    chmodSync(other.directory, 0o500);
    try {
      expect(failure(await backUp({ json: synthesise("redis.redis:6381") }))).toBe(
        "dump failed (exit status 1): Error reading bulk length while SYNCing",
      );
    } finally {
      await other.stop("SIGKILL");
    }
  });

  test.each([
    ["redis-cli", "dump"],
    ["redis-cli", "info"],
    ["redis-check-rdb", "check"],
  ])("%s ends with any status but 0 (%s)", async (program, verb) => {
    const path = temporaryDirectory("stub");
    const code = join(path, "code");
    writeFileSync(join(path, program), `#!/bin/sh\nread -r code < ${code}\nexit "$code"\n`, { mode: 0o755 });
    await withAgent({ env: environment(path) }, async ({ run, directory }) => {
      for (let status = 1; status <= 255; status++) {
        writeFileSync(code, `${status}\n`);
        await expect(run.store("x", run.agent.request(verb).output)).rejects.toThrow(`${verb} failed (exit status ${status})`);
        rmSync(join(directory, "x.zst"));
      }
      writeFileSync(code, "0\n");
      await run.store("x", run.agent.request(verb).output);
    });
  });
});

describe("a snapshot on the target that is", () => {
  let made: { readonly dump: Dump; readonly content: Buffer };

  beforeAll(async () => {
    made = await withEngine(async (engine, { run, directory }) => {
      const dump = await engine.dump(run);
      return { dump, content: readFileSync(join(directory, "dump.rdb.zst")) };
    });
  });

  function verify(content: Buffer, rehashed = false): Promise<readonly string[]> {
    return withEngine(async (engine, { run, directory }) => {
      writeFileSync(join(directory, "dump.rdb.zst"), content);
      const whole = spawnSync("zstd", ["-dcq"], { input: content, maxBuffer: 2 ** 30 }).stdout.length;
      const sha256 = createHash("sha256").update(content).digest("hex");
      const fitting = { bytes: content.length, sha256, uncompressedBytes: whole };
      const files = made.dump.files.map((file) => (rehashed ? { ...file, ...fitting } : file));
      return engine.verify(run, { ...made.dump, files });
    });
  }

  const decoded = (change: (rdb: Buffer) => Buffer): Buffer => {
    const { stdout } = spawnSync("zstd", ["-dc"], { input: made.content, maxBuffer: 2 ** 30 });
    return spawnSync("zstd", ["-c"], { input: change(stdout), maxBuffer: 2 ** 30 }).stdout;
  };

  test("whole passes", async () => {
    expect(await verify(made.content)).toHaveLength(1);
    expect(await verify(decoded((rdb) => rdb), true)).toHaveLength(1);
  });

  test.each<[string, (content: Buffer) => Buffer]>([
    ["cut in half", (content) => content.subarray(0, content.length >> 1)],
    ["one byte short", (content) => content.subarray(0, -1)],
    ["one byte longer", (content) => Buffer.concat([content, Buffer.from("x")])],
    ["changed in one bit", (content) => (content.writeUInt8(content.readUInt8(content.length >> 1) ^ 1, content.length >> 1), content)],
    ["empty", () => Buffer.alloc(0)],
  ])("%s is refused", async (_, damage) => {
    await expect(verify(damage(Buffer.from(made.content)))).rejects.toThrow(/dump.rdb.zst is damaged/);
  });

  test.each<[string, (rdb: Buffer) => Buffer, RegExp]>([
    ["cut in half", (rdb) => rdb.subarray(0, rdb.length >> 1), /is no whole snapshot: Unexpected EOF/],
    ["one byte short", (rdb) => rdb.subarray(0, -1), /is no whole snapshot: Unexpected EOF/],
    ["one byte longer", (rdb) => Buffer.concat([rdb, Buffer.from("x")]), /the snapshot ends at byte/],
    ["changed in one digit", (rdb) => (rdb.write("9", rdb.indexOf("value:1") + 6), rdb), /is no whole snapshot: RDB CRC error/],
    ["empty", () => Buffer.alloc(0), /is no whole snapshot/],
  ])("%s is refused, even where its hash was made to fit", async (_, damage, reason) => {
    await expect(verify(decoded(damage), true)).rejects.toThrow(reason);
  });

  test("yesterday's is refused, even where its hash was made to fit", async () => {
    server.pipe(["SET one-more v", "SET and-more v"]);
    const later = await withEngine(async (engine, { run }) => engine.dump(run));
    await withEngine(async (engine, { run, directory }) => {
      writeFileSync(join(directory, "dump.rdb.zst"), made.content);
      await expect(engine.verify(run, { ...later, files: made.dump.files })).rejects.toThrow("dump.rdb holds 20014 keys instead of 20016");
    });
  });
});
