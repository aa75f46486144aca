import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { rm, stat } from "node:fs/promises";
import { basename, join, posix } from "node:path";
import { isDeepStrictEqual } from "node:util";
import type { Dump, Engine, Run } from "../engine";
import type { Fact, Manifest, ManifestFile } from "../manifest";
import { readable, readableTree } from "../readable";
import { sqlite, SqliteError, type SqliteInspection } from "../sqlite-process";
import { checkSource, copySource } from "../sqlite-source";
import { artefactName } from "../store";
import type { TreeFacts } from "../tree";
import { archiveFacts, type ArchiveSource, TreeArchive } from "../tree-archive";

/** The archive of the side files, before compression. */
export const FILES_ARCHIVE = "files.tar";
/** The first bytes of every database (https://www.sqlite.org/fileformat.html). */
const MAGIC = "SQLite format 3\0";

/** Where a SQLite database is, and what belongs to it. */
export interface SqliteSettings {
  readonly kind: "sqlite";
  /** Absolute path of the database file in the runner. */
  readonly database: string;
  /** Fewer tables than this is a damaged or wrong source. */
  readonly minTables: number;
  /** Files and directories beside the database that belong to the backup. */
  readonly files: readonly { readonly path: string; readonly required: boolean }[];
  /** Of the integrity check: the gauge that is 1 or 0, e.g. `vaultwarden_sqlite_integrity_ok`. */
  readonly integrityMetric?: string;
  /** Command that stops the application, for the message of a restore that finds it running. */
  readonly stop?: string;
}

/** What is known of a database and its side files as they were backed up. */
export interface SqliteFingerprint {
  readonly inspection: SqliteInspection;
  /** SHA-256 of the copy, hex. */
  readonly sha256: string;
  /** Of the side files: the names of those that were there, and of those that were not; and what the archive holds, null if there is none. */
  readonly files?: { readonly present: readonly string[]; readonly absent: readonly string[]; readonly archive: TreeFacts | null };
}

/** Takes a generation's fingerprint to its parts. */
export function sqliteFingerprint({ fingerprint }: Manifest): SqliteFingerprint {
  const { sha256, files, ...inspection } = fingerprint as unknown as Omit<SqliteFingerprint, "inspection"> & SqliteInspection;
  return { inspection, sha256, files };
}

/** The files of a generation. @throws Error where the database is not among them */
export function sqliteArtefacts({ files }: Manifest, database: string): { readonly database: ManifestFile; readonly side?: ManifestFile } {
  const found = files.find((file) => artefactName(file) === basename(database));
  if (found === undefined) throw new Error(`the generation has no ${basename(database)}`);
  return { database: found, side: files.find((file) => artefactName(file) === FILES_ARCHIVE) };
}

/**
 * A SQLite database, copied by SQLite's online backup while its application goes on, and the files that belong to it.
 *
 * The copy is made in scratch space, which must have room for it, and checked there: so the lock that writers wait for where there is
 * a rollback journal is held as shortly as a local disk allows, and SQLite need not work over NFS. Then it is compressed into the
 * generation under the database's own name. It keeps the journal mode that the database has.
 *
 * The side files are read after the database: what it refers to is in the archive, unless it was deleted since.
 *
 * To restore without this library, with the application stopped: move the database's `-wal`, `-shm` and `-journal` away, which would be
 * applied to the copy; `zstd -d` gives the database, and `zstd -dc files.tar.zst | tar -x -C <directory>` the side files
 * ({@link commonDirectory}).
 */
export class SqliteEngine implements Engine {
  public constructor(private readonly settings: SqliteSettings) {}

  /** Checks the live database, and that every side file can be read. */
  public async preflight(run: Run): Promise<{ readonly versions: { readonly [tool: string]: string } }> {
    const { database, minTables, files } = this.settings;
    const { tableCount } = await checkSource(database, run.scratch, run.signal);
    if (tableCount < minTables) throw new Error(`${database} has ${tableCount} tables, at least ${minTables} expected`);
    for (const { path, required } of files) {
      if (`${database}/`.startsWith(`${path}/`)) throw new Error(`${path} holds the database itself: name what is beside it`);
      if ((await readableTree(path, run.signal)) === undefined && required) throw new Error(`${path} does not exist, and is required`);
    }
    return { versions: { sqlite: process.versions.sqlite ?? "unknown" } };
  }

  public async dump(run: Run): Promise<Dump> {
    const { database, files } = this.settings;
    const copy = join(run.scratch, "copy.sqlite3");
    await copySource(database, run.scratch, copy, run.signal);
    const inspection = await inspect(copy, run.signal);
    if (inspection.foreignKeyViolations !== 0) run.log(`warning: ${foreignKeys(inspection)}`);
    const hash = createHash("sha256");
    const stored = await run.store(basename(database), createReadStream(copy), { inspect: (chunk) => void hash.update(chunk) });
    await rm(copy);
    const fingerprint = { ...inspection, sha256: hash.digest("hex") };
    if (files.length === 0) return { files: [stored], fingerprint };
    const side = await this.storeFiles(run);
    return { files: [stored, ...side.stored], fingerprint: { ...fingerprint, files: side.facts } };
  }

  public async verify(run: Run, { files, fingerprint }: Dump): Promise<readonly string[]> {
    const [database, side] = files;
    if (database === undefined) throw new Error("there is no database");
    const inspection = fingerprint as unknown as SqliteInspection;
    const bytes = inspection.pages * inspection.pageSize;
    const hash = createHash("sha256");
    let header = "";
    let read = 0;
    for await (const chunk of run.open(database) as AsyncIterable<Buffer>) {
      if (header.length < MAGIC.length) header += chunk.toString("latin1", 0, MAGIC.length);
      read += chunk.length;
      hash.update(chunk);
    }
    if (!header.startsWith(MAGIC) || read !== bytes) throw new Error(`the copy on the target is no database of ${bytes} bytes`);
    if (hash.digest("hex") !== fingerprint.sha256) throw new Error("the copy on the target is not the copy that was checked");
    const checks = [
      "integrity_check of the live database: ok",
      "integrity_check of the copy: ok",
      foreignKeys(inspection),
      `the copy on the target is the one that was checked: ${bytes} bytes`,
    ];
    if (side === undefined) return checks;
    const facts = await archiveFacts(run.open(side));
    const { archive } = fingerprint.files as { readonly archive: Fact };
    if (!isDeepStrictEqual(facts, archive)) throw new Error("the side files on the target are not what was read");
    return [...checks, `the side files on the target are what was read: ${facts.files} files`];
  }

  private async storeFiles(run: Run): Promise<{ readonly stored: readonly ManifestFile[]; readonly facts: Fact }> {
    const { database, files } = this.settings;
    const root = commonDirectory([database, ...files.map(({ path }) => path)]);
    const present: ArchiveSource[] = [];
    const absent: string[] = [];
    for (const { path, required } of files) {
      const name = posix.relative(root, path);
      if (await readable(path)) present.push({ path, name });
      else if (required) throw new Error(`${path} vanished during the backup, and is required`);
      else absent.push(name);
    }
    if (absent.length > 0) run.log(`absent, and not required: ${absent.join(", ")}`);
    const names = present.map(({ name = "" }) => name);
    if (present.length === 0) return { stored: [], facts: { present: names, absent, archive: null } };
    const archive = new TreeArchive(present, { signal: run.signal, live: true });
    const stored = await run.store(FILES_ARCHIVE, archive.stream());
    return { stored: [stored], facts: { present: names, absent, archive: archive.facts() } };
  }
}

/** The directory that holds all these paths: where the archive of the side files is extracted. */
export function commonDirectory(paths: readonly string[]): string {
  let directory = posix.dirname(paths[0] ?? "/");
  while (!paths.every((path) => path.startsWith(posix.join(directory, "/")))) directory = posix.dirname(directory);
  return directory;
}

async function inspect(copy: string, signal: AbortSignal): Promise<SqliteInspection> {
  const inspection = await sqlite({ task: "inspect", file: copy }, signal).catch((error: unknown) => {
    throw error instanceof SqliteError ? new Error(`the copy is corrupt: ${error.message}`) : error;
  });
  const { size } = await stat(copy);
  if (size !== inspection.pages * inspection.pageSize) throw new Error(`the copy is corrupt: ${size} bytes`);
  return inspection;
}

function foreignKeys({ foreignKeyViolations }: SqliteInspection): string {
  const check = "foreign_key_check of the copy: ";
  if (foreignKeyViolations === null) return `${check}impossible, a foreign key refers to columns that are not unique`;
  return `${check}${foreignKeyViolations} violations${foreignKeyViolations === 0 ? "" : " (recorded, not fatal)"}`;
}
