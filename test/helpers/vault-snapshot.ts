/** Makes raft snapshots like those of Vault, and damaged ones. */
import { createHash, randomBytes } from "node:crypto";
import { gunzipSync, gzipSync } from "node:zlib";

export interface SnapshotOptions {
  /** @default - some entries with random values, as sealed ones are */
  readonly state?: Buffer;
  /** Replaces parts of meta.json. @default {} */
  readonly meta?: { readonly [key: string]: unknown };
  /** Changes the members before they are archived: another order, other content, more or less of them. @default - as they are */
  readonly change?: (members: Map<string, Buffer>) => void;
}

/** The one entry that is not sealed, and some that are: of no two clusters the same. */
const entriesOfACluster = (): { readonly [key: string]: Buffer } => ({
  "core/keyring": randomBytes(200),
  "core/seal-config": Buffer.from('{"type":"shamir","secret_shares":5,"secret_threshold":3}'),
  "logical/0d52ba9a/secret": randomBytes(4700),
});

/** Entries as they are in a snapshot's state: a length, the key, the value (protocol buffers). */
export function stateOf(entries: { readonly [key: string]: Buffer }): Buffer {
  const field = (number: number, content: Buffer): Buffer => Buffer.concat([Buffer.from([number * 8 + 2]), varint(content.length), content]);
  const messages = Object.entries(entries)
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([key, value]) => Buffer.concat([field(1, Buffer.from(key)), field(2, value)]));
  return Buffer.concat(messages.flatMap((message) => [varint(message.length), message]));
}

function varint(value: number): Buffer {
  const digits: number[] = [];
  for (let left = value; ; left >>>= 7) {
    digits.push((left & 127) | (left > 127 ? 128 : 0));
    if (left <= 127) return Buffer.from(digits);
  }
}

/** A snapshot of a cluster of three. */
export function makeSnapshot({ state = stateOf(entriesOfACluster()), meta = {}, change }: SnapshotOptions = {}): Buffer {
  const servers = [0, 1, 2].map((node) => ({
    Suffrage: node === 2 ? 1 : 0,
    ID: `vault-${node}`,
    Address: `vault-${node}.vault-internal:8201`,
  }));
  const content = {
    ...{ Version: 1, ID: "bolt-snapshot", Index: 1234, Term: 5, Peers: null },
    ...{ Configuration: { Servers: servers }, ConfigurationIndex: 1, Size: state.length },
    ...meta,
  };
  const members = new Map([
    ["meta.json", Buffer.from(`${JSON.stringify(content)}\n`)],
    ["state.bin", state],
  ]);
  const lines = [...members].map(([name, data]) => `${createHash("sha256").update(data).digest("hex")}  ${name}\n`);
  members.set("SHA256SUMS", Buffer.from(lines.join("")));
  members.set("SHA256SUMS.sealed", randomBytes(185));
  change?.(members);
  return gzipSync(tarOf(members));
}

/** A tar archive as Go's standard library writes it. */
export function tarOf(members: ReadonlyMap<string, Buffer>): Buffer {
  const blocks = [...members].map(([name, data]) => {
    const block = Buffer.alloc(512);
    block.write(name, 0);
    block.write("0000600\0", 100);
    block.write("0000000\0", 108);
    block.write("0000000\0", 116);
    block.write(`${data.length.toString(8).padStart(11, "0")}\0`, 124);
    block.write("14710735277\0", 136);
    block.write("        0", 148);
    block.write("ustar\x0000", 257);
    block.write("0000000\x000000000\0", 329);
    const sum = block.reduce((total, byte) => total + byte, 0);
    block.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148);
    return Buffer.concat([block, data, Buffer.alloc((512 - (data.length % 512)) % 512)]);
  });
  return Buffer.concat([...blocks, Buffer.alloc(1024)]);
}

/** The raft index that a snapshot says it is of. */
export function indexOf(snapshot: Buffer): number {
  return Number(/"Index":(\d+)/.exec(gunzipSync(snapshot).toString("latin1"))?.[1]);
}
