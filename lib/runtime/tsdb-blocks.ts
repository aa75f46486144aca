import { createWriteStream } from "node:fs";
import { rm } from "node:fs/promises";
import { buffer } from "node:stream/consumers";
import { pipeline } from "node:stream/promises";
import type { Fact, Fingerprint } from "./manifest";
import { readTar } from "./tar";
import { checkTombstones, ChunkTally, readIndex, readSegment } from "./tsdb";

const BLOCK = /^[0-9A-HJKMNP-TV-Z]{26}$/;

/** What Prometheus says of one of its blocks, in its `meta.json`. Times are milliseconds since 1970. */
export type BlockFacts = { readonly [key in "ulid"]: string } & {
  readonly [key in "minTime" | "maxTime" | "series" | "chunks" | "samples"]: number;
};

/** @throws Error unless `text` is the `meta.json` of the block `name` */
export function parseMeta(name: string, text: string): BlockFacts {
  const { ulid, minTime, maxTime, stats } = JSON.parse(text) as {
    [key in "ulid" | "minTime" | "maxTime"]?: unknown;
  } & { readonly stats?: { readonly [key: string]: unknown } };
  const facts = { minTime, maxTime, series: stats?.numSeries ?? 0, chunks: stats?.numChunks ?? 0, samples: stats?.numSamples ?? 0 };
  if (ulid !== name) throw new Error("it is that of another block");
  if (!Object.values(facts).every(Number.isSafeInteger)) throw new Error("a time or a number is missing in it");
  return { ulid: name, ...facts } as BlockFacts;
}

/** Whether a directory's name is that of a block. */
export function isBlock(name: string): boolean {
  return BLOCK.test(name);
}

/** What {@link totals} says, of a fingerprint that has the hash of the blocks' bytes besides. */
export function totalsIn({ sha256: _, ...facts }: Fingerprint): Fingerprint {
  return facts;
}

/** Of all blocks together. */
export function totals(blocks: readonly BlockFacts[]): {
  readonly blocks: Fact;
  readonly series: number;
  readonly chunks: number;
  readonly samples: number;
} {
  const sum = (key: "series" | "chunks" | "samples"): number => blocks.reduce((total, block) => total + block[key], 0);
  return { blocks: [...blocks], series: sum("series"), chunks: sum("chunks"), samples: sum("samples") };
}

/**
 * Reads an archive of blocks to its last byte and compares what is there with what each block's `meta.json` says: every chunk, every
 * series, every checksum.
 *
 * @param scratch a file that may be written; an index is read in another order than it comes in
 * @throws Error that names the block, where anything is missing, changed or too many
 */
export async function readBlocks(archive: AsyncIterable<Buffer>, scratch: string): Promise<readonly BlockFacts[]> {
  const blocks = new Map<string, Block>();
  for await (const { path, type, content } of readTar(archive)) {
    const [name = "", ...below] = path.split("/");
    if (name === ".") continue;
    if (!isBlock(name) || (type !== "directory" && type !== "file"))
      throw new Error(`the snapshot has ${path}, which is no part of a block`);
    let block = blocks.get(name);
    if (block === undefined) blocks.set(name, (block = new Block(name)));
    if (type === "file") await inBlock(path, block.add(below.join("/"), content, scratch));
  }
  return [...blocks.values()].map((block) => block.facts());
}

class Block {
  private meta?: BlockFacts;
  private series?: number;
  private samples = 0;
  private segments = 0;
  private readonly found = new ChunkTally();
  private readonly referred = new ChunkTally();

  public constructor(private readonly name: string) {}

  public async add(path: string, content: AsyncIterable<Buffer>, scratch: string): Promise<void> {
    if (path === "meta.json") {
      this.meta = parseMeta(this.name, (await buffer(content)).toString());
    } else if (path === "tombstones") {
      checkTombstones(await buffer(content));
    } else if (path === "index") {
      await pipeline(content, createWriteStream(scratch));
      this.series = readIndex(scratch, this.referred);
      await rm(scratch);
    } else if (path.startsWith("chunks/")) {
      // They come in the order of their names, 000001 first.
      if (Number(path.slice("chunks/".length)) !== this.segments + 1) throw new Error("the segment before it is missing");
      this.samples += await readSegment(content, this.segments++, this.found);
    }
  }

  public facts(): BlockFacts {
    const { meta, series, samples, found, referred } = this;
    const wrong = (reason: string): Error => new Error(`block ${this.name}: ${reason}`);
    if (meta === undefined) throw wrong("meta.json is missing");
    if (series === undefined) throw wrong("the index is missing");
    if (!found.equals(referred)) throw wrong(`its index refers to ${referred.chunks} chunks, and ${found.chunks} are there, or others`);
    const there = { series, chunks: found.chunks, samples };
    for (const key of ["series", "chunks", "samples"] as const) {
      if (there[key] !== meta[key]) throw wrong(`meta.json says ${meta[key]} ${key}, and ${there[key]} are there`);
    }
    return meta;
  }
}

async function inBlock(path: string, work: Promise<void>): Promise<void> {
  try {
    await work;
  } catch (error) {
    throw new Error(`${path}: ${(error as Error).message}`, { cause: error });
  }
}
