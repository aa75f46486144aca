import { linkSync, lstatSync, mkdirSync, readdirSync, readFileSync, readlinkSync, statSync, symlinkSync } from "node:fs";
import { join } from "node:path";
import { archiveMembers, readBack, select, selected } from "../../lib/runtime/stored-tree";
import { TreeArchive } from "../../lib/runtime/tree-archive";
import { TreeWriter, type StoredMember } from "../../lib/runtime/tree-writer";
import { temporary, tree } from "./support";

const { signal } = new AbortController();
const [uid, gid] = [process.getuid?.() ?? 0, process.getgid?.() ?? 0];

/** A member with everything that it needs. */
function member(path: string, more: Partial<StoredMember> & { readonly text?: string } = {}): StoredMember {
  const { text = "", ...rest } = more;
  const content = async function* (): AsyncGenerator<Buffer> {
    yield await Promise.resolve(Buffer.from(text));
  };
  return { path, type: "file", mode: 0o640, uid, gid, mtimeMs: 1_600_000_000_000, size: text.length, content: content(), ...rest };
}

const directory = (path: string, more: Partial<StoredMember> = {}): StoredMember => member(path, { type: "directory", mode: 0o750, ...more });

async function write(...members: readonly StoredMember[]): Promise<{ readonly root: string; readonly writer: TreeWriter }> {
  const root = temporary();
  const writer = new TreeWriter(root, signal);
  for (const one of members) await writer.add(one);
  writer.finish();
  return { root, writer };
}

describe("a tree that is written", () => {
  test("has content, modes, times and links, and reads back as what was written", async () => {
    const { root, writer } = await write(
      directory(".", { mode: 0o755 }),
      directory("d", { mode: 0o555, mtimeMs: -86_400_000 }),
      member("d/file", { text: "content", mode: 0o4755 }),
      member("d/twin", { type: "link", target: "d/file", mode: 0o4755 }),
      member("link", { type: "symlink", target: "../nowhere", mode: 0o777 }),
    );
    expect(readFileSync(join(root, "d/file"), "utf8")).toBe("content");
    expect(statSync(join(root, "d/file")).mode & 0o7777).toBe(0o4755);
    expect(lstatSync(join(root, "d/twin")).ino).toBe(lstatSync(join(root, "d/file")).ino);
    expect(readlinkSync(join(root, "link"))).toBe("../nowhere");
    expect([statSync(join(root, "d")).mode & 0o7777, statSync(join(root, "d")).mtimeMs]).toEqual([0o555, -86_400_000]);
    expect(lstatSync(join(root, "link")).mtimeMs).toBe(1_600_000_000_000);
    expect(await readBack(writer, [{ path: root }], signal)).toEqual(writer.facts());
    expect(writer.roots).toEqual(["."]);
    expect(writer.owners).toEqual([]);
  });

  test("has the last content of a file that comes twice", async () => {
    const { root, writer } = await write(directory("."), member("a", { text: "first, and longer" }), member("a", { text: "second" }));
    expect(readFileSync(join(root, "a"), "utf8")).toBe("second");
    expect(writer.facts()).toMatchObject({ files: 1, bytes: 6 });
  });

  test("has holes where there are zeros", async () => {
    const size = 8 << 20;
    const chunks = async function* (): AsyncGenerator<Buffer> {
      for (let at = 0; at < size; at += 1 << 18) yield await Promise.resolve(Buffer.alloc(1 << 18, at === 1 << 20 ? 1 : 0));
    };
    const { root } = await write(member("image", { size, content: chunks() }));
    expect(statSync(join(root, "image")).size).toBe(size);
    expect(statSync(join(root, "image")).blocks * 512).toBeLessThan(1 << 20);
    expect(readFileSync(join(root, "image")).indexOf(1)).toBe(1 << 20);
  });

  test("names its topmost members, and makes the directories above them", async () => {
    const { root, writer } = await write(member("key"), member("a/b/conf"), directory("a/files"), member("a/files/one"));
    expect(writer.roots).toEqual(["key", "a/b/conf", "a/files"]);
    expect(readdirSync(join(root, "a"))).toEqual(["b", "files"]);
  });
});

describe("refuses", () => {
  test.each<[string, StoredMember, RegExp]>([
    ["a path above", member("../out"), /^the stored tree has "\.\.\/out", which is no path below it$/],
    ["an absolute path", member("/etc/passwd"), /^the stored tree has "\/etc\/passwd", which/],
    ["a hard link to a path above", member("a", { type: "link", target: "../b" }), /^the stored tree has a link to "\.\.\/b", which is no path below it$/],
    ["a file of another size", { ...member("a", { text: "abc" }), size: 4 }, /^a is damaged: 3 bytes instead of 4$/],
    ["another content", { ...member("a", { text: "abc" }), sha256: "0" }, /^a is damaged: its SHA-256 is not the one that was written$/],
  ])("%s", async (_, one, expected) => {
    await expect(write(one)).rejects.toThrow(expected);
  });

  test("to write through a link", async () => {
    const outside = temporary();
    await expect(write(member("link", { type: "symlink", target: outside }), member("link/file"))).rejects.toThrow(/^EEXIST: /);
    expect(readdirSync(outside)).toEqual([]);
  });

  test("to write in a file's place", async () => {
    await expect(write(member("a"), member("b"), member("a"))).rejects.toThrow(/^EEXIST: /);
  });
});

describe("a part of a tree", () => {
  const source = (): string => {
    const root = tree({ "a/one": "1", "b/two": "22", "b/c/three": "333", "z": "z" });
    linkSync(join(root, "a/one"), join(root, "b/twin"));
    linkSync(join(root, "a/one"), join(root, "b/triplet"));
    symlinkSync("two", join(root, "b/link"));
    return root;
  };

  /** What is selected of the archive of a tree, as it is written. */
  async function part(root: string, path: string): Promise<{ readonly root: string; readonly writer: TreeWriter; readonly files: number }> {
    const members = (): AsyncIterable<StoredMember> => archiveMembers(new TreeArchive([{ path: root }], { signal }).stream());
    const selection = await select(members(), path);
    const to = temporary();
    const writer = new TreeWriter(to, signal);
    for await (const one of selected(members(), selection, temporary())) await writer.add(one);
    writer.finish();
    expect(await readBack(writer, [{ path: to }], signal)).toEqual(writer.facts());
    return { root: to, writer, files: selection.files };
  }

  test("has the directories above it and nothing else", async () => {
    const root = source();
    mkdirSync(join(root, "b/cc"));
    const { root: found, files } = await part(root, "b/c");
    expect([readdirSync(found), readdirSync(join(found, "b")), readdirSync(join(found, "b/c"))]).toEqual([["b"], ["c"], ["three"]]);
    expect(files).toBe(1);
  });

  test("makes one file of its own of all names of a file that is not in it", async () => {
    const { root, files } = await part(source(), "b");
    expect(readdirSync(join(root, "b")).sort()).toEqual(["c", "link", "triplet", "twin", "two"]);
    expect(readFileSync(join(root, "b/twin"), "utf8")).toBe("1");
    expect([lstatSync(join(root, "b/twin")).nlink, lstatSync(join(root, "b/twin")).ino]).toEqual([2, lstatSync(join(root, "b/triplet")).ino]);
    expect(files).toBe(4);
  });

  test("is refused where it is not there", async () => {
    await expect(part(source(), "b/tw")).rejects.toThrow('there is no "b/tw" in the generation');
  });
});
