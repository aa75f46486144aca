import { chmodSync, mkdirSync, readdirSync, readFileSync, renameSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { assertSame } from "../../lib/runtime/facts";
import { Swap, Watch } from "../../lib/runtime/swap";
import { tree } from "./support";

const { signal } = new AbortController();
const log = (): void => undefined;
const read = (...path: readonly string[]): string => readFileSync(join(...path), "utf8");

/** A volume, and a swap that has these files prepared. */
async function prepared(volume: { readonly [path: string]: string }, files: { readonly [path: string]: string }) {
  const root = tree(volume);
  const swap = new Swap(root, new Date("2026-11-23T10:15:00Z"));
  await swap.begin(log);
  for (const [path, content] of Object.entries(files)) {
    mkdirSync(join(swap.tree, path, ".."), { recursive: true });
    writeFileSync(join(swap.tree, path), content);
  }
  return { root, swap };
}

describe("a swap", () => {
  test("puts the new into their places and keeps the old by their paths", async () => {
    const { root, swap } = await prepared({ db: "old", "db-wal": "log", "d/a": "old a", other: "other" }, { db: "new", "d/a": "new a" });
    await swap.run(["db", "db-wal", "d/a"], ["db", "d/a"], undefined, signal);
    await swap.end(log);
    expect(swap.aside).toBe(join(root, ".cdktf-backup-replaced-20261123T101500Z"));
    expect(readdirSync(root).sort()).toEqual([".cdktf-backup-replaced-20261123T101500Z", "d", "db", "other"]);
    expect([read(root, "db"), read(root, "d/a"), read(root, "other")]).toEqual(["new", "new a", "other"]);
    expect([read(swap.aside, "db"), read(swap.aside, "db-wal"), read(swap.aside, "d/a")]).toEqual(["old", "log", "old a"]);
    expect(statSync(swap.aside).mode & 0o777).toBe(0o700);
    expect([...swap.placed].sort()).toEqual(["d/a", "db"]);
  });

  test("brings directories along that are not there, as they were prepared", async () => {
    const { root, swap } = await prepared({}, { "a/b/c": "1", "a/d": "2" });
    chmodSync(join(swap.tree, "a/b"), 0o511);
    await swap.run([], ["a/b/c", "a/d"], undefined, signal);
    expect(readdirSync(join(root, "a"))).toEqual(["b", "d"]);
    expect(statSync(join(root, "a/b")).mode & 0o777).toBe(0o511);
  });

  test("puts everything into a directory of its own, also one that is there and empty", async () => {
    const { root, swap } = await prepared({ x: "x" }, { x: "new x" });
    mkdirSync(join(root, "look"));
    await swap.run([], ["x"], "look", signal);
    expect([read(root, "x"), read(root, "look/x")]).toEqual(["x", "new x"]);
  });

  test.each([
    ["what is there was not to be replaced", ["a"], ["a", "b"], /\/b is there already$/],
    ["a file is where a directory belongs", ["a"], ["a", "b/c"], /\/b is not a directory, and b\/c belongs into it$/],
    ["what is to be replaced is gone", ["a", "gone"], ["a"], /^ENOENT: /],
    ["what was prepared is gone", ["a"], ["a", "none"], /^ENOENT: /],
  ])("undoes all of it where %s", async (_, old, names, expected) => {
    const { root, swap } = await prepared({ a: "old a", b: "old b" }, { a: "new a" });
    await expect(swap.run(old, names, undefined, signal)).rejects.toThrow(expected);
    expect([read(root, "a"), read(root, "b")]).toEqual(["old a", "old b"]);
    await swap.end(log);
    expect(readdirSync(root).sort()).toEqual(["a", "b"]);
  });

  test("undoes all of it where it is told to stop before the names are on the disk", async () => {
    const { root, swap } = await prepared({ a: "old" }, { a: "new" });
    const control = new AbortController();
    const running = swap.run(["a"], ["a"], undefined, control.signal);
    control.abort(new Error("stop"));
    await expect(running).rejects.toThrow();
    expect(read(root, "a")).toBe("old");
  });

  test("notices what takes the place of what was put there", async () => {
    const { root, swap } = await prepared({ a: "old" }, { a: "new" });
    await swap.run(["a"], ["a"], undefined, signal);
    swap.assertPlaced();
    writeFileSync(join(root, "other"), "other");
    renameSync(join(root, "other"), join(root, "a"));
    expect(() => swap.assertPlaced()).toThrow(/\/a is not what was put there: is the application running\?$/);
  });

  test("removes what restores that did not end prepared, directories that cannot be written included", async () => {
    const root = tree({ ".cdktf-backup-restoring-20261122T101500Z/tree/closed/file": "x", ".cdktf-backup-replaced-20261122T101500Z/file": "kept" });
    chmodSync(join(root, ".cdktf-backup-restoring-20261122T101500Z/tree/closed"), 0o500);
    const lines: string[] = [];
    const swap = new Swap(root);
    await swap.begin((line) => lines.push(line));
    await swap.end(log);
    expect(readdirSync(root)).toEqual([".cdktf-backup-replaced-20261122T101500Z"]);
    expect(lines).toEqual([expect.stringMatching(/^removing .*-restoring-20261122T101500Z, left by a restore that did not end$/)]);
  });

  test("refuses what there is no room for", async () => {
    const { swap } = await prepared({}, {});
    await expect(swap.check([], 2 ** 60)).rejects.toThrow(/ has .* free, and 1048576\.0 TiB are written beside what is there: /);
  });
});

describe("a watch", () => {
  test("tells what changes from what does not", async () => {
    const acts: readonly (readonly [string, (root: string) => void, boolean])[] = [
      ["nothing", () => undefined, false],
      ["a read", (root) => void read(root, "d/a"), false],
      ["a write of the same", (root) => writeFileSync(join(root, "d/a"), "a"), true],
      ["a new file", (root) => writeFileSync(join(root, "d/b"), ""), true],
      ["another mode", (root) => chmodSync(join(root, "d"), 0o700), true],
      ["what is not watched", (root) => writeFileSync(join(root, "e"), ""), false],
    ];
    const found = acts.map(async ([what, act]) => {
      const root = tree({ "d/a": "a" });
      for (const name of ["link", "d/link"]) symlinkSync(root, join(root, name));
      symlinkSync("x".repeat(300), join(root, "long"));
      const watch = await Watch.of(["d", "none", "link", "long"].map((name) => join(root, name)), signal);
      act(root);
      return [what, await watch.changed(signal)];
    });
    expect(await Promise.all(found)).toEqual(acts.map(([what, , changed]) => [what, changed]));
  });

  test("takes long enough for somebody who writes now and then", async () => {
    const root = tree({ a: "" });
    const began = performance.now();
    const watch = await Watch.of([join(root, "a")], signal);
    setTimeout(() => writeFileSync(join(root, "a"), "late"), 1500);
    expect(await watch.changed(signal)).toBe(true);
    expect(performance.now() - began).toBeGreaterThan(1900);
  });
});

describe("facts", () => {
  test("that differ are named, a few of them", () => {
    const wanted = { tables: { a: 1, b: 2, c: 3, d: 4 }, list: ["x"], same: { z: null } };
    expect(() => assertSame("it:", wanted, wanted)).not.toThrow();
    expect(() => assertSame("it:", wanted, { tables: { a: 1, b: 3 }, list: ["x", "y"], same: { z: null }, more: true })).toThrow(
      "what came back is not what was backed up: it: tables b is 3, but was 2, it: tables c is not there, but was 3, " +
        'it: tables d is not there, but was 4, it: list 1 is "y", but was not there, it: more is true, but was not there',
    );
    expect(() => assertSame("it:", { a: 1, b: 1, c: 1, d: 1, e: 1, f: 1 }, {})).toThrow(/, and 1 more$/);
    expect(() => assertSame("it:", undefined, {})).toThrow("it: is {}, but was not there");
  });
});
