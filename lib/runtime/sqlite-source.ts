import { copyFile, open, rename, rm, stat, statfs } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { readable } from "./readable";
import { BUSY_SECONDS, sqlite, SQLITE, type SqliteCheck, SqliteError } from "./sqlite-process";

/** What SQLite keeps beside a database: the write-ahead log, its index, the rollback journal. */
const [WAL, INDEX, JOURNAL] = ["-wal", "-shm", "-journal"] as const;
/** The last bytes of a rollback journal that belongs to a transaction over several database files. */
const SUPER_JOURNAL_MAGIC = Buffer.from("d9d505f920a163d7", "hex");
/** How often the source is looked at anew where something changes it meanwhile, and the pause in between. */
const ATTEMPTS = 12;
const PAUSE_MS = 150;

/** The database is damaged, as opposed to absent, locked or unreadable. */
export class CorruptError extends Error {
  public constructor(message: string) {
    super(message);
    this.name = "CorruptError";
  }
}

/**
 * Runs the full integrity check on the database itself; changes nothing.
 *
 * @param scratch directory for a private copy, see {@link withSource}
 * @throws CorruptError where the database is damaged, Error where it is absent, locked or unreadable
 */
export async function checkSource(database: string, scratch: string, signal?: AbortSignal): Promise<SqliteCheck> {
  const check = await withSource(database, scratch, signal, (file) => sqlite({ task: "check", file }, signal));
  const { pageSize } = check;
  // SQLite reads a missing end as zeros. A whole page may be written in pieces, so one look is not enough.
  for (let attempt = 1; ; attempt++) {
    const { size } = await stat(database);
    if (size % pageSize === 0) return check;
    if (attempt === ATTEMPTS) throw new CorruptError(`${database} has ${size} bytes, which is not a whole number of pages of ${pageSize}`);
    await sleep(PAUSE_MS, undefined, { signal });
  }
}

/**
 * Copies the database to the new file `to` as of one moment; the application goes on writing.
 *
 * @throws like {@link checkSource}
 */
export async function copySource(database: string, scratch: string, to: string, signal?: AbortSignal): Promise<void> {
  await room(scratch, await look(database));
  await withSource(database, scratch, signal, async (file) => {
    if (file === database) await sqlite({ task: "copy", file, to }, signal);
    else await rename(file, to);
  });
}

/**
 * Hands `work` the database, or a private copy of it in `scratch`, which is removed afterwards.
 *
 * As a rule that is the database itself: SQLite's locks keep the view consistent while the application writes. But the volume is
 * mounted read-only, and so three states cannot be opened: a database with a write-ahead log that was closed (opening
 * would create the log), one whose log has no index any more, and one with a rollback journal still to be applied.
 * No process has the database open in these states, so the files themselves are copied and the copy is opened. If something
 * begins to use the database meanwhile, the files show it, and the first way is tried again.
 */
async function withSource<T>(
  database: string,
  scratch: string,
  signal: AbortSignal | undefined,
  work: (file: string) => Promise<T>,
): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    const before = await look(database);
    try {
      return await work(database);
    } catch (error) {
      if (!(error instanceof SqliteError)) throw error;
      const stopped = error.primary === SQLITE.cannotOpen || error.primary === SQLITE.readOnly;
      if (!stopped || attempt === ATTEMPTS) throw explain(database, error);
    }
    // With a log and its index there is, or was until this moment, a process that uses the database.
    const inUse = before.has(WAL) && before.has(INDEX);
    const copied = inUse ? undefined : await onCopy(database, before, scratch, signal, work);
    if (copied !== undefined) return copied.result;
    await sleep(PAUSE_MS, undefined, { signal });
  }
}

/** @returns undefined where the files changed while they were copied */
async function onCopy<T>(
  database: string,
  before: Look,
  scratch: string,
  signal: AbortSignal | undefined,
  work: (file: string) => Promise<T>,
): Promise<{ readonly result: T } | undefined> {
  const copy = join(scratch, "stopped.sqlite3");
  try {
    await room(scratch, before);
    for (const suffix of before.keys()) if (suffix !== INDEX) await copyFile(database + suffix, copy + suffix);
    if (!same(before, await look(database))) return undefined;
    if (before.has(JOURNAL)) await refuseSuperJournal(database, copy + JOURNAL);
    await sqlite({ task: "recover", file: copy }, signal);
    return { result: await work(copy) };
  } catch (error) {
    // A file that vanished while it was copied: something uses the database after all.
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw explain(database, error);
  } finally {
    for (const suffix of ["", WAL, INDEX, JOURNAL]) await rm(copy + suffix, { force: true });
  }
}

type Look = ReadonlyMap<string, { readonly size: bigint; readonly identity: string }>;

/** The files of the database that exist, by suffix. Only looked at, never opened. */
async function look(database: string): Promise<Look> {
  const found = new Map<string, { size: bigint; identity: string }>();
  for (const suffix of ["", WAL, INDEX, JOURNAL]) {
    if (!(await readable(database + suffix))) continue;
    const it = await stat(database + suffix, { bigint: true }).catch(() => undefined);
    if (it === undefined) continue;
    if (!it.isFile()) throw new Error(`${database + suffix} is not a file`);
    // Not by the time of the last change of status: SQLite itself sets a journal's owner where it runs as root.
    found.set(suffix, { size: it.size, identity: [it.ino, it.size, it.mtimeNs].join() });
  }
  const main = found.get("");
  if (main === undefined) throw new Error(`${database} does not exist`);
  if (main.size === 0n) throw new CorruptError(`${database} is empty (0 bytes)`);
  return found;
}

function same(one: Look, other: Look): boolean {
  return one.size === other.size && [...one].every(([suffix, { identity }]) => other.get(suffix)?.identity === identity);
}

/** @throws Error unless `directory` has room for a copy, and a tenth more */
async function room(directory: string, files: Look): Promise<void> {
  const { bavail, bsize } = await statfs(directory, { bigint: true });
  const bytes = [...files.values()].reduce((sum, { size }) => sum + size, 0n);
  const [free, needed] = [bavail * bsize, (bytes * 11n) / 10n];
  if (free < needed) throw new Error(`${directory} has ${free >> 20n} MiB free, and a copy of the database needs ${needed >> 20n} MiB`);
}

/** Applied to the copy alone, such a journal would be taken for a finished transaction, because its partner is not found. */
async function refuseSuperJournal(database: string, journal: string): Promise<void> {
  const file = await open(journal);
  try {
    const { size } = await file.stat();
    const { buffer } = await file.read(Buffer.alloc(8), 0, 8, Math.max(0, size - 8));
    if (!buffer.equals(SUPER_JOURNAL_MAGIC)) return;
    const what = "has an unfinished transaction over several databases";
    throw new Error(`${database} ${what}, which only its application can undo: start it once`);
  } finally {
    await file.close();
  }
}

function explain(database: string, error: unknown): unknown {
  if (!(error instanceof SqliteError)) return error;
  const { primary, message } = error;
  if (primary === SQLITE.corrupt || primary === SQLITE.notADatabase) return new CorruptError(`${database} is corrupt: ${message}`);
  const locked = primary === SQLITE.busy || primary === SQLITE.locked;
  if (locked) return new Error(`${database} is locked by another process (waited ${BUSY_SECONDS} s)`);
  return new Error(`${database} cannot be read: ${message}`);
}
