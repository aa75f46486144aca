import { createHash } from "node:crypto";
import { Readable } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";
import { AgentError, type Agent } from "../agent";
import { assertSame } from "../facts";
import type { Fact, Manifest, ManifestFile } from "../manifest";
import { explainFault, type Info, keyspace, parseInfo, RDB, snapshotFacts, snapshotIn } from "./redis";

/** Between two looks at a server that is busy. */
const LOOK_MS = 100;
/** A server answers while it loads; one that says nothing for so long does not work. */
const SILENT_MS = 30_000;
/** As many databases as a server has unless told otherwise. */
const DATABASES = 16;

/** What a drill and a restore have in common. */
export interface ScratchContext {
  readonly manifest: Manifest;
  readonly agent: Agent;
  readonly signal: AbortSignal;
  open(file: ManifestFile): Readable;
}

/**
 * Starts a server of that name with a generation's snapshot, and holds what it loaded against the fingerprint.
 *
 * The server drops no key that expired since, so that every count must be the very one of the snapshot.
 *
 * @returns what the server says of itself
 * @throws Error where it does not load the snapshot, is another server, or holds anything else
 */
export async function startScratch({ manifest, agent, signal, open }: ScratchContext, name: string): Promise<Info> {
  const { sha256, keys, expiring, databases } = snapshotFacts(manifest.fingerprint);
  const numbers = Object.keys(databases).map((database) => Number(database.slice(2)));
  const hash = createHash("sha256");
  const see = async function* (chunks: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
    for await (const chunk of chunks) {
      hash.update(chunk);
      yield chunk;
    }
  };
  const source = Readable.from(see(open(snapshotIn(manifest.files))), { objectMode: false });
  await agent.text("start", `${name} ${Math.max(DATABASES, ...numbers.map((number) => number + 1))}`, source);
  assertSame(`${RDB}: sha256`, sha256, hash.digest("hex"));
  const info = await loaded(agent, name, signal).catch(explain);
  const home = (await agent.text("home", name)).split("\n").at(-1) ?? "";
  if (!home.endsWith(`/${name}`)) throw new Error(`the server that answers has its data in ${JSON.stringify(home)}, and is not the scratch instance ${name}`);
  const found = keyspace(info);
  const sum = (count: "keys" | "expiring"): number => Object.values(found).reduce((total, database) => total + database[count], 0);
  const facts = Object.entries(found).map(([database, count]): readonly [string, Fact] => [database, databases[database] === null ? null : count]);
  assertSame("the snapshot:", { keys, expiring, databases }, { keys: sum("keys"), expiring: sum("expiring"), databases: Object.fromEntries(facts) });
  return info;
}

/** INFO of a scratch server, once it has loaded its snapshot and does nothing else in the background. */
export async function loaded(agent: Agent, name: string, signal: AbortSignal): Promise<Info> {
  let heard = performance.now();
  for (;;) {
    const info = parseInfo(await agent.text("scratch", name));
    if (info.get("loading") === "0") return info;
    if (info.size > 0) heard = performance.now();
    if (performance.now() - heard > SILENT_MS) throw new Error(`the scratch server has not answered for ${SILENT_MS / 1000} s`);
    await sleep(LOOK_MS, undefined, { signal });
  }
}

/** A server that cannot load its snapshot says why in the middle of its last words, or in a line that begins with "#". */
function explain(error: unknown): never {
  if (error instanceof AgentError && !error.stderr.includes("ERROR DETECTED")) {
    const said = [...error.stderr.matchAll(/^\d+:\w [^#*\n]* # (.*)$/gm)].map(([, text = ""]) => text);
    if (said.length > 0) throw new Error(`the scratch server ended: ${said.join(" ")}`, { cause: error });
  }
  explainFault(error);
}
