import { createHash } from "node:crypto";
import { createReadStream, lstatSync } from "node:fs";
import { chmod, chown, link, mkdir, mkdtemp, open, rm } from "node:fs/promises";
import { dirname, join } from "node:path";
import { relative } from "node:path/posix";
import { pipeline } from "node:stream/promises";
import { assertSame } from "../facts";
import { isBelow } from "../generation";
import type { Fact } from "../manifest";
import { humanBytes } from "../progress";
import type { Restore, RestoreEngine, RestorePlan } from "../restore";
import { sqlite, SQLITE, SqliteError } from "../sqlite-process";
import { archiveMembers, readBack, select, selected, type Selection } from "../stored-tree";
import { existsNow, notOurs, STAGED, Swap, Watch } from "../swap";
import { TreeWriter } from "../tree-writer";
import { commonDirectory, sqliteArtefacts, sqliteFingerprint, type SqliteFingerprint, type SqliteSettings } from "./sqlite";

/** What SQLite keeps beside a database, and applies to whatever has its name. */
const BESIDE = ["-wal", "-shm", "-journal"];
/** Seconds for which a database that is in use is waited for: a check or another reader may be at it for a moment. */
const LOCK_SECONDS = 3;

/** What a restore of a database and its side files is going to do. All paths are below the directory that holds them. */
export interface SqlitePlan extends RestorePlan {
  readonly swap: Swap;
  /** Whether the database itself is restored. */
  readonly database: boolean;
  /** Which side files: all, or part of them. */
  readonly side: "all" | "none" | Selection;
  /** What is moved away. */
  readonly old: readonly string[];
  /** New directory that all of it goes to; undefined: the places where it was. */
  readonly into?: string;
  readonly watch: Watch;
}

/**
 * Puts a SQLite database and its side files back onto their volume, while the application does not run.
 *
 * Everything is written beside what is there, checked in full, and then takes its place by renames. What was there, with the log and
 * the journal that SQLite would otherwise apply to the database that was restored, is kept in a directory of its own.
 */
export class SqliteRestore implements RestoreEngine<SqlitePlan> {
  public readonly options = {
    ONLY: "restore this alone: the database, a side file or directory, or a path in one, as in 'attachments/ab'",
    INTO: "a new directory beside the database, for a look at it; what is in place stays, and the application may run",
  };
  /** Directory that holds the database and its side files. */
  private readonly root: string;
  /** The database's path in it. */
  private readonly name: string;
  /** Of the side files: who wrote them. */
  private writer: TreeWriter | undefined;

  public constructor(private readonly settings: SqliteSettings) {
    const { database, files } = settings;
    this.root = commonDirectory([database, ...files.map(({ path }) => path)]);
    this.name = relative(this.root, database);
  }

  public async plan(restore: Restore): Promise<SqlitePlan> {
    const { manifest, signal } = restore;
    const artefacts = sqliteArtefacts(manifest, this.settings.database);
    const fingerprint = sqliteFingerprint(manifest);
    const { pages, pageSize, tableCount } = fingerprint.inspection;
    const [only, into] = [restore.option("ONLY"), restore.option("INTO")];
    for (const [option, path] of Object.entries({ ONLY: only, INTO: into })) {
      if (path === undefined || isBelow(path)) continue;
      throw new Error(`${option} must be a path below ${this.root}, but is ${JSON.stringify(path)}`);
    }
    const database = only === undefined || only === this.name;
    let side: SqlitePlan["side"] = only === undefined && fingerprint.files !== undefined ? "all" : "none";
    if (only !== undefined && !database) {
      if (artefacts.side === undefined) throw new Error(`there is no ${JSON.stringify(only)} in the generation`);
      side = await select(archiveMembers(restore.open(artefacts.side)), only);
    }
    const size = pages * pageSize;
    const files = typeof side !== "string" ? side.bytes : side === "all" ? (fingerprint.files?.archive?.bytes ?? 0) : 0;
    const old = into === undefined ? this.inPlace(database, side, fingerprint) : [];
    const swap = new Swap(this.root);
    await swap.check(old, files + (database ? size : 0), into);
    if (old.includes(this.name)) assertReplaceable(this.settings.database);
    const what = [
      ...(database ? [`${this.name} (${tableCount} tables, ${humanBytes(size)})`] : []),
      ...(side === "all" ? [`its side files (${humanBytes(files)})`] : []),
      ...(typeof side === "string" ? [] : [`${side.path} (${side.files} files, ${humanBytes(files)})`]),
    ].join(" and ");
    const steps = [`write ${what} beside what is there, and check it against what was backed up`];
    if (into === undefined) steps.push(...(await this.assertStopped(signal)));
    if (old.length > 0) steps.push(this.stop, `keep what is there in ${swap.aside}: ${old.join(", ")}`);
    steps.push(into === undefined ? `put the new files into their places in ${this.root}` : `put it all into ${join(this.root, into)}`);
    const watch = await Watch.of(old.map((path) => join(this.root, path)), signal);
    const kept = old.length === 0 ? {} : { replaces: only ?? this.name, aside: swap.aside };
    return { ...kept, steps, swap, database, side, old, into, watch };
  }

  public async apply(restore: Restore, plan: SqlitePlan): Promise<void> {
    const { signal, log } = restore;
    const { swap, old, into } = plan;
    await swap.begin(log);
    try {
      if (plan.side !== "none") await this.prepareFiles(restore, plan.side, swap);
      if (plan.database) await this.prepareDatabase(restore, join(swap.tree, this.name));
      if (into === undefined) {
        if (await plan.watch.changed(signal)) throw new Error(`something writes to ${this.root}: ${this.stop}; nothing was changed`);
        await this.assertStopped(signal);
      }
      const sides = typeof plan.side === "string" ? (this.writer?.roots ?? []) : [plan.side.path];
      await swap.run(old, [...(plan.database ? [this.name] : []), ...sides], into, signal);
    } finally {
      await swap.end(log);
    }
  }

  public async verify({ manifest, signal }: Restore, plan: SqlitePlan): Promise<readonly string[]> {
    const { inspection, sha256, files } = sqliteFingerprint(manifest);
    const { pages, pageSize, tableCount } = inspection;
    const root = join(this.root, plan.into ?? "");
    const checks: string[] = [];
    plan.swap.assertPlaced();
    if (plan.database) {
      const path = join(root, this.name);
      const left = BESIDE.filter((suffix) => existsNow(path + suffix));
      if (left.length > 0) throw new Error(`${path} has ${left.join(", ")} beside it, which is no part of it: is its application running?`);
      const hash = createHash("sha256");
      for await (const chunk of createReadStream(path, { highWaterMark: 1_048_576, signal })) hash.update(chunk as Buffer);
      assertSame("the database: sha256", sha256, hash.digest("hex"));
      checks.push(`${path}: integrity_check ok, ${tableCount} tables, equal to the fingerprint in each of its ${pages * pageSize} bytes`);
    }
    if (plan.side === "all" && this.writer !== undefined) {
      const { roots } = this.writer;
      const facts = await readBack(this.writer, roots.map((name) => ({ path: join(root, name), name })), signal);
      assertSame("the side files:", files?.archive, facts);
      checks.push(`side files equal to the fingerprint: ${roots.join(", ")}; ${facts.files} files, modes, times and links`);
    } else if (typeof plan.side !== "string") {
      checks.push(`${join(root, plan.side.path)} is what was backed up: ${plan.side.files} files, modes, times and links`);
    }
    return checks;
  }

  /** What there is in the places of what is restored. Side files that were absent go too: they belong to another state. */
  private inPlace(database: boolean, side: SqlitePlan["side"], { files }: SqliteFingerprint): readonly string[] {
    const sides = typeof side !== "string" ? [side.path] : side === "all" ? [...(files?.present ?? []), ...(files?.absent ?? [])] : [];
    // The database first: what is left alone for a moment must not be taken for a database that lacks its last commits.
    const all = [...(database ? ["", ...BESIDE].map((suffix) => this.name + suffix) : []), ...sides];
    return all.filter((path) => existsNow(join(this.root, path)));
  }

  private async prepareDatabase(restore: Restore, path: string): Promise<void> {
    const { manifest, signal, log } = restore;
    const { inspection: wanted, sha256 } = sqliteFingerprint(manifest);
    await mkdir(dirname(path), { recursive: true });
    const hash = createHash("sha256");
    const file = await open(path, "wx", 0o600);
    try {
      const write = async function (chunks: AsyncIterable<Buffer>): Promise<void> {
        for await (const chunk of chunks) {
          hash.update(chunk);
          await file.writeFile(chunk);
        }
      };
      await pipeline(restore.open(sqliteArtefacts(manifest, this.settings.database).database), write, { signal });
      await file.sync();
    } finally {
      await file.close();
    }
    const { size: bytes } = lstatSync(path);
    assertSame("the database:", { bytes: wanted.pages * wanted.pageSize, sha256 }, { bytes, sha256: hash.digest("hex") });
    const inspection = await sqlite({ task: "inspect", file: path }, signal);
    assertSame("the database:", wanted as unknown as Fact, inspection as unknown as Fact);
    const old = lstatSync(this.settings.database, { throwIfNoEntry: false });
    const owner = `${process.getuid?.()}:${process.getgid?.()}`;
    if (old === undefined) return log(`no ${this.name} is there: the new one belongs to ${owner} and has mode 600`);
    await chown(path, old.uid, old.gid);
    await chmod(path, old.mode & 0o7777);
  }

  private async prepareFiles(restore: Restore, side: "all" | Selection, { tree, spare }: Swap): Promise<void> {
    const { manifest, signal, log } = restore;
    const { side: artefact } = sqliteArtefacts(manifest, this.settings.database);
    if (artefact === undefined) return;
    const writer = new TreeWriter(tree, signal);
    const members = archiveMembers(restore.open(artefact));
    for await (const member of side === "all" ? members : selected(members, side, spare)) await writer.add(member);
    writer.finish();
    for (const line of writer.owners) log(line);
    this.writer = writer;
    const facts = await readBack(writer, writer.roots.map((name) => ({ path: join(tree, name), name })), signal);
    const { files } = sqliteFingerprint(manifest);
    assertSame("the side files:", side === "all" ? files?.archive : writer.facts(), facts);
  }

  /**
   * @returns a word to the person who restores, where it cannot be told
   * @throws Error where something has the database open; a connection that keeps a rollback journal and is idle cannot be seen
   */
  private async assertStopped(signal: AbortSignal): Promise<readonly string[]> {
    const { database } = this.settings;
    if (!existsNow(database)) return [];
    // Locks belong to the file and not to its name. Under another name there is no log and no journal that looking at it would change.
    const probe = await mkdtemp(join(this.root, STAGED));
    try {
      await link(database, join(probe, "database"));
      await sqlite({ task: "lock", file: join(probe, "database") }, signal, LOCK_SECONDS);
      return [];
    } catch (error) {
      signal.throwIfAborted();
      const busy = error instanceof SqliteError && (error.primary === SQLITE.busy || error.primary === SQLITE.locked);
      if (busy) throw new Error(`${database} is in use: ${this.stop}; nothing was changed`, { cause: error });
      return [`whether an application uses ${database} cannot be told (${(error as Error).message}): make sure that none does`];
    } finally {
      await rm(probe, { recursive: true, force: true });
    }
  }

  private get stop(): string {
    const { stop } = this.settings;
    return stop === undefined ? "stop its application first" : `stop its application first: ${stop}`;
  }
}

/** @throws Error unless this process can put another file in the place of this one, with its owner and mode */
function assertReplaceable(path: string): void {
  const found = lstatSync(path);
  if (!found.isFile()) throw new Error(`${path} is not a file, and what it stands for would not be replaced`);
  const groups = [process.getgid?.(), ...(process.getgroups?.() ?? [])];
  if (found.uid !== process.getuid?.() || !groups.includes(found.gid)) throw new Error(notOurs(path, found));
}
