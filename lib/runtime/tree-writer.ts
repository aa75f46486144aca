import { createHash } from "node:crypto";
import {
  chmodSync,
  closeSync,
  constants,
  fchmodSync,
  fchownSync,
  fstatSync,
  ftruncateSync,
  futimesSync,
  lchownSync,
  linkSync,
  lstatSync,
  lutimesSync,
  mkdirSync,
  openSync,
  type Stats,
  symlinkSync,
  unlinkSync,
  write,
  writeSync,
} from "node:fs";
import { dirname } from "node:path/posix";
import { setImmediate as turn } from "node:timers/promises";
import { promisify } from "node:util";
import { isBelow } from "./generation";
import type { TarEntry } from "./tar";
import { fileTime, plain, SMALL_BYTES, TreeDigest, type TreeFacts, type TreeRecord } from "./tree";

// Synchronous for the same reason as the reading of a tree: for small files the trips through the thread pool cost more than the work.
const TURN_EVERY = 128;
const ZEROS = Buffer.alloc(SMALL_BYTES);
const NEW = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW;
const writeAsync = promisify(write);

/** A member of a stored tree with its content. */
export type StoredMember = TreeRecord & { readonly content: AsyncIterable<Buffer> };

/**
 * Writes the members of a stored tree below an empty directory: content, mode, time and links, each read back from the file system's
 * own record of it; and the owner, where this process may give a file to another. Large runs of zeros become holes.
 *
 * No member gets out of the directory, and none through a link in it. Nothing is made durable.
 */
export class TreeWriter {
  /** Members that lie in no other. */
  public readonly roots: string[] = [];
  /** Paths that belong to others than they did, as only root could give them away: how many, and one of them. */
  public readonly foreign = { count: 0, first: "" };
  private readonly digest = new TreeDigest();
  /** Those that were made, by path. Their modes and times are set when nothing is put into them any more. */
  private readonly directories = new Map<string, TarEntry | undefined>([[".", undefined]]);
  private last: TreeRecord | undefined;
  private count = 0;

  /** @param root exists and is empty */
  public constructor(
    private readonly root: string,
    private readonly signal: AbortSignal,
  ) {}

  /**
   * Writes a member; the directory that it is in comes before it. The same file again takes the place of the first.
   * @returns what it is, with the hash of the content that was written
   */
  public async add(member: StoredMember): Promise<TreeRecord> {
    if (++this.count % TURN_EVERY === 0) await turn();
    this.signal.throwIfAborted();
    const { path, type } = member;
    const again = this.last?.path === path;
    if (this.last !== undefined && !again) this.digest.add(this.last);
    const record = path === "." && type === "directory" ? this.directory(member) : await this.write(member, again);
    this.last = record;
    return record;
  }

  /** Ends the writing: the modes and times of directories, the innermost first. */
  public finish(): void {
    for (const [path, entry] of [...this.directories].reverse()) {
      if (entry === undefined) continue;
      const at = this.at(path);
      this.own(entry, lstatSync(at), (uid, gid) => lchownSync(at, uid, gid));
      chmodSync(at, entry.mode);
      lutimesSync(at, fileTime(entry), fileTime(entry));
      check(entry, lstatSync(at));
    }
    if (this.last !== undefined) this.digest.add(this.last);
    this.last = undefined;
  }

  /** What was written, once that has ended. */
  public facts(): TreeFacts {
    return this.digest.facts();
  }

  /** What is to be said of {@link foreign}: nothing where nothing is. */
  public get owners(): readonly string[] {
    const { count, first } = this.foreign;
    const own = `${process.getuid?.()}:${process.getgid?.()}`;
    if (count === 0) return [];
    return [`${count} paths belonged to other users and groups than ${own}, to whom they belong now; one is ${first}`];
  }

  private async write(member: StoredMember, again: boolean): Promise<TreeRecord> {
    const { path, type, target = "" } = member;
    if (!isBelow(path)) throw new Error(`the stored tree has ${JSON.stringify(path)}, which is no path below it`);
    const parent = dirname(path);
    if (!this.directories.has(parent)) this.makeParents(parent);
    if (this.directories.get(parent) === undefined && !again) this.roots.push(path);
    if (type === "directory") return this.directory(member);
    const at = this.at(path);
    if (again) unlinkSync(at);
    if (type === "link") {
      if (!isBelow(target)) throw new Error(`the stored tree has a link to ${JSON.stringify(target)}, which is no path below it`);
      linkSync(this.at(target), at);
    } else if (type === "symlink") {
      symlinkSync(target, at);
      this.own(member, lstatSync(at), (uid, gid) => lchownSync(at, uid, gid));
      lutimesSync(at, fileTime(member), fileTime(member));
    } else {
      return { ...plain(member), sha256: await this.file(member, at) };
    }
    return plain(member);
  }

  private directory(member: TreeRecord): TreeRecord {
    const { path } = member;
    if (path !== ".") mkdirSync(this.at(path), 0o700);
    else if (this.directories.get(path) === undefined) this.roots.push(path);
    this.directories.set(path, plain(member));
    return plain(member);
  }

  private async file(member: StoredMember, at: string): Promise<string> {
    const { path, size, mode, content, sha256 } = member;
    const fd = openSync(at, NEW, 0o600);
    try {
      const hash = createHash("sha256");
      let position = 0;
      for await (const chunk of content) {
        hash.update(chunk);
        if (size <= SMALL_BYTES) writeWholeSync(fd, chunk, position);
        else if (!chunk.equals(ZEROS.subarray(0, chunk.length))) await writeWhole(fd, chunk, position);
        position += chunk.length;
      }
      if (position !== size) throw new Error(`${path} is damaged: ${position} bytes instead of ${size}`);
      const found = hash.digest("hex");
      if (sha256 !== undefined && found !== sha256) throw new Error(`${path} is damaged: its SHA-256 is not the one that was written`);
      // Holes at the end.
      if (size > SMALL_BYTES) ftruncateSync(fd, size);
      this.own(member, fstatSync(fd), (uid, gid) => fchownSync(fd, uid, gid));
      fchmodSync(fd, mode);
      futimesSync(fd, fileTime(member), fileTime(member));
      check(member, fstatSync(fd));
      return found;
    } finally {
      closeSync(fd);
    }
  }

  /** Before the mode is set, as a new owner loses what it says of set-user-ID. */
  private own({ path, uid, gid }: TarEntry, found: Stats, change: (uid: number, gid: number) => void): void {
    if (found.uid === uid && found.gid === gid) return;
    try {
      change(uid, gid);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "EPERM") throw error;
      if (this.foreign.count++ === 0) this.foreign.first = `${path} (${uid}:${gid})`;
    }
  }

  /** Of what was stored by itself, without the directories that it was in. What is in a directory's place is not followed. */
  private makeParents(path: string): void {
    const parent = dirname(path);
    if (!this.directories.has(parent)) this.makeParents(parent);
    mkdirSync(this.at(path), 0o755);
    this.directories.set(path, undefined);
  }

  private at(path: string): string {
    return path === "." ? this.root : `${this.root}/${path}`;
  }
}

function writeWholeSync(fd: number, chunk: Buffer, position: number): void {
  for (let done = 0; done < chunk.length;) done += writeSync(fd, chunk, done, chunk.length - done, position + done);
}

async function writeWhole(fd: number, chunk: Buffer, position: number): Promise<void> {
  for (let done = 0; done < chunk.length;) done += (await writeAsync(fd, chunk, done, chunk.length - done, position + done)).bytesWritten;
}

/** @throws Error unless the file system says of a path what was asked of it */
function check({ path, type, mode, mtimeMs, size }: TarEntry, found: Stats): void {
  const octal = (bits: number): string => (bits & 0o7777).toString(8);
  if (octal(found.mode) !== octal(mode)) throw new Error(`${path} has the mode ${octal(found.mode)} instead of ${octal(mode)}`);
  // Times go through a floating-point number of seconds.
  if (Math.abs(found.mtimeMs - mtimeMs) > 1) {
    throw new Error(`${path} has the time ${found.mtime.toISOString()} instead of ${new Date(mtimeMs).toISOString()}`);
  }
  if (type === "file" && found.size !== size) throw new Error(`${path} has ${found.size} bytes instead of ${size}`);
}
