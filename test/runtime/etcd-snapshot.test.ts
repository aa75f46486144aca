import { createHash } from "node:crypto";
import { Readable } from "node:stream";
import { buffer } from "node:stream/consumers";
import fc from "fast-check";
import { readSnapshot, TrailingChecksum } from "../../lib/runtime/etcd-snapshot";

/** A snapshot's file, and the gateway's answer with it. */
function snapshot(size: number, piece = 1000): { readonly file: Buffer; readonly messages: readonly string[] } {
  const data = Buffer.alloc(size, "content of a database ");
  const file = Buffer.concat([data, createHash("sha256").update(data).digest()]);
  const messages: string[] = [];
  for (let at = 0; at < size; at += piece) {
    const blob = data.subarray(at, at + piece);
    const remaining = size - at - blob.length;
    const left = remaining > 0 && { remaining_bytes: String(remaining) };
    messages.push(JSON.stringify({ result: { ...left, blob: blob.toString("base64") } }));
  }
  return { file, messages: [...messages, JSON.stringify({ result: { blob: file.subarray(-32).toString("base64") } })] };
}

/** Reads an answer that comes in chunks of some size. */
function read(answer: string, chunk = 700): Promise<Buffer> {
  const bytes = Buffer.from(answer);
  const chunks = Array.from({ length: Math.ceil(bytes.length / chunk) }, (_, index) => bytes.subarray(index * chunk, (index + 1) * chunk));
  return buffer(Readable.from(readSnapshot(Readable.from(chunks))));
}

const upTo = (max: number): fc.Arbitrary<number> => fc.integer({ min: 1, max });
const lines = (messages: readonly string[]): string => messages.join("\n") + "\n";

test("the file is what was sent, wherever the answer was cut into pieces", async () => {
  await fc.assert(
    fc.asyncProperty(upTo(20_000), upTo(5000), upTo(9000), async (size, piece, chunk) => {
      const { file, messages } = snapshot(size, piece);
      expect((await read(lines(messages), chunk)).equals(file)).toBe(true);
    }),
    { numRuns: 60 },
  );
});

test("a last line without its end, empty lines and a hash that shares a message with data are well", async () => {
  const { file, messages } = snapshot(5000);
  expect((await read(messages.join("\n\n"))).equals(file)).toBe(true);
  const together = JSON.stringify({ result: { blob: file.toString("base64") } });
  // A server that counts the hash as data announces it as such.
  await expect(read(together)).rejects.toThrow("the snapshot ended after 5032 bytes: 5064 were announced");
});

const whole = snapshot(10_000).messages;
const [one = "", two = "", three = "", four = "", five = "", ...others] = whole;
const changed = (index: number, change: (blob: Buffer) => Buffer): readonly string[] =>
  whole.map((message, at) => {
    if (at !== index) return message;
    const { result } = JSON.parse(message) as { result: { blob: string } };
    return JSON.stringify({ result: { ...result, blob: change(Buffer.from(result.blob, "base64")).toString("base64") } });
  });
const flip = (blob: Buffer): Buffer => Buffer.from(blob.map((byte, index) => (index === 5 ? byte ^ 1 : byte)));

test.each<[string, string, string]>([
  ["nothing comes", "", "the snapshot ended after 0 bytes: nothing came"],
  ["half of it comes", lines(whole.slice(0, 5)), "the snapshot ended after 5000 bytes: 10032 were announced"],
  ["a message is cut", lines(whole).slice(0, 3000), "the server's answer is cut or no snapshot"],
  ["the hash is missing", lines(whole.slice(0, -1)), "the snapshot ended after 10000 bytes: 10032 were announced"],
  ["the hash is cut", lines(changed(10, (blob) => blob.subarray(0, 31))), "the snapshot ended after 10031 bytes: 10032 were announced"],
  ["a byte of the data is another", lines(changed(3, flip)), "the snapshot's checksum does not fit its content"],
  ["a byte of the hash is another", lines(changed(10, flip)), "the snapshot's checksum does not fit its content"],
  ["a piece is missing", lines(whole.filter((_, index) => index !== 4)), "the snapshot ended after 9032 bytes: 10032 were announced"],
  ["the first pieces changed places", lines([two, one, three, four, five, ...others]), "ended after 10032 bytes: 9032 were announced"],
  ["two pieces later on changed places", lines([one, two, three, five, four, ...others]), "checksum does not fit"],
  [
    "the server reports an error",
    lines([...whole.slice(0, 2), JSON.stringify({ error: { grpc_code: 14, message: "etcdserver: no leader" } })]),
    "the server broke off the snapshot after 2000 bytes: etcdserver: no leader",
  ],
  ["it is another answer", "<html>proxy</html>", 'the server\'s answer is cut or no snapshot: "<html>proxy</html>"'],
])("fails when %s", async (_, answer, message) => {
  await expect(read(answer)).rejects.toThrow(message);
});

test("fails when a message has no end", async () => {
  let megabytes = 0;
  const endless = (async function* () {
    for (; ; megabytes++) yield Buffer.alloc(1 << 20, "x");
  })();
  await expect(buffer(Readable.from(readSnapshot(endless)))).rejects.toThrow("a message has no end");
  expect(megabytes).toBeLessThan(20);
});

test("the checksum at the end is found wherever a stream is cut", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), fc.array(fc.nat(90), { maxLength: 20 }), fc.boolean(), (data, cuts, damage) => {
      const file = Buffer.concat([data, createHash("sha256").update(data).digest()]);
      if (damage) file[Math.floor(file.length / 2)] = (file[Math.floor(file.length / 2)] ?? 0) ^ 1;
      const checksum = new TrailingChecksum();
      let at = 0;
      for (const cut of cuts) checksum.add(file.subarray(at, (at += cut)));
      checksum.add(file.subarray(at));
      if (damage) expect(() => checksum.check()).toThrow("the snapshot's checksum does not fit its content");
      else expect(() => checksum.check()).not.toThrow();
    }),
  );
  const short = new TrailingChecksum();
  short.add(Buffer.alloc(31));
  expect(() => short.check()).toThrow("the snapshot's checksum does not fit its content");
});
