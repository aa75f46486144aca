const BLOCK = 512;
const EMPTY = Buffer.alloc(0);
/** Written content is gathered into chunks of about this size, so that small files cost no chunk each. */
const CHUNK_BYTES = 262_144;
const TYPES = { file: "0", link: "1", symlink: "2", directory: "5" } as const;

/** One member of an archive. */
export interface TarEntry {
  /** Relative, `/`-separated, without a `/` at the end; `.` for the root itself. */
  readonly path: string;
  /** `link` is a hard link to an earlier member. */
  readonly type: keyof typeof TYPES;
  /** Permission bits, set-user-ID and the like included. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  /** Milliseconds since 1970; the archive keeps whole seconds. */
  readonly mtimeMs: number;
  /** Bytes of content; 0 for all but files. */
  readonly size: number;
  /** Where a symbolic link points, or the path of the member that a hard link is the same file as. */
  readonly target?: string;
}

/**
 * The blocks that precede a member's content: POSIX ustar, with a pax record before it for each value that ustar cannot hold
 * (long or non-ASCII paths, files of 8 GiB and more, large ids, times before 1970).
 */
export function tarHeader(entry: TarEntry): Buffer {
  const { type, mode, uid, gid, mtimeMs, size, target = "" } = entry;
  const path = type === "directory" ? `${entry.path}/` : entry.path;
  const mtime = Math.floor(mtimeMs / 1000);
  const pax = [
    text("path", path),
    text("linkpath", target),
    number("size", size, 11),
    number("uid", uid, 7),
    number("gid", gid, 7),
    number("mtime", mtime, 11),
  ];
  const records = Buffer.from(pax.join(""));
  const block = header(path, mode, uid, gid, size, mtime, TYPES[type], target);
  if (records.length === 0) return block;
  return Buffer.concat([header("pax", 0o644, 0, 0, records.length, 0, "x", ""), records, tarPadding(records.length), block]);
}

/** What fills a content's last block. */
export function tarPadding(size: number): Buffer {
  return Buffer.alloc((BLOCK - (size % BLOCK)) % BLOCK);
}

/** What ends an archive. */
export function tarEnd(): Buffer {
  return Buffer.alloc(2 * BLOCK);
}

function text(key: string, value: string): string {
  return Buffer.byteLength(value) <= 100 && /^[\x20-\x7e]*$/.test(value) ? "" : record(key, value);
}

function number(key: string, value: number, digits: number): string {
  return value >= 0 && value < 8 ** digits ? "" : record(key, String(value));
}

/** `<length> <key>=<value>\n`, where the length counts its own digits. */
function record(key: string, value: string): string {
  const rest = Buffer.byteLength(` ${key}=${value}\n`);
  const guess = rest + String(rest).length;
  return `${rest + String(guess).length} ${key}=${value}\n`;
}

function header(path: string, mode: number, uid: number, gid: number, size: number, mtime: number, type: string, target: string): Buffer {
  const block = Buffer.alloc(BLOCK);
  const octal = (value: number, at: number, digits: number): void => {
    const fits = value >= 0 && value < 8 ** digits;
    block.write((fits ? value : 0).toString(8).padStart(digits, "0"), at);
  };
  block.write(path.replace(/[^\x20-\x7e]/gu, "_"), 0, 100);
  octal(mode & 0o7777, 100, 7);
  octal(uid, 108, 7);
  octal(gid, 116, 7);
  octal(size, 124, 11);
  octal(mtime, 136, 11);
  block.write(type, 156);
  block.write(target.replace(/[^\x20-\x7e]/gu, "_"), 157, 100);
  block.write("ustar\x0000", 257);
  block.write(`${checksum(block).toString(8).padStart(6, "0")}\0 `, 148);
  return block;
}

/** Sum of a header's bytes, those of the checksum itself counted as spaces. */
function checksum(block: Buffer): number {
  let sum = 0;
  for (let i = 0; i < BLOCK; i++) sum += i >= 148 && i < 156 ? 32 : (block[i] ?? 0);
  return sum;
}

/** A member as it is read. */
export interface TarMember extends TarEntry {
  /** Its content; what is not read is skipped when the next member is asked for. */
  readonly content: AsyncIterable<Buffer>;
}

/**
 * Reads an archive of regular files, directories and links (ustar with pax records), member by member.
 * @throws Error where it is damaged, cut, or anything but zeros follows its end
 */
export async function* readTar(chunks: AsyncIterable<Buffer>): AsyncGenerator<TarMember> {
  const source = new Blocks(chunks);
  let pax = new Map<string, string>();
  for (;;) {
    const block = await source.take(BLOCK);
    // Two blocks of zeros end it.
    if (isZero(block)) {
      if (!isZero(await source.take(BLOCK))) throw new Error("the archive is damaged: its end is broken");
      break;
    }
    const field = (at: number, length: number): string => block.toString("utf8", at, at + length).replace(/\0.*$/s, "");
    const octal = (at: number, length: number): number => parseInt(field(at, length).trim() || "0", 8);
    if (octal(148, 8) !== checksum(block)) throw new Error("the archive is damaged: a header's checksum is wrong");
    const flag = field(156, 1) || "0";
    if (flag === "x") {
      pax = records(await source.take(octal(124, 12)));
      await source.pad(octal(124, 12));
      continue;
    }
    const type = (Object.keys(TYPES) as (keyof typeof TYPES)[]).find((name) => TYPES[name] === flag);
    if (type === undefined) throw new Error(`the archive has a member of the unknown type ${JSON.stringify(flag)}`);
    const numeric = (key: string, at: number, length: number): number => Number(pax.get(key) ?? octal(at, length));
    const prefix = field(345, 155);
    const path = pax.get("path") ?? (prefix === "" ? "" : `${prefix}/`) + field(0, 100);
    const size = numeric("size", 124, 12);
    const target = pax.get("linkpath") ?? field(157, 100);
    let left = size;
    const content = async function* (): AsyncGenerator<Buffer> {
      while (left > 0) {
        const chunk = await source.some(left);
        left -= chunk.length;
        yield chunk;
      }
    };
    yield {
      path: type === "directory" ? path.replace(/\/$/, "") : path,
      type,
      mode: octal(100, 8),
      uid: numeric("uid", 108, 8),
      gid: numeric("gid", 116, 8),
      mtimeMs: numeric("mtime", 136, 12) * 1000,
      size,
      ...(target === "" ? {} : { target }),
      content: content(),
    };
    await source.skip(left);
    await source.pad(size);
    pax = new Map();
  }
  for (let rest = await source.next(); rest !== undefined; rest = await source.next()) {
    if (!isZero(rest)) throw new Error("something follows the archive's end");
  }
}

function isZero(bytes: Buffer): boolean {
  return bytes.every((byte) => byte === 0);
}

function records(bytes: Buffer): Map<string, string> {
  const found = new Map<string, string>();
  for (let at = 0; at < bytes.length;) {
    const space = bytes.indexOf(0x20, at);
    const length = Number(bytes.toString("latin1", at, space));
    const equals = bytes.indexOf(0x3d, space);
    if (!(length > 0) || equals < 0) throw new Error("the archive is damaged: a pax record cannot be read");
    found.set(bytes.toString("utf8", space + 1, equals), bytes.toString("utf8", equals + 1, at + length - 1));
    at += length;
  }
  return found;
}

/** Cuts a stream of chunks at places of its reader's choice. */
class Blocks {
  private readonly chunks: AsyncIterator<Buffer>;
  private rest: Buffer = EMPTY;

  public constructor(chunks: AsyncIterable<Buffer>) {
    this.chunks = chunks[Symbol.asyncIterator]();
  }

  /** The next chunk as it comes; undefined at the end. */
  public async next(): Promise<Buffer | undefined> {
    const { rest } = this;
    this.rest = EMPTY;
    if (rest.length > 0) return rest;
    const { done, value } = await this.chunks.next();
    return done === true ? undefined : value;
  }

  /** Between 1 and `most` bytes. */
  public async some(most: number): Promise<Buffer> {
    let chunk: Buffer | undefined = EMPTY;
    while (chunk?.length === 0) chunk = await this.next();
    if (chunk === undefined) throw new Error("the archive is cut");
    this.rest = chunk.subarray(most);
    return chunk.subarray(0, most);
  }

  /** Exactly `length` bytes. */
  public async take(length: number): Promise<Buffer> {
    const parts: Buffer[] = [];
    for (let left = length; left > 0;) {
      const part = await this.some(left);
      if (part.length === length) return part;
      parts.push(part);
      left -= part.length;
    }
    return Buffer.concat(parts);
  }

  public async skip(length: number): Promise<void> {
    for (let left = length; left > 0;) left -= (await this.some(left)).length;
  }

  /** What fills up the last block of that many bytes. */
  public async pad(size: number): Promise<void> {
    if (!isZero(await this.take(tarPadding(size).length))) throw new Error("the archive is damaged: something is between its members");
  }
}

/** Joins small chunks into larger ones. */
export async function* gather(chunks: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  let parts: Buffer[] = [];
  let length = 0;
  for await (const chunk of chunks) {
    parts.push(chunk);
    length += chunk.length;
    if (length < CHUNK_BYTES) continue;
    yield Buffer.concat(parts, length);
    parts = [];
    length = 0;
  }
  if (length > 0) yield Buffer.concat(parts, length);
}
