import { closeSync, fstatSync, openSync, readSync } from "node:fs";
import { crc32c } from "./crc32c";

// Prometheus' block format: https://github.com/prometheus/prometheus/tree/main/tsdb/docs/format
const SEGMENT_MAGIC = 0x85bd40dd;
const SEGMENT_HEADER = 8;
const INDEX_MAGIC = 0xbaaad700;
const INDEX_VERSION = 2;
const SYMBOLS_START = 5;
const TOC_BYTES = 52;
const TOMBSTONES_MAGIC = 0x0130ba30;
const WINDOW_BYTES = 1_048_576;
/** More than any chunk or series has: a length that says more is damaged, and must not be waited for. */
const MAX_RECORD_BYTES = 67_108_864;

/** Chunks that were found, or that an index refers to. Equal for both if they are the same chunks. */
export class ChunkTally {
  public chunks = 0;
  private places = 0;

  public add(segment: number, offset: number): void {
    this.chunks++;
    this.places = (this.places + Math.imul(segment + 1, 0x9e3779b1) + offset) >>> 0;
  }

  public equals(other: ChunkTally): boolean {
    return this.chunks === other.chunks && this.places === other.places;
  }
}

/**
 * Walks a segment of chunks: each one's length, encoding and checksum.
 * @param segment its number in the block, from 0
 * @returns how many samples its chunks hold
 * @throws Error where a byte is missing, changed or too many
 */
export async function readSegment(content: AsyncIterable<Buffer>, segment: number, found: ChunkTally): Promise<number> {
  let rest: Buffer = Buffer.alloc(0);
  let offset = 0;
  let samples = 0;
  for await (const more of content) {
    const data = rest.length === 0 ? more : Buffer.concat([rest, more]);
    const view = viewOf(data);
    let at = 0;
    if (offset === 0) {
      if (data.length < SEGMENT_HEADER) {
        rest = data;
        continue;
      }
      if (data.readUInt32BE(0) !== SEGMENT_MAGIC || data[4] !== 1) throw new Error("it does not begin as a segment of chunks does");
      at = SEGMENT_HEADER;
    }
    for (;;) {
      const cursor = new Cursor(data, at);
      const length = cursor.length();
      const start = cursor.at;
      const end = start + 1 + length;
      if (cursor.short || end + 4 > data.length) break;
      if (crc32c(view, start, end) !== data.readUInt32BE(end)) throw new Error(`the chunk at byte ${offset + at} has a wrong checksum`);
      // Every encoding of a chunk begins with the number of its samples.
      if (data[start] === 0 || length < 2) throw new Error(`the chunk at byte ${offset + at} has no known encoding`);
      samples += data.readUInt16BE(start + 1);
      found.add(segment, offset + at);
      at = end + 4;
    }
    offset += at;
    rest = data.subarray(at);
  }
  if (offset === 0 || rest.length > 0) throw new Error("it ends in the middle of a chunk");
  return samples;
}

/**
 * Reads a block's index: its table of contents, the checksum of every section and every series, and which chunks the series have.
 * @returns how many series there are
 * @throws Error where a byte is missing, changed or too many
 */
export function readIndex(path: string, referred: ChunkTally): number {
  const fd = openSync(path, "r");
  try {
    const file = new IndexFile(fd);
    const { size } = file;
    const header = file.read(0, SYMBOLS_START);
    if (header.readUInt32BE(0) !== INDEX_MAGIC) throw new Error("it does not begin as an index does");
    if (header[4] !== INDEX_VERSION) throw new Error(`its format is version ${header[4]}, and only version ${INDEX_VERSION} is known here`);
    const toc = file.read(size - TOC_BYTES, TOC_BYTES);
    if (crc32c(viewOf(toc), 0, TOC_BYTES - 4) !== toc.readUInt32BE(TOC_BYTES - 4))
      throw new Error("its table of contents has a wrong checksum");
    const [symbols = 0, series = 0, labels = 0, labelsTable = 0, postings = 0, postingsTable = 0] = [0, 8, 16, 24, 32, 40].map((at) =>
      Number(toc.readBigUInt64BE(at)),
    );
    file.section(symbols);
    const tables = labelsTable === 0 ? postingsTable : labelsTable;
    const lists = labels === 0 ? postings : labels;
    for (let at = align(lists, 4); at < tables; at = align(at, 4)) at = file.section(at);
    const end = file.section(postingsTable);
    if (tables !== postingsTable && file.section(labelsTable) !== postingsTable)
      throw new Error("its tables are not where its table of contents says");
    if (end !== size - TOC_BYTES) throw new Error("its sections end at another place than its table of contents begins");
    return file.series(series, lists, referred);
  } finally {
    closeSync(fd);
  }
}

/** @throws Error unless the file of deletions is whole */
export function checkTombstones(data: Buffer): void {
  const end = data.length - 4;
  if (end < 5 || data.readUInt32BE(0) !== TOMBSTONES_MAGIC) throw new Error("it does not begin as tombstones do");
  if (crc32c(viewOf(data), 5, end) !== data.readUInt32BE(end)) throw new Error("it has a wrong checksum");
}

class IndexFile {
  public readonly size: number;

  public constructor(private readonly fd: number) {
    this.size = fstatSync(fd).size;
  }

  public read(at: number, length: number): Buffer {
    const buffer = Buffer.allocUnsafe(length);
    if (at < 0 || readSync(this.fd, buffer, 0, length, at) !== length) throw new Error("it is cut");
    return buffer;
  }

  /** Checks a section: 4 bytes length, content, checksum. @returns where it ends */
  public section(at: number): number {
    const length = this.read(at, 4).readUInt32BE(0);
    const end = at + 4 + length;
    if (end + 4 > this.size) throw new Error(`the section at byte ${at} is longer than the file`);
    let crc = 0;
    for (let from = at + 4; from < end; from += WINDOW_BYTES) {
      const part = this.read(from, Math.min(WINDOW_BYTES, end - from));
      crc = crc32c(viewOf(part), 0, part.length, crc);
    }
    if (crc !== this.read(end, 4).readUInt32BE(0)) throw new Error(`the section at byte ${at} has a wrong checksum`);
    return end + 4;
  }

  /** Reads the series between two places; they begin at multiples of 16. */
  public series(from: number, to: number, referred: ChunkTally): number {
    let count = 0;
    let windowBytes = WINDOW_BYTES;
    for (let at = align(from, 16); at < to;) {
      const data = this.read(at, Math.min(windowBytes, to - at));
      const view = viewOf(data);
      let done = 0;
      while (at + done < to) {
        const cursor = new Cursor(data, done);
        const length = cursor.length();
        const end = cursor.at + length;
        if (cursor.short || end + 4 > data.length) break;
        if (crc32c(view, cursor.at, end) !== data.readUInt32BE(end))
          throw new Error(`the series at byte ${at + done} has a wrong checksum`);
        readSeries(cursor, referred);
        count++;
        done = align(at + end + 4, 16) - at;
      }
      if (done === 0 && at + data.length >= to) throw new Error(`the series at byte ${at} is cut`);
      // A series with more chunks than fit needs a larger window.
      if (done === 0) windowBytes *= 2;
      at += done;
    }
    return count;
  }
}

/** Labels are pairs of symbols; of each chunk there are two times, and its place relative to the one before: segment and offset. */
function readSeries(cursor: Cursor, referred: ChunkTally): void {
  for (let symbols = 2 * cursor.uvarint(); symbols > 0; symbols--) cursor.uvarint();
  const chunks = cursor.uvarint();
  let place = 0;
  for (let i = 0; i < chunks; i++) {
    cursor.uvarint();
    cursor.uvarint();
    const encoded = cursor.uvarint();
    if (i === 0) place = encoded;
    else place += encoded % 2 === 0 ? encoded / 2 : -(encoded + 1) / 2;
    referred.add(Math.floor(place / 2 ** 32), place % 2 ** 32);
  }
}

/** Reads numbers of variable length. */
class Cursor {
  /** Whether the data ended in the middle of a number. */
  public short = false;

  public constructor(
    private readonly data: Buffer,
    public at: number,
  ) {}

  /** A number that says how long what follows is. */
  public length(): number {
    const value = this.uvarint();
    if (value > MAX_RECORD_BYTES) throw new Error("a length in it is impossible");
    return value;
  }

  public uvarint(): number {
    let value = 0;
    for (let factor = 1; this.at < this.data.length; factor *= 128) {
      const byte = this.data[this.at++] as number;
      value += (byte & 127) * factor;
      if (byte < 128) return value;
    }
    this.short = true;
    return value;
  }
}

function viewOf(data: Buffer): DataView {
  return new DataView(data.buffer, data.byteOffset, data.length);
}

function align(at: number, to: number): number {
  return Math.ceil(at / to) * to;
}
