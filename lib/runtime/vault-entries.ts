import { createHash } from "node:crypto";
import { varint } from "./protobuf";

const [KEY, VALUE] = [1, 2];
const [VARINT, BYTES] = [0, 2];
/** More than a server takes in one entry, unless it is told otherwise: a length that says more is damaged, and must not be waited for. */
const MAX_ENTRY_BYTES = 67_108_864;

/** Entries of a storage, in the order of their keys, which is that of every place where they are kept. */
export class EntryDigest {
  private readonly hash = createHash("sha256");
  private entries = 0;
  private last: Buffer | undefined;

  /** @throws Error where the entry is out of order */
  public add(key: Buffer, value: Buffer): void {
    if (this.last !== undefined && Buffer.compare(key, this.last) <= 0) throw new Error("its entries are out of order");
    this.last = Buffer.from(key);
    this.entries++;
    this.hash.update(`${key.length}:`).update(key).update(`${value.length}:`).update(value);
  }

  /** How many there were, and a SHA-256 over all of them. The values are sealed, so it says nothing about what is in them. */
  public facts(): { readonly entries: number; readonly sha256: string } {
    return { entries: this.entries, sha256: this.hash.digest("hex") };
  }
}

/** Reads the state of a raft snapshot: messages of a key and a sealed value, each after its length (protocol buffers). */
export class EntryReader {
  private rest: Buffer = Buffer.alloc(0);

  public constructor(private readonly see: (key: Buffer, value: Buffer) => void) {}

  public add(chunk: Buffer): void {
    const data = this.rest.length === 0 ? chunk : Buffer.concat([this.rest, chunk]);
    let at = 0;
    for (;;) {
      const [length, start] = bounded(data, at);
      if (length === undefined || start + length > data.length) break;
      this.entry(data.subarray(start, start + length));
      at = start + length;
    }
    this.rest = data.subarray(at);
  }

  /** @throws Error unless the last entry was whole */
  public end(): void {
    if (this.rest.length > 0) throw new Error("its state ends in the middle of an entry");
  }

  private entry(message: Buffer): void {
    let key: Buffer | undefined;
    let value: Buffer = Buffer.alloc(0);
    for (let at = 0; at < message.length;) {
      const [tag = 0, after] = bounded(message, at);
      const [number, next] = bounded(message, after);
      const [field, type] = [tag >> 3, tag & 7];
      if ((type !== VARINT && type !== BYTES) || number === undefined) throw new Error("its state has an entry that is none");
      at = type === BYTES ? next + number : next;
      if (at > message.length) throw new Error("its state has an entry that is cut");
      if (type === BYTES && field === KEY) key = message.subarray(next, at);
      if (type === BYTES && field === VALUE) value = message.subarray(next, at);
    }
    if (key === undefined) throw new Error("its state has an entry without a key");
    this.see(key, value);
  }
}

/** As {@link varint}. @throws Error where it is more than a server takes */
function bounded(data: Buffer, at: number): ReturnType<typeof varint> {
  const found = varint(data, at, MAX_ENTRY_BYTES);
  if (found[0] === Infinity) throw new Error("its state has an impossible length");
  return found;
}
