import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { Drill, DrillEngine } from "../drill";
import { assertSame } from "../facts";
import type { Fact } from "../manifest";
import { humanBytes } from "../progress";
import { PrometheusClient } from "../prometheus-client";
import { countStored } from "../remote-read";
import { fileOf } from "../store";
import { archiveMembers } from "../stored-tree";
import { freeBytes } from "../target";
import { TreeWriter } from "../tree-writer";
import { type BlockFacts, parseMeta, totals, totalsIn } from "../tsdb-blocks";
import { SNAPSHOT_ARCHIVE } from "./prometheus";

/** Where the scratch server listens: on no port that a Prometheus has elsewhere. */
const LISTEN = "127.0.0.1:19090";
const SCRATCH = `http://${LISTEN}`;
/** How long it may take to open all blocks. */
const START_MS = 600_000;

/** Unpacks the blocks for a server of its own, and lets that give back every sample of them. */
export class PrometheusDrill implements DrillEngine {
  private readonly client = new PrometheusClient(SCRATCH);
  private version = "";

  public async restore(drill: Drill): Promise<void> {
    const { agent, manifest, name, work, signal } = drill;
    const archive = fileOf(manifest.files, SNAPSHOT_ARCHIVE);
    const [room, bytes] = [await freeBytes(work), archive.uncompressedBytes ?? archive.bytes];
    if (room < bytes) throw new Error(`the node has room for ${humanBytes(room)}, and ${humanBytes(bytes)} are restored`);
    const data = join(work, name);
    await mkdir(data, { mode: 0o700 });
    const writer = new TreeWriter(data, signal);
    for await (const member of archiveMembers(drill.open(archive))) await writer.add(member);
    writer.finish();
    // Most of an index a server reads only when it is asked for the labels there.
    assertSame("the snapshot:", { sha256: manifest.fingerprint.sha256 } as Fact, { sha256: writer.facts().sha256 });
    await writeFile(join(work, "prometheus.yml"), "{}\n");
    await agent.text("start", `${name} ${LISTEN}`);
    await this.ready(drill);
    const flags = (await this.client.ask(signal, "status/flags")) as { readonly [flag: string]: string };
    const path = flags["storage.tsdb.path"];
    if (path !== data) throw new Error(`the server at ${SCRATCH} has its data at ${path}, and is not the scratch server ${name}`);
    ({ version: this.version = "" } = (await this.client.ask(signal, "status/buildinfo")) as { readonly version?: string });
  }

  public async compare(drill: Drill): Promise<readonly string[]> {
    const { manifest, name, work, signal, assertions } = drill;
    const { blocks: wanted } = manifest.fingerprint;
    const blocks = wanted as unknown as readonly BlockFacts[];
    const restored: BlockFacts[] = [];
    let exact = 0;
    for (const block of blocks) {
      const meta = await readFile(join(work, name, block.ulid, "meta.json"), "utf8").catch((error: Error) => {
        throw new Error(`block ${block.ulid} did not come back: ${error.message}`, { cause: error });
      });
      restored.push(parseMeta(block.ulid, meta));
      const found = await countStored(SCRATCH, block.minTime, block.maxTime - 1, signal);
      // A deletion hides samples, and those that two blocks have come once; the server then has less to give, and may.
      const others = blocks.some((other) => other !== block && other.minTime < block.maxTime && block.minTime < other.maxTime);
      const { series, samples } = block;
      if (!others && deletions(meta) === 0) {
        assertSame(`block ${block.ulid}:`, { series, samples }, { ...found });
        exact++;
      } else if (found.samples === 0 || (!others && found.samples > samples)) {
        throw new Error(`block ${block.ulid}: the server gives ${found.samples} samples, and it has ${samples}`);
      }
    }
    assertSame("the snapshot:", totalsIn(manifest.fingerprint), totals(restored));
    const { samples, series } = totals(restored);
    const rest = blocks.length - exact;
    return [
      `Prometheus ${this.version} serves ${blocks.length} blocks, ${samples} samples of ${series} series, as the fingerprint says`,
      `it gave back every sample of ${exact} blocks${rest === 0 ? "" : `; of ${rest}, which overlap or have deletions, it gave what it shows`}`,
      ...(await this.assertions(Math.max(...blocks.map(({ maxTime }) => maxTime)) - 1, drill, assertions)),
    ];
  }

  /** At the time of the newest sample, unless a query says otherwise by `@`. */
  private async assertions(at: number, { signal }: Drill, assertions: Drill["assertions"]): Promise<readonly string[]> {
    const passed: string[] = [];
    for (const { query, expect } of assertions) {
      const found = (await this.client.ask(signal, `query?time=${at / 1000}&query=${encodeURIComponent(query)}`)) as Answer;
      const value = valueOf(found);
      const told = JSON.stringify(query);
      if (value === undefined) throw new Error(`the assertion ${told} does not return one value, but ${JSON.stringify(found.result).slice(0, 200)}`);
      if (value !== expect) throw new Error(`the assertion ${told} returned ${JSON.stringify(value)} instead of ${JSON.stringify(expect)}`);
      passed.push(`${told} returned ${JSON.stringify(expect)}`);
    }
    return passed;
  }

  /** @throws Error with the server's last words where it has ended */
  private async ready({ agent, name, signal }: Drill): Promise<void> {
    for (const end = Date.now() + START_MS; Date.now() < end; await sleep(100, undefined, { signal })) {
      const answer = await this.client.send(signal, "-/ready").catch(() => undefined);
      answer?.resume();
      if (answer?.statusCode === 200) return;
      await agent.text("running", name);
    }
    throw new Error(`the scratch server is not ready after ${START_MS / 1000} s`);
  }
}

interface Answer {
  readonly resultType?: string;
  readonly result?: unknown;
}

/** Of a scalar, a text, or a vector of one. */
function valueOf({ resultType, result }: Answer): string | undefined {
  if (resultType === "scalar" || resultType === "string") return (result as readonly [number, string])[1];
  const [only, ...more] = (Array.isArray(result) ? result : []) as readonly { readonly value?: readonly [number, string] }[];
  return more.length === 0 ? only?.value?.[1] : undefined;
}

function deletions(meta: string): number {
  const { stats } = JSON.parse(meta) as { readonly stats?: { readonly numTombstones?: number } };
  return stats?.numTombstones ?? 0;
}
