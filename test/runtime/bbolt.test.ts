import { writeFileSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { readBolt } from "../../lib/runtime/bbolt";
import { type EtcdDatabase, KeySet, readDatabase } from "../../lib/runtime/etcd-content";
import { BboltWriter, keyValue, revision, seal, type Entry } from "../helpers/bbolt-writer";
import { temporary } from "./support";

const PAGE = 4096;

function stored(file: Buffer): string {
  const path = join(temporary(), "db");
  writeFileSync(path, file);
  return path;
}

function key(number: number): Buffer {
  return Buffer.from(`key-${String(number).padStart(5, "0")}`);
}

function entries(count: number, from = 0): Entry[] {
  return Array.from({ length: count }, (_, index) => [key(from + index), Buffer.from(`value ${from + index}`)]);
}

/** Numbers of pages. */
interface Pages {
  readonly first: number;
  readonly large: number;
  readonly branch: number;
}

/** Two leaves under a branch, one of them over three pages; a page that is free; a bucket inside the root. */
function sample(): { readonly file: Buffer; readonly pages: Pages } {
  const writer = new BboltWriter();
  const first = writer.leaf(entries(50));
  writer.free();
  const large = writer.leaf([...entries(10, 50), [key(60), Buffer.alloc(9000, "v")]]);
  const branch = writer.branch([
    [key(0), first],
    [key(50), large],
  ]);
  const file = writer.finish({ data: branch, small: entries(2), none: [] });
  return { file, pages: { first, large, branch } };
}

async function read(file: Buffer, bytes = file.length): Promise<{ readonly found: string[]; readonly pagesInUse: number }> {
  const found: string[] = [];
  const visit = (bucket: string, name: Buffer, value: Buffer): void => void found.push(`${bucket}/${name.toString()}=${value.length}`);
  const { pagesInUse } = await readBolt(stored(file), bytes, visit);
  return { found, pagesInUse };
}

describe("a bbolt file", () => {
  test("is read whole: every bucket and entry, in order", async () => {
    const { found, pagesInUse } = await read(sample().file);
    expect(found).toHaveLength(63);
    expect(found.slice(0, 2)).toEqual(["data/key-00000=7", "data/key-00001=7"]);
    expect(found.slice(59)).toEqual(["data/key-00059=8", "data/key-00060=9000", "small/key-00000=7", "small/key-00001=7"]);
    expect(pagesInUse).toBe(2 + 1 + 3 + 1 + 1);
  });

  test("what follows it in the file is none of its business, and what is missing is", async () => {
    const { file } = sample();
    expect((await read(Buffer.concat([file, Buffer.alloc(32)]), file.length)).found).toHaveLength(63);
    await expect(read(Buffer.concat([file, Buffer.alloc(32)]))).rejects.toThrow("bbolt: 36896 bytes instead of 9 pages of 4096");
    await expect(read(file.subarray(0, -PAGE))).rejects.toThrow("bbolt: 32768 bytes instead of 9 pages of 4096");
    await expect(read(file.subarray(0, 100))).rejects.toThrow("bbolt: the file is cut short");
    await expect(read(Buffer.alloc(0))).rejects.toThrow("bbolt: the file is cut short");
  });

  test("the meta page of the later transaction holds, whichever of the two it is", async () => {
    const { file } = sample();
    const meta = file.subarray(PAGE + 16, PAGE + 80);
    meta.writeBigUInt64LE(101n, 48);
    meta.writeBigUInt64LE(4n, 16);
    seal(meta);
    // Page 4 is a leaf with entries: no bucket is in it.
    await expect(read(file)).rejects.toThrow("bbolt: page 4 has an entry outside any bucket");
  });

  type Damage = (file: Buffer, pages: Pages) => void;
  test.each<[string, RegExp, Damage]>([
    ["a meta page's checksum", /^bbolt: a meta page is damaged$/, (file) => file.writeUInt8(1, 16 + 50)],
    ["the other meta page's magic number", /^bbolt: a meta page is damaged$/, (file) => file.writeUInt8(1, PAGE + 16)],
    ["a page's number", /^bbolt: page 2 calls itself 3$/, (file, { first }) => file.writeUInt8(3, first * PAGE)],
    ["a page's kind", /^bbolt: page 2 is neither a branch nor a leaf$/, (file, { first }) => file.writeUInt16LE(16, first * PAGE + 8)],
    ["a page's count", /^bbolt: page 2 has more elements than room$/, (file, { first }) => file.writeUInt16LE(300, first * PAGE + 10)],
    [
      "a page's length, beyond the file",
      /^bbolt: page 2 runs over the end of the file$/,
      (file, { first }) => file.writeUInt32LE(4000, first * PAGE + 12),
    ],
    ["a page's length, into the next", /^bbolt: page 4 is used twice$/, (file, { first }) => file.writeUInt32LE(2, first * PAGE + 12)],
    [
      "a page's length, too short",
      /^bbolt: page 4 has an element that runs over its end$/,
      (file, { large }) => file.writeUInt32LE(0, large * PAGE + 12),
    ],
    [
      "a position",
      /^bbolt: page 2 has an element that runs over its end$/,
      (file, { first }) => file.writeUInt32LE(5000, first * PAGE + 16 + 4),
    ],
    ["a key's length", /^bbolt: page 2 has its keys out of order$/, (file, { first }) => file.writeUInt32LE(0, first * PAGE + 32 + 8)],
    [
      "a value's length",
      /^bbolt: page 2 has an element that runs over its end$/,
      (file, { first }) => file.writeUInt32LE(0xffff_ffff, first * PAGE + 16 + 12),
    ],
    ["a key", /^bbolt: page 2 has its keys out of order$/, (file, { first }) => file.write("x", file.indexOf("key-00007", first * PAGE))],
    [
      "the last key of a page",
      /^bbolt: page 7 has its keys out of order$/,
      (file, { first }) => file.write("x", file.indexOf("key-00049", first * PAGE)),
    ],
    [
      "the first key of a page, below its branch's",
      /^bbolt: page 4 has its keys out of order$/,
      (file, { large }) => file.write("a", file.indexOf("key-00050", large * PAGE)),
    ],
    [
      "a branch's page, to one outside",
      /^bbolt: page 99 is referred to and lies outside the file$/,
      (file, { branch }) => file.writeUInt32LE(99, branch * PAGE + 16 + 8),
    ],
    [
      "a branch's page, to one that is used",
      /^bbolt: page 2 is used twice$/,
      (file, { branch }) => file.writeUInt32LE(2, branch * PAGE + 32 + 8),
    ],
    ["a branch's page, to a free one", /^bbolt: page 3 calls itself /, (file, { branch }) => file.writeUInt32LE(3, branch * PAGE + 32 + 8)],
    [
      "an inline bucket's kind",
      /^bbolt: page 8 has a damaged inline bucket$/,
      (file) => file.writeUInt16LE(1, file.indexOf("small") + 5 + 16 + 8),
    ],
    ["a bucket's root", /^bbolt: page 1 is used twice$/, (file) => file.writeUInt8(1, file.indexOf("data", 8 * PAGE) + 4)],
  ])("damage of %s is noticed", async (_, message, inflict) => {
    const { file, pages } = sample();
    inflict(file, pages);
    await expect(read(file)).rejects.toThrow(message);
  });

  test("any change of one byte gives an error or the same keys in order, and never hangs or another kind of error", async () => {
    const { file } = sample();
    await fc.assert(
      fc.asyncProperty(fc.nat(file.length - 1), fc.integer({ min: 1, max: 255 }), async (at, change) => {
        const damaged = Buffer.from(file);
        damaged[at] = (damaged[at] ?? 0) ^ change;
        const result = await read(damaged).catch((error: Error) => error.message);
        if (typeof result === "string") return expect(result).toMatch(/^bbolt: /);
        const names = result.found.map((entry) => entry.replace(/=\d+$/, ""));
        for (const bucket of ["data/", "small/"]) {
          const inBucket = names.filter((name) => name.startsWith(bucket));
          expect(inBucket).toEqual([...inBucket].sort());
        }
      }),
      { numRuns: 300 },
    );
  });

  test("stops with the signal", async () => {
    const writer = new BboltWriter();
    const leaves = Array.from({ length: 1500 }, (_, index) => [key(index), writer.leaf(entries(1, index))] as const);
    const file = writer.finish({ data: writer.branch(leaves) });
    expect((await read(file)).found).toHaveLength(1500);
    const aborted = readBolt(stored(file), file.length, () => undefined, AbortSignal.abort(new Error("told to stop")));
    await expect(aborted).rejects.toThrow("told to stop");
  });
});

describe("etcd's content", () => {
  const content = (key: readonly Entry[], meta: readonly Entry[] = []): Promise<EtcdDatabase> => {
    const writer = new BboltWriter();
    const file = writer.finish({ key: writer.leaf(key), meta, members: [] });
    return readDatabase(stored(file), file.length);
  };
  const expected = (keys: readonly (readonly [string, string, number])[]): { readonly keys: number; readonly sha256: string } => {
    const set = new KeySet();
    for (const [key, value, mod] of keys) set.put(Buffer.from(key), Buffer.from(value), mod);
    return { keys: set.size, sha256: set.digest() };
  };

  test("is the newest value of every key that is not deleted", async () => {
    const found = await content([
      [revision(2), keyValue("a", "old", 2)],
      [revision(3), keyValue("b", "kept", 3)],
      [revision(3, 1), keyValue("c", "gone", 3)],
      [revision(4), keyValue("a", "new", 4)],
      [revision(5, 0, true), keyValue("c")],
      [revision(6, 0, true), keyValue("d")],
    ]);
    expect(found).toMatchObject({ revisions: 6, content: { revision: 6, ...expected([["b", "kept", 3], ["a", "new", 4]]) } });
  });

  test("its hash tells keys, values and revisions apart, and not the order in which they came", () => {
    const base = expected([["a", "1", 2], ["b", "2", 3]]).sha256;
    expect(expected([["b", "2", 3], ["a", "1", 2]]).sha256).toBe(base);
    const others = [
      [["a", "1", 2]],
      [["a", "1", 2], ["b", "3", 3]],
      [["a", "1", 2], ["c", "2", 3]],
      [["a", "1", 2], ["b", "2", 4]],
      [["a", "12", 2], ["b", "", 3]],
    ] as const;
    expect(new Set([base, ...others.map((keys) => expected(keys).sha256)]).size).toBe(6);
  });

  test("a compaction that left no entry keeps the revision, an empty server has 1", async () => {
    const compacted = Buffer.alloc(17);
    compacted.writeBigUInt64BE(70n);
    expect((await content([], [[Buffer.from("finishedCompactRev"), compacted]])).content.revision).toBe(70);
    expect((await content([])).content).toEqual({ revision: 1, ...expected([]) });
  });

  test("numbers of all sizes and fields of later versions are read over", async () => {
    const lease = Buffer.from([0x30, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]);
    const later = Buffer.from([0x42, 0x02, 0x01, 0x02]);
    const found = await content([[revision(3_000_000_000), keyValue("a", "x".repeat(300), 3_000_000_000, [lease, later])]]);
    expect(found.content).toEqual({ revision: 3_000_000_000, ...expected([["a", "x".repeat(300), 3_000_000_000]]) });
  });

  test.each<[string, Entry, string]>([
    ["a name that is no revision", [Buffer.from("x"), keyValue("a", "b", 2)], "etcd: 78 is not a revision"],
    ["a value of another revision", [revision(2), keyValue("a", "b", 3)], "etcd: revision 2 holds an entry of revision 3"],
    ["a value that is cut", [revision(2), keyValue("a", "b", 2).subarray(0, -1)], "etcd: an entry is cut short"],
    ["a value without a key", [revision(2), keyValue("", "b", 2)], "etcd: an entry has no key"],
    ["an unknown kind of field", [revision(2), Buffer.from([0x0b])], "etcd: an entry has a field of type 3"],
    ["a number without an end", [revision(2), Buffer.from([0xff])], "etcd: an entry is cut short"],
  ])("fails when there is %s", async (_, entry, message) => {
    await expect(content([entry])).rejects.toThrow(message);
  });
});
