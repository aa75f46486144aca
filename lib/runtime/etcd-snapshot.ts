import { createHash } from "node:crypto";

/** Length of the SHA-256 that ends a snapshot, as `etcdctl snapshot save` writes it and `restore` wants it. */
export const CHECKSUM_BYTES = 32;
/** The server sends pieces of 32 to 64 KiB. */
const MAX_MESSAGE_BYTES = 16 * 1024 * 1024;
const NEWLINE = 0x0a;

interface Message {
  readonly result?: { readonly remaining_bytes?: string; readonly blob?: string };
  readonly error?: { readonly message?: string };
}

/**
 * Takes a snapshot out of the gateway's answer: messages of JSON, one a line, each with a piece in base64.
 * Yields the file that `etcdctl snapshot save` would have written.
 *
 * @throws Error where the server reports one, the answer is cut, or the snapshot's own checksum does not fit
 */
export async function* readSnapshot(answer: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  const checksum = new TrailingChecksum();
  let announced: number | undefined;
  let received = 0;
  let remaining = 0;
  for await (const line of lines(answer)) {
    const { result, error } = parse(line);
    const reason = error?.message ?? "no reason given";
    if (result === undefined) throw new Error(`the server broke off the snapshot after ${received} bytes: ${reason}`);
    const piece = Buffer.from(result.blob ?? "", "base64");
    received += piece.length;
    remaining = Number(result.remaining_bytes ?? 0);
    announced ??= piece.length + remaining;
    checksum.add(piece);
    yield piece;
  }
  if (remaining > 0 || received !== (announced ?? 0) + CHECKSUM_BYTES) {
    const expected = announced === undefined ? "nothing came" : `${announced + CHECKSUM_BYTES} were announced`;
    throw new Error(`the snapshot ended after ${received} bytes: ${expected}`);
  }
  checksum.check();
}

/** Checks that the last 32 bytes of a stream are the SHA-256 of all that precedes them. */
export class TrailingChecksum {
  private readonly hash = createHash("sha256");
  private tail: Buffer = Buffer.alloc(0);

  public add(chunk: Buffer): void {
    const held = Buffer.concat([this.tail, chunk.subarray(-CHECKSUM_BYTES)]);
    const release = held.length - CHECKSUM_BYTES;
    if (chunk.length >= CHECKSUM_BYTES) this.hash.update(this.tail).update(chunk.subarray(0, -CHECKSUM_BYTES));
    else if (release > 0) this.hash.update(held.subarray(0, release));
    this.tail = held.subarray(Math.max(0, release));
  }

  /** @throws Error unless they are */
  public check(): void {
    if (!this.hash.digest().equals(this.tail)) throw new Error("the snapshot's checksum does not fit its content");
  }
}

function parse(line: Buffer): Message {
  try {
    return JSON.parse(line.toString("latin1")) as Message;
  } catch {
    throw new Error(`the server's answer is cut or no snapshot: ${JSON.stringify(line.toString("latin1", 0, 80))}`);
  }
}

/** Cuts a stream at its newlines; empty lines are left out. */
async function* lines(chunks: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  let parts: Buffer[] = [];
  let length = 0;
  for await (let chunk of chunks) {
    for (let end = chunk.indexOf(NEWLINE); end >= 0; end = chunk.indexOf(NEWLINE)) {
      const line = Buffer.concat([...parts, chunk.subarray(0, end)]);
      parts = [];
      length = 0;
      chunk = chunk.subarray(end + 1);
      if (line.length > 0) yield line;
    }
    parts.push(chunk);
    length += chunk.length;
    if (length > MAX_MESSAGE_BYTES) throw new Error("the server's answer is no snapshot: a message has no end");
  }
  const rest = Buffer.concat(parts);
  if (rest.length > 0) yield rest;
}
