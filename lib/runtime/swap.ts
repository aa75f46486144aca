import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { accessSync, chmodSync, constants, lstatSync, mkdirSync, readdirSync, renameSync, rmdirSync, type Stats } from "node:fs";
import { mkdir, readdir, rm } from "node:fs/promises";
import { dirname, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import { isoSeconds } from "./log";
import { humanBytes } from "./progress";
import { freeBytes } from "./target";
import { TreeReader } from "./tree";

/** Directory in a volume's root in which a restore prepares what it puts in place. */
export const STAGED = ".cdktf-backup-restoring-";
/** Directory in a volume's root in which a restore keeps what was there; removed by people alone. */
const REPLACED = ".cdktf-backup-replaced-";
/** Patterns of both, for those who read the volume. */
export const LEFT_BY_RESTORES: readonly string[] = [`/${STAGED}*/`, `/${REPLACED}*/`];
/** How long a source is looked at to see whether anything writes to it, at least. */
const WATCH_MS = 2000;
const execute = promisify(execFile);

/**
 * Replaces files of a volume: the new ones are written beside, and take their places in a moment by renames. The old ones stay, in a
 * directory of their own.
 */
export class Swap {
  /** Where the new files are prepared, by their paths. */
  public readonly tree: string;
  /** For what the preparation needs besides. */
  public readonly spare: string;
  /** Where the old files stay, by their paths. */
  public readonly aside: string;
  private readonly staged: string;
  private readonly done: { readonly from: string; readonly to: string; readonly ino: number }[] = [];

  /** @param root a directory of the volume; all paths are below it */
  public constructor(
    private readonly root: string,
    now = new Date(),
  ) {
    const stamp = isoSeconds(now).replace(/[-:]/g, "");
    this.staged = join(root, STAGED + stamp);
    this.tree = join(this.staged, "tree");
    this.spare = join(this.staged, "spare");
    this.aside = join(root, REPLACED + stamp);
  }

  /**
   * Changes nothing.
   *
   * @param old what is to be replaced, below the root
   * @param into directory below the root that everything is to be put into
   * @throws Error where this process may not do it, the volume has no room for `bytes` more, or the directory is not empty
   */
  public async check(old: readonly string[], bytes: number, into?: string): Promise<void> {
    if (into !== undefined && existsNow(join(this.root, into)) && !isEmptyDirectory(join(this.root, into))) {
      throw new Error(`INTO must name a directory that is new or empty, but ${join(this.root, into)} is not`);
    }
    const base = nearest(this.root);
    for (const at of [base, ...old.map((path) => join(this.root, path))]) {
      const found = lstatSync(at);
      // To be moved, a directory must be writable itself.
      if (found.isDirectory()) assertWritable(at, found);
    }
    const free = await freeBytes(base);
    // Somewhat more than the content, for what the file system needs besides.
    if (free > bytes * 1.02) return;
    const [has, needs] = [humanBytes(free), humanBytes(bytes)];
    const enlarge = "enlarge the volume, or restore less (ONLY)";
    throw new Error(`${this.root} has ${has} free, and ${needs} are written beside what is there: ${enlarge}`);
  }

  /** Makes the staged directory, and removes those of restores that did not end. */
  public async begin(log: (message: string) => void): Promise<void> {
    await mkdir(this.root, { recursive: true });
    for (const name of await readdir(this.root)) {
      if (!name.startsWith(STAGED)) continue;
      log(`removing ${join(this.root, name)}, left by a restore that did not end`);
      await remove(join(this.root, name));
    }
    await mkdir(this.staged, { mode: 0o700 });
    await mkdir(this.tree, { mode: 0o750 });
    await mkdir(this.spare);
  }

  /**
   * Moves the old out of the way and the new into their places, in the order of the lists; all of it or, where anything fails, nothing.
   * The renames are done in one go, so that only the end of the process or of the machine can come in between. What was prepared is on
   * the disk before, and the names are afterwards.
   *
   * @param into directory that everything goes to, in place of {@link names}
   */
  public async run(old: readonly string[], names: readonly string[], into: string | undefined, signal: AbortSignal): Promise<void> {
    await this.makeDurable(signal);
    try {
      if (old.length > 0) mkdirSync(this.aside, { mode: 0o700 });
      for (const path of old) {
        mkdirSync(dirname(join(this.aside, path)), { recursive: true, mode: 0o700 });
        this.move(join(this.root, path), join(this.aside, path));
      }
      const tops = new Set(into === undefined ? names.map((name) => this.topmostMissing(name)) : []);
      for (const path of tops) this.move(join(this.tree, path), join(this.root, path));
      if (into !== undefined) mkdirSync(dirname(join(this.root, into)), { recursive: true });
      if (into !== undefined) this.move(this.tree, join(this.root, into));
      await this.makeDurable(signal);
    } catch (error) {
      this.back();
      throw error;
    }
  }

  /** What was put into its place, below the root. */
  public get placed(): readonly string[] {
    return this.done.filter(({ from }) => from.startsWith(`${this.staged}/`)).map(({ to }) => to.slice(this.root.length + 1));
  }

  /** @throws Error unless all of it is still there */
  public assertPlaced(): void {
    const gone = this.done.find(({ to, ino }) => lstatSync(to, { throwIfNoEntry: false })?.ino !== ino);
    if (gone !== undefined) throw new Error(`${gone.to} is not what was put there: is the application running?`);
  }

  /** Undoes {@link run}. */
  public back(): void {
    for (let last = this.done.pop(); last !== undefined; last = this.done.pop()) rename(last.to, last.from);
    if (existsNow(this.aside)) removeEmpty(this.aside);
  }

  /** Removes what was prepared and is not in its place. What cannot be removed is left, which is said. */
  public async end(log: (message: string) => void): Promise<void> {
    await remove(this.staged).catch((error: Error) => log(`${this.staged} is left: ${error.message}`));
  }

  /** Waits until everything that was written to the volume is on its disk. */
  private async makeDurable(signal: AbortSignal): Promise<void> {
    // One call for all, where one for each of many files would take a hundred times as long.
    await execute("sync", ["-f", this.root], { signal });
  }

  /** The path, or the first directory above it that is not in its place. */
  private topmostMissing(path: string): string {
    const parts = path.split("/");
    for (let length = 1; length < parts.length; length++) {
      const above = parts.slice(0, length).join("/");
      const found = lstatSync(join(this.root, above), { throwIfNoEntry: false });
      if (found === undefined) return above;
      if (!found.isDirectory()) throw new Error(`${join(this.root, above)} is not a directory, and ${path} belongs into it`);
    }
    return path;
  }

  private move(from: string, to: string): void {
    // A rename would take the place of a file that is there.
    if (existsNow(to) && !isEmptyDirectory(to)) throw new Error(`${to} is there already`);
    rename(from, to);
    this.done.push({ from, to, ino: lstatSync(to).ino });
  }
}

/** Notices that something changes while it is prepared to be replaced. */
export class Watch {
  private constructor(
    private readonly paths: readonly string[],
    private readonly state: string,
    private readonly since: number,
  ) {}

  /** Begins to watch files and trees. */
  public static async of(paths: readonly string[], signal: AbortSignal): Promise<Watch> {
    const since = performance.now();
    return new Watch(paths, await stateOf(paths, signal), since);
  }

  /**
   * Ends the watch, after two seconds at least.
   * @returns whether anything changed
   */
  public async changed(signal: AbortSignal): Promise<boolean> {
    await sleep(Math.max(0, WATCH_MS - (performance.now() - this.since)), undefined, { signal });
    return (await stateOf(this.paths, signal)) !== this.state;
  }
}

/** Whether there is anything at a path, a link that leads nowhere included. */
export function existsNow(path: string): boolean {
  return lstatSync(path, { throwIfNoEntry: false }) !== undefined;
}

/** Whether there is a directory at a path, and nothing in it. */
export function isEmptyDirectory(path: string): boolean {
  return lstatSync(path, { throwIfNoEntry: false })?.isDirectory() === true && readdirSync(path).length === 0;
}

/** The path, or the first directory above it that exists. */
function nearest(path: string): string {
  return existsNow(path) ? path : nearest(dirname(path));
}

/** @throws Error with what mends it unless this process may make and remove names in a directory */
function assertWritable(path: string, found: Stats): void {
  try {
    accessSync(path, constants.W_OK | constants.X_OK);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code !== "EACCES" && code !== "EPERM") throw error;
    // The owner need not have the right: it can give it to itself.
    if (found.uid === process.getuid?.()) return;
    throw new Error(notOurs(path, found), { cause: error });
  }
}

/** What to say of a path that this process would have to own. */
export function notOurs(path: string, { uid, gid, mode }: Stats): string {
  const [own, group] = [process.getuid?.(), process.getgid?.()];
  const owner = `owner ${uid}:${gid}, mode ${(mode & 0o7777).toString(8)}`;
  const mend = "let the restore run as its owner (the backup's 'restore: { runAs }')";
  return `${path} (${owner}) cannot be replaced by uid ${own}, gid ${group}: ${mend}`;
}

async function stateOf(paths: readonly string[], signal: AbortSignal): Promise<string> {
  const hash = createHash("sha256");
  for (const path of paths) {
    const found = lstatSync(path, { throwIfNoEntry: false });
    if (found === undefined) continue;
    if (!found.isDirectory()) {
      // Nor is a link followed.
      hash.update(`${path} ${found.ino} ${found.size} ${found.mtimeMs} ${found.ctimeMs}\n`);
      continue;
    }
    const reader = new TreeReader(path, { signal, live: true });
    for await (const { path: below, type, state, mode } of reader.walk(() => undefined)) {
      // A directory's own state changes with what this restore itself puts beside.
      hash.update(`${path} ${below} ${type === "directory" ? mode : state}\n`);
    }
  }
  return hash.digest("hex");
}

/** Removes a directory and those in it, as far as there is nothing else in them. */
function removeEmpty(directory: string): void {
  for (const entry of readdirSync(directory, { withFileTypes: true })) if (entry.isDirectory()) removeEmpty(join(directory, entry.name));
  if (readdirSync(directory).length === 0) rmdirSync(directory);
}

/** Removes what was prepared, directories of any mode included. */
async function remove(path: string): Promise<void> {
  const open = (directory: string): void => {
    chmodSync(directory, 0o700);
    for (const entry of readdirSync(directory, { withFileTypes: true })) if (entry.isDirectory()) open(join(directory, entry.name));
  };
  if (existsNow(path)) open(path);
  await rm(path, { recursive: true, force: true });
}

/** A directory that is moved to another must be writable by itself; one that is not is so for this moment. */
function rename(from: string, to: string): void {
  const { mode } = lstatSync(from);
  const closed = lstatSync(from).isDirectory() && (mode & 0o200) === 0;
  if (closed) chmodSync(from, (mode & 0o7777) | 0o200);
  renameSync(from, to);
  if (closed) chmodSync(to, mode & 0o7777);
}
