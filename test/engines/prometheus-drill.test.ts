import { chmodSync, cpSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { join } from "node:path";
import { buffer } from "node:stream/consumers";
import { zstdDecompressSync } from "node:zlib";
import { archiveFacts, TreeArchive } from "../../lib/runtime/tree-archive";
import { isBlock } from "../../lib/runtime/tsdb-blocks";
import { addForged, cut, decompressed, DRILL_ROUNDS, flip, forge, OWN_VOLUMES, proven, reachOfDrill, red, runDrill, TWENTIETHS, withoutLastByte } from "../helpers/drill";
import type { DrillResult, Forgery } from "../helpers/drill";
import { runCronJob, type CronJobOptions } from "../helpers/pod";
import { succeeded } from "../helpers/pod/backup";
import { generationsOn, makeTarget, type FoundGeneration } from "../helpers/pod/target";
import { temporaryDirectory } from "../helpers/process";
import { makeBlocks, Prometheus, PROMETHEUS_IMAGE } from "../helpers/servers/prometheus";
import { ARCHIVE, backUp, MADE, NAME, optionsFor, synthesise, unpack } from "./prometheus-setup";

const json = synthesise();
/** Started by hand, as it is not always the first Sunday of a month. */
const jobName = "prometheus-drill-manual";
let generation: FoundGeneration;

beforeAll(async () => {
  generation = await backUpMade(MADE.until);
});

/** Backs up a server that has made blocks and what it scraped itself, and no longer runs then. @param remove series that it deletes before */
async function backUpMade(until: number, remove?: string): Promise<FoundGeneration> {
  const data = join(temporaryDirectory("prometheus"), "data");
  makeBlocks(data, { ...MADE, until });
  const server = await Prometheus.start({ data, interval: "200ms" });
  try {
    await server.scraped();
    if (remove !== undefined) await server.remove(remove);
    return succeeded(await backUp(data));
  } finally {
    await server.stop();
  }
}

const drill = (forgery: Forgery = {}, options: CronJobOptions = {}, of = generation): Promise<DrillResult> =>
  runDrill(json, forge(json, of, forgery, NAME).target, { backup: NAME, jobName, ...options });

const blocksOf = ({ manifest }: FoundGeneration): number => (manifest.fingerprint.blocks as readonly unknown[]).length;

describe("a server of its own", () => {
  test.each(["dash", "busybox"] as const)("gives back every sample of what was backed up, by %s", async (shell) => {
    const { samples, series } = generation.manifest.fingerprint;
    const [all, made] = [blocksOf(generation), MADE.series * MADE.samples];
    expect(all).toBeGreaterThan(3);
    expect(samples).toBeGreaterThan(made);
    expect(proven(await drill({}, { shell }))).toEqual([
      expect.stringMatching(`^Prometheus 2\\.\\S+ serves ${all} blocks, ${String(samples)} samples of ${String(series)} series, as the fingerprint says$`),
      `it gave back every sample of ${all} blocks`,
    ]);
  });

  test("shows what it has where samples were deleted, and says of how many blocks", async () => {
    const deleted = await backUpMade(MADE.until, 'made{series="3"}');
    const [, check] = proven(await drill({}, {}, deleted));
    expect(check).toBe(`it gave back every sample of 1 blocks; of ${blocksOf(deleted) - 1}, which overlap or have deletions, it gave what it shows`);
  });

  test("is asked what it should know, at the time of the newest sample", async () => {
    const ask = async (query: string, expected: string): Promise<DrillResult> => {
      const asking = synthesise({ drill: { assertions: [{ query, expect: expected }] } });
      return runDrill(asking, forge(asking, generation, {}, NAME).target, { backup: NAME, jobName });
    };
    expect(proven(await ask("count(up)", "1")).at(-1)).toBe('"count(up)" returned "1"');
    const last = String(3000 + MADE.samples - 1);
    expect(proven(await ask(`made{series="3"} @ ${MADE.until}`, last)).at(-1)).toMatch(new RegExp(`returned "${last}"$`));
    expect(red(await ask("count(up)", "2"))).toBe('the assertion "count(up)" returned "1" instead of "2"');
    expect(red(await ask("nothing", "2"))).toBe('the assertion "nothing" does not return one value, but []');
    expect(red(await ask("sum(", "2"))).toMatch(/^Prometheus at http:\/\/127\.0\.0\.1:19090: .*parse error/);
  });
});

/** An archive in the snapshot's place, of which everything in the manifest is right, but what is in the blocks. */
async function consistent(archive: Buffer): Promise<Forgery> {
  const { sha256 } = await archiveFacts(chunks(archive));
  return {
    change: { [ARCHIVE]: decompressed(() => archive) },
    manifest: (manifest) => ({ ...manifest, fingerprint: { ...manifest.fingerprint, sha256 } }),
  };
}

async function* chunks(data: Buffer): AsyncGenerator<Buffer> {
  for (let at = 0; at < data.length; at += 65_536) yield await Promise.resolve(data.subarray(at, at + 65_536));
}

/** The snapshot's archive. */
const archiveOf = ({ path }: FoundGeneration): Buffer => zstdDecompressSync(readFileSync(join(path, ARCHIVE)));

describe("is red when", () => {
  test("one bit is flipped at any twentieth of the snapshot, though the manifest has its hash", async () => {
    for (const fraction of TWENTIETHS) {
      expect(red(await drill({ change: { [ARCHIVE]: flip(fraction) } }))).toMatch(/^snapshot\.tar\.zst is damaged: |the snapshot: sha256 is/);
    }
  });

  test("one bit was flipped at any twentieth of it before it was compressed", async () => {
    for (const fraction of TWENTIETHS) {
      const reason = red(await drill({ change: { [ARCHIVE]: decompressed(flip(fraction)) } }));
      expect(reason).toMatch(/^the archive is damaged: |^what came back is not what was backed up: the snapshot: sha256 is/);
    }
  });

  test.each<[string, Forgery, RegExp]>([
    ["the last byte of it is missing", { change: { [ARCHIVE]: decompressed(withoutLastByte) } }, /^the archive is cut$/],
    ["half of it is missing", { change: { [ARCHIVE]: decompressed(cut(0.5)) } }, /^the archive is cut$/],
    ["it is empty", { change: { [ARCHIVE]: decompressed(() => Buffer.alloc(0)) } }, /^the archive is cut$/],
    ["it is from two months ago", { hoursOlder: 60 * 24 }, /^the newest generation is 1440\.\d h old, but may be \d+\.\d h at most$/],
    [
      "there was one sample more",
      { manifest: (manifest) => ({ ...manifest, fingerprint: { ...manifest.fingerprint, samples: Number(manifest.fingerprint.samples) + 1 } }) },
      /^what came back is not what was backed up: the snapshot: samples is \d+, but was \d+$/,
    ],
  ])("%s", async (_when, forgery, expected) => {
    expect(red(await drill(forgery))).toMatch(expected);
  });

  test("the stored file lacks its last byte", async () => {
    const { verdict, exitCodes, failure } = await drill({ change: { [ARCHIVE]: withoutLastByte }, rehash: false });
    expect({ runner: exitCodes.runner, verdict }).toEqual({ runner: 1, verdict: undefined });
    expect(failure).toMatch(/is not counted and left alone: snapshot\.tar\.zst has \d+ bytes instead of \d+$/);
  });

  test("it is that of another server", async () => {
    const archive = archiveOf(await backUpMade(MADE.until - 600));
    expect(red(await drill({ change: { [ARCHIVE]: decompressed(() => archive) } }))).toMatch(/the snapshot: sha256 is "\w+", but was "\w+"$/);
    expect(red(await drill(await consistent(archive)))).toMatch(/^block \w{26} did not come back: ENOENT/);
  });

  test("the newest generation is damaged, though an older one restores", async () => {
    const { target } = forge(json, generation, { hoursOlder: 1 }, NAME);
    addForged(json, target, generation, { change: { [ARCHIVE]: cut(0.5) } }, NAME);
    expect(red(await runDrill(json, target, { backup: NAME, jobName }))).toMatch(/^snapshot\.tar\.zst is damaged: /);
  });

  describe("the manifest tells nothing of it, but", () => {
    /** Why the drill of the snapshot is red, once something was done to its blocks. */
    async function changed(change: (directory: string, names: readonly string[]) => void): Promise<string> {
      const path = await unpack(generation);
      change(path, readdirSync(path).filter(isBlock).sort());
      const archive = await buffer(new TreeArchive([{ path }], { signal: new AbortController().signal }).stream());
      return red(await drill(await consistent(archive)));
    }
    const remove = (...path: readonly string[]): void => rmSync(join(...path), { recursive: true });

    test("there is no block at all", async () => {
      expect(await changed((directory, names) => names.forEach((name) => remove(directory, name)))).toMatch(/^block \w{26} did not come back: ENOENT/);
    });

    test("one block is missing", async () => {
      expect(await changed((directory, [, second = ""]) => remove(directory, second))).toMatch(/^block \w{26} did not come back: ENOENT/);
    });

    test("one series of a block is missing, of which its meta.json speaks", async () => {
      const less = join(temporaryDirectory("less"), "data");
      mkdirSync(less);
      makeBlocks(less, { ...MADE, series: MADE.series - 1 });
      const [other = ""] = readdirSync(less).filter(isBlock).sort();
      const reason = await changed((directory, [first = ""]) => {
        for (const part of ["index", "chunks"]) {
          remove(directory, first, part);
          cpSync(join(less, other, part), join(directory, first, part), { recursive: true });
        }
      });
      expect(reason).toMatch(/^what came back is not what was backed up: block \w{26}: series is 19, but was 20, block \w{26}: samples is \d+, but was \d+$/);
    });

    test("half of a block's chunks are missing", async () => {
      const reason = await changed((directory, [, second = ""]) => {
        const path = join(directory, second, "chunks", "000001");
        writeFileSync(path, cut(0.5)(readFileSync(path)));
      });
      expect(reason).toMatch(/^the server does not give all samples from \S+ on: /);
    });

    test("a block has the index of another", async () => {
      const reason = await changed((directory, [first = "", second = ""]) => {
        remove(directory, first, "index");
        cpSync(join(directory, second, "index"), join(directory, first, "index"));
      });
      expect(reason).toMatch(/^block \w{26}: the server gives 0 samples, and it has \d+$|^what came back is not|^the server does not give all samples/);
    });
  });

  test("the server does not start, and its last words are the reason", async () => {
    const double = join(temporaryDirectory("double"), "prometheus");
    writeFileSync(double, "#!/bin/sh\necho starting >&2\necho cannot open the lock file >&2\nexit 1\n");
    chmodSync(double, 0o755);
    const images = { [PROMETHEUS_IMAGE.repository]: { tools: [], programs: { prometheus: double } } };
    expect(red(await drill({}, { images }))).toBe("running failed (exit status 1): cannot open the lock file");
  });

  test("another server answers in the scratch server's place, which is asked for nothing more", async () => {
    const asked: string[] = [];
    const other = createServer((request, response) => {
      asked.push(`${request.method} ${request.url}`);
      response.end(JSON.stringify({ status: "success", data: { "storage.tsdb.path": "/prometheus" } }));
    });
    await new Promise<void>((resolve) => other.listen(19_090, "127.0.0.1", resolve));
    const reason = red(await drill());
    await new Promise((resolve) => other.close(resolve));
    expect(reason).toMatch(/^the server at http:\/\/127\.0\.0\.1:19090 has its data at \/prometheus, and is not the scratch server drill-[0-9a-f]{16}$/);
    expect(asked).toEqual(["GET /-/ready", "GET /api/v1/status/flags"]);
  });
});

test("the drill's pod has nothing that leads to the live server: neither its volume nor its address", () => {
  const { volumes, egress } = reachOfDrill(json, NAME);
  expect(volumes).toEqual(OWN_VOLUMES);
  expect(egress).not.toContain("9090");
});

test(`${DRILL_ROUNDS} of ${DRILL_ROUNDS} snapshots of a server that is written to are proven`, async () => {
  const data = join(temporaryDirectory("prometheus"), "data");
  makeBlocks(data, MADE);
  const server = await Prometheus.start({ data, interval: "20ms" });
  const samples = new Set<unknown>();
  const snapshot = async (): Promise<string> => {
    const target = makeTarget(json, { name: NAME });
    const result = await runCronJob(json, { ...optionsFor(data, target), name: NAME });
    samples.add(succeeded({ ...result, generations: generationsOn(json, target, NAME) }).manifest.fingerprint.samples);
    return target;
  };
  try {
    await server.scraped();
    // The next one is made while this one is proven.
    let next = snapshot();
    for (let round = 1; round <= DRILL_ROUNDS; round++) {
      const target = await next;
      next = snapshot();
      proven(await runDrill(json, target, { backup: NAME, jobName }));
    }
    await next;
  } finally {
    await server.stop();
  }
  // Each of them had more than the one before.
  expect(samples.size).toBe(DRILL_ROUNDS + 1);
}, 600_000);
