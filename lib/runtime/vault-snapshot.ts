import { createHash } from "node:crypto";
import { pipeline, type Readable, Transform } from "node:stream";
import { buffer } from "node:stream/consumers";
import { createGunzip } from "node:zlib";
import type { Fact } from "./manifest";
import { readTar } from "./tar";
import { EntryDigest, EntryReader } from "./vault-entries";

const META = "meta.json";
const STATE = "state.bin";
const SUMS = "SHA256SUMS";
/** The sums once more, sealed with the cluster's own key: without them a restore must be forced. */
const SEALED_SUMS = "SHA256SUMS.sealed";
const MEMBERS = [META, STATE, SUMS, SEALED_SUMS];

/** What raft says of a snapshot, in its `meta.json`. */
interface Meta {
  readonly Version?: number;
  readonly Index?: number;
  readonly Term?: number;
  readonly Size?: number;
  readonly Configuration?: { readonly Servers?: readonly { readonly ID: string; readonly Address: string; readonly Suffrage: number }[] };
}

/** What a snapshot holds, as far as it can be told without the cluster's keys. */
export type SnapshotFacts = { readonly [key in "index" | "term" | "entries"]: number } & { readonly [key: string]: Fact };

/**
 * Reads a raft snapshot, a gzipped tar archive, to its last byte and compares its members with the sums in it.
 * @throws Error where anything is missing, changed or too many
 */
export async function inspectSnapshot(snapshot: Readable): Promise<SnapshotFacts> {
  const gunzip = createGunzip();
  let bytes = 0;
  const count = new Transform({
    transform(chunk: Buffer, _encoding, next) {
      bytes += chunk.length;
      next(null, chunk);
    },
  });
  pipeline(snapshot, count, gunzip, () => undefined);
  const digest = new EntryDigest();
  const entries = new EntryReader((key, value) => digest.add(key, value));
  const sums = new Map<string, string>();
  const texts = new Map<string, Buffer>();
  let stateBytes = 0;
  try {
    for await (const { path, size, content } of readTar(gunzip as AsyncIterable<Buffer>)) {
      if (!MEMBERS.includes(path) || sums.has(path)) throw new Error(`it has an unexpected member ${JSON.stringify(path)}`);
      const hash = createHash("sha256");
      const hashed = async function* (): AsyncGenerator<Buffer> {
        for await (const chunk of content) {
          hash.update(chunk);
          yield chunk;
        }
      };
      if (path === STATE) {
        for await (const chunk of hashed()) {
          stateBytes += chunk.length;
          entries.add(chunk);
        }
        entries.end();
      } else {
        texts.set(path, await buffer(hashed()));
      }
      if (size === 0) throw new Error(`its member ${path} is empty`);
      sums.set(path, hash.digest("hex"));
    }
    const missing = MEMBERS.filter((name) => !sums.has(name));
    if (missing.length > 0) throw new Error(`it lacks ${missing.join(", ")}`);
    // The decoder is silent about zeros that follow its end.
    if (gunzip.bytesWritten !== bytes) throw new Error("something follows its end");
    for (const name of [META, STATE]) {
      const line = `${sums.get(name)}  ${name}`;
      if (!String(texts.get(SUMS)).split("\n").includes(line)) throw new Error(`the SHA-256 of ${name} is not the one in ${SUMS}`);
    }
    return factsOf(JSON.parse(String(texts.get(META))) as Meta, stateBytes, digest);
  } catch (error) {
    throw new Error(`the snapshot cannot be restored: ${(error as Error).message}`, { cause: error });
  } finally {
    snapshot.destroy();
  }
}

function factsOf({ Version, Index, Term, Size, Configuration }: Meta, stateBytes: number, digest: EntryDigest): SnapshotFacts {
  const servers = Configuration?.Servers ?? [];
  if (!(Number(Index) > 0 && Number(Term) > 0)) throw new Error(`its index is ${Index} and its term ${Term}`);
  if (Size !== stateBytes) throw new Error(`${META} says ${Size} bytes of state, and ${stateBytes} are there`);
  if (servers.length === 0) throw new Error("its configuration has no server");
  return {
    index: Number(Index),
    term: Number(Term),
    version: Version ?? null,
    stateBytes,
    ...digest.facts(),
    servers: servers.map(({ ID, Address, Suffrage }) => ({ id: ID, address: Address, voter: Suffrage === 0 })),
  };
}
