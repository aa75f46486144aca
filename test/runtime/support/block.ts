import { crc32c } from "../../../lib/runtime/crc32c";

/** A chunk of a block: its encoding, and how many samples it says it has. */
export interface MadeChunk {
  readonly encoding: number;
  readonly samples: number;
  readonly bytes: number;
}

/** The files of a block, written as Prometheus writes them. One segment for each list of chunks; series of two chunks each. */
export function makeBlock(ulid: string, segments: readonly (readonly MadeChunk[])[]): { readonly [path: string]: Buffer } {
  const all = segments.flat();
  const files: { [path: string]: Buffer } = {};
  const places: bigint[] = [];
  segments.forEach((chunks, segment) => {
    let data = Buffer.from([0x85, 0xbd, 0x40, 0xdd, 1, 0, 0, 0]);
    for (const { encoding, samples, bytes } of chunks) {
      places.push((BigInt(segment) << 32n) | BigInt(data.length));
      const content = Buffer.alloc(bytes, 0x5a);
      content.writeUInt16BE(samples);
      data = Buffer.concat([data, uvarint(bytes), summed(Buffer.concat([Buffer.from([encoding]), content]))]);
    }
    files[`chunks/${String(segment + 1).padStart(6, "0")}`] = data;
  });
  const series = places.flatMap((_, at) => (at % 2 === 0 ? [places.slice(at, at + 2)] : []));
  files.index = makeIndex(series);
  const stats = { numSamples: all.reduce((sum, { samples }) => sum + samples, 0), numSeries: series.length, numChunks: all.length };
  files["meta.json"] = Buffer.from(JSON.stringify({ ulid, minTime: 1000, maxTime: 2000, stats, version: 1 }));
  files.tombstones = Buffer.concat([Buffer.from([0x01, 0x30, 0xba, 0x30, 1]), sum(Buffer.alloc(0))]);
  return files;
}

/** Symbols, the series with the places of their chunks, a list of labels, a list of postings, their tables. */
export function makeIndex(all: readonly (readonly bigint[])[]): Buffer {
  const parts: Buffer[] = [];
  let at = 0;
  const push = (data: Buffer): void => {
    parts.push(data);
    at += data.length;
  };
  const pad = (to: number): void => push(Buffer.alloc((to - (at % to)) % to));
  const section = (content: Buffer): number => {
    const from = at;
    push(Buffer.concat([uint32(content.length), summed(content)]));
    return from;
  };
  push(Buffer.from([0xba, 0xaa, 0xd7, 0x00, 2]));
  const symbols = section(Buffer.concat([uint32(2), uvarint(3), Buffer.from("job"), uvarint(1), Buffer.from("x")]));
  const series = at;
  for (const places of all) {
    pad(16);
    const labels = [uvarint(1), uvarint(0), uvarint(1)];
    // Of each chunk its first time and its duration; its place, from the second chunk on as a signed distance.
    const chunks = places.map((place, at) => [
      uvarint(2000),
      uvarint(1000),
      uvarint(at === 0 ? place : zigzag(place - (places[at - 1] ?? 0n))),
    ]);
    const content = Buffer.concat([...labels, uvarint(places.length), ...chunks.flat()]);
    push(Buffer.concat([uvarint(content.length), summed(content)]));
  }
  pad(4);
  const labels = section(Buffer.concat([uint32(1), uint32(1), uint32(1)]));
  pad(4);
  const postings = section(Buffer.concat([uint32(1), uint32(series)]));
  const labelsTable = section(Buffer.concat([uint32(1), Buffer.from("labels")]));
  const postingsTable = section(Buffer.concat([uint32(1), Buffer.from("postings")]));
  const toc = Buffer.alloc(48);
  [symbols, series, labels, labelsTable, postings, postingsTable].forEach((offset, index) =>
    toc.writeBigUInt64BE(BigInt(offset), index * 8),
  );
  push(summed(toc));
  return Buffer.concat(parts);
}

/** Replaces a part of a file and makes its checksum fit again. */
export function resummed(data: Buffer, from: number, end: number): Buffer {
  const copy = Buffer.from(data);
  sum(copy.subarray(from, end)).copy(copy, end);
  return copy;
}

function summed(data: Buffer): Buffer {
  return Buffer.concat([data, sum(data)]);
}

function sum(data: Buffer): Buffer {
  return uint32(crc32c(new DataView(data.buffer, data.byteOffset, data.length), 0, data.length));
}

function zigzag(value: bigint): bigint {
  return value < 0n ? -2n * value - 1n : 2n * value;
}

function uint32(value: number): Buffer {
  const data = Buffer.alloc(4);
  data.writeUInt32BE(value);
  return data;
}

function uvarint(value: number | bigint): Buffer {
  const bytes: number[] = [];
  let rest = BigInt(value);
  for (; rest > 127n; rest >>= 7n) bytes.push(Number(rest & 127n) | 128);
  return Buffer.from([...bytes, Number(rest)]);
}
