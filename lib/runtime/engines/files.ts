import { createHash, hash } from "node:crypto";
import { appendFileSync, createReadStream } from "node:fs";
import { lstat, readFile, readlink, stat } from "node:fs/promises";
import { join } from "node:path";
import { Readable } from "node:stream";
import { isDeepStrictEqual } from "node:util";
import type { Dump, Engine, Run } from "../engine";
import { excluder } from "../glob";
import { jsonLines, parseJsonLines } from "../lines";
import { abreast, type PreviousTree, type StoredRecord, storeTree } from "../linked-tree";
import { reasonOf } from "../log";
import type { Fact, ManifestFile } from "../manifest";
import { humanBytes } from "../progress";
import { readableTree } from "../readable";
import { COMPRESSED, openFile } from "../store";
import { archiveOf, listingOf } from "../stored-tree";
import { LEFT_BY_RESTORES } from "../swap";
import { joined, SMALL_BYTES, TreeDigest, type TreeFacts, type TreeNode, type TreeOptions, TreeReader } from "../tree";
import { archiveFacts, TreeArchive } from "../tree-archive";

/** Which trees are backed up, and what makes the copy consistent. */
export interface FilesSettings {
  readonly kind: "files";
  /** Trees to back up: absolute path in the runner, and the name each has in the generation. */
  readonly sources: readonly { readonly name: string; readonly path: string }[];
  /**
   * Patterns of paths, relative to a source, that are left out. They match whole path components at any depth, or with a leading `/`
   * at the source's root alone: `*` any characters but `/`, `?` one of them, `**` any characters. A trailing `/` names a directory.
   */
  readonly exclude: readonly string[];
  /**
   * What makes the copy consistent: `snapshot` the mount is one; `quiesced` nothing writes during the run, which is checked;
   * `crash-consistent` writers go on, and a file that changes while it is read is read again.
   */
  readonly consistency: "snapshot" | "quiesced" | "crash-consistent";
  /** One compressed tar archive per source, or a tree whose unchanged files are hard links into the previous generation. */
  readonly layout: "archive" | "hard-linked";
  /** Command that stops the application, for the message of a restore that finds it running. */
  readonly stop?: string;
}

type Source = FilesSettings["sources"][number];

/** How many of the paths that are wrong are named. */
const NAMED = 10;

/**
 * Trees of files. Layout `archive`: `<name>.tar.zst` for each source. Layout `hard-linked`: the tree itself below `<name>/`, and its
 * members with their modes, owners, times and hashes as JSON lines in `<name>.tree.jsonl.zst`.
 */
export class FilesEngine implements Engine {
  private readonly excluded: (path: string, isDirectory: boolean) => boolean;
  /** What was met and is not in the backup, in words, by source. */
  private readonly leftOut = new Map<string, string>();

  public constructor(private readonly settings: FilesSettings) {
    this.excluded = filesExcluder(settings);
  }

  public async preflight(run: Run): Promise<{ readonly versions: { readonly [tool: string]: string } }> {
    for (const source of this.settings.sources) {
      const { name, path } = source;
      const found = await stat(path).catch(() => undefined);
      if (found?.isDirectory() === false) throw new Error(`the source ${name} must be a directory, but ${path} is none`);
      const see = this.settings.consistency === "quiesced" ? new StateFile(statesOf(run, source)) : undefined;
      const files = await readableTree(path, run.signal, this.excluded, (node) => see?.add(node));
      see?.flush();
      if (files === undefined) throw new Error(`the source ${name} does not exist: there is no ${path}`);
      if (files === 0)
        throw new Error(
          `the source ${name} is empty: there is no file in ${path}${this.settings.exclude.length === 0 ? "" : " that is not excluded"}`,
        );
    }
    return { versions: {} };
  }

  public async dump(run: Run): Promise<Dump> {
    const files: ManifestFile[] = [];
    const fingerprint: { [name: string]: Fact } = {};
    for (const source of this.settings.sources) {
      const { file, facts } = await (this.settings.layout === "archive" ? this.archive(run, source) : this.link(run, source));
      if (facts.files === 0) throw new Error(`the source ${source.name} lost all its files during the backup`);
      files.push(file);
      fingerprint[source.name] = facts;
    }
    if (this.settings.consistency === "quiesced") for (const source of this.settings.sources) await this.assertQuiet(run, source);
    return { files, fingerprint };
  }

  public async verify(run: Run, { files, fingerprint }: Dump): Promise<readonly string[]> {
    const checks: string[] = [];
    for (const [index, { name }] of this.settings.sources.entries()) {
      const file = files[index];
      if (file === undefined) throw new Error(`nothing was stored of ${name}`);
      let reread = "every file";
      let found: Fact;
      if (this.settings.layout === "archive") {
        found = await archiveFacts(run.open(file));
      } else {
        const tree = await readTree(run, join(run.directory, name), file);
        found = tree.facts;
        reread = `${tree.reread} files that this run copied; ${tree.linked} links into the generation before have their sizes`;
      }
      if (!isDeepStrictEqual(found, fingerprint[name])) throw new Error(`${name} on the target is not what was read`);
      const leftOut = this.leftOut.get(name);
      const but = leftOut === undefined ? "" : ` (not in it: ${leftOut})`;
      checks.push(`${name} was read back from the target and is what was read from the source${but}: ${reread}`);
    }
    if (this.settings.consistency === "quiesced") checks.push("no source changed between the run's start and the end of its reading");
    return checks;
  }

  private options(run: Run): TreeOptions {
    return { signal: run.signal, excluded: this.excluded, live: this.settings.consistency === "crash-consistent" };
  }

  private async archive(run: Run, { name, path }: Source): Promise<{ file: ManifestFile; facts: TreeFacts }> {
    const archive = new TreeArchive([{ path }], this.options(run));
    const file = await run.store(archiveOf(name), archive.stream());
    this.report(run, name, archive.facts(), archive.leftOut);
    return { file, facts: archive.facts() };
  }

  private async link(run: Run, { name, path }: Source): Promise<{ file: ManifestFile; facts: TreeFacts }> {
    const reader = new TreeReader(path, this.options(run));
    const digest = new TreeDigest();
    let treeBytes = 0;
    const records = async function* (): AsyncGenerator<StoredRecord> {
      for await (const record of storeTree(reader, join(run.directory, name), previousTree(run, name))) {
        digest.add(record);
        if (record.copied === true) treeBytes += record.size;
        yield record;
      }
    };
    const file = await run.store(listingOf(name), Readable.from(jsonLines(records()), { objectMode: false }));
    this.report(run, name, digest.facts(), reader.leftOut);
    run.log(`${name}: ${humanBytes(treeBytes)} copied, the rest is linked to the generation before`);
    return { file: { ...file, treeBytes }, facts: digest.facts() };
  }

  private report(run: Run, name: string, { files, bytes }: TreeFacts, leftOut: TreeReader["leftOut"]): void {
    const { excluded, special, vanished } = leftOut;
    const left = [
      ...(excluded > 0 ? [`${excluded} paths excluded`] : []),
      ...(special > 0 ? [`${special} sockets, pipes or devices skipped`] : []),
      ...(vanished > 0 ? [`${vanished} paths vanished meanwhile`] : []),
    ];
    run.log([`${name}: ${files} files, ${humanBytes(Number(bytes))}`, ...left].join(", "));
    if (left.length > 0) this.leftOut.set(name, left.join(", "));
  }

  /** @throws Error with the names of what is not as it was at the start */
  private async assertQuiet(run: Run, source: Source): Promise<void> {
    const before = parseJsonLines<Pick<TreeNode, "path" | "state">>(createReadStream(statesOf(run, source)));
    // What vanished shows in the comparison.
    const after = new TreeReader(source.path, { ...this.options(run), live: true }).walk();
    const changed: string[] = [];
    for await (const { left, right } of joined(before, after)) {
      if (left === undefined || right === undefined || left.state !== stateOf(right)) changed.push((left ?? right)?.path ?? "");
    }
    if (changed.length === 0) return;
    const more = changed.length > NAMED ? ` and ${changed.length - NAMED} more` : "";
    throw new Error(
      `the source ${source.name} was not quiet during the backup, these changed: ${changed.slice(0, NAMED).join(", ")}${more}`,
    );
  }
}

/** What of a source is in no backup: what its patterns leave out, and what restores keep there. */
export function filesExcluder({ exclude }: FilesSettings): ReturnType<typeof excluder> {
  return excluder([...exclude, ...LEFT_BY_RESTORES]);
}

/** What everything was like at the start; on disk, because it may be a million files. */
class StateFile {
  private lines = "";

  public constructor(private readonly path: string) {}

  public add(node: TreeNode): void {
    this.lines += `${JSON.stringify({ path: node.path, state: stateOf(node) })}\n`;
    if (this.lines.length > 262_144) this.flush();
  }

  public flush(): void {
    appendFileSync(this.path, this.lines);
    this.lines = "";
  }
}

/** A directory changes with what is in it, excluded or not, so that of it only its being there counts. */
function stateOf({ type, state }: TreeNode): string {
  return type === "directory" ? type : state;
}

function statesOf(run: Run, { name }: Source): string {
  return join(run.scratch, `${name}.states`);
}

/** The tree of the generation before; one that cannot be read any more is none. */
function previousTree(run: Run, name: string): PreviousTree | undefined {
  const { previous, signal } = run;
  const listing = previous?.manifest.files.find(({ path }) => path === listingOf(name) + COMPRESSED);
  if (previous === undefined || listing === undefined) return undefined;
  const records = async function* (): AsyncGenerator<StoredRecord> {
    try {
      yield* parseJsonLines<StoredRecord>(openFile(previous.directory, listing, { signal }));
    } catch (error) {
      signal.throwIfAborted();
      run.log(`warning: files are copied that could have been links: in the generation before, ${reasonOf(error)}`);
    }
  };
  return { directory: join(previous.directory, name), records: records() };
}

/** Reads a stored tree as its listing says it is: the content of each file that was copied, the size of each that was linked. */
async function readTree(run: Run, directory: string, listing: ManifestFile): Promise<{ facts: Fact; reread: number; linked: number }> {
  const look = async (record: StoredRecord): Promise<StoredRecord> => {
    run.signal.throwIfAborted();
    const { path, type, copied } = record;
    const stored = join(directory, path);
    if (type === "symlink") return { ...record, target: await readlink(stored) };
    if (type === "file" && copied === true) return { ...record, sha256: await hashOf(stored, record.size) };
    const found = await lstat(stored);
    return type === "file" ? { ...record, size: found.isFile() ? found.size : -1 } : record;
  };
  const digest = new TreeDigest();
  let reread = 0;
  let linked = 0;
  for await (const record of abreast(parseJsonLines<StoredRecord>(run.open(listing)), look)) {
    digest.add(record);
    if (record.copied === true) reread++;
    else if (record.type === "file") linked++;
  }
  return { facts: digest.facts(), reread, linked };
}

/** SHA-256 of a file of a known size, hex. */
export async function hashOf(path: string, size: number): Promise<string> {
  if (size <= SMALL_BYTES) return hash("sha256", await readFile(path));
  const whole = createHash("sha256");
  for await (const chunk of createReadStream(path, { highWaterMark: SMALL_BYTES })) whole.update(chunk as Buffer);
  return whole.digest("hex");
}
