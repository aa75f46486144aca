import { readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { crc32c } from "../../lib/runtime/crc32c";
import { tarEnd, tarHeader, tarPadding } from "../../lib/runtime/tar";
import { checkTombstones, ChunkTally, readIndex, readSegment } from "../../lib/runtime/tsdb";
import { parseMeta, readBlocks } from "../../lib/runtime/tsdb-blocks";
import { temporary } from "./support";
import { type MadeChunk, makeBlock, makeIndex, resummed } from "./support/block";

const ULID = "01ARZ3NDEKTSV4RRFFQ69G5FAV";
const OTHER = "01BX5ZZKBKACTAV9WEVGEMMVRZ";
const CHUNKS: readonly (readonly MadeChunk[])[] = [
  [
    { encoding: 1, samples: 120, bytes: 40 },
    { encoding: 2, samples: 3, bytes: 2 },
  ],
  [{ encoding: 3, samples: 65_535, bytes: 300 }],
];
type Files = { readonly [path: string]: Buffer };

async function* pieces(data: Buffer, size = 97): AsyncGenerator<Buffer> {
  for (let at = 0; at < data.length; at += size) yield data.subarray(at, at + size);
}

function archive(blocks: { readonly [ulid: string]: Files }): Buffer {
  const common = { mode: 0o644, uid: 0, gid: 0, mtimeMs: 0 };
  const parts = [tarHeader({ ...common, path: ".", type: "directory", size: 0 })];
  for (const [ulid, files] of Object.entries(blocks)) {
    parts.push(tarHeader({ ...common, path: ulid, type: "directory", size: 0 }));
    for (const path of Object.keys(files).sort()) {
      const data = files[path] ?? Buffer.alloc(0);
      parts.push(tarHeader({ ...common, path: `${ulid}/${path}`, type: "file", size: data.length }), data, tarPadding(data.length));
    }
  }
  return Buffer.concat([...parts, tarEnd()]);
}

const scratch = (): string => join(temporary(), "index");
const read = (blocks: { readonly [ulid: string]: Files }): Promise<unknown> => readBlocks(pieces(archive(blocks), 511), scratch());
const segment = (data: Buffer, size?: number): Promise<number> => readSegment(pieces(data, size), 0, new ChunkTally());
function index(data: Buffer): number {
  const path = scratch();
  writeFileSync(path, data);
  return readIndex(path, new ChunkTally());
}
const file = (path: string): Buffer => makeBlock(ULID, CHUNKS)[path] ?? Buffer.alloc(0);

describe("CRC-32C", () => {
  const of = (data: Buffer): number => crc32c(new DataView(data.buffer, data.byteOffset, data.length), 0, data.length);

  // The first is the check value of the CRC catalogue, the others are from RFC 3720, appendix B.4.
  test.each([
    ["123456789", Buffer.from("123456789"), 0xe3069283],
    ["32 zeros", Buffer.alloc(32), 0x8a9136aa],
    ["32 ones", Buffer.alloc(32, 0xff), 0x62a8ab43],
    ["0 to 31", Buffer.from(Array.from({ length: 32 }, (_, i) => i)), 0x46dd794e],
    ["nothing", Buffer.alloc(0), 0],
  ])("of %s", (_name, data, sum) => {
    expect(of(data)).toBe(sum);
  });

  test("is the same bit by bit, in one part or two, wherever it begins", () => {
    const slow = (data: Uint8Array): number => {
      let crc = -1;
      for (const byte of data) {
        crc ^= byte;
        for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0x82f63b78 : crc >>> 1;
      }
      return ~crc >>> 0;
    };
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 70 }), fc.nat(70), fc.nat(9), (bytes, at, before) => {
        const data = Buffer.concat([Buffer.alloc(before, 9), bytes]);
        const view = new DataView(data.buffer, data.byteOffset, data.length);
        const cut = Math.min(before + at, data.length);
        expect(crc32c(view, before, data.length)).toBe(slow(bytes));
        expect(crc32c(view, cut, data.length, crc32c(view, before, cut))).toBe(slow(bytes));
      }),
    );
  });
});

describe("a segment of chunks", () => {
  const data = file("chunks/000001");

  test("has as many samples as its chunks say, however its bytes arrive", async () => {
    for (const size of [1, 7, 8, 9, 50, 1000]) expect(await segment(data, size)).toBe(123);
  });

  test("fails when any byte is another one", async () => {
    for (let at = 0; at < data.length; at++) {
      // Three bytes of the header are padding that nobody reads.
      if (at >= 5 && at < 8) continue;
      const changed = Buffer.from(data);
      changed[at] = (changed[at] ?? 0) ^ 4;
      await expect(segment(changed)).rejects.toThrow(/does not begin as|wrong checksum|ends in the middle|no known encoding/);
    }
  });

  test("fails when it is cut at any byte but between two chunks, which the number of chunks tells", async () => {
    const boundaries = [8, 8 + 1 + 1 + 40 + 4];
    for (let length = 0; length < data.length; length++) {
      const reading = segment(data.subarray(0, length));
      if (boundaries.includes(length)) expect(await reading).toBe(length === 8 ? 0 : 120);
      else await expect(reading).rejects.toThrow("it ends in the middle of a chunk");
    }
  });

  test("fails when something follows, and does not wait for a chunk of an impossible length", async () => {
    await expect(segment(Buffer.concat([data, Buffer.alloc(100)]))).rejects.toThrow(
      /the chunk at byte 65 has no known encoding|wrong checksum/,
    );
    await expect(segment(Buffer.concat([data, Buffer.from([0xff, 0xff, 0xff, 0xff, 0x7f])]))).rejects.toThrow(
      "a length in it is impossible",
    );
  });
});

describe("an index", () => {
  const data = file("index");

  test("has as many series as were written", () => {
    expect(index(data)).toBe(2);
  });

  test("refers to the chunks of its series, wherever they are", () => {
    const places = fc.array(fc.array(fc.tuple(fc.nat(5), fc.nat(2 ** 29)), { maxLength: 5 }), { maxLength: 5 });
    fc.assert(
      fc.property(places, (series) => {
        const [expected, referred] = [new ChunkTally(), new ChunkTally()];
        for (const [part, offset] of series.flat()) expected.add(part, offset);
        const path = scratch();
        writeFileSync(path, makeIndex(series.map((chunks) => chunks.map(([part, offset]) => (BigInt(part) << 32n) | BigInt(offset)))));
        expect(readIndex(path, referred)).toBe(series.length);
        expect(referred.equals(expected)).toBe(true);
        referred.add(0, 1);
        expect(referred.equals(expected)).toBe(false);
      }),
      { numRuns: 50 },
    );
  });

  test("fails when any byte is another one, but those between its sections", () => {
    const unread: number[] = [];
    for (let at = 0; at < data.length; at++) {
      const changed = Buffer.from(data);
      changed[at] = (changed[at] ?? 0) ^ 4;
      try {
        index(changed);
        unread.push(at);
      } catch (error) {
        expect(String(error)).toMatch(
          /wrong checksum|does not begin|format is version|longer than the file|is cut|impossible|end at another place/,
        );
      }
    }
    // Padding is zeros, and nobody reads it.
    expect(unread.every((at) => data[at] === 0)).toBe(true);
    expect(unread.length).toBeLessThan(40);
  });

  test("fails when it is cut at any byte, or something follows", () => {
    for (let length = 0; length < data.length; length++) expect(() => index(data.subarray(0, length))).toThrow(/checksum|cut|longer than/);
    expect(() => index(Buffer.concat([data, Buffer.alloc(1)]))).toThrow(/checksum/);
  });

  test("fails when something stands between its last section and its table of contents", () => {
    const toc = data.length - 52;
    const longer = Buffer.concat([data.subarray(0, toc), Buffer.alloc(4), data.subarray(toc)]);
    expect(() => index(longer)).toThrow("its sections end at another place than its table of contents begins");
  });

  test("fails when its version is not known", () => {
    const changed = Buffer.from(data);
    changed[4] = 3;
    expect(() => index(changed)).toThrow("its format is version 3, and only version 2 is known here");
  });

  test("may have more series, and a series more chunks, than are read at a time", () => {
    const places = Array.from({ length: 300_000 }, (_, at) => BigInt(8 + 50 * at));
    expect(index(makeIndex([places]))).toBe(1);
    expect(index(makeIndex(places.slice(0, 50_000).map((place) => [place])))).toBe(50_000);
  });
});

describe("tombstones", () => {
  test("fail when any byte is another one", () => {
    const data = file("tombstones");
    checkTombstones(data);
    for (let at = 0; at < data.length; at++) {
      if (at === 4) continue;
      const changed = Buffer.from(data);
      changed[at] = (changed[at] ?? 0) ^ 1;
      expect(() => checkTombstones(changed)).toThrow();
    }
    expect(() => checkTombstones(data.subarray(0, 8))).toThrow("it does not begin as tombstones do");
  });
});

describe("an archive of blocks", () => {
  const whole = makeBlock(ULID, CHUNKS);
  const without = (path: string): Files => Object.fromEntries(Object.entries(whole).filter(([name]) => name !== path));
  const meta = (change: (stats: { [key: string]: number }) => void): Files => {
    const content = JSON.parse(String(whole["meta.json"])) as { stats: { [key: string]: number } };
    change(content.stats);
    return { ...whole, "meta.json": Buffer.from(JSON.stringify(content)) };
  };

  test("gives what each block's meta.json says, where all of it is there", async () => {
    const blocks = await read({ [ULID]: whole, [OTHER]: makeBlock(OTHER, [[{ encoding: 1, samples: 7, bytes: 9 }]]) });
    expect(blocks).toEqual([
      { ulid: ULID, minTime: 1000, maxTime: 2000, series: 2, chunks: 3, samples: 65_658 },
      { ulid: OTHER, minTime: 1000, maxTime: 2000, series: 1, chunks: 1, samples: 7 },
    ]);
  });

  test("leaves no scratch file behind", async () => {
    const place = temporary();
    await readBlocks(pieces(archive({ [ULID]: whole })), join(place, "index"));
    expect(readdirSync(place)).toEqual([]);
  });

  test.each<readonly [when: string, files: Files, reason: string | RegExp]>([
    ["meta.json is missing", without("meta.json"), `block ${ULID}: meta.json is missing`],
    ["the index is missing", without("index"), `block ${ULID}: the index is missing`],
    ["the directory is empty", {}, `block ${ULID}: meta.json is missing`],
    ["the first segment is missing", without("chunks/000001"), `${ULID}/chunks/000002: the segment before it is missing`],
    ["the last segment is missing", without("chunks/000002"), `block ${ULID}: its index refers to 3 chunks, and 2 are there, or others`],
    ["all segments are missing", makeBlockWithout(whole), `block ${ULID}: its index refers to 3 chunks, and 0 are there, or others`],
    [
      "a segment is cut between two chunks",
      { ...whole, "chunks/000001": (whole["chunks/000001"] ?? Buffer.alloc(0)).subarray(0, 54) },
      "refers to 3 chunks, and 2 are there",
    ],
    [
      "a segment is cut within a chunk",
      { ...whole, "chunks/000002": (whole["chunks/000002"] ?? Buffer.alloc(0)).subarray(0, 200) },
      "chunks/000002: it ends in the middle of a chunk",
    ],
    ["a segment is empty", { ...whole, "chunks/000002": Buffer.alloc(0) }, "chunks/000002: it ends in the middle of a chunk"],
    [
      "segments are those of another block with as many chunks",
      { ...whole, "chunks/000001": makeBlock(ULID, [[...(CHUNKS[0] ?? [])].reverse()])["chunks/000001"] ?? Buffer.alloc(0) },
      "refers to 3 chunks, and 3 are there, or others",
    ],
    [
      "meta.json says more samples",
      meta((stats) => (stats.numSamples = 65_659)),
      `block ${ULID}: meta.json says 65659 samples, and 65658 are there`,
    ],
    ["meta.json says fewer series", meta((stats) => (stats.numSeries = 1)), `block ${ULID}: meta.json says 1 series, and 2 are there`],
    ["meta.json says other chunks", meta((stats) => (stats.numChunks = 4)), `block ${ULID}: meta.json says 4 chunks, and 3 are there`],
    [
      "meta.json is that of another block",
      { ...whole, "meta.json": makeBlock(OTHER, CHUNKS)["meta.json"] ?? Buffer.alloc(0) },
      `${ULID}/meta.json: it is that of another block`,
    ],
    ["meta.json is cut", { ...whole, "meta.json": (whole["meta.json"] ?? Buffer.alloc(0)).subarray(0, 20) }, /meta\.json: .*JSON/],
    [
      "a chunk says another number of samples, its checksum made to fit",
      { ...whole, "chunks/000002": recounted(whole["chunks/000002"] ?? Buffer.alloc(0)) },
      "meta.json says 65658 samples, and 65657 are there",
    ],
    ["the tombstones are damaged", { ...whole, tombstones: Buffer.alloc(9) }, `${ULID}/tombstones: it does not begin as tombstones do`],
  ])("fails when %s", async (_when, files, reason) => {
    await expect(read({ [ULID]: files })).rejects.toThrow(reason);
  });

  test("fails when there is something that is no block", async () => {
    await expect(read({ [ULID]: whole, wal: { "00000000": Buffer.from("x") } })).rejects.toThrow(
      "the snapshot has wal, which is no part of a block",
    );
  });
});

test.each([
  ["{}", "it is that of another block"],
  [`{"ulid":"${ULID}"}`, "a time or a number is missing in it"],
  [`{"ulid":"${ULID}","minTime":1,"maxTime":2.5}`, "a time or a number is missing in it"],
])("refuses %s for a meta.json", (text, reason) => {
  expect(() => parseMeta(ULID, text)).toThrow(reason);
});

/** Of a head without samples Prometheus says nothing. */
test("takes what a meta.json does not say for none", () => {
  expect(parseMeta(ULID, `{"ulid":"${ULID}","minTime":1,"maxTime":2}`)).toMatchObject({ series: 0, chunks: 0, samples: 0 });
});

function makeBlockWithout(files: Files): Files {
  return Object.fromEntries(Object.entries(files).filter(([path]) => !path.startsWith("chunks/")));
}

/** One sample less, in a chunk whose checksum says that all is well. */
function recounted(segmentOf: Buffer): Buffer {
  const copy = Buffer.from(segmentOf);
  copy.writeUInt16BE(65_534, 11);
  return resummed(copy, 10, copy.length - 4);
}
