import { Readable } from "node:stream";
import { AgentError } from "../agent";
import type { Dump, Engine, Run } from "../engine";
import type { Fact, ManifestFile } from "../manifest";

/** Redis needs no more than the environment of the engine's container. */
export interface RedisSettings {
  readonly kind: "redis";
}

const RDB = "dump.rdb";
/** What ends a snapshot that the server sends without having its size: 40 hexadecimal digits, which `redis-cli` prints, too. */
const MARK_BYTES = 40;

/** Servers whose snapshot is none, or not all there is: a field of INFO, its value, and why. */
const UNFIT = [
  ["redis_mode", "sentinel", "the endpoint is a Sentinel, which holds no data: name the server it watches"],
  ["cluster_enabled", "1", "the server is a shard of a Redis Cluster, and its snapshot would hold a part of the data"],
  ["loading", "1", "the server is still loading its data"],
  ["master_link_status", "down", "the server is a replica that has lost its primary, so its data may be old"],
] as const;

/** Answer of INFO: its fields by name. */
type Info = ReadonlyMap<string, string>;

/** What `redis-check-rdb` says of a whole snapshot. */
interface Snapshot {
  readonly keys: number;
  /** Keys that expire, those that did meanwhile included. */
  readonly expiring: number;
  /** Number of the databases that hold keys. */
  readonly databases: number;
  /** Whether the server wrote a checksum, and it is right. */
  readonly checksum: boolean;
  /** The history of writes that the snapshot belongs to. */
  readonly replicationId: string | undefined;
}

/**
 * Redis and Valkey: the snapshot (RDB) that the server sends a replica.
 *
 * The fingerprint counts the keys of the snapshot itself; the server's own counts from before and after stand beside it,
 * and differ from it by what was written meanwhile.
 */
export class RedisEngine implements Engine {
  public async preflight(run: Run): Promise<{ readonly versions: { readonly [tool: string]: string } }> {
    const tool = versionIn(await run.agent.text("version"));
    const info = await askInfo(run);
    const server = info.get("redis_version") ?? "";
    for (const [field, value, reason] of UNFIT) if (info.get(field) === value) throw new Error(reason);
    if (isOlder(tool, server)) {
      const needed = "the image must be as new as the server";
      throw new Error(`redis-check-rdb ${tool} cannot read the snapshot of a server of version ${server}: ${needed}`);
    }
    return { versions: { redis: server, "redis-cli": tool } };
  }

  public async dump(run: Run): Promise<Dump> {
    const before = await askInfo(run);
    const { output } = run.agent.request("dump");
    const file = await run.store(RDB, Readable.from(withoutMark(output), { objectMode: false })).catch(explain);
    const after = await askInfo(run);
    const snapshot = await check(run, file);
    const id = snapshot.replicationId;
    if (id !== undefined && id !== before.get("master_replid") && id !== after.get("master_replid")) {
      throw new Error(`the snapshot is of another server or from before a failover: its replication id is ${id}`);
    }
    const [keysBefore, keysAfter] = [keyspace(before), keyspace(after)];
    if (snapshot.keys === 0 && total(keysBefore) > 0 && total(keysAfter) > 0) {
      throw new Error(`the snapshot is empty, but the server holds ${total(keysAfter)} keys`);
    }
    const { keys, expiring, databases } = snapshot;
    return {
      files: [file],
      fingerprint: {
        server: before.get("redis_version") ?? "",
        aofEnabled: before.get("aof_enabled") === "1",
        snapshot: { keys, expiring, databases },
        keyspaceBefore: keysBefore,
        keyspaceAfter: keysAfter,
      },
    };
  }

  public async verify(run: Run, { files, fingerprint }: Dump): Promise<readonly string[]> {
    const file = files.find(({ path }) => path.startsWith(RDB));
    if (file === undefined) throw new Error(`the backup has no ${RDB}`);
    const snapshot = await check(run, file);
    const recorded = fingerprint["snapshot"] as { readonly [count: string]: Fact };
    for (const count of ["keys", "expiring", "databases"] as const) {
      if (snapshot[count] !== recorded[count]) {
        throw new Error(`${RDB} holds ${snapshot[count]} ${count} instead of ${String(recorded[count])}`);
      }
    }
    const how = snapshot.checksum ? "checksum right" : "without a checksum, as the server has rdbchecksum off";
    return [`${RDB}: ${snapshot.keys} keys decoded by redis-check-rdb to the last byte, ${how}`];
  }
}

async function askInfo(run: Run): Promise<Info> {
  const text = await run.agent.text("info").catch(explain);
  return new Map([...text.matchAll(/^(\w+):(.*?)\r?$/gm)].map(([, name = "", value = ""]) => [name, value]));
}

/** A refused password is said first and not last. */
function explain(error: unknown): never {
  const refused = error instanceof AgentError ? /^AUTH failed: (.*)$/m.exec(error.stderr)?.[1] : undefined;
  throw refused === undefined ? error : new Error(`the server refuses the password: ${refused}`);
}

/** @throws Error unless the snapshot decodes to its last byte and nothing follows */
async function check(run: Run, file: ManifestFile): Promise<Snapshot> {
  const report = await run.agent.text("check", "", run.open(file)).catch((error: unknown) => {
    const fault = error instanceof AgentError ? /ERROR DETECTED ---\n\[offset \d+\] (.*)/.exec(error.stderr)?.[1] : undefined;
    throw fault === undefined ? error : new Error(`${RDB} is no whole snapshot: ${fault}`);
  });
  const number = (pattern: RegExp): number => {
    const found = pattern.exec(report)?.[1];
    if (found === undefined) throw new Error(`the report of redis-check-rdb is not understood: ${report.slice(-200)}`);
    return Number(found);
  };
  const end = number(/^\[offset (\d+)\] \\o\/ RDB looks OK! \\o\/$/m);
  if (end !== file.uncompressedBytes) throw new Error(`${RDB}: the snapshot ends at byte ${end} of ${file.uncompressedBytes}`);
  return {
    keys: number(/^\[info\] (\d+) keys read$/m),
    expiring: number(/^\[info\] (\d+) expires$/m),
    databases: [...report.matchAll(/^\[offset \d+\] Selecting DB ID \d+$/gm)].length,
    checksum: /^\[offset \d+\] Checksum OK$/m.test(report),
    replicationId: /^\[offset \d+\] AUX FIELD repl-id = '(\w+)'$/m.exec(report)?.[1],
  };
}

/** Keys and those that expire, by database. */
function keyspace(info: Info): { readonly [database: string]: { readonly keys: number; readonly expiring: number } } {
  const found = [...info].flatMap(([name, value]) => {
    const [, keys, expiring] = /^keys=(\d+),expires=(\d+)/.exec(value) ?? [];
    return /^db\d+$/.test(name) && keys !== undefined ? [[name, { keys: Number(keys), expiring: Number(expiring) }] as const] : [];
  });
  return Object.fromEntries(found);
}

function total(databases: ReturnType<typeof keyspace>): number {
  return Object.values(databases).reduce((sum, { keys }) => sum + keys, 0);
}

function versionIn(text: string): string {
  return /\d+(\.\d+)+/.exec(text)?.[0] ?? "";
}

/** Whether a tool is of an earlier major or minor version: both may change the format. */
function isOlder(tool: string, server: string): boolean {
  const [a, b] = [tool, server].map((version) => version.split(".").map(Number)) as [number[], number[]];
  return a[0] === b[0] ? (a[1] ?? 0) < (b[1] ?? 0) : (a[0] ?? 0) < (b[0] ?? 0);
}

async function* withoutMark(source: Readable): AsyncGenerator<Buffer> {
  let held = Buffer.alloc(0);
  for await (const chunk of source as AsyncIterable<Buffer>) {
    const all = Buffer.concat([held, chunk]);
    const end = Math.max(0, all.length - MARK_BYTES);
    if (end > 0) yield all.subarray(0, end);
    held = all.subarray(end);
  }
  // A snapshot's own last bytes hold 0xff, the code of its end.
  if (!/^[0-9a-f]{40}$/.test(held.toString("latin1"))) yield held;
}
