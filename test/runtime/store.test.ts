import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { createHash, randomBytes } from "node:crypto";
import { join } from "node:path";
import { Readable } from "node:stream";
import { buffer } from "node:stream/consumers";
import { zstdCompressSync, zstdDecompressSync } from "node:zlib";
import { openFile, storeFile, type WriteOptions } from "../../lib/runtime/store";
import { temporary } from "./support";

const signal = new AbortController().signal;
const data = Buffer.concat([Buffer.alloc(700_000, "abc"), randomBytes(500_000)]);
const chunks = (): Readable => Readable.from([data.subarray(0, 100_000), data.subarray(100_000)]);

function store(directory: string, options: Partial<WriteOptions> = {}, name = "dump"): ReturnType<typeof storeFile> {
  return storeFile(directory, name, chunks(), { level: 3, signal, ...options });
}

describe("what is stored", () => {
  test("is compressed, measured and hashed as it lies on the disk", async () => {
    const directory = temporary();
    const file = await store(directory);
    const onDisk = readFileSync(join(directory, "dump.zst"));
    expect(file).toEqual({
      path: "dump.zst",
      bytes: onDisk.length,
      sha256: createHash("sha256").update(onDisk).digest("hex"),
      uncompressedBytes: data.length,
    });
    expect(zstdDecompressSync(onDisk).equals(data)).toBe(true);
  });

  test("can be left as it comes", async () => {
    const directory = temporary();
    const file = await store(directory, { compress: false }, "sub/dump.bin");
    expect(file).toEqual({ path: "sub/dump.bin", bytes: data.length, sha256: createHash("sha256").update(data).digest("hex") });
    expect(readFileSync(join(directory, "sub/dump.bin")).equals(data)).toBe(true);
  });

  test("carries a checksum of its own", async () => {
    const directory = temporary();
    await store(directory);
    // Bit 2 of the frame header's first byte, after the magic number.
    expect((readFileSync(join(directory, "dump.zst"))[4] ?? 0) & 4).toBe(4);
  });

  test("is shown to the engine and counted before compression, in order", async () => {
    const seen: Buffer[] = [];
    let counted = 0;
    await store(temporary(), { inspect: (chunk) => seen.push(Buffer.from(chunk)), count: (bytes) => (counted += bytes) });
    expect(Buffer.concat(seen).equals(data)).toBe(true);
    expect(counted).toBe(data.length);
  });

  test.each(["../up", "/abs", "a//b", "a/./b", "", "a/"])("refuses the name %j", async (name) => {
    await expect(store(temporary(), { compress: false }, name)).rejects.toThrow("must be a relative path without '.' and '..'");
  });

  test.each(["a", "b/c/d"])("fails when the directory itself is gone, which is not made anew: %s", async (name) => {
    const directory = join(temporary(), "gone");
    await expect(store(directory, {}, name)).rejects.toThrow("ENOENT");
    expect(existsSync(directory)).toBe(false);
  });

  test("fails when the file exists", async () => {
    const directory = temporary();
    await store(directory);
    await expect(store(directory)).rejects.toThrow("EEXIST");
  });

  test("fails when the source fails, also one that failed before it was read", async () => {
    const broken = Readable.from(
      (async function* () {
        yield Buffer.from("x");
        throw new Error("the producer died");
      })(),
    );
    await expect(storeFile(temporary(), "a", broken, { level: 3, signal })).rejects.toThrow("the producer died");
    const early = new Readable({ read: () => undefined });
    early.on("error", () => undefined);
    early.destroy(new Error("died early"));
    await new Promise((resolve) => early.once("close", resolve));
    await expect(storeFile(temporary(), "a", early, { level: 3, signal })).rejects.toThrow("died early");
  });

  test("fails when the inspection does", async () => {
    const inspect = (): never => {
      throw new Error("no trailer");
    };
    await expect(store(temporary(), { inspect })).rejects.toThrow("no trailer");
  });

  test("fails when it is told to stop, though the source never ends", async () => {
    const control = new AbortController();
    const endless = new Readable({ read: () => undefined });
    const stored = storeFile(temporary(), "a", endless, { level: 3, signal: control.signal });
    setTimeout(() => control.abort(new Error("stop")), 20);
    await expect(stored).rejects.toThrow("abort");
    expect(endless.destroyed).toBe(true);
  });
});

describe("what is opened", () => {
  test.each([true, false])("is what was stored (compressed: %s)", async (compress) => {
    const directory = temporary();
    const file = await store(directory, { compress });
    const whole: string[] = [];
    expect((await buffer(openFile(directory, file, { onWhole: (path) => whole.push(path) }))).equals(data)).toBe(true);
    expect(whole).toEqual([file.path]);
  });

  test("is not called whole when it was not read to its end", async () => {
    const directory = temporary();
    const file = await store(directory);
    const whole: string[] = [];
    const chunks = openFile(directory, file, { onWhole: (path) => whole.push(path) })[Symbol.asyncIterator]();
    await chunks.next();
    await chunks.return?.();
    expect(whole).toEqual([]);
  });

  const damages: readonly [string, (whole: Buffer) => Buffer][] = [
    ["nothing at all", () => Buffer.alloc(0)],
    ["the last byte missing", (whole) => whole.subarray(0, -1)],
    ["half of it missing", (whole) => whole.subarray(0, whole.length / 2)],
    ["a byte appended", (whole) => Buffer.concat([whole, Buffer.from([0])])],
    ["another frame appended", (whole) => Buffer.concat([whole, zstdCompressSync(Buffer.from("more"))])],
    ["text appended", (whole) => Buffer.concat([whole, Buffer.from("garbage")])],
    ...[0, 5, 1000, 400_000].map((at): [string, (whole: Buffer) => Buffer] => [
      `one bit flipped at ${at}`,
      (whole): Buffer => {
        const copy = Buffer.from(whole);
        copy.writeUInt8(copy.readUInt8(at) ^ 1, at);
        return copy;
      },
    ]),
    ["other content of the same size", (whole) => Buffer.alloc(whole.length, 1)],
  ];
  describe.each([true, false])("compressed: %s", (compress) => {
    test.each(damages)("refuses %s", async (_, damage) => {
      const directory = temporary();
      const file = await store(directory, { compress });
      const path = join(directory, file.path);
      const damaged = damage(readFileSync(path));
      writeFileSync(path, damaged);
      await expect(buffer(openFile(directory, file))).rejects.toThrow(`${file.path} is damaged`);
      // Also where the manifest's size was changed to fit: the length alone must not be what protects.
      await expect(buffer(openFile(directory, { ...file, bytes: damaged.length }))).rejects.toThrow(`${file.path} is damaged`);
    });
  });

  test("refuses what decodes to another size than it was made from", async () => {
    const directory = temporary();
    const file = await store(directory);
    const shorter = { ...file, uncompressedBytes: data.length - 1 };
    await expect(buffer(openFile(directory, shorter))).rejects.toThrow(
      `dump.zst is damaged: ${data.length} bytes after decompression instead of ${data.length - 1}`,
    );
  });

  test("fails when it is told to stop", async () => {
    const directory = temporary();
    const file = await store(directory);
    const control = new AbortController();
    control.abort(new Error("stop"));
    await expect(buffer(openFile(directory, file, { signal: control.signal }))).rejects.toThrow("stop");
  });

  test("fails when there is no such file", async () => {
    const file = { path: "gone", bytes: 1, sha256: "0".repeat(64) };
    await expect(buffer(openFile(temporary(), file))).rejects.toThrow("ENOENT");
  });
});
