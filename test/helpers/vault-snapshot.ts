/** Makes raft snapshots like those of Vault, and damaged ones. */
import { createHash, randomBytes } from "node:crypto";
import { gzipSync } from "node:zlib";

export interface SnapshotOptions {
  /** @default - random bytes, as sealed values are */
  readonly state?: Buffer;
  /** Replaces parts of meta.json. @default {} */
  readonly meta?: { readonly [key: string]: unknown };
  /** Changes the members before they are archived: another order, other content, more or less of them. @default - as they are */
  readonly change?: (members: Map<string, Buffer>) => void;
}

/** A snapshot of a cluster of three. */
export function makeSnapshot({ state = randomBytes(5000), meta = {}, change }: SnapshotOptions = {}): Buffer {
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
