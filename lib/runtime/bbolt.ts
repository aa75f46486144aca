import { closeSync, openSync, readSync } from "node:fs";
import { setImmediate } from "node:timers/promises";

// The file format is that of go.etcd.io/bbolt, version 2 (page.go, meta.go, bucket.go); all numbers are little-endian here, as on
// every machine that Kubernetes is built for.
const PAGE_HEADER = 16;
const ELEMENT = 16;
const META_BYTES = 64;
const META_MAGIC = 0xed0cdaed;
const FORMAT = 2;
const [BRANCH, LEAF] = [0x01, 0x02];
const BUCKET_ENTRY = 0x01;
const PAGES_PER_TURN = 512;

/** What is known of a file after every page of it that is in use has been read. */
export interface BoltFile {
  readonly pageSize: number;
  /** Pages that are reachable, each once. */
  readonly pagesInUse: number;
  /** Pages that were ever used; the file is exactly as long. */
  readonly pages: number;
}

interface Meta {
  readonly pageSize: number;
  readonly root: bigint;
  readonly pages: bigint;
  readonly transaction: bigint;
}

/**
 * Reads a bbolt database from its root to the last entry and checks all structure on the way: checksums of the meta pages,
 * that every page is of the kind and number it should be and used once, every element inside its page, every key in order.
 *
 * @param bytes length of the database, which may be followed by something else in the file; undefined: that of its newest transaction
 * @param visit called with every entry of a top-level bucket, in key order
 * @throws Error that names the page, where anything is not as it must be
 */
export async function readBolt(
  path: string,
  bytes: number | undefined,
  visit: (bucket: string, key: Buffer, value: Buffer) => void,
  signal?: AbortSignal,
): Promise<BoltFile> {
  const file = openSync(path, "r");
  try {
    const read = (position: number, length: number): Buffer => {
      const buffer = Buffer.allocUnsafe(length);
      if (position + length <= (bytes ?? Infinity) && readSync(file, buffer, 0, length, position) === length) return buffer;
      throw new Error("bbolt: the file is cut short");
    };
    const meta = newestMeta(read);
    const pages = Number(meta.pages);
    if (bytes !== undefined && bytes !== pages * meta.pageSize) throw new Error(`bbolt: ${bytes} bytes instead of ${pages} pages of ${meta.pageSize}`);
    const walk = new Walk(read, meta.pageSize, pages, visit, signal);
    await walk.bucket(meta.root, undefined);
    return { pageSize: meta.pageSize, pagesInUse: walk.used, pages };
  } finally {
    closeSync(file);
  }
}

/** Of the two meta pages the one of the higher transaction holds; a copy that bbolt made itself has both whole. */
function newestMeta(read: (position: number, length: number) => Buffer): Meta {
  const first = readMeta(read(PAGE_HEADER, META_BYTES));
  const second = readMeta(read((first?.pageSize ?? 4096) + PAGE_HEADER, META_BYTES));
  if (first === undefined || second === undefined) throw new Error("bbolt: a meta page is damaged");
  return first.transaction > second.transaction ? first : second;
}

function readMeta(meta: Buffer): Meta | undefined {
  if (meta.readUInt32LE(0) !== META_MAGIC || meta.readUInt32LE(4) !== FORMAT) return undefined;
  // FNV-1a, 64 bits, of all that precedes it.
  let checksum = 0xcbf29ce484222325n;
  for (const byte of meta.subarray(0, META_BYTES - 8)) checksum = BigInt.asUintN(64, (checksum ^ BigInt(byte)) * 0x100000001b3n);
  if (checksum !== meta.readBigUInt64LE(META_BYTES - 8)) return undefined;
  return {
    pageSize: meta.readUInt32LE(8),
    root: meta.readBigUInt64LE(16),
    pages: meta.readBigUInt64LE(40),
    transaction: meta.readBigUInt64LE(48),
  };
}

class Walk {
  public used = 2;
  private readonly seen: Uint8Array;
  /** Where the next key of the bucket must not be below, and whether it may equal that. */
  private floor: { readonly key: Buffer; readonly inclusive: boolean } | undefined;

  public constructor(
    private readonly read: (position: number, length: number) => Buffer,
    private readonly pageSize: number,
    private readonly pages: number,
    private readonly visit: (bucket: string, key: Buffer, value: Buffer) => void,
    private readonly signal?: AbortSignal,
  ) {
    this.seen = new Uint8Array(pages);
    this.seen.fill(1, 0, 2);
  }

  /** @param name of a top-level bucket; undefined for the root, whose entries are those buckets */
  public async bucket(root: bigint, name: string | undefined): Promise<void> {
    const outer = this.floor;
    this.floor = undefined;
    await this.page(root, name);
    this.floor = outer;
  }

  private async page(id: bigint, bucket: string | undefined): Promise<void> {
    const page = this.load(id);
    if (this.used % PAGES_PER_TURN === 0) {
      await setImmediate();
      this.signal?.throwIfAborted();
    }
    const kind = page.readUInt16LE(8);
    if (kind === LEAF) return this.leaf(page, id, bucket);
    if (kind !== BRANCH) throw new Error(`bbolt: page ${id} is neither a branch nor a leaf`);
    for (let at = PAGE_HEADER; at < this.end(page, id); at += ELEMENT) {
      const key = slice(page, at + page.readUInt32LE(at), page.readUInt32LE(at + 4), id);
      this.ascend(key, id, true);
      await this.page(page.readBigUInt64LE(at + 8), bucket);
    }
  }

  private async leaf(page: Buffer, id: bigint, bucket: string | undefined): Promise<void> {
    for (let at = PAGE_HEADER; at < this.end(page, id); at += ELEMENT) {
      const start = at + page.readUInt32LE(at + 4);
      const key = slice(page, start, page.readUInt32LE(at + 8), id);
      const value = slice(page, start + key.length, page.readUInt32LE(at + 12), id);
      this.ascend(key, id, false);
      if ((page.readUInt32LE(at) & BUCKET_ENTRY) === 0) {
        if (bucket === undefined) throw new Error(`bbolt: page ${id} has an entry outside any bucket`);
        this.visit(bucket, key, value);
        continue;
      }
      if (value.length < 16) throw new Error(`bbolt: page ${id} has a bucket without a root`);
      const name = bucket ?? key.toString("latin1");
      const root = value.readBigUInt64LE(0);
      if (root !== 0n) await this.bucket(root, name);
      else await this.inline(value.subarray(16), id, name);
    }
  }

  /** A small bucket lives in its parent's entry, as a leaf page without a number. */
  private async inline(page: Buffer, id: bigint, name: string): Promise<void> {
    if (page.length < PAGE_HEADER || page.readUInt16LE(8) !== LEAF) throw new Error(`bbolt: page ${id} has a damaged inline bucket`);
    const outer = this.floor;
    this.floor = undefined;
    await this.leaf(page, id, name);
    this.floor = outer;
  }

  private load(id: bigint): Buffer {
    const number = Number(id);
    if (number >= this.pages) throw new Error(`bbolt: page ${id} is referred to and lies outside the file`);
    let page = this.read(number * this.pageSize, this.pageSize);
    if (page.readBigUInt64LE(0) !== id) throw new Error(`bbolt: page ${id} calls itself ${page.readBigUInt64LE(0)}`);
    const count = page.readUInt32LE(12) + 1;
    if (number + count > this.pages) throw new Error(`bbolt: page ${id} runs over the end of the file`);
    if (count > 1) page = this.read(number * this.pageSize, count * this.pageSize);
    for (let n = number; n < number + count; n++) {
      if (this.seen[n] === 1) throw new Error(`bbolt: page ${n} is used twice`);
      this.seen[n] = 1;
    }
    this.used += count;
    return page;
  }

  private end(page: Buffer, id: bigint): number {
    const end = PAGE_HEADER + page.readUInt16LE(10) * ELEMENT;
    if (end > page.length) throw new Error(`bbolt: page ${id} has more elements than room`);
    return end;
  }

  private ascend(key: Buffer, id: bigint, inclusive: boolean): void {
    const order = this.floor === undefined ? 1 : Buffer.compare(key, this.floor.key);
    if (order < 0 || (order === 0 && this.floor?.inclusive !== true)) throw new Error(`bbolt: page ${id} has its keys out of order`);
    this.floor = { key, inclusive };
  }
}

function slice(page: Buffer, start: number, length: number, id: bigint): Buffer {
  if (start + length > page.length) throw new Error(`bbolt: page ${id} has an element that runs over its end`);
  return page.subarray(start, start + length);
}
