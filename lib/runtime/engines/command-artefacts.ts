import { createHash, type Hash } from "node:crypto";
import { createWriteStream } from "node:fs";
import { mkdir } from "node:fs/promises";
import { dirname, join } from "node:path";
import { Readable } from "node:stream";
import { finished, pipeline } from "node:stream/promises";
import type { Fact, ManifestFile } from "../manifest";
import { artefactName } from "../store";

/** One thing that a command yields. */
export interface CommandArtefact {
  /** File or directory name in the generation: letters, digits, `.`, `_` and `-`, not beginning with `.` or `-`. */
  readonly name: string;
  /** Where its content is, see {@link CommandSettings}. A directory is copied file by file: links, special files and empty directories
   * are refused, owners and modes are not kept; a program that needs those writes an archive to its standard output. */
  readonly from: "stream" | "file" | "directory";
  /** Compress with zstd; `false` for what is compressed already. */
  readonly compress: boolean;
  /** Smaller than this (uncompressed; a directory: its files together) is a failure. */
  readonly minBytes: number;
  /** What a whole stream or file ends with, white space at the very end aside, e.g. `-- PostgreSQL database dump complete\n--`. */
  readonly trailer?: string;
}

/** More than this much white space after a trailer is not looked behind. */
const TRAILING_BYTES = 256;

/**
 * Reads artefacts to the last byte.
 *
 * @param into directory to write them to, as files and directories of their names @default - they are only read
 * @returns what they are, as the fingerprint says it
 * @throws Error where one is too small or does not end as it must
 */
export async function readArtefacts(
  artefacts: readonly CommandArtefact[],
  files: readonly ManifestFile[],
  open: (file: ManifestFile) => Readable,
  into?: string,
): Promise<{ readonly [artefact: string]: Fact }> {
  const found: Record<string, Fact> = {};
  for (const artefact of artefacts) {
    const content = new Content(artefact);
    for (const file of files) {
      const name = artefactName(file);
      if (name !== artefact.name && !(artefact.from === "directory" && name.startsWith(`${artefact.name}/`))) continue;
      content.begin(name);
      const passing = async function* (): AsyncGenerator<Buffer> {
        for await (const chunk of open(file)) {
          content.add(chunk as Buffer);
          yield chunk as Buffer;
        }
      };
      await (into === undefined ? finished(Readable.from(passing()).resume()) : write(passing(), join(into, name)));
    }
    found[artefact.name] = content.facts();
  }
  return found;
}

async function write(content: AsyncIterable<Buffer>, path: string): Promise<void> {
  await mkdir(dirname(path), { recursive: true });
  await pipeline(content, createWriteStream(path, { flags: "wx" }));
}

/** Size, hash and last bytes of an artefact as it passes, in one or more files. */
export class Content {
  private readonly files: { readonly name: string; readonly hash: Hash }[] = [];
  private bytes = 0;
  private tail = Buffer.alloc(0);
  private readonly tailBytes: number;

  public constructor(private readonly artefact: CommandArtefact) {
    const { trailer } = artefact;
    this.tailBytes = trailer === undefined ? 0 : Buffer.byteLength(trailer) + TRAILING_BYTES;
  }

  public begin(name: string): void {
    this.files.push({ name, hash: createHash("sha256") });
  }

  public add(chunk: Buffer): void {
    this.files.at(-1)?.hash.update(chunk);
    this.bytes += chunk.length;
    if (this.tailBytes > 0) this.tail = Buffer.concat([this.tail, chunk.subarray(-this.tailBytes)]).subarray(-this.tailBytes);
  }

  /** @throws Error where the artefact is too small or does not end as it must */
  public facts(): Fact {
    const { from, minBytes, trailer } = this.artefact;
    if (this.bytes < minBytes) throw new Error(`${this.bytes} bytes, at least ${minBytes} expected`);
    const whole = trailer === undefined || this.tail.toString().trimEnd().endsWith(trailer.trimEnd());
    if (!whole) throw new Error(`it does not end with ${JSON.stringify(trailer)}`);
    const hashes = this.files.map(({ name, hash }) => ({ name, sha256: hash.digest("hex") }));
    if (from !== "directory") return { bytes: this.bytes, sha256: hashes[0]?.sha256 ?? null };
    const listing = hashes.map(({ name, sha256 }) => `${sha256}  ${name}\n`).join("");
    return { files: hashes.length, bytes: this.bytes, sha256: createHash("sha256").update(listing).digest("hex") };
  }
}
