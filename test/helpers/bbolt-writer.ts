/** Writes bbolt files as go.etcd.io/bbolt lays them out, so that each part can be damaged by itself. */

const PAGE = 4096;
const [BRANCH, LEAF, META] = [1, 2, 4];

export type Entry = readonly [key: Buffer, value: Buffer];

/** A database with one bucket on pages of its own, and others inside the root's page. */
export class BboltWriter {
  private readonly pages: Buffer[] = [Buffer.alloc(PAGE), Buffer.alloc(PAGE)];

  /** Adds a leaf page, as many pages long as its entries need. @returns its number */
  public leaf(entries: readonly Entry[]): number {
    return this.add(LEAF, entries.map(([key, value]) => ({ key, value, flags: 0 })));
  }

  /** Adds a branch page over others. @returns its number */
  public branch(children: readonly (readonly [key: Buffer, page: number])[]): number {
    return this.add(BRANCH, children.map(([key, page]) => ({ key, page })));
  }

  /** Adds a page that is not used. */
  public free(): void {
    this.pages.push(Buffer.alloc(PAGE, 0xee));
  }

  /**
   * Adds the root and the meta pages.
   * @param buckets by name: the number of the bucket's first page, or the entries of one that is inside the root
   */
  public finish(buckets: { readonly [name: string]: number | readonly Entry[] }): Buffer {
    const entries = Object.entries(buckets).sort(([a], [b]) => (a < b ? -1 : 1)).map(([name, bucket]) => {
      const header = Buffer.alloc(16);
      if (typeof bucket === "number") header.writeBigUInt64LE(BigInt(bucket));
      const inline = typeof bucket === "number" ? Buffer.alloc(0) : page(LEAF, 0, bucket.map(([key, value]) => ({ key, value, flags: 0 })));
      return { key: Buffer.from(name), value: Buffer.concat([header, inline]), flags: 1 };
    });
    const root = this.add(LEAF, entries);
    for (const number of [0, 1]) this.pages[number] = metaPage(number, root, this.pages.length);
    return Buffer.concat(this.pages);
  }

  private add(kind: number, elements: readonly Element[]): number {
    const number = this.pages.length;
    const content = page(kind, number, elements);
    const padded = Buffer.concat([content, Buffer.alloc((PAGE - (content.length % PAGE)) % PAGE)]);
    padded.writeUInt32LE(padded.length / PAGE - 1, 12);
    for (let at = 0; at < padded.length; at += PAGE) this.pages.push(padded.subarray(at, at + PAGE));
    return number;
  }
}

type Element = { readonly key: Buffer; readonly value: Buffer; readonly flags: number } | { readonly key: Buffer; readonly page: number };

function page(kind: number, number: number, elements: readonly Element[]): Buffer {
  const head = Buffer.alloc(16 + 16 * elements.length);
  head.writeBigUInt64LE(BigInt(number));
  head.writeUInt16LE(kind, 8);
  head.writeUInt16LE(elements.length, 10);
  const data: Buffer[] = [];
  let end = head.length;
  elements.forEach((element, index) => {
    const at = 16 + 16 * index;
    if ("page" in element) {
      head.writeUInt32LE(end - at, at);
      head.writeUInt32LE(element.key.length, at + 4);
      head.writeBigUInt64LE(BigInt(element.page), at + 8);
      data.push(element.key);
    } else {
      head.writeUInt32LE(element.flags, at);
      head.writeUInt32LE(end - at, at + 4);
      head.writeUInt32LE(element.key.length, at + 8);
      head.writeUInt32LE(element.value.length, at + 12);
      data.push(element.key, element.value);
    }
    end += element.key.length + ("page" in element ? 0 : element.value.length);
  });
  return Buffer.concat([head, ...data]);
}

function metaPage(number: number, root: number, pages: number): Buffer {
  const whole = Buffer.alloc(PAGE);
  whole.writeBigUInt64LE(BigInt(number));
  whole.writeUInt16LE(META, 8);
  const meta = whole.subarray(16, 80);
  meta.writeUInt32LE(0xed0cdaed, 0);
  meta.writeUInt32LE(2, 4);
  meta.writeUInt32LE(PAGE, 8);
  meta.writeBigUInt64LE(BigInt(root), 16);
  meta.writeBigUInt64LE(0xffff_ffff_ffff_ffffn, 32);
  meta.writeBigUInt64LE(BigInt(pages), 40);
  meta.writeBigUInt64LE(BigInt(100 - number), 48);
  seal(meta);
  return whole;
}

/** Writes the checksum of a meta page's content. */
export function seal(meta: Buffer): void {
  let hash = 0xcbf29ce484222325n;
  for (const byte of meta.subarray(0, 56)) hash = ((hash ^ BigInt(byte)) * 0x100000001b3n) & 0xffff_ffff_ffff_ffffn;
  meta.writeBigUInt64LE(hash, 56);
}

/** The name of an entry in etcd's bucket `key`. */
export function revision(main: number, sub = 0, tombstone = false): Buffer {
  const name = Buffer.alloc(tombstone ? 18 : 17, "t");
  name.writeBigUInt64BE(BigInt(main), 0);
  name.write("_", 8);
  name.writeBigUInt64BE(BigInt(sub), 9);
  return name;
}

/** The protocol buffer that etcd keeps under a revision. */
export function keyValue(key: string | Buffer, value: string | Buffer = "", modRevision = 0, more: readonly Buffer[] = []): Buffer {
  const bytes = (field: number, content: Buffer): readonly Buffer[] =>
    content.length === 0 ? [] : [varint(field * 8 + 2), varint(content.length), content];
  const number = (field: number, content: number): readonly Buffer[] => (content === 0 ? [] : [varint(field * 8), varint(content)]);
  return Buffer.concat([
    ...bytes(1, Buffer.from(key as string)),
    ...number(2, modRevision),
    ...number(3, modRevision),
    ...number(4, 1),
    ...bytes(5, Buffer.from(value as string)),
    ...more,
  ]);
}

function varint(value: number): Buffer {
  const bytes: number[] = [];
  for (; value >= 128; value = Math.floor(value / 128)) bytes.push((value % 128) + 128);
  return Buffer.from([...bytes, value]);
}
