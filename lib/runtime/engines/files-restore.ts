import { chmodSync, lstatSync, readdirSync, type Stats, utimesSync } from "node:fs";
import { join } from "node:path/posix";
import { assertSame } from "../facts";
import { isBelow } from "../generation";
import { humanBytes } from "../progress";
import type { Restore, RestoreEngine, RestorePlan } from "../restore";
import { readBack, select, selected, type Selection, treeMembers } from "../stored-tree";
import { existsNow, Swap, Watch } from "../swap";
import { fileTime, type TreeFacts } from "../tree";
import { TreeWriter } from "../tree-writer";
import { filesExcluder, type FilesSettings } from "./files";

/** One tree that is going to be put back. */
interface Part {
  readonly name: string;
  /** Root of the tree. */
  readonly root: string;
  /** What of it; undefined: all. */
  readonly selection?: Selection;
  /** What is moved away, below the root. */
  readonly old: readonly string[];
  readonly swap: Swap;
  readonly watch: Watch;
}

/** What a restore of trees of files is going to do. */
export interface FilesPlan extends RestorePlan {
  readonly parts: readonly Part[];
  /** New directory below the root that all of it goes to; undefined: the places where it was. */
  readonly into?: string;
}

/**
 * Puts trees of files, or a part of one, back onto their volumes, while the application does not run.
 *
 * Everything is written beside what is there, read back and compared, and then takes its place by renames. What was there is kept in a
 * directory of its own. What the backup leaves out stays where it is in a tree's root, and goes with its directory anywhere else.
 */
export class FilesRestore implements RestoreEngine<FilesPlan> {
  public readonly options = {
    SOURCE: "name of the tree that is restored; by default all of them",
    ONLY: "path in the tree, a file or a directory: restore this alone",
    INTO: "a new directory in the tree's root, for a look at it; what is in place stays, and the application may run",
  };
  private readonly excluded: ReturnType<typeof filesExcluder>;

  public constructor(private readonly settings: FilesSettings) {
    this.excluded = filesExcluder(settings);
  }

  public async plan(restore: Restore): Promise<FilesPlan> {
    const [source, only, into] = ["SOURCE", "ONLY", "INTO"].map((name) => restore.option(name));
    for (const [option, path] of Object.entries({ ONLY: only, INTO: into })) {
      if (path === undefined || isBelow(path)) continue;
      throw new Error(`${option} must be a path below the tree's root, but is ${JSON.stringify(path)}`);
    }
    const names = this.settings.sources.map(({ name }) => name);
    const chosen = this.settings.sources.filter(({ name }) => source === undefined || name === source);
    if (chosen.length === 0) throw new Error(`SOURCE must be one of ${names.join(", ")}, but is ${JSON.stringify(source)}`);
    if (only !== undefined && chosen.length > 1) throw new Error(`ONLY needs SOURCE, one of ${names.join(", ")}`);

    const parts: Part[] = [];
    const steps: string[] = [];
    for (const { name, path: root } of chosen) {
      const facts = restore.manifest.fingerprint[name] as TreeFacts | undefined;
      if (facts === undefined) throw new Error(`the generation has no source ${name}`);
      const selection = only === undefined ? undefined : await select(treeMembers(restore, name), only);
      const old = into === undefined ? this.inPlace(root, selection) : [];
      const swap = new Swap(root);
      const { files, bytes } = selection ?? facts;
      await swap.check(old, bytes, into);
      const what = selection === undefined ? name : `${name}/${selection.path}`;
      steps.push(`write ${what} (${files} files, ${humanBytes(bytes)}) beside what is there, and compare it with what was backed up`);
      if (old.length > 0) steps.push(this.stop, `keep what is there in ${swap.aside}: ${listed(old)}`);
      const place = into === undefined ? `its place in ${root}` : `${join(root, into)}, which the next backups have too`;
      steps.push(`put it into ${place}`);
      parts.push({ name, root, selection, old, swap, watch: await Watch.of(old.map((path) => join(root, path)), restore.signal) });
    }
    const replaced = parts.filter(({ old }) => old.length > 0);
    if (replaced.length === 0) return { steps, parts, into };
    const replaces = replaced.map(({ name, selection }) => (selection === undefined ? name : `${name}/${selection.path}`)).join(",");
    return { steps, parts, into, replaces, aside: replaced.map(({ swap }) => swap.aside).join(", ") };
  }

  public async apply(restore: Restore, { parts, into }: FilesPlan): Promise<void> {
    const { signal, log } = restore;
    const done: Swap[] = [];
    const roots = new Map<string, Stats>();
    try {
      for (const part of parts) {
        await part.swap.begin(log);
        await this.prepare(restore, part);
      }
      for (const { root, watch } of parts) {
        if (await watch.changed(signal)) throw new Error(`something writes to ${root}: ${this.stop}; nothing was changed`);
      }
      signal.throwIfAborted();
      for (const { root, selection, old, swap } of parts) {
        const names = selection === undefined ? readdirSync(swap.tree) : [selection.path];
        if (selection === undefined && into === undefined) roots.set(root, lstatSync(swap.tree));
        await swap.run(old, names, into, signal);
        done.push(swap);
      }
    } catch (error) {
      for (const swap of done.reverse()) swap.back();
      throw error;
    } finally {
      for (const { swap } of parts) await swap.end(log);
    }
    // Last, as the room for the restore was in it until now.
    for (const [root, was] of roots) this.setRoot(root, was, log);
  }

  /** The trees were read back and compared before they were put into their places: here it is seen that they are there, and alone. */
  public verify({ manifest }: Restore, { parts, into }: FilesPlan): Promise<readonly string[]> {
    const checks: string[] = [];
    for (const { name, root, selection, swap } of parts) {
      swap.assertPlaced();
      const place = join(root, into ?? "", selection?.path ?? "");
      const all = selection === undefined && into === undefined ? this.inPlace(root, undefined) : [];
      const more = all.filter((entry) => !swap.placed.includes(entry));
      if (more.length > 0) throw new Error(`${root} has more than was restored, ${listed(more)}: is the application running?`);
      const { files, bytes } = selection ?? (manifest.fingerprint[name] as TreeFacts);
      checks.push(`${name}: ${files} files, ${bytes} bytes, equal to what was backed up in paths, modes, times, links and contents, are in ${place}`);
    }
    return Promise.resolve(checks);
  }

  private async prepare(restore: Restore, { name, selection, swap }: Part): Promise<void> {
    const { manifest, signal, log } = restore;
    const writer = new TreeWriter(swap.tree, signal);
    const members = treeMembers(restore, name);
    for await (const member of selection === undefined ? members : selected(members, selection, swap.spare)) await writer.add(member);
    writer.finish();
    for (const line of writer.owners) log(`${name}: ${line}`);
    const facts = await readBack(writer, [{ path: swap.tree }], signal);
    assertSame(`${name}:`, selection === undefined ? manifest.fingerprint[name] : writer.facts(), facts);
  }

  /** What there is in the places of what is restored. */
  private inPlace(root: string, selection: Selection | undefined): readonly string[] {
    if (selection !== undefined) return existsNow(join(root, selection.path)) ? [selection.path] : [];
    return readdirSync(root, { withFileTypes: true })
      .filter((entry) => !this.excluded(entry.name, entry.isDirectory()))
      .map(({ name }) => name);
  }

  /** The root of a volume may belong to others, who gave it the mode that it has. */
  private setRoot(root: string, was: Stats, log: (message: string) => void): void {
    const [wanted, found] = [was.mode, lstatSync(root).mode].map((bits) => (bits & 0o7777).toString(8));
    const time = fileTime(was);
    try {
      if (wanted !== found) chmodSync(root, was.mode & 0o7777);
      utimesSync(root, time, time);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "EPERM") throw error;
      log(`${root} keeps its ${wanted === found ? "time" : `mode ${found} and its time`}, as it belongs to another user; its mode was ${wanted}`);
    }
  }

  private get stop(): string {
    const { stop } = this.settings;
    return stop === undefined ? "stop its application first" : `stop its application first: ${stop}`;
  }
}

/** The first few of many names. */
function listed(names: readonly string[]): string {
  return names.length <= 10 ? names.join(", ") : `${names.slice(0, 10).join(", ")} and ${names.length - 10} more`;
}
