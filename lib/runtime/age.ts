import {
  createCipheriv,
  createDecipheriv,
  createHmac,
  createPublicKey,
  diffieHellman,
  generateKeyPairSync,
  hkdfSync,
  type KeyObject,
  randomBytes,
} from "node:crypto";
import { Transform } from "node:stream";
import { fromBech32 } from "./bech32";

// The format is https://age-encryption.org/v1, with recipients of the type X25519.
const VERSION = "age-encryption.org/v1";
const CIPHER = "chacha20-poly1305";
const BLOCK_BYTES = 65_536;
const TAG_BYTES = 16;
const NONCE_BYTES = 16;
/** In front of the bytes of an X25519 public key: makes it one that Node reads (RFC 8410). */
const PUBLIC_KEY = Buffer.from("302a300506032b656e032100", "hex");
const HEADER =
  /^age-encryption\.org\/v1\n((?:-> [!-~]+(?: [!-~]+)*\n(?:[A-Za-z0-9+/]{64}\n)*[A-Za-z0-9+/]{0,63}\n)+)--- ([A-Za-z0-9+/]{43})\n/;
const MAC_LENGTH = 45;

/** A part of the header: the file's key, sealed for one recipient. */
export interface Stanza {
  readonly args: readonly string[];
  readonly body: Buffer;
}

/** Finds the file's key in the header. @throws Error where it is not there, or not for us */
export type FileKeyOf = (stanzas: readonly Stanza[]) => Buffer;

/** A key for one file, by which whoever has it can read that: it must never be written down. */
export function newFileKey(): Buffer {
  return randomBytes(16);
}

/** The public key in a recipient, `age1...`; undefined where there is none. */
export function recipientKey(recipient: string): Buffer | undefined {
  const key = recipient.startsWith("age1") ? fromBech32("age", recipient) : undefined;
  return key?.length === 32 ? key : undefined;
}

/** Encrypts what is written to it. */
export function encrypter(recipients: readonly string[], fileKey: Buffer): Transform {
  const nonce = randomBytes(NONCE_BYTES);
  const key = derive(fileKey, nonce, "payload");
  let blocks = 0;
  const stream = inBlocks(BLOCK_BYTES, (block, last) => seal(key, nonceOf(blocks++, last), block));
  stream.push(Buffer.concat([Buffer.from(makeHeader(recipients, fileKey)), nonce]));
  return stream;
}

/** Decrypts what is written to it; fails unless all of that is what {@link encrypter} gave, nothing changed, missing or appended. */
export function decrypter(fileKeyOf: FileKeyOf): Transform {
  let key: Buffer;
  let blocks = 0;
  const begin = (held: Buffer): Buffer => {
    const { fileKey, end } = readHeader(held.toString("latin1", 0, BLOCK_BYTES), fileKeyOf);
    key = derive(fileKey, held.subarray(end, end + NONCE_BYTES), "payload");
    return held.subarray(end + NONCE_BYTES);
  };
  const work = (block: Buffer, last: boolean): readonly Buffer[] => {
    const plain = open(key, nonceOf(blocks, last), block);
    if (plain === undefined || (plain.length === 0 && blocks > 0)) throw new Error(`block ${blocks} is not what was encrypted`);
    blocks++;
    return [plain];
  };
  return inBlocks(BLOCK_BYTES + TAG_BYTES, work, begin);
}

/** What the file's key is sealed with for one recipient: a secret that only the owners of these two pairs of keys can share. */
export function wrapKey(privateKey: KeyObject, other: Buffer, share: Buffer, recipient: Buffer): Buffer {
  const publicKey = createPublicKey({ key: Buffer.concat([PUBLIC_KEY, other]), format: "der", type: "spki" });
  return derive(diffieHellman({ privateKey, publicKey }), Buffer.concat([share, recipient]), `${VERSION}/X25519`);
}

/** The bytes of an X25519 public key. */
export function bytesOfKey(key: KeyObject): Buffer {
  return key.export({ format: "der", type: "spki" }).subarray(PUBLIC_KEY.length);
}

/** What was sealed with this key; undefined where it was another. */
export function open(key: Buffer, nonce: Buffer, sealed: Buffer): Buffer | undefined {
  if (sealed.length < TAG_BYTES) return undefined;
  const cipher = createDecipheriv(CIPHER, key, nonce, { authTagLength: TAG_BYTES }).setAuthTag(sealed.subarray(-TAG_BYTES));
  const plain = cipher.update(sealed.subarray(0, -TAG_BYTES));
  try {
    cipher.final();
    return plain;
  } catch {
    return undefined;
  }
}

function seal(key: Buffer, nonce: Buffer, plain: Buffer): readonly Buffer[] {
  const cipher = createCipheriv(CIPHER, key, nonce, { authTagLength: TAG_BYTES });
  return [cipher.update(plain), cipher.final(), cipher.getAuthTag()];
}

/** The number of a block in the payload, and whether it is the last: so none can be moved, left out or appended. Of a wrapped key, 0. */
export function nonceOf(block: number, last: boolean): Buffer {
  const nonce = Buffer.alloc(12);
  nonce.writeUIntBE(block, 5, 6);
  nonce.writeUInt8(last ? 1 : 0, 11);
  return nonce;
}

function derive(secret: Buffer, salt: Buffer, info: string): Buffer {
  return Buffer.from(hkdfSync("sha256", secret, salt, info, 32));
}

function makeHeader(recipients: readonly string[], fileKey: Buffer): string {
  const stanzas = recipients.map((recipient) => {
    const theirs = recipientKey(recipient);
    if (theirs === undefined) throw new Error(`${recipient} is no age recipient`);
    const own = generateKeyPairSync("x25519");
    const share = bytesOfKey(own.publicKey);
    const body = seal(wrapKey(own.privateKey, theirs, share, theirs), nonceOf(0, false), fileKey);
    return `-> X25519 ${base64(share)}\n${base64(Buffer.concat(body))}\n`;
  });
  const text = `${VERSION}\n${stanzas.join("")}---`;
  return `${text} ${macOf(fileKey, text)}\n`;
}

function readHeader(text: string, fileKeyOf: FileKeyOf): { readonly fileKey: Buffer; readonly end: number } {
  const [whole = "", stanzas = "", mac] = HEADER.exec(text) ?? [];
  if (mac === undefined) throw new Error("it does not begin as an age file does");
  const fileKey = fileKeyOf(
    stanzas.split(/^-> /m).slice(1).map((stanza) => {
      const [args = "", ...body] = stanza.split("\n");
      return { args: args.split(" "), body: fromBase64(body.join("")) };
    }),
  );
  if (mac !== macOf(fileKey, whole.slice(0, -MAC_LENGTH))) throw new Error("its age header is not what was written");
  return { fileKey, end: whole.length };
}

function macOf(fileKey: Buffer, text: string): string {
  return base64(createHmac("sha256", derive(fileKey, Buffer.alloc(0), "header")).update(text, "latin1").digest());
}

function base64(bytes: Buffer): string {
  return bytes.toString("base64").replaceAll("=", "");
}

/** @throws Error unless `text` is what {@link base64} gives */
export function fromBase64(text: string): Buffer {
  const bytes = Buffer.from(text, "base64");
  if (base64(bytes) !== text) throw new Error("its age header is not what was written");
  return bytes;
}

/** Calls `work` for each block of a stream. The last may be shorter, and is empty only where all is: a block waits until more follows. */
function inBlocks(
  size: number,
  work: (block: Buffer, last: boolean) => readonly Buffer[],
  begin: (held: Buffer) => Buffer = (held): Buffer => held,
): Transform {
  let pieces: Buffer[] = [];
  let length = 0;
  let begun = false;
  const take = (ends: boolean): Buffer => {
    let held: Buffer = Buffer.concat(pieces);
    if (!begun) held = begin(held);
    begun = true;
    const done: Buffer[] = [];
    for (; held.length > size; held = held.subarray(size)) done.push(...work(held.subarray(0, size), false));
    if (ends) done.push(...work(held, true));
    pieces = [held];
    length = held.length;
    return Buffer.concat(done);
  };
  const tell = (ends: boolean, next: (error: Error | null, chunk?: Buffer) => void): void => {
    let done: Buffer;
    try {
      done = take(ends);
    } catch (error) {
      return next(error as Error);
    }
    next(null, done);
  };
  return new Transform({
    transform(chunk: Buffer, _encoding, next) {
      pieces.push(chunk);
      length += chunk.length;
      if (length > size) tell(false, next);
      else next();
    },
    flush: (next) => tell(true, next),
  });
}
