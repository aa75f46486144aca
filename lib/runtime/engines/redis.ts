import { createHash } from "node:crypto";
import { Readable } from "node:stream";
import { AgentError } from "../agent";
import type { Dump, Engine, Run } from "../engine";
import type { Fingerprint, ManifestFile } from "../manifest";
import { fileOf } from "../store";

/** Redis needs no more than the environment of the engine's container. */
export interface RedisSettings {
  readonly kind: "redis";
}

/** The artefact. */
export const RDB = "dump.rdb";
/** What ends a snapshot that the server sends without having its size: 40 hexadecimal digits, which `redis-cli` prints, too. */
const MARK_BYTES = 40;

/** Servers whose snapshot is none, or not all there is: a field of INFO, its value, and why. */
export const UNFIT = [
  ["redis_mode", "sentinel", "the endpoint is a Sentinel, which holds no data: name the server it watches"],
  ["cluster_enabled", "1", "the server is a shard of a Redis Cluster, and its snapshot would hold a part of the data"],
  ["loading", "1", "the server is still loading its data"],
  ["master_link_status", "down", "the server is a replica that has lost its primary, so its data may be old"],
] as const;

/** Opcode that precedes how many keys a database has, and how many of them expire. */
const RESIZE = 0xfb;
/** What follows it: two lengths, of up to nine bytes. */
const SIZES_BYTES = 18;

/** Answer of INFO: its fields by name. */
export type Info = ReadonlyMap<string, string>;

/** How many keys there are, and how many of them expire, those that did meanwhile included. */
export type Count = { readonly keys: number; readonly expiring: number };

/** {@link Count} of each database that holds keys; `db0`, `db3`, ... */
export type Keyspace = { readonly [database: string]: Count };

/** What a snapshot holds. */
export type SnapshotFacts = Count & {
  /** SHA-256 of it, uncompressed, as the server sent it. */
  readonly sha256: string;
  /** Of each database that holds keys; null where the snapshot does not say how many. */
  readonly databases: { readonly [database: string]: Count | null };
};

/** What `redis-check-rdb` says of a whole snapshot. */
type Report = Count & {
  /** The databases that hold keys, and where in the snapshot each begins. */
  readonly databases: readonly { readonly id: number; readonly offset: number }[];
  /** Whether the server wrote a checksum, and it is right. */
  readonly checksum: boolean;
  /** The history of writes that the snapshot belongs to. */
  readonly replicationId: string | undefined;
};

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
    const hash = createHash("sha256");
    const inspect = (chunk: Buffer): void => void hash.update(chunk);
    const file = await run.store(RDB, Readable.from(withoutMark(output), { objectMode: false }), { inspect }).catch(explain);
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
    const { keys, expiring } = snapshot;
    const databases = await sizesOf(run, file, snapshot);
    return {
      files: [file],
      fingerprint: {
        server: before.get("redis_version") ?? "",
        aofEnabled: before.get("aof_enabled") === "1",
        snapshot: { sha256: hash.digest("hex"), keys, expiring, databases },
        keyspaceBefore: keysBefore,
        keyspaceAfter: keysAfter,
      },
    };
  }

  public async verify(run: Run, { files, fingerprint }: Dump): Promise<readonly string[]> {
    const snapshot = await check(run, snapshotIn(files));
    const recorded = snapshotFacts(fingerprint);
    for (const count of ["keys", "expiring"] as const) {
      if (snapshot[count] !== recorded[count]) throw new Error(`${RDB} holds ${snapshot[count]} ${count} instead of ${recorded[count]}`);
    }
    const how = snapshot.checksum ? "checksum right" : "without a checksum, as the server has rdbchecksum off";
    return [`${RDB}: ${snapshot.keys} keys decoded by redis-check-rdb to the last byte, ${how}`];
  }
}

/** The snapshot among the files of a generation. */
export function snapshotIn(files: readonly ManifestFile[]): ManifestFile {
  return fileOf(files, RDB);
}

/** What a fingerprint says of the snapshot. */
export function snapshotFacts(fingerprint: Fingerprint): SnapshotFacts {
  return fingerprint["snapshot"] as unknown as SnapshotFacts;
}

/** What the server says of itself. */
export async function askInfo({ agent }: Pick<Run, "agent">): Promise<Info> {
  return parseInfo(await agent.text("info").catch(explain));
}

/** INFO's text. */
export function parseInfo(text: string): Info {
  return new Map([...text.matchAll(/^(\w+):(.*?)\r?$/gm)].map(([, name = "", value = ""]) => [name, value]));
}

/** A refused password is said first and not last. */
export function explain(error: unknown): never {
  const refused = error instanceof AgentError ? /^AUTH failed: (.*)$/m.exec(error.stderr)?.[1] : undefined;
  throw refused === undefined ? error : new Error(`the server refuses the password: ${refused}`);
}

/** @throws Error unless the snapshot decodes to its last byte and nothing follows */
async function check(run: Run, file: ManifestFile): Promise<Report> {
  const report = await run.agent.text("check", "", run.open(file)).catch(explainFault);
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
    databases: [...report.matchAll(/^\[offset (\d+)\] Selecting DB ID (\d+)$/gm)].map((found) => ({
      offset: Number(found[1]),
      id: Number(found[2]),
    })),
    checksum: /^\[offset \d+\] Checksum OK$/m.test(report),
    replicationId: /^\[offset \d+\] AUX FIELD repl-id = '(\w+)'$/m.exec(report)?.[1],
  };
}

/** Says what the tools found wrong with a snapshot: a few lines before the last one. */
export function explainFault(error: unknown): never {
  const fault = error instanceof AgentError ? /ERROR DETECTED ---\n\[offset \d+\] (.*)/.exec(error.stderr)?.[1] : undefined;
  throw fault === undefined ? error : new Error(`${RDB} is no whole snapshot: ${fault}`);
}

/**
 * How many keys each database has: a server writes that where it begins, for whoever loads it to make room. Believed only where all of
 * them add up to what was counted.
 */
async function sizesOf(run: Run, file: ManifestFile, { keys, expiring, databases }: Report): Promise<SnapshotFacts["databases"]> {
  const found: (readonly [string, Count | null])[] = [];
  const wanted = [...databases];
  let [at, held] = [0, Buffer.alloc(0)];
  const take = (next: { readonly id: number; readonly offset: number }): void => {
    found.push([`db${next.id}`, sizesIn(held.subarray(next.offset - at))]);
    wanted.shift();
  };
  for await (const chunk of run.open(file) as AsyncIterable<Buffer>) {
    if (wanted[0] === undefined) break;
    held = Buffer.concat([held, chunk]);
    while (wanted[0] !== undefined && wanted[0].offset + SIZES_BYTES <= at + held.length) take(wanted[0]);
    const rest = Math.max(0, held.length - SIZES_BYTES);
    [at, held] = [at + rest, held.subarray(rest)];
  }
  while (wanted[0] !== undefined) take(wanted[0]);
  const sum = (count: keyof Count): number => found.reduce((total, [, sizes]) => total + (sizes?.[count] ?? Number.NaN), 0);
  if (sum("keys") === keys && sum("expiring") === expiring) return Object.fromEntries(found);
  return Object.fromEntries(found.map(([database]) => [database, null]));
}

function sizesIn(bytes: Buffer): Count | null {
  if (bytes[0] !== RESIZE) return null;
  const keys = lengthAt(bytes, 1);
  const expiring = lengthAt(bytes, keys.end);
  return { keys: keys.value, expiring: expiring.value };
}

/** A length as a snapshot has it: in the lower six bits, in fourteen, or in four or eight bytes of its own. */
function lengthAt(bytes: Buffer, at: number): { readonly value: number; readonly end: number } {
  const first = bytes[at] ?? 0;
  if (first < 0x40) return { value: first, end: at + 1 };
  if (first < 0x80) return { value: bytes.readUInt16BE(at) & 0x3fff, end: at + 2 };
  if (first === 0x80) return { value: bytes.readUInt32BE(at + 1), end: at + 5 };
  if (first === 0x81) return { value: Number(bytes.readBigUInt64BE(at + 1)), end: at + 9 };
  return { value: Number.NaN, end: at + 1 };
}

/** Keys and those that expire, by database. */
export function keyspace(info: Info): Keyspace {
  const found = [...info].flatMap(([name, value]) => {
    const [, keys, expiring] = /^keys=(\d+),expires=(\d+)/.exec(value) ?? [];
    return /^db\d+$/.test(name) && keys !== undefined ? [[name, { keys: Number(keys), expiring: Number(expiring) }] as const] : [];
  });
  return Object.fromEntries(found);
}

/** Keys of all databases. */
export function total(databases: Keyspace): number {
  return Object.values(databases).reduce((sum, { keys }) => sum + keys, 0);
}

/** The first version in a text. */
export function versionIn(text: string): string {
  return /\d+(\.\d+)+/.exec(text)?.[0] ?? "";
}

/** Whether a tool is of an earlier major or minor version: both may change the format. */
export function isOlder(tool: string, server: string): boolean {
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
