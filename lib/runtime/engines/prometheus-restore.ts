import { existsSync, readdirSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { assertSame } from "../facts";
import { humanBytes } from "../progress";
import { PrometheusClient } from "../prometheus-client";
import type { Restore, RestoreEngine, RestorePlan } from "../restore";
import { archiveMembers } from "../stored-tree";
import { Swap } from "../swap";
import { TreeArchive } from "../tree-archive";
import { TreeWriter } from "../tree-writer";
import { type BlockFacts, isBlock, parseMeta, readBlocks, totals, totalsIn } from "../tsdb-blocks";
import type { PrometheusSettings } from "./prometheus";

/** What a server has in its data directory besides blocks: what it has not written to one yet. */
const UNWRITTEN = ["wal", "wbl", "chunks_head"];
/** How long a server that runs may take to say so. */
const ANSWER_MS = 10_000;

/** What a restore of a Prometheus is going to do. */
export interface PrometheusPlan extends RestorePlan {
  readonly swap: Swap;
  /** What is moved away. */
  readonly old: readonly string[];
}

/**
 * Puts the blocks of a snapshot into a server's data directory while the server is stopped.
 *
 * What is there is neither merged nor removed, but kept beside, since a restore is for data that cannot be trusted any more, and a server
 * does not start with a block that is damaged. Blocks that are newer than the snapshot can be moved back: where two have the same samples,
 * the server shows them once.
 */
export class PrometheusRestore implements RestoreEngine<PrometheusPlan> {
  public readonly options = {};

  public constructor(private readonly settings: PrometheusSettings) {}

  public async plan({ manifest, signal }: Restore): Promise<PrometheusPlan> {
    const { data, address } = this.settings;
    await this.assertStopped(signal);
    const old = readdirSync(data).filter((name) => isBlock(name) || UNWRITTEN.includes(name));
    const bytes = manifest.files.reduce((sum, file) => sum + (file.uncompressedBytes ?? file.bytes), 0);
    const swap = new Swap(data);
    await swap.check(old, bytes);
    const blocks = manifest.fingerprint.blocks as unknown as readonly BlockFacts[];
    const { samples } = manifest.fingerprint;
    const steps = [`write ${blocks.length} blocks (${String(samples)} samples, ${humanBytes(bytes)}) beside what is there, and read them back`];
    if (old.length > 0) steps.push(`keep what is there in ${swap.aside}: ${old.filter(isBlock).length} blocks, and what is in none yet`);
    steps.push(`put the new blocks into their places in ${data}`);
    return { steps, swap, old, ...(old.length === 0 ? {} : { replaces: new URL(address).hostname, aside: swap.aside }) };
  }

  public async apply(restore: Restore, { swap, old }: PrometheusPlan): Promise<void> {
    const { manifest, signal, log } = restore;
    await swap.begin(log);
    try {
      const writer = new TreeWriter(swap.tree, signal);
      for (const file of manifest.files) for await (const member of archiveMembers(restore.open(file))) await writer.add(member);
      writer.finish();
      for (const line of writer.owners) log(line);
      const archive = new TreeArchive([{ path: swap.tree }], { signal });
      const found = totals(await readBlocks(archive.stream(), join(swap.spare, "index")));
      assertSame("the blocks:", manifest.fingerprint, { ...found, sha256: archive.facts().sha256 });
      await this.assertStopped(signal);
      const names = (manifest.fingerprint.blocks as unknown as readonly BlockFacts[]).map(({ ulid }) => ulid);
      await swap.run(old, names, undefined, signal);
    } finally {
      await swap.end(log);
    }
  }

  public async verify({ manifest }: Restore, { swap }: PrometheusPlan): Promise<readonly string[]> {
    const { data } = this.settings;
    swap.assertPlaced();
    const blocks: BlockFacts[] = [];
    for (const name of readdirSync(data).filter(isBlock).sort()) blocks.push(parseMeta(name, await readFile(join(data, name, "meta.json"), "utf8")));
    assertSame("the blocks in place:", totalsIn(manifest.fingerprint), totals(blocks));
    const left = UNWRITTEN.filter((name) => existsSync(join(data, name)));
    if (left.length > 0) throw new Error(`${data} has ${left.join(", ")} again: does the server run?`);
    return [`${blocks.length} blocks are in place in ${data}; every chunk and series of them was read back, ${String(manifest.fingerprint.samples)} samples`];
  }

  /** A server that runs has its data in memory, and would write over what is put in place. */
  private async assertStopped(signal: AbortSignal): Promise<void> {
    const client = new PrometheusClient(this.settings.address);
    const answer = await client.send(AbortSignal.any([signal, AbortSignal.timeout(ANSWER_MS)]), "-/healthy").catch(() => undefined);
    signal.throwIfAborted();
    if (answer === undefined) return;
    answer.resume();
    throw client.error("it answers: stop it first, by scaling it to 0; nothing was changed");
  }
}
