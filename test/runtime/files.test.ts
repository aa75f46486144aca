import {
  appendFileSync,
  chmodSync,
  existsSync,
  linkSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { buffer } from "node:stream/consumers";
import type { Dump, Previous } from "../../lib/runtime/engine";
import { FilesEngine, type FilesSettings } from "../../lib/runtime/engines/files";
import { type StoredRecord, storeTree } from "../../lib/runtime/linked-tree";
import type { Manifest } from "../../lib/runtime/manifest";
import { createRun } from "../../lib/runtime/run";
import { TreeDigest, TreeReader } from "../../lib/runtime/tree";
import { TreeArchive } from "../../lib/runtime/tree-archive";
import { temporary, tree } from "./support";

const MIB = 1_048_576;

interface Made {
  readonly directory: string;
  readonly dump: Dump;
  readonly checks: readonly string[];
  readonly log: string;
}

type Changes = Partial<Omit<FilesSettings, "kind" | "sources">> & {
  readonly previous?: Made;
  /** Happens when the source has been looked at, before it is read. */
  readonly before?: () => void;
  /** Happens when the source has been read, before it is looked at again. */
  readonly after?: () => void;
  /** Happens when all is on the target, before it is read back. */
  readonly damage?: (directory: string) => void;
};

/** One run of the engine, with things that happen meanwhile. */
async function backUp(sources: { readonly [name: string]: string }, changes: Changes = {}): Promise<Made> {
  const { previous, before, after, damage, ...settings } = changes;
  const directory = temporary();
  const lines: string[] = [];
  const run = createRun({
    directory,
    scratch: temporary(),
    signal: new AbortController().signal,
    log: (message) => void lines.push(message),
    level: 1,
    previous: previous === undefined ? undefined : previousOf(previous),
  });
  const engine = new FilesEngine({
    kind: "files",
    sources: Object.entries(sources).map(([name, path]) => ({ name, path })),
    exclude: [],
    consistency: "quiesced",
    layout: "archive",
    ...settings,
  });
  await engine.preflight(run);
  before?.();
  const store: typeof run.store = async (name, source, options) => {
    const file = await run.store(name, source, options);
    after?.();
    return file;
  };
  const dump = await engine.dump(Object.create(run, { store: { value: store } }) as typeof run);
  damage?.(directory);
  const checks = await engine.verify(run, dump);
  return { directory, dump, checks, log: lines.join("\n") };
}

function previousOf({ directory, dump }: Made): Previous {
  return { directory, manifest: { files: dump.files, fingerprint: dump.fingerprint } as Manifest };
}

const inode = (...path: string[]): number => lstatSync(join(...path)).ino;

describe.each(["archive", "hard-linked"] as const)("layout %s", (layout) => {
  test("has every source, and facts that a copy of it has too", async () => {
    const [data, more] = [tree({ a: "a", "d/b": "bb" }), tree({ c: "ccc" })];
    symlinkSync("a", join(data, "l"));
    const { dump, checks, log } = await backUp({ data, more }, { layout });
    expect(dump.fingerprint).toMatchObject({ data: { files: 2, directories: 2, symlinks: 1, bytes: 3 }, more: { files: 1, bytes: 3 } });
    const copy = new TreeArchive([{ path: data }], { signal: new AbortController().signal });
    await buffer(copy.stream());
    expect(dump.fingerprint.data).toEqual(copy.facts());
    expect(checks).toHaveLength(3);
    expect(log).toMatch(/data: 2 files, 3 B\n/);
  });

  test("leaves out what is excluded", async () => {
    const data = tree({ "a.txt": "a", "a.log": "x", "cache/b": "b", "keep/cache": "k" });
    const { dump, log, checks } = await backUp({ data }, { layout, exclude: ["*.log", "/cache/"] });
    expect(checks[0]).toMatch(/is what was read from the source \(not in it: 2 paths excluded\): /);
    expect(dump.fingerprint.data).toMatchObject({ files: 2, bytes: 2 });
    expect(log).toMatch(/data: 2 files, 2 B, 2 paths excluded/);
  });

  test("of what is excluded it does not matter whether it changes or can be read", async () => {
    const data = tree({ a: "a", "cache/b": "b" });
    const change = (): void => writeFileSync(join(data, "cache", String(Math.random())), "new");
    await expect(backUp({ data }, { layout, exclude: ["cache"], before: change, after: change })).resolves.toBeDefined();
  });

  test("fails when a source has no file, or none that is not excluded, or is none", async () => {
    await expect(backUp({ data: temporary() }, { layout })).rejects.toThrow(/^the source data is empty: there is no file in \/\S+$/);
    await expect(backUp({ data: tree({ "a.log": "" }) }, { layout, exclude: ["*.log"] })).rejects.toThrow(/that is not excluded$/);
    await expect(backUp({ data: "/nowhere" }, { layout })).rejects.toThrow("the source data does not exist: there is no /nowhere");
    await expect(backUp({ data: join(tree({ f: "" }), "f") }, { layout })).rejects.toThrow(
      /^the source data must be a directory, but \S+ is none$/,
    );
  });

  test("fails when the source is emptied after it was looked at", async () => {
    const data = tree({ a: "a" });
    const before = (): void => rmSync(join(data, "a"));
    await expect(backUp({ data }, { layout, consistency: "crash-consistent", before })).rejects.toThrow(
      "the source data lost all its files during the backup",
    );
  });

  describe("of a source that is quiesced, fails when", () => {
    const changes: readonly (readonly [string, (data: string) => void, string])[] = [
      ["a file is written to", (data) => appendFileSync(join(data, "b"), "x"), "b"],
      ["a file is replaced by one of the same size and time", (data) => replace(join(data, "b")), "b"],
      ["a file's mode changes", (data) => chmodSync(join(data, "b"), 0o600), "b"],
      ["a file appears", (data) => writeFileSync(join(data, "d", "new"), ""), "d/new"],
      ["a directory appears", (data) => mkdirSync(join(data, "e")), "e"],
      ["a file is removed", (data) => rmSync(join(data, "b")), "b"],
      ["a file is renamed", (data) => renameSync(join(data, "b"), join(data, "z")), "b, z"],
      ["a link points elsewhere", (data) => (rmSync(join(data, "l")), symlinkSync("b", join(data, "l"))), "l"],
    ];
    const source = (): string => {
      const data = tree({ a: "a", b: "b", "d/c": "c" });
      symlinkSync("a", join(data, "l"));
      return data;
    };

    test.each(changes)("%s after it was read", async (_what, change, names) => {
      const data = source();
      await expect(backUp({ data }, { layout, after: () => change(data) })).rejects.toThrow(
        `the source data was not quiet during the backup, these changed: ${names}`,
      );
    });

    test.each(changes)("%s before it was read", async (_what, change, names) => {
      const data = source();
      await expect(backUp({ data }, { layout, before: () => change(data) })).rejects.toThrow(`these changed: ${names}`);
    });

    test("many change, of which ten are named", async () => {
      const data = tree(Object.fromEntries(Array.from({ length: 30 }, (_, at) => [`f${at}`, ""])));
      const after = (): void => readdirSync(data).forEach((name) => appendFileSync(join(data, name), "x"));
      await expect(backUp({ data }, { layout, after })).rejects.toThrow(/changed: f0, f1, (\S+, ){7}\S+ and 20 more$/);
    });
  });

  test("of a snapshot, what happens before and after its reading is not asked for", async () => {
    const data = tree({ a: "a" });
    await expect(
      backUp({ data }, { layout, consistency: "snapshot", after: () => writeFileSync(join(data, "b"), "") }),
    ).resolves.toBeDefined();
  });
});

describe("layout hard-linked", () => {
  const layout = "hard-linked";
  /** A time in the past: what is made and changed within one tick of the clock would look the same. */
  const age = (...path: string[]): void => utimesSync(join(...path), 1_600_000_000.25, 1_600_000_000.25);

  test("links what did not change, and copies what did", async () => {
    const data = tree({ same: "1", content: "2", size: "3", "d/same": "4", touched: "5", mode: "6" });
    for (const name of ["same", "content", "size", "d/same", "touched", "mode"]) age(data, name);
    const first = await backUp({ data }, { layout });
    writeFileSync(join(data, "content"), "x");
    appendFileSync(join(data, "size"), "x");
    age(data, "size");
    utimesSync(join(data, "touched"), 1_600_000_001, 1_600_000_001);
    chmodSync(join(data, "mode"), 0o600);
    writeFileSync(join(data, "new"), "n");
    rmSync(join(data, "d", "same"));
    writeFileSync(join(data, "d", "other"), "o");
    const second = await backUp({ data }, { layout, previous: first });

    const shared = (path: string): boolean => inode(first.directory, "data", path) === inode(second.directory, "data", path);
    expect(["same", "content", "size", "touched", "mode"].map(shared)).toEqual([true, false, false, false, false]);
    expect(readdirSync(join(second.directory, "data", "d"))).toEqual(["other"]);
    expect(readFileSync(join(first.directory, "data", "content"), "utf8")).toBe("2");
    expect(readFileSync(join(second.directory, "data", "content"), "utf8")).toBe("x");
    expect(existsSync(join(first.directory, "data", "d", "same"))).toBe(true);
    expect(second.dump.files).toEqual([expect.objectContaining({ path: "data.tree.jsonl.zst", treeBytes: 7 })]);
    expect(second.checks[0]).toMatch(/: 6 files that this run copied; 1 links into the generation before have their sizes$/);
    expect(second.log).toMatch(/data: 7 B copied, the rest is linked to the generation before/);
  });

  test("has the same facts as an archive, linked or not", async () => {
    const data = tree({ a: "a", "d/b": "b" });
    symlinkSync("/x", join(data, "l"));
    linkSync(join(data, "a"), join(data, "z"));
    const archive = await backUp({ data });
    const first = await backUp({ data }, { layout });
    const second = await backUp({ data }, { layout, previous: first });
    expect(first.dump.fingerprint).toEqual(archive.dump.fingerprint);
    expect(second.dump.fingerprint).toEqual(archive.dump.fingerprint);
    expect(inode(second.directory, "data", "z")).toBe(inode(second.directory, "data", "a"));
    expect(inode(second.directory, "data", "a")).toBe(inode(first.directory, "data", "a"));
    expect(readlinkSync(join(second.directory, "data", "l"))).toBe("/x");
  });

  test("a generation that is gone does not matter to the next one", async () => {
    const data = tree({ a: "a" });
    const first = await backUp({ data }, { layout });
    const second = await backUp({ data }, { layout, previous: first });
    rmSync(first.directory, { recursive: true });
    const third = await backUp({ data }, { layout, previous: second });
    expect(readFileSync(join(third.directory, "data", "a"), "utf8")).toBe("a");
    expect(inode(third.directory, "data", "a")).toBe(inode(second.directory, "data", "a"));
  });

  test.each<readonly [string, (file: string) => void]>([
    ["is cut, though its time is as before", (file) => (truncateSync(file, 1), age(file))],
    ["was written to", (file) => writeFileSync(file, "XXXX")],
    ["is missing", (file) => rmSync(file)],
    ["is another kind of thing", (file) => (rmSync(file), mkdirSync(file))],
  ])("copies a file again where that of the generation before %s", async (_what, damage) => {
    const data = tree({ a: "aaaa" });
    age(data, "a");
    const first = await backUp({ data }, { layout });
    damage(join(first.directory, "data", "a"));
    const second = await backUp({ data }, { layout, previous: first });
    expect(readFileSync(join(second.directory, "data", "a"), "utf8")).toBe("aaaa");
    expect(second.dump.files[0]?.treeBytes).toBe(4);
  });

  test("copies all where the listing of the generation before is damaged, and says so", async () => {
    const data = tree({ a: "aaaa" });
    const first = await backUp({ data }, { layout });
    const listing = join(first.directory, "data.tree.jsonl.zst");
    const bytes = readFileSync(listing);
    bytes[20] = (bytes[20] ?? 0) ^ 1;
    writeFileSync(listing, bytes);
    const second = await backUp({ data }, { layout, previous: first });
    expect(second.log).toMatch(
      /warning: files are copied that could have been links: in the generation before, data\.tree\.jsonl\.zst is damaged/,
    );
    expect(second.dump.files[0]?.treeBytes).toBe(4);
  });

  test("copies all where the generation before is an archive", async () => {
    const data = tree({ a: "aaaa" });
    const second = await backUp({ data }, { layout, previous: await backUp({ data }) });
    expect(second.dump.files[0]?.treeBytes).toBe(4);
  });

  test("stores modes that let it be read and removed, and the true ones in the listing", async () => {
    const data = tree({ "d/secret": "s", "d/set-user-id": "u" });
    chmodSync(join(data, "d", "secret"), process.getuid?.() === 0 ? 0o000 : 0o400); // which root alone can read
    chmodSync(join(data, "d", "set-user-id"), 0o5755);
    chmodSync(join(data, "d"), 0o555);
    const { directory, dump } = await backUp({ data }, { layout });
    expect(["d", "d/secret", "d/set-user-id"].map((path) => statSync(join(directory, "data", path)).mode & 0o7777)).toEqual([
      0o755, 0o400, 0o755,
    ]);
    const digest = new TreeDigest();
    const reader = new TreeReader(data, { signal: new AbortController().signal });
    for await (const node of reader.walk()) if (node.type === "directory") digest.add(node);
    expect((dump.fingerprint.data as { directories: number }).directories).toBe(digest.facts().directories);
    chmodSync(join(data, "d"), 0o755); // so that it can be removed
  });

  test("keeps times, and blocks of zeros as holes", async () => {
    const data = tree({ sparse: "" });
    truncateSync(join(data, "sparse"), 40 * MIB);
    appendFileSync(join(data, "sparse"), Buffer.alloc(3000, 1));
    truncateSync(join(data, "sparse"), 60 * MIB);
    age(data, "sparse");
    const { directory } = await backUp({ data }, { layout });
    const stored = statSync(join(directory, "data", "sparse"));
    expect(stored.size).toBe(60 * MIB);
    expect(stored.blocks * 512).toBeLessThan(3 * MIB);
    expect(stored.mtimeMs).toBeCloseTo(1_600_000_000_250, 0);
    expect(readFileSync(join(directory, "data", "sparse")).equals(readFileSync(join(data, "sparse")))).toBe(true);
  });

  test.each<readonly [string, (directory: string) => void]>([
    ["a copied file has one bit changed", (directory) => writeFileSync(join(directory, "data", "new"), "y")],
    ["a copied file is cut", (directory) => truncateSync(join(directory, "data", "new"), 0)],
    ["a linked file is cut", (directory) => truncateSync(join(directory, "data", "old"), 1)],
    ["a link points elsewhere", (directory) => (rmSync(join(directory, "data", "l")), symlinkSync("new", join(directory, "data", "l")))],
  ])("fails when on the target %s", async (_what, damage) => {
    const data = tree({ old: "old" });
    age(data, "old");
    const first = await backUp({ data }, { layout });
    writeFileSync(join(data, "new"), "x");
    symlinkSync("old", join(data, "l"));
    await expect(backUp({ data }, { layout, previous: first, damage })).rejects.toThrow("data on the target is not what was read");
  });

  test.each(["new", "old", "l", "d"])("fails when %s is missing on the target", async (name) => {
    const data = tree({ old: "old" });
    const first = await backUp({ data }, { layout });
    writeFileSync(join(data, "new"), "x");
    symlinkSync("old", join(data, "l"));
    mkdirSync(join(data, "d"));
    const damage = (directory: string): void => rmSync(join(directory, "data", name), { recursive: true });
    await expect(backUp({ data }, { layout, previous: first, damage })).rejects.toThrow(/ENOENT/);
  });

  describe("a file that changes while it is copied", () => {
    /** Copies a tree in which something happens as soon as the large file was opened. */
    async function copy(
      live: boolean,
      happen: (file: string) => void,
    ): Promise<{ directory: string; records: StoredRecord[]; vanished: number }> {
      const data = tree({ large: Buffer.alloc(3 * MIB, 1), z: "z" });
      const directory = join(temporary(), "copy");
      const reader = new TreeReader(data, { signal: new AbortController().signal, live });
      for (const name of ["open", "reopen"] as const) {
        const original = reader[name].bind(reader);
        reader[name] = (node) => {
          const file = original(node);
          if (node.path === "large") happen(node.source);
          return file;
        };
      }
      const records: StoredRecord[] = [];
      for await (const record of storeTree(reader, directory)) records.push(record);
      return { directory, records, vanished: reader.leftOut.vanished };
    }
    const once = (work: (file: string) => void): ((file: string) => void) => {
      let done = false;
      return (file) => {
        if (!done) work(file);
        done = true;
      };
    };

    test("is copied again, and nothing of its first reading stays", async () => {
      const { directory, records } = await copy(
        true,
        once((file) => (writeFileSync(`${file}.new`, Buffer.alloc(2 * MIB, 2)), renameSync(`${file}.new`, file))),
      );
      expect(readFileSync(join(directory, "large")).equals(Buffer.alloc(2 * MIB, 2))).toBe(true);
      expect(records.find(({ path }) => path === "large")).toMatchObject({ size: 2 * MIB, copied: true });
    });

    test("is not in the copy where it vanishes", async () => {
      const { directory, records, vanished } = await copy(
        true,
        once((file) => (writeFileSync(file, "x"), rmSync(file))),
      );
      expect(readdirSync(directory)).toEqual(["z"]);
      expect(records.map(({ path }) => path)).toEqual([".", "z"]);
      expect(vanished).toBe(1);
    });

    test("fails the run where it changes every time, or where nothing may change", async () => {
      const append = (file: string): void => appendFileSync(file, "x");
      await expect(copy(true, append)).rejects.toThrow(/large changed while it was read each of the 4 times: stop its writer/);
      await expect(copy(false, append)).rejects.toThrow(/large changed while it was read: stop its writer/);
    });
  });
});

/** Removes a file and makes another one of its name, size and time. */
function replace(path: string): void {
  const { size, atimeMs, mtimeMs } = statSync(path);
  writeFileSync(`${path}.new`, Buffer.alloc(size, "X"));
  utimesSync(`${path}.new`, atimeMs / 1000, mtimeMs / 1000);
  renameSync(`${path}.new`, path);
}
