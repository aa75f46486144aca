import { readBolt } from "./bbolt";
import { varint } from "./protobuf";
import { EntryDigest } from "./vault-entries";

/** The file of a node's storage, below the directory of its raft storage. */
export const DATABASE = "vault.db";
/** Who can unseal it; the one entry that is not sealed itself. */
const SEAL_CONFIGURATION = "core/seal-config";
const INDEX = 2;

/** What a node has on its disk. */
export interface VaultDatabase {
  /** Of the newest change that is in it. */
  readonly index: number;
  readonly entries: number;
  /** See {@link EntryDigest.facts}. */
  readonly sha256: string;
  /** Type of the seal. */
  readonly seal: string;
}

/**
 * Reads the whole storage of a node that does not run.
 * @throws Error where its structure or an entry is damaged
 */
export async function readVaultDatabase(path: string, signal: AbortSignal): Promise<VaultDatabase> {
  const digest = new EntryDigest();
  let index = 0;
  let seal: string | undefined;
  const visit = (bucket: string, key: Buffer, value: Buffer): void => {
    if (bucket === "config" && key.toString() === "latest_indexes") index = numberIn(value, INDEX);
    if (bucket !== "data") return;
    digest.add(key, value);
    if (key.toString() === SEAL_CONFIGURATION) seal = String((JSON.parse(value.toString()) as { readonly type?: unknown }).type);
  };
  await readBolt(path, undefined, visit, signal);
  if (seal === undefined) throw new Error(`the node's storage has no ${SEAL_CONFIGURATION}`);
  return { index, ...digest.facts(), seal };
}

/** A number of a message that has nothing but numbers (protocol buffers). */
function numberIn(message: Buffer, field: number): number {
  let found = 0;
  for (let at = 0; at < message.length;) {
    const [tag, after] = varint(message, at);
    const [value, next] = varint(message, after);
    if (tag === undefined || value === undefined) throw new Error("the node's storage has a message that is cut");
    if (tag >> 3 === field) found = value;
    at = next;
  }
  return found;
}
