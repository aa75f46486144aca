import { createHash } from "node:crypto";
import { readBolt } from "./bbolt";

/** What an etcd holds, as its clients see it: comparable with a live server. */
export interface EtcdContent {
  /** The newest revision, as in the `header` of every answer. */
  readonly revision: number;
  /** Keys that exist at that revision. */
  readonly keys: number;
  /** See {@link KeySet.digest}. */
  readonly sha256: string;
}

/** The keys that exist, each with its value and the revision that set it. */
export class KeySet {
  private readonly digests = new Map<string, Buffer>();

  public get size(): number {
    return this.digests.size;
  }

  public put(key: Buffer, value: Buffer, modRevision: number): void {
    this.digests.set(key.toString("latin1"), createHash("sha256").update(`${modRevision}:`).update(value).digest());
  }

  public delete(key: Buffer): void {
    this.digests.delete(key.toString("latin1"));
  }

  /** SHA-256 over every key, in byte order, with its value and the revision that set it. */
  public digest(): string {
    const hash = createHash("sha256");
    for (const [key, digest] of [...this.digests].sort(([a], [b]) => (a < b ? -1 : 1))) {
      hash.update(`${key.length}:`).update(key, "latin1").update(digest);
    }
    return hash.digest("hex");
  }
}

/** What a database file of etcd holds, and how many pages and revisions were read to know it. */
export interface EtcdDatabase {
  readonly content: EtcdContent;
  readonly revisions: number;
  readonly pagesInUse: number;
  readonly pages: number;
}

/**
 * Reads the whole database of an etcd (versions 3.0 to 3.6) from a file.
 *
 * @param bytes length of the database; a snapshot has its checksum behind it
 * @throws Error where the structure or an entry is damaged
 */
export async function readDatabase(path: string, bytes: number, signal?: AbortSignal): Promise<EtcdDatabase> {
  const keys = new KeySet();
  let revision = 1;
  let revisions = 0;
  const visit = (bucket: string, name: Buffer, value: Buffer): void => {
    // After a compaction that removed the newest revision, only this says how far the numbers had come.
    if (bucket === "meta" && name.toString() === "finishedCompactRev") revision = Math.max(revision, Number(value.readBigUInt64BE(0)));
    if (bucket !== "key") return;
    // The revision's two numbers, `_` between them, and `t` where the key was deleted.
    const tombstone = name.length === 18 && name[17] === 0x74;
    if ((name.length !== 17 && !tombstone) || name[8] !== 0x5f) throw new Error(`etcd: ${name.toString("hex")} is not a revision`);
    const main = Number(name.readBigUInt64BE(0));
    const entry = keyValue(value);
    revisions++;
    revision = Math.max(revision, main);
    if (tombstone) return keys.delete(entry.key);
    if (entry.modRevision !== main) throw new Error(`etcd: revision ${main} holds an entry of revision ${entry.modRevision}`);
    keys.put(entry.key, entry.value, main);
  };
  const { pagesInUse, pages } = await readBolt(path, bytes, visit, signal);
  return { content: { revision, keys: keys.size, sha256: keys.digest() }, revisions, pagesInUse, pages };
}

const [KEY, MOD_REVISION, VALUE] = [1, 3, 5];
const [VARINT, BYTES] = [0, 2];

/** The fields of a `mvccpb.KeyValue` (protocol buffers) that matter here. */
function keyValue(message: Buffer): { readonly key: Buffer; readonly value: Buffer; readonly modRevision: number } {
  let at = 0;
  const varint = (): number => {
    let result = 0;
    // Lease numbers need all 64 bits and lose some here; nothing else is that large.
    for (let factor = 1; ; factor *= 128) {
      const byte = message[at++];
      if (byte === undefined) throw new Error("etcd: an entry is cut short");
      result += (byte & 0x7f) * factor;
      if (byte < 0x80) return result;
    }
  };
  let key: Buffer | undefined;
  let value: Buffer = Buffer.alloc(0);
  let modRevision = 0;
  while (at < message.length) {
    const tag = varint();
    const [field, type] = [tag >> 3, tag & 7];
    if (type !== VARINT && type !== BYTES) throw new Error(`etcd: an entry has a field of type ${type}`);
    const number = varint();
    if (field === MOD_REVISION) modRevision = number;
    if (type !== BYTES) continue;
    if (at + number > message.length) throw new Error("etcd: an entry is cut short");
    const bytes = message.subarray(at, (at += number));
    if (field === KEY) key = bytes;
    if (field === VALUE) value = bytes;
  }
  if (key === undefined) throw new Error("etcd: an entry has no key");
  return { key, value, modRevision };
}
