import { createHash, type Hash } from "node:crypto";
import {
  accessSync,
  closeSync,
  constants,
  fstatSync,
  lstatSync,
  openSync,
  read,
  readdirSync,
  readlinkSync,
  readSync,
  type Stats,
  statSync,
} from "node:fs";
import { setImmediate as turn } from "node:timers/promises";
import { promisify } from "node:util";
import type { TarEntry } from "./tar";

// Looking at a file and reading a small one are synchronous: the trips through the thread pool would cost many times the work itself
// (100,000 small files: 2 s of processor time against 12 s). After every few of them a signal is heard.
const TURN_EVERY = 128;
/** What is read whole. */
export const SMALL_BYTES = 262_144;
const CHUNK_BYTES = 1_048_576;
const readAsync = promisify(read);

/** How a tree is read. */
export interface TreeOptions {
  readonly signal: AbortSignal;
  /** Says of a path below the root whether it is left out, a directory with all that is in it. @default - nothing is */
  readonly excluded?: (path: string, isDirectory: boolean) => boolean;
  /** Writers go on: what vanishes is counted, and what changes while it is read is read again. Otherwise both are errors. @default false */
  readonly live?: boolean;
}

/** Something in a tree, as it was when the walk met it. */
export interface TreeNode extends TarEntry {
  /** Path from where it is read. */
  readonly source: string;
  /** Names that the file has, in the tree or elsewhere. */
  readonly names: number;
  /** Which file it is and what can be seen of its content; equal for two names of one file that did not change in between. */
  readonly state: string;
}

/** A member of a stored tree: what it is, and the SHA-256 of a file's content, hex. */
export type TreeRecord = TarEntry & { readonly sha256?: string };

/** Reads one tree: every path once, in an order that depends on the names alone ({@link compareKey}). */
export class TreeReader {
  /** What the walk met and left out. Sockets, pipes and devices are `special`. */
  public readonly leftOut = { excluded: 0, special: 0, vanished: 0 };

  /** @param root a directory, or a single file; a link is followed */
  public constructor(
    public readonly root: string,
    private readonly options: TreeOptions,
  ) {}

  /** @param onDenied told of what permissions keep from being read; without it such a path is an error */
  public async *walk(onDenied?: (source: string) => void): AsyncGenerator<TreeNode> {
    const pending = ["."];
    for (let count = 1; ; count++) {
      if (count % TURN_EVERY === 0) await turn();
      this.options.signal.throwIfAborted();
      const path = pending.pop();
      if (path === undefined) return;
      const source = path === "." ? this.root : `${this.root}/${path}`;
      let node: TreeNode | undefined;
      try {
        node = this.look(path, source, onDenied !== undefined);
        const below = node?.type === "directory" ? readdirSync(source).sort().reverse() : [];
        for (const name of below) pending.push(path === "." ? name : `${path}/${name}`);
      } catch (error) {
        const { code } = error as NodeJS.ErrnoException;
        node = undefined;
        if (onDenied !== undefined && (code === "EACCES" || code === "EPERM")) onDenied(source);
        else this.missing(source, error);
      }
      if (node !== undefined) yield node;
    }
  }

  /**
   * Opens a file for one reading of it.
   * @returns undefined where it vanished, which is counted
   */
  public open(node: TreeNode): OpenFile | undefined {
    try {
      return new OpenFile(node);
    } catch (error) {
      return this.missing(node.source, error);
    }
  }

  /** Opens a file once more, after it changed. @returns undefined where it vanished, which is counted */
  public reopen({ path, source }: TreeNode): OpenFile | undefined {
    try {
      const node = this.look(path, source, false);
      return node?.type === "file" ? new OpenFile(node) : undefined;
    } catch (error) {
      return this.missing(source, error);
    }
  }

  /** How often a file is read at most. */
  public get attempts(): number {
    return this.options.live === true ? 4 : 1;
  }

  /** What to say of a file that was another one at each end of its reading. */
  public changed({ source }: TreeNode): Error {
    const times = this.attempts === 1 ? "" : ` each of the ${this.attempts} times`;
    return new Error(`${source} changed while it was read${times}: stop its writer for the backup, back up a snapshot, or exclude it`);
  }

  private look(path: string, source: string, checkAccess: boolean): TreeNode | undefined {
    const stats = path === "." ? statSync(source) : lstatSync(source);
    if (path !== "." && this.options.excluded?.(path, stats.isDirectory()) === true) return void this.leftOut.excluded++;
    const type = typeOf(stats);
    if (type === undefined) return void this.leftOut.special++;
    if (checkAccess && type !== "symlink") accessSync(source, type === "file" ? constants.R_OK : constants.R_OK | constants.X_OK);
    const { mode, uid, gid, mtimeMs, nlink } = stats;
    const target = type === "symlink" ? { target: readlinkSync(source) } : {};
    const entry = { path, type, mode: mode & 0o7777, uid, gid, mtimeMs, size: type === "file" ? stats.size : 0, ...target };
    return { ...entry, source, names: nlink, state: stateOf(stats) };
  }

  private missing(source: string, error: unknown): undefined {
    const { code } = error as NodeJS.ErrnoException;
    if (code !== "ENOENT" && code !== "ENOTDIR" && code !== "ELOOP") throw error;
    // What Node shows for bytes that are no UTF-8; the path it gives back is not the file's.
    if (source.includes("\ufffd")) throw new Error(`${source} has a name that is not valid UTF-8: rename it, or exclude its directory`);
    if (this.options.live !== true) throw new Error(`${source} vanished during the backup`);
    this.leftOut.vanished++;
  }
}

/** A file while it is read. A small one is read at once. */
export class OpenFile {
  private readonly fd: number;
  private readonly hash: Hash = createHash("sha256");
  private bytes = 0;
  private whole?: Buffer;
  private sha256?: string;

  /** @throws Error where it cannot be opened or read */
  public constructor(public readonly node: TreeNode) {
    // No link is followed and no pipe waited for that took the file's place meanwhile.
    this.fd = openSync(node.source, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
    if (node.size <= SMALL_BYTES) this.load();
  }

  /** Whether it is known already that this is not the file that the walk saw. */
  public get changed(): boolean {
    return this.whole !== undefined && this.sha256 === undefined;
  }

  /** The content, hashed on its way; never more than the size that the walk saw. */
  public async *content(): AsyncGenerator<Buffer> {
    if (this.whole !== undefined) return yield this.whole;
    while (this.bytes < this.node.size) {
      const buffer = Buffer.allocUnsafe(Math.min(this.node.size - this.bytes, CHUNK_BYTES));
      const { bytesRead } = await readAsync(this.fd, buffer, 0, buffer.length, null);
      if (bytesRead === 0) return;
      const chunk = buffer.subarray(0, bytesRead);
      this.bytes += bytesRead;
      this.hash.update(chunk);
      yield chunk;
    }
  }

  /**
   * Ends the reading.
   * @returns SHA-256 of what was read, hex; undefined where this is not the file that the walk saw
   */
  public close(): string | undefined {
    if (this.whole !== undefined) return this.sha256;
    try {
      const after = fstatSync(this.fd);
      return after.isFile() && this.bytes === after.size && stateOf(after) === this.node.state ? this.hash.digest("hex") : undefined;
    } finally {
      closeSync(this.fd);
    }
  }

  private load(): void {
    const buffer = Buffer.allocUnsafe(this.node.size);
    try {
      for (let count = 1; count > 0; this.bytes += count) count = readSync(this.fd, buffer, this.bytes, buffer.length - this.bytes, null);
      this.hash.update(buffer.subarray(0, this.bytes));
    } finally {
      this.sha256 = this.close();
    }
    this.whole = buffer.subarray(0, this.bytes);
  }
}

/** What a tree holds: numbers of files (hard links are files), directories and symbolic links, bytes, and hashes. */
export type TreeFacts = { readonly [count in "files" | "directories" | "symlinks" | "bytes"]: number } & {
  /** Over paths, modes and contents. */
  readonly sha256: string;
  /** Over owners and times, in whole seconds: those of a restored copy may differ, where it is another user's. */
  readonly attributes: string;
};

/** Finds out the facts of a tree. */
export class TreeDigest {
  private readonly hash = createHash("sha256");
  private readonly attributes = createHash("sha256");
  private files = 0;
  private directories = 0;
  private symlinks = 0;
  private bytes = 0;

  public add({ path, type, mode, uid, gid, mtimeMs, size, target, sha256 }: TreeRecord): void {
    if (type === "directory") this.directories++;
    else if (type === "symlink") this.symlinks++;
    else this.files++;
    this.bytes += size;
    this.hash.update(`${JSON.stringify([path, type, type === "symlink" ? 0 : mode, target ?? sha256 ?? null])}\n`);
    this.attributes.update(`${uid}:${gid} ${Math.floor(mtimeMs / 1000)}\n`);
  }

  public facts(): TreeFacts {
    const { files, directories, symlinks, bytes, hash, attributes } = this;
    const hex = (of: Hash): string => of.copy().digest("hex");
    return { files, directories, symlinks, bytes, sha256: hex(hash), attributes: hex(attributes) };
  }
}

/** Finds the names of one file: the first is the file, the others are links to it. */
export class Twins {
  private readonly first = new Map<string, string>();

  /** The record of another name of a file that was added; undefined for what was not, or changed since. */
  public find(node: TreeNode, path: string): TreeRecord | undefined {
    const target = this.first.get(node.state);
    return node.type === "file" && target !== undefined ? { ...plain(node), path, type: "link", size: 0, target } : undefined;
  }

  public add(node: TreeNode, path: string): void {
    if (node.names > 1) this.first.set(node.state, path);
  }
}

/** A node without what only its reading needs. */
export function plain({ path, type, mode, uid, gid, mtimeMs, size, target }: TarEntry): TarEntry {
  return { path, type, mode, uid, gid, mtimeMs, size, ...(target === undefined ? {} : { target }) };
}

/** The time of a file as the calls that set it take it. Node.js takes a negative number for the present, but not a date. */
export function fileTime({ mtimeMs }: Pick<TarEntry, "mtimeMs">): number | Date {
  return mtimeMs < 0 ? new Date(mtimeMs) : mtimeMs / 1000;
}

/** Text that orders paths as the walk does: a directory before what is in it, its content before its next neighbour. */
export function compareKey(path: string): string {
  return path === "." ? "" : path.replaceAll("/", "\0");
}

/** What two lists in the order of a walk say of each path. */
export async function* joined<L extends { readonly path: string }, R extends { readonly path: string }>(
  lefts: AsyncIterable<L>,
  rights: AsyncIterable<R>,
): AsyncGenerator<{ readonly left?: L; readonly right?: R }> {
  const [l, r] = [lefts[Symbol.asyncIterator](), rights[Symbol.asyncIterator]()];
  let [left, right] = [(await l.next()).value as L | undefined, (await r.next()).value as R | undefined];
  while (left !== undefined || right !== undefined) {
    const [a, b] = [left && compareKey(left.path), right && compareKey(right.path)];
    const takeLeft = b === undefined || (a !== undefined && a <= b);
    const takeRight = a === undefined || (b !== undefined && b <= a);
    yield { ...(takeLeft && { left }), ...(takeRight && { right }) };
    if (takeLeft) left = (await l.next()).value as L | undefined;
    if (takeRight) right = (await r.next()).value as R | undefined;
  }
}

function typeOf(stats: Stats): "file" | "directory" | "symlink" | undefined {
  if (stats.isFile()) return "file";
  if (stats.isDirectory()) return "directory";
  return stats.isSymbolicLink() ? "symlink" : undefined;
}

function stateOf({ dev, ino, size, mtimeMs, ctimeMs }: Stats): string {
  return `${dev}:${ino}:${size}:${mtimeMs}:${ctimeMs}`;
}
