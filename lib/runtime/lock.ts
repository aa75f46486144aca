import { randomBytes } from "node:crypto";
import { link, open, readdir, stat, unlink, type FileHandle } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

const HELD = "held";
const FREE = "free";
const NAME = /^\.lock\.(\d+)$/;
/** A contender's file, before it is one of the locks. */
export const CONTENDER = ".lock-";
/** How often a holder shows life, as a share of the lease. */
const BEATS_PER_LEASE = 6;

/** Another run holds the lock, and lives. */
export class LockBusy extends Error {}

/** Who takes a lock, and for how long it is good without a sign of life. */
export interface LockOptions {
  readonly leaseSeconds: number;
  /** Who is asking, for the message that others get. */
  readonly owner: string;
  readonly signal: AbortSignal;
  /** Called once where the lock turns out to be lost while it is held. */
  readonly onLost: (error: Error) => void;
}

/**
 * A lock on a directory of a file server, held by at most one run.
 *
 * Locks are files `.lock.<n>`; the one with the highest number counts. Taking the lock means making the next
 * number, which succeeds for one contender alone. The highest file is never deleted, only marked free: so a
 * number that was deleted can be made again by a contender that slept, but never be the highest.
 *
 * A holder writes to its file several times per lease. Ages are differences of two times that the file server
 * gave, so that no pod's clock matters.
 */
export class Lock {
  private timer: NodeJS.Timeout | undefined;
  private beating: Promise<unknown> = Promise.resolve();

  private constructor(
    private readonly directory: string,
    private readonly number: number,
    private readonly file: FileHandle,
    private readonly options: LockOptions,
  ) {
    let idle = true;
    this.timer = setInterval(() => {
      if (!idle) return;
      idle = false;
      this.beating = this.assertHeld().catch((error: unknown) => this.lost(error)).finally(() => (idle = true));
    }, (options.leaseSeconds * 1000) / BEATS_PER_LEASE);
    this.timer.unref();
  }

  /**
   * Waits for a holder that shows no life until its lease is over, at most two leases.
   * @throws LockBusy where the holder lives
   */
  public static async acquire(directory: string, options: LockOptions): Promise<Lock> {
    const lease = options.leaseSeconds * 1000;
    const temporary = join(directory, CONTENDER + randomBytes(8).toString("hex"));
    const file = await open(temporary, "wx", 0o640);
    try {
      await file.writeFile(`${HELD}\n${options.owner} since ${new Date().toISOString()}\n`);
      const number = await claim(directory, temporary, file, lease, options.signal);
      await unlink(temporary);
      return new Lock(directory, number, file, options);
    } catch (error) {
      await file.close();
      await unlink(temporary).catch(() => undefined);
      throw error;
    }
  }

  /**
   * @returns the file server's clock, milliseconds
   * @throws Error unless this run still holds the lock, which is then good for another lease
   */
  public async assertHeld(): Promise<number> {
    const now = await serverTime(this.file);
    const all = await numbers(this.directory);
    if (all.some((number) => number > this.number)) throw new Error("lost the lock: another run took it over");
    if (!all.includes(this.number)) throw new Error("lost the lock: its file is gone");
    return now;
  }

  /** Marks the lock free. Never throws: what cannot be marked runs out with its lease. */
  public async release(): Promise<void> {
    this.stop();
    await this.beating;
    await this.file.write(FREE, 0).catch(() => undefined);
    await this.file.sync().catch(() => undefined);
    await this.file.close().catch(() => undefined);
  }

  private lost(error: unknown): void {
    if (this.timer === undefined) return;
    this.stop();
    this.options.onLost(error as Error);
  }

  private stop(): void {
    clearInterval(this.timer);
    this.timer = undefined;
  }
}

async function claim(directory: string, temporary: string, file: FileHandle, lease: number, signal: AbortSignal): Promise<number> {
  const giveUp = performance.now() + 2 * lease;
  let watched: { readonly number: number; readonly mtimeMs: number; readonly since: number } | undefined;
  for (;;) {
    signal.throwIfAborted();
    const number = Math.max(0, ...(await numbers(directory)));
    const now = await serverTime(file);
    const current = number === 0 ? undefined : await look(directory, number);
    if (current !== undefined && !current.free) {
      const { mtimeMs, owner } = current;
      const busy = new LockBusy(`another run holds the lock: ${owner}`);
      if (watched !== undefined && (watched.number !== number || watched.mtimeMs !== mtimeMs)) throw busy;
      // A time in the future, left by a server's clock that was set back, must not hold forever.
      watched ??= { number, mtimeMs, since: Math.min(mtimeMs, now) };
      if (now - watched.since < lease) {
        if (performance.now() > giveUp) throw busy;
        await sleep(lease / 20, undefined, { signal });
        continue;
      }
    }
    await take(directory, temporary, number + 1);
    return number + 1;
  }
}

async function take(directory: string, temporary: string, number: number): Promise<void> {
  const path = join(directory, `.lock.${number}`);
  const busy = new LockBusy("another run took the lock at the same moment");
  try {
    await link(temporary, path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
    // The answer to a link that succeeded may be lost on the wire, and its repetition fails.
    if ((await stat(temporary)).nlink < 2) throw busy;
  }
  const all = await numbers(directory);
  if (Math.max(...all) !== number) {
    await unlink(path).catch(() => undefined);
    throw busy;
  }
  for (const lower of all.filter((other) => other < number)) await unlink(join(directory, `.lock.${lower}`)).catch(() => undefined);
}

async function numbers(directory: string): Promise<number[]> {
  return (await readdir(directory)).flatMap((name) => NAME.exec(name)?.[1] ?? []).map(Number);
}

/** The file server's clock, and a sign of life in one: writing, unlike setting a time, lets the server choose it. */
async function serverTime(file: FileHandle): Promise<number> {
  await file.write(HELD, 0);
  await file.sync();
  return (await file.stat()).mtimeMs;
}

/** Opened, because opening is what makes an NFS client ask the server anew. Undefined where it is gone by now. */
async function look(directory: string, number: number): Promise<{ free: boolean; mtimeMs: number; owner: string } | undefined> {
  let file: FileHandle;
  try {
    file = await open(join(directory, `.lock.${number}`), "r");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
  try {
    const { mtimeMs } = await file.stat();
    const [state, owner = "unknown"] = (await file.readFile("utf8")).split("\n");
    return { free: state === FREE, mtimeMs, owner };
  } finally {
    await file.close();
  }
}
