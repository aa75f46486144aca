import { createHash } from "node:crypto";
import { Readable } from "node:stream";
import { gunzipSync, gzipSync } from "node:zlib";
import { inspectSnapshot, type SnapshotFacts } from "../../lib/runtime/vault-snapshot";
import { makeSnapshot, type SnapshotOptions, stateOf } from "../helpers/vault-snapshot";

const inspect = (data: Buffer, chunk = 1000): Promise<SnapshotFacts> => {
  const pieces = Array.from({ length: Math.ceil(data.length / chunk) }, (_, at) => data.subarray(at * chunk, (at + 1) * chunk));
  return inspectSnapshot(Readable.from(pieces));
};

test("says what raft says of a snapshot, however its bytes arrive", async () => {
  for (const chunk of [1, 999, 1_000_000]) {
    const state = stateOf({ b: Buffer.alloc(4000, "sealed"), "a/b": Buffer.alloc(0), ü: Buffer.from("x") });
    expect(await inspect(makeSnapshot({ state }), chunk)).toEqual({
      index: 1234,
      term: 5,
      version: 1,
      stateBytes: state.length,
      entries: 3,
      sha256: createHash("sha256").update("3:a/b0:1:b4000:").update(Buffer.alloc(4000, "sealed")).update("2:ü1:x").digest("hex"),
      servers: [
        { id: "vault-0", address: "vault-0.vault-internal:8201", voter: true },
        { id: "vault-1", address: "vault-1.vault-internal:8201", voter: true },
        { id: "vault-2", address: "vault-2.vault-internal:8201", voter: false },
      ],
    });
  }
});

test("reads large ones whole", async () => {
  const state = stateOf(Object.fromEntries(Array.from({ length: 20 }, (_, index) => [`key ${index}`, Buffer.alloc(1_000_000, index)])));
  expect(await inspect(makeSnapshot({ state }), 65_536)).toMatchObject({ stateBytes: state.length, entries: 20 });
});

describe("fails when", () => {
  const whole = makeSnapshot({ state: stateOf({ key: Buffer.alloc(690, "0123456789") }) });

  test("it is cut at any byte", async () => {
    for (let length = 0; length < whole.length; length++) {
      await expect(inspect(whole.subarray(0, length))).rejects.toThrow(
        /^the snapshot cannot be restored: (unexpected end of file|the archive is cut)/,
      );
    }
  });

  test("any byte is another one, unless what it decodes to is the same", async () => {
    for (let at = 0; at < whole.length; at++) {
      const changed = Buffer.from(whole);
      changed[at] = (changed[at] ?? 0) ^ 0x10;
      const failure = await inspect(changed).then(
        () => undefined,
        (error: Error) => error.message,
      );
      if (failure === undefined) expect(gunzipSync(changed).equals(gunzipSync(whole))).toBe(true);
      else expect(failure).toMatch(/^the snapshot cannot be restored: ./);
    }
  });

  test.each([
    ["zeros", Buffer.alloc(10)],
    ["text", Buffer.from("<html>gateway timeout</html>")],
    ["another archive", whole],
    ["something compressed", gzipSync("x")],
  ])("%s follow it", async (_what, more) => {
    await expect(inspect(Buffer.concat([whole, more]))).rejects.toThrow(/^the snapshot cannot be restored: ./);
  });

  test("something follows the archive within the compression", async () => {
    await expect(inspect(gzipSync(Buffer.concat([gunzipSync(whole), Buffer.from("x")])))).rejects.toThrow(
      "something follows the archive's end",
    );
  });

  test.each<readonly [when: string, options: SnapshotOptions, reason: string]>([
    ["the state has one bit changed", { change: flip("state.bin", 100) }, "the SHA-256 of state.bin is not the one in SHA256SUMS"],
    ["meta.json has one bit changed", { change: flip("meta.json") }, "the SHA-256 of meta.json is not the one in SHA256SUMS"],
    ["the sums have one bit changed", { change: flip("SHA256SUMS") }, "the SHA-256 of meta.json is not the one in SHA256SUMS"],
    ...["meta.json", "state.bin", "SHA256SUMS", "SHA256SUMS.sealed"].map(
      (name) =>
        [`${name} is missing`, { change: (members: Map<string, Buffer>) => void members.delete(name) }, `it lacks ${name}`] as const,
    ),
    [
      "the sealed sums are empty",
      { change: (members) => void members.set("SHA256SUMS.sealed", Buffer.alloc(0)) },
      "its member SHA256SUMS.sealed is empty",
    ],
    ["the state is empty", { state: Buffer.alloc(0) }, "its member state.bin is empty"],
    ["it has another member", { change: (members) => void members.set("more", Buffer.from("x")) }, 'it has an unexpected member "more"'],
    ["its index is 0", { meta: { Index: 0 } }, "its index is 0 and its term 5"],
    ["its term is missing", { meta: { Term: undefined } }, "its index is 1234 and its term undefined"],
    ["its size is another one", { state: stateOf({ a: Buffer.from("x") }), meta: { Size: 17 } }, "meta.json says 17 bytes of state, and 7 are there"],
    ["it has no server", { meta: { Configuration: { Servers: [] } } }, "its configuration has no server"],
    ["its state ends in the middle of an entry", { state: stateOf({ a: Buffer.from("xyz") }).subarray(0, -1) }, "its state ends in the middle of an entry"],
    ["its state is something else", { state: Buffer.alloc(700, "0123456789") }, "its state has an entry that is none"],
    ["an entry is longer than any", { state: Buffer.alloc(700, 0xff) }, "its state has an impossible length"],
    ["an entry runs over its end", { state: Buffer.from([4, 10, 9, 107, 107]) }, "its state has an entry that is cut"],
    ["an entry has no key", { state: Buffer.from([3, 18, 1, 120]) }, "its state has an entry without a key"],
    ["an entry comes twice", { state: Buffer.concat([stateOf({ a: Buffer.from("x") }), stateOf({ a: Buffer.from("y") })]) }, "its entries are out of order"],
    ["it has no configuration", { meta: { Configuration: undefined } }, "its configuration has no server"],
  ])("%s", async (_when, options, reason) => {
    await expect(inspect(makeSnapshot(options))).rejects.toThrow(`the snapshot cannot be restored: ${reason}`);
  });

  test("it is no snapshot at all", async () => {
    for (const data of [Buffer.from(""), gzipSync(""), Buffer.from('{"errors":["permission denied"]}'), gzipSync("x".repeat(2000))]) {
      await expect(inspect(data)).rejects.toThrow(/^the snapshot cannot be restored: ./);
    }
  });
});

function flip(name: string, at = 3): (members: Map<string, Buffer>) => void {
  return (members) => {
    const data = Buffer.from(members.get(name) ?? "");
    data[at] = (data[at] ?? 0) ^ 1;
    members.set(name, data);
  };
}
