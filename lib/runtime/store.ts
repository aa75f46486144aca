import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { mkdir, open, stat } from "node:fs/promises";
import { join } from "node:path";
import { Readable, Transform, Writable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { constants, createZstdCompress, createZstdDecompress } from "node:zlib";
import { decrypter, encrypter, type FileKeyOf } from "./age";
import type { StoreOptions } from "./engine";
import { isBelow } from "./generation";
import type { ManifestFile } from "./manifest";

/** Suffix of what the runner compressed. */
export const COMPRESSED = ".zst";
/** Suffix of what the runner encrypted, after that of compression. */
export const ENCRYPTED = ".age";
const CHUNK_BYTES = 262_144;
/** Dumps repeat themselves over long distances; finding that costs next to nothing, in a window of 8 MiB that any reader accepts. */
const ZSTD = {
  [constants.ZSTD_c_checksumFlag]: 1,
  [constants.ZSTD_c_enableLongDistanceMatching]: 1,
  [constants.ZSTD_c_windowLog]: 23,
};

/** How an artefact is written. */
export interface WriteOptions extends StoreOptions {
  /** zstd level. */
  readonly level: number;
  readonly signal: AbortSignal;
  /** To whom it is encrypted, and by what key. @default - not encrypted */
  readonly encryption?: { readonly recipients: readonly string[]; readonly fileKey: Buffer };
  /** Told the size of every chunk, for progress reports. */
  readonly count?: (bytes: number) => void;
}

/** How an artefact is read back. */
export interface ReadOptions {
  readonly signal?: AbortSignal;
  /** Told the size of every chunk. */
  readonly count?: (bytes: number) => void;
  /** Told the path once the file was read to its end and found whole. */
  readonly onWhole?: (path: string) => void;
  /** Finds the key of a file that is encrypted. @default - such a file cannot be read */
  readonly keyOf?: KeyOf;
}

/** Finds what opens an artefact. @throws Error where nothing can, with the reason */
export type KeyOf = (file: ManifestFile) => FileKeyOf;

/** The name that an engine gave to an artefact, without what the runner appended to it. */
export function artefactName({ path, uncompressedBytes, recipients }: ManifestFile): string {
  const end = (recipients === undefined ? 0 : ENCRYPTED.length) + (uncompressedBytes === undefined ? 0 : COMPRESSED.length);
  return path.slice(0, path.length - end);
}

/**
 * The artefact that an engine stored under a name.
 * @param owner whose files these are, for the message
 * @throws Error where there is none
 */
export function fileOf(files: readonly ManifestFile[], name: string, owner = "the backup"): ManifestFile {
  const found = files.find((file) => artefactName(file) === name);
  if (found === undefined) throw new Error(`${owner} has no ${name}`);
  return found;
}

/**
 * Streams `source` into the new file `name` below `directory` and makes it durable.
 * @throws Error if the source fails, the file exists, or the target refuses a byte
 */
export async function storeFile(directory: string, name: string, source: Readable, options: WriteOptions): Promise<ManifestFile> {
  const { compress = true, inspect, level, signal, count, encryption } = options;
  const path = name + (compress ? COMPRESSED : "") + (encryption === undefined ? "" : ENCRYPTED);
  if (!isBelow(path)) {
    throw new Error(`an artefact's name must be a relative path without '.' and '..', but got ${JSON.stringify(name)}`);
  }
  await makeParents(directory, path);
  const refused = (error: Error): never => {
    throw new Error(`cannot write ${path}: ${error.message}`, { cause: error });
  };
  const file = await open(join(directory, path), "wx", 0o640);
  try {
    let uncompressedBytes = 0;
    const before = tap((chunk) => {
      uncompressedBytes += chunk.length;
      inspect?.(chunk);
      count?.(chunk.length);
    });
    let bytes = 0;
    const hash = createHash("sha256");
    const after = tap((chunk) => {
      bytes += chunk.length;
      hash.update(chunk);
    });
    const target = new Writable({
      write: (chunk: Buffer, _encoding, next) => void file.writeFile(chunk).catch(refused).then(() => next(), next),
    });
    const params = { ...ZSTD, [constants.ZSTD_c_compressionLevel]: level };
    const compressor = compress ? [createZstdCompress({ params, chunkSize: CHUNK_BYTES })] : [];
    const cipher = encryption === undefined ? [] : [encrypter(encryption.recipients, encryption.fileKey)];
    await pipeline([source, before, ...compressor, ...cipher, after, target], { signal });
    await file.sync().catch(refused);
    const result = { path, bytes, sha256: hash.digest("hex"), recipients: encryption?.recipients };
    return compress ? { ...result, uncompressedBytes } : result;
  } finally {
    // The last place where a target can say that it lost something.
    await file.close().catch(refused);
  }
}

/**
 * What `storeFile` stored, decrypted and decompressed, read back from the target.
 * The stream fails instead of ending unless the file has the very bytes that were written: nothing cut, changed or appended.
 */
export function openFile(directory: string, file: ManifestFile, options: ReadOptions = {}): Readable {
  return Readable.from(decode(directory, file, options), { objectMode: false });
}

async function* decode(directory: string, file: ManifestFile, { signal, count, onWhole, keyOf }: ReadOptions): AsyncGenerator<Buffer> {
  const path = join(directory, file.path);
  const damaged = (how: string): Error => new Error(`${file.path} is damaged: ${how}`);
  const { size } = await stat(path);
  if (size !== file.bytes) throw damaged(`${size} bytes instead of ${file.bytes}`);
  const hash = createHash("sha256");
  let bytes = 0;
  const raw = tap((chunk) => {
    bytes += chunk.length;
    hash.update(chunk);
    count?.(chunk.length);
  });
  const decoders: Transform[] = [raw];
  if (file.recipients !== undefined) {
    if (keyOf === undefined) throw new Error(`${file.path} is encrypted`);
    decoders.push(decrypter(keyOf(file)));
  }
  if (file.uncompressedBytes !== undefined) decoders.push(createZstdDecompress({ chunkSize: CHUNK_BYTES }));
  const source = createReadStream(path, { highWaterMark: CHUNK_BYTES, signal });
  let decoded = 0;
  let failure: Error | undefined;
  pipeline([source, ...decoders]).catch((error: Error) => (failure = error));
  try {
    for await (const chunk of decoders.at(-1) as AsyncIterable<Buffer>) {
      decoded += chunk.length;
      yield chunk;
    }
  } catch (error) {
    signal?.throwIfAborted();
    throw damaged((error as Error).message);
  }
  if (failure !== undefined) throw damaged(failure.message);
  // The decoder stops at the end of a frame and says nothing of what follows. (At times that is an empty frame, with which
  // Node's compressor ends; so it is the size and the hash that keep anything else from following.)
  if (bytes !== file.bytes || hash.digest("hex") !== file.sha256) throw damaged("its SHA-256 is not the one that was written");
  const { uncompressedBytes = decoded } = file;
  if (decoded !== uncompressedBytes) throw damaged(`${decoded} bytes after decompression instead of ${uncompressedBytes}`);
  onWhole?.(file.path);
}

/** Never makes `directory` itself: where it is gone, so is the target, and what is there instead must not be written to. */
async function makeParents(directory: string, path: string): Promise<void> {
  const parents = path.split("/").slice(0, -1);
  for (let depth = 1; depth <= parents.length; depth++) {
    await mkdir(join(directory, ...parents.slice(0, depth))).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== "EEXIST") throw error;
    });
  }
}

function tap(see: (chunk: Buffer) => void): Transform {
  return new Transform({
    transform(chunk: Buffer, _encoding, next) {
      try {
        see(chunk);
        next(null, chunk);
      } catch (error) {
        next(error as Error);
      }
    },
  });
}
