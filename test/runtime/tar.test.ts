import fc from "fast-check";
import { readTar, type TarEntry, tarEnd, tarHeader, tarPadding } from "../../lib/runtime/tar";

interface Member {
  readonly entry: TarEntry;
  readonly content: Buffer;
}

function archive(members: readonly Member[]): Buffer {
  return Buffer.concat([...members.flatMap(({ entry, content }) => [tarHeader(entry), content, tarPadding(content.length)]), tarEnd()]);
}

async function* pieces(data: Buffer, size: number): AsyncGenerator<Buffer> {
  for (let at = 0; at < data.length; at += size) yield data.subarray(at, at + size);
}

async function read(data: Buffer, chunk = 700): Promise<Member[]> {
  const members: Member[] = [];
  for await (const { content, ...entry } of readTar(pieces(data, chunk))) {
    const parts: Buffer[] = [];
    for await (const part of content) parts.push(part);
    members.push({ entry, content: Buffer.concat(parts) });
  }
  return members;
}

const plain: TarEntry = { path: "a", type: "file", mode: 0o644, uid: 0, gid: 0, mtimeMs: 0, size: 0 };

const name = fc
  .oneof(
    fc.string({ unit: "grapheme", minLength: 1, maxLength: 150 }),
    fc.constantFrom("x".repeat(99), "x".repeat(100), "x".repeat(101), "ü", "a\nb", " ", "..x"),
  )
  .filter((text) => text !== "." && text !== ".." && !/[/\0]/.test(text) && Buffer.from(text).toString() === text);
const path = fc.array(name, { minLength: 1, maxLength: 4 }).map((parts) => parts.join("/"));
const id = fc.oneof(fc.nat(100_000), fc.constantFrom(2_097_151, 2_097_152, 4_294_967_294));
const common = {
  path,
  mode: fc.nat(0o7777),
  uid: id,
  gid: id,
  mtimeMs: fc.integer({ min: -1e12, max: 9e12 }).map((seconds) => seconds * 1000),
};
const member: fc.Arbitrary<Member> = fc.oneof(
  fc.record({ ...common, bytes: fc.uint8Array({ maxLength: 3000 }) }).map(({ bytes, ...rest }) => ({
    entry: { ...rest, type: "file" as const, size: bytes.length },
    content: Buffer.from(bytes),
  })),
  fc
    .record({ ...common, type: fc.constantFrom("symlink", "link"), target: path })
    .map((rest) => ({ entry: { ...rest, size: 0 } as TarEntry, content: Buffer.alloc(0) })),
  fc.record(common).map((rest) => ({ entry: { ...rest, type: "directory" as const, size: 0 }, content: Buffer.alloc(0) })),
);

test("what was written is read, whatever the names, owners and times, and however the bytes arrive", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(member, { maxLength: 6 }), fc.integer({ min: 1, max: 2000 }), async (members, chunk) => {
      expect(await read(archive(members), chunk)).toEqual(members);
    }),
    { numRuns: 200 },
  );
});

test("a file of 8 GiB and more has its size", async () => {
  for (const size of [8 ** 11 - 1, 8 ** 11, 5e12]) {
    const first = await readTar(pieces(tarHeader({ ...plain, size }), 512)).next();
    expect(first.value).toMatchObject({ size });
  }
});

test("a time is kept to the second, also before 1970", async () => {
  const times = [1_700_000_000_999.7, -1500];
  const members = times.map((mtimeMs) => ({ entry: { ...plain, mtimeMs }, content: Buffer.alloc(0) }));
  expect((await read(archive(members))).map(({ entry }) => entry.mtimeMs)).toEqual([1_700_000_000_000, -2000]);
});

test("a content that is not read is skipped", async () => {
  const members = [1, 600, 512].map((size) => ({ entry: { ...plain, path: `f${size}`, size }, content: Buffer.alloc(size, 1) }));
  const paths: string[] = [];
  for await (const { path: found, content } of readTar(pieces(archive(members), 100))) {
    paths.push(found);
    await content[Symbol.asyncIterator]().next();
  }
  expect(paths).toEqual(["f1", "f600", "f512"]);
});

describe("fails when", () => {
  const data = archive([
    { entry: { ...plain, path: "ü/long", size: 700 }, content: Buffer.alloc(700, 7) },
    { entry: { ...plain, path: "b", size: 3 }, content: Buffer.from("abc") },
  ]);

  test("it is cut at any byte", async () => {
    for (let length = 0; length < data.length; length += 13)
      await expect(read(data.subarray(0, length))).rejects.toThrow("the archive is cut");
    await expect(read(data.subarray(0, -1))).rejects.toThrow("the archive is cut");
    await expect(read(data)).resolves.toHaveLength(2);
  });

  test("something stands in its end", async () => {
    const changed = Buffer.from(data);
    changed[data.length - 1] = 1;
    await expect(read(changed)).rejects.toThrow("the archive is damaged: its end is broken");
  });

  test("any byte of a header is another one", async () => {
    const [block = Buffer.alloc(0)] = [tarHeader({ ...plain, path: "b", size: 3 })];
    for (let at = 0; at < 512; at++) {
      const changed = Buffer.from(block);
      changed[at] = (changed[at] ?? 0) ^ 1;
      const reading = read(Buffer.concat([changed, Buffer.from("abc"), tarPadding(3), tarEnd()]));
      // The two bytes after the checksum's digits say nothing.
      if (at === 154 || at === 155) await expect(reading).resolves.toHaveLength(1);
      else await expect(reading).rejects.toThrow("the archive is damaged: a header's checksum is wrong");
    }
  });

  test("anything but zeros fills up a member's last block", async () => {
    for (const [content, bytes] of [["abc", 3], [Buffer.alloc(700, 7), 700]] as const) {
      for (const after of [bytes, Math.ceil(bytes / 512) * 512 - 1]) {
        const changed = Buffer.from(data);
        changed[changed.indexOf(content) + after] = 1;
        await expect(read(changed)).rejects.toThrow("the archive is damaged: something is between its members");
      }
    }
  });

  test("a record of its extended headers cannot be read", async () => {
    const changed = Buffer.from(data);
    changed[512] = 0x78;
    await expect(read(changed)).rejects.toThrow("the archive is damaged: a pax record cannot be read");
  });

  test("anything but zeros follows its end", async () => {
    await expect(read(Buffer.concat([data, Buffer.alloc(9000)]))).resolves.toHaveLength(2);
    await expect(read(Buffer.concat([data, Buffer.alloc(9000), Buffer.from("x")]))).rejects.toThrow("something follows the archive's end");
  });

  test("it has a device, or anything else that is never written", async () => {
    const block = tarHeader(plain);
    block.write("3", 156);
    const sum = block.reduce((total, byte, at) => total + (at >= 148 && at < 156 ? 32 : byte), 0);
    block.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148);
    await expect(read(Buffer.concat([block, tarEnd()]))).rejects.toThrow('the archive has a member of the unknown type "3"');
  });
});
