import { createHash } from "node:crypto";
import {
  appendFileSync,
  linkSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { buffer } from "node:stream/consumers";
import fc from "fast-check";
import { readTar } from "../../lib/runtime/tar";
import { compareKey, joined, TreeReader } from "../../lib/runtime/tree";
import { archiveFacts, type ArchiveSource, TreeArchive } from "../../lib/runtime/tree-archive";
import { temporary, tree } from "./support";

const signal = new AbortController().signal;
const MIB = 1_048_576;
/** More than is read before an archive's reader asks for it. */
const LARGE = 6 * MIB;

async function* only(data: Buffer): AsyncGenerator<Buffer> {
  yield data;
}

/** Archives, and gives the last content of each member. */
async function archived(
  sources: readonly ArchiveSource[],
  options = {},
): Promise<{ archive: TreeArchive; data: Buffer; members: Map<string, string> }> {
  const archive = new TreeArchive(sources, { signal, ...options });
  const data = await buffer(archive.stream());
  const members = new Map<string, string>();
  for await (const { path, type, target, content } of readTar(only(data)))
    members.set(path, target ?? (type === "file" ? (await buffer(content)).toString() : type));
  return { archive, data, members };
}

/** Takes the first chunk of an archive, lets something happen, then takes the rest. */
async function interrupted(root: string, live: boolean, happen: () => void): Promise<{ archive: TreeArchive; data: Buffer }> {
  const archive = new TreeArchive([{ path: root }], { signal, live });
  const parts: Buffer[] = [];
  for await (const chunk of archive.stream()) {
    if (parts.length === 0) happen();
    parts.push(chunk as Buffer);
  }
  return { archive, data: Buffer.concat(parts) };
}

describe("an archive", () => {
  test("has everything that is in a tree, by its path below the root", async () => {
    const root = tree({ "a.txt": "one", "dir/b.txt": "two", "dir.txt": "three", "dir/empty/x": "", ".hidden": "h" });
    symlinkSync("dir/b.txt", join(root, "to-b"));
    symlinkSync("/nowhere", join(root, "broken"));
    linkSync(join(root, "a.txt"), join(root, "dir", "same"));
    const { members, archive, data } = await archived([{ path: root }]);
    expect(Object.fromEntries(members)).toEqual({
      ".": "directory",
      ".hidden": "h",
      "a.txt": "one",
      broken: "/nowhere",
      dir: "directory",
      "dir.txt": "three",
      "dir/b.txt": "two",
      "dir/empty": "directory",
      "dir/empty/x": "",
      "dir/same": "a.txt",
      "to-b": "dir/b.txt",
    });
    expect(archive.facts()).toMatchObject({ files: 6, directories: 3, symlinks: 2, bytes: 12 });
    expect(await archiveFacts(only(data))).toEqual(archive.facts());
  });

  test("names several sources, directories and files, as it is told", async () => {
    const root = tree({ "attachments/1/x": "x", "rsa_key.pem": "key" });
    const sources = [
      { path: join(root, "attachments"), name: "attachments" },
      { path: join(root, "rsa_key.pem"), name: "rsa_key.pem" },
    ];
    const { members, archive, data } = await archived(sources);
    expect([...members]).toEqual([
      ["attachments", "directory"],
      ["attachments/1", "directory"],
      ["attachments/1/x", "x"],
      ["rsa_key.pem", "key"],
    ]);
    expect(await archiveFacts(only(data))).toEqual(archive.facts());
  });

  test("leaves out what is excluded and what is neither file nor directory nor link, and counts both", async () => {
    const root = tree({ a: "a", "cache/1": "1", "cache/2": "2" });
    const server = createServer().listen(join(root, "socket"));
    await new Promise((resolve) => server.on("listening", resolve));
    const { members, archive } = await archived([{ path: root }], { excluded: (path: string) => path === "cache" });
    await new Promise((resolve) => server.close(resolve));
    expect([...members.keys()]).toEqual([".", "a"]);
    expect(archive.leftOut).toEqual({ excluded: 1, special: 1, vanished: 0 });
  });

  test("is the same for the same tree, and another one for another mode, name, content or link", async () => {
    const facts = async (change: (root: string) => void): Promise<unknown> => {
      const root = tree({ a: "a", b: "b" });
      symlinkSync("a", join(root, "l"));
      utimesSync(join(root, "a"), Math.random() * 1e9, Math.random() * 1e9);
      change(root);
      return (await archived([{ path: root }])).archive.facts().sha256;
    };
    const same = await facts(() => undefined);
    expect(await facts(() => undefined)).toBe(same);
    const changes: ((root: string) => void)[] = [
      (root) => writeFileSync(join(root, "a"), "A"),
      (root) => renameSync(join(root, "a"), join(root, "c")),
      (root) => writeFileSync(join(root, "c"), "", { mode: 0o600 }),
      (root) => (rmSync(join(root, "l")), symlinkSync("b", join(root, "l"))),
      (root) => (rmSync(join(root, "b")), linkSync(join(root, "a"), join(root, "b"))),
      (root) => mkdirSync(join(root, "d")),
    ];
    const others = await Promise.all(changes.map(facts));
    expect(new Set([same, ...others]).size).toBe(changes.length + 1);
  });

  test("has a large file whole, with the hash of what is in it", async () => {
    const content = Buffer.alloc(3 * MIB + 17, "0123456789");
    const { data } = await archived([{ path: tree({ large: content }) }]);
    for await (const { path, content: found } of readTar(only(data)))
      if (path === "large") expect((await buffer(found)).equals(content)).toBe(true);
  });
});

describe("in a tree that nothing may change, fails when", () => {
  test("a file grows while it is read", async () => {
    const root = tree({ a: Buffer.alloc(LARGE) });
    await expect(interrupted(root, false, () => appendFileSync(join(root, "a"), "x"))).rejects.toThrow(
      /\/a changed while it was read: stop its writer/,
    );
  });

  test("a file shrinks while it is read", async () => {
    const root = tree({ a: Buffer.alloc(LARGE) });
    await expect(interrupted(root, false, () => truncateSync(join(root, "a"), LARGE - 2 * MIB))).rejects.toThrow(
      /\/a changed while it was read/,
    );
  });

  test("a file is written to in place while it is read, though its size stays", async () => {
    const root = tree({ a: Buffer.alloc(LARGE) });
    await expect(interrupted(root, false, () => writeFileSync(join(root, "a"), "x", { flag: "r+" }))).rejects.toThrow(
      /\/a changed while it was read/,
    );
  });

  test("a file vanishes", async () => {
    const root = tree({ a: Buffer.alloc(LARGE), "b/c": "c" });
    await expect(interrupted(root, false, () => rmSync(join(root, "b"), { recursive: true }))).rejects.toThrow(
      /\/b vanished during the backup/,
    );
  });
});

describe("in a tree whose writers go on", () => {
  test("a file that changed is read again, and its last reading counts", async () => {
    const root = tree({ a: Buffer.alloc(LARGE), b: "b" });
    const { archive, data } = await interrupted(root, true, () => writeFileSync(join(root, "a"), "quite another content"));
    expect(archive.facts()).toMatchObject({ files: 2, bytes: 22 });
    expect(await archiveFacts(only(data))).toEqual(archive.facts());
  });

  test("fails when a file changes each time it is read", async () => {
    const root = tree({ a: Buffer.alloc(LARGE) });
    const archive = new TreeArchive([{ path: root }], { signal, live: true });
    const reading = async (): Promise<void> => {
      for await (const chunk of archive.stream()) appendFileSync(join(root, "a"), String(chunk).slice(0, 1));
    };
    await expect(reading()).rejects.toThrow(
      /\/a changed while it was read each of the 4 times: stop its writer for the backup, back up a snapshot, or exclude it/,
    );
  });

  test("what vanishes is counted", async () => {
    const root = tree({ a: Buffer.alloc(LARGE), "b/c": "c", d: "d" });
    const { archive, data } = await interrupted(root, true, () => rmSync(join(root, "b"), { recursive: true }));
    expect(archive.leftOut.vanished).toBe(1);
    expect(archive.facts()).toMatchObject({ files: 2 });
    expect(await archiveFacts(only(data))).toEqual(archive.facts());
  });

  test("fails when a file changes and then vanishes: half of it must not look like a file", async () => {
    const root = tree({ a: Buffer.alloc(LARGE) });
    await expect(interrupted(root, true, () => rmSync(join(root, "a")))).rejects.toThrow(/\/a changed while it was read/);
  });

  test("another name of a file that changed in between is a file of its own", async () => {
    const root = tree({ a: "first", "m/large": Buffer.alloc(LARGE) });
    linkSync(join(root, "a"), join(root, "z"));
    const { archive, data } = await interrupted(root, true, () => writeFileSync(join(root, "z"), "second"));
    const found: [string, string, string][] = [];
    for await (const { path, type, content } of readTar(only(data))) {
      if (/^[az]$/.test(path)) found.push([path, type, (await buffer(content)).toString()]);
    }
    expect(found).toEqual([
      ["a", "file", "first"],
      ["z", "file", "second"],
    ]);
    expect(await archiveFacts(only(data))).toEqual(archive.facts());
  });
});

test("fails when a name is not valid UTF-8, because the file could not be named again", async () => {
  const root = tree({ a: "a" });
  writeFileSync(Buffer.concat([Buffer.from(`${root}/b`), Buffer.from([0xff]), Buffer.from("c")]), "x");
  await expect(archived([{ path: root }], { live: true })).rejects.toThrow(
    /\/b\ufffdc has a name that is not valid UTF-8: rename it, or exclude its directory/,
  );
});

test("fails when it is told to stop", async () => {
  const control = new AbortController();
  const archive = new TreeArchive([{ path: tree({ a: Buffer.alloc(LARGE), b: "b" }) }], { signal: control.signal });
  const reading = async (): Promise<void> => {
    for await (const chunk of archive.stream()) if (chunk !== undefined) control.abort(new Error("told to stop"));
  };
  await expect(reading()).rejects.toThrow("told to stop");
});

test("a walk's order is that of its paths' keys, so that two lists can be joined", async () => {
  const name = fc.constantFrom("a", "b", "a.b", "a-b", "a b", "A", "ä", "a\u0001");
  const paths = fc.uniqueArray(
    fc.array(name, { minLength: 1, maxLength: 4 }).map((parts) => parts.join("/")),
    { maxLength: 12 },
  );
  await fc.assert(
    fc.asyncProperty(paths, paths, async (ones, others) => {
      const walked = async (list: readonly string[]): Promise<string[]> => {
        const root = temporary();
        for (const path of list) mkdirSync(join(root, path), { recursive: true });
        const found: string[] = [];
        for await (const { path } of new TreeReader(root, { signal }).walk()) found.push(path);
        rmSync(root, { recursive: true });
        return found;
      };
      const [left, right] = [await walked(ones), await walked(others)];
      expect(left).toEqual([...left].sort((a, b) => (compareKey(a) < compareKey(b) ? -1 : 1)));
      const list = async function* (found: readonly string[]): AsyncGenerator<{ path: string }> {
        for (const path of found) yield { path };
      };
      const pairs: [string | undefined, string | undefined][] = [];
      for await (const pair of joined(list(left), list(right))) pairs.push([pair.left?.path, pair.right?.path]);
      for (const [l, r] of pairs) if (l !== undefined && r !== undefined) expect(l).toBe(r);
      expect(pairs.flatMap(([l]) => l ?? [])).toEqual(left);
      expect(pairs.flatMap(([, r]) => r ?? [])).toEqual(right);
      expect(pairs.filter(([l, r]) => l !== undefined && r !== undefined)).toHaveLength(left.filter((path) => right.includes(path)).length);
    }),
    { numRuns: 60 },
  );
});

test("each file's hash is that of its content", async () => {
  const root = tree({ a: "some content" });
  const archive = new TreeArchive([{ path: root }], { signal });
  await buffer(archive.stream());
  const sha256 = createHash("sha256")
    .update(readFileSync(join(root, "a")))
    .digest("hex");
  const lines = [JSON.stringify([".", "directory", 0o700, null]), JSON.stringify(["a", "file", 0o644, sha256])];
  expect(archive.facts().sha256).toBe(
    createHash("sha256")
      .update(lines.map((line) => `${line}\n`).join(""))
      .digest("hex"),
  );
});
