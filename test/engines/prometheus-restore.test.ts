import { mkdirSync, readdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { isBlock } from "../../lib/runtime/tsdb-blocks";
import { cut, decompressed, forge, proven, runDrill, refused, restored, runRestore, type CompanionOptions, type Forgery, type RestoreResult } from "../helpers/drill";
import { startCronJob, type RunningPod } from "../helpers/pod";
import { succeeded } from "../helpers/pod/backup";
import { mountTmpfs, type FoundGeneration } from "../helpers/pod/target";
import { chownTree, temporaryDirectory, waitFor } from "../helpers/process";
import { makeBlocks, Prometheus, PROMETHEUS_UID } from "../helpers/servers/prometheus";
import { asideIn, stateOf, without } from "../helpers/tree-state";
import { ARCHIVE, backUp, DATA, MADE, NAME, SERVICES, synthesise } from "./prometheus-setup";

const json = synthesise();
/** What the plan says is replaced. */
const CONFIRM = "prometheus-server.monitoring";
let generation: FoundGeneration;
/** All that the server had when it was backed up. */
let wanted: Content;

beforeAll(async () => {
  const data = join(temporaryDirectory("prometheus"), "data");
  makeBlocks(data, MADE);
  const server = await Prometheus.start({ data, interval: "200ms" });
  await server.scraped();
  generation = succeeded(await backUp(data));
  wanted = await ask(server);
  await server.stop();
  expect(wanted.length).toBeGreaterThan(MADE.series);
});

type Content = readonly string[];

/** Every series with every sample until the snapshot. */
async function ask(server: Prometheus): Promise<Content> {
  const found = await server.query('{__name__=~".+"}[1d]', until());
  return found.map((series) => JSON.stringify(series)).sort();
}

/** What a server on these data gives. */
async function contentOf(data: string): Promise<Content> {
  const server = await Prometheus.start({ data, scrape: false });
  try {
    return await ask(server);
  } finally {
    await server.stop();
  }
}

/** The time of the newest sample, in seconds. */
function until(): number {
  const blocks = generation.manifest.fingerprint.blocks as unknown as readonly { readonly maxTime: number }[];
  return (Math.max(...blocks.map(({ maxTime }) => maxTime)) - 1) / 1000;
}

/** Data of a server that lost two hours and has samples that the snapshot does not have, killed as it wrote. */
async function later(): Promise<string> {
  const data = join(temporaryDirectory("later"), "data");
  makeBlocks(data, { series: 3, samples: 200, until: MADE.until + 3 * 3600 });
  const server = await Prometheus.start({ data, interval: "200ms" });
  await server.scraped();
  await server.stop("SIGKILL");
  expect(readdirSync(data)).toEqual(expect.arrayContaining(["wal", "chunks_head"]));
  return data;
}

function restore(data: string, env: NonNullable<CompanionOptions["env"]> = {}, forgery: Forgery = {}): Promise<RestoreResult> {
  const { target } = forge(json, generation, forgery, NAME);
  const options = { backup: NAME, services: SERVICES, volumes: { [DATA]: data } };
  return runRestore(json, target, { ...options, env: { GENERATION: "newest", ...env } });
}

/** A restore that has begun to write. */
async function startRestore(data: string): Promise<RunningPod> {
  const { target } = forge(json, generation, {}, NAME);
  const pod = startCronJob(json, {
    ...{ name: `${NAME}-restore`, services: SERVICES, volumes: { [DATA]: data, [NAME]: target } },
    env: { GENERATION: "newest", CONFIRM },
  });
  await waitFor(() => readdirSync(data).some((name) => name.startsWith(".cdktf-backup-restoring-")), "the restore");
  return pod;
}

/** Where what was replaced is. */
const aside = (data: string): string => join(data, asideIn(data));

const blocksIn = (data: string): readonly string[] => readdirSync(data).filter(isBlock).sort();

describe("a restore", () => {
  test("brings back every sample, and keeps what was there with what was in no block yet", async () => {
    const data = await later();
    const before = stateOf(data);
    const log = restored(await restore(data, { CONFIRM }));
    const { blocks, samples } = generation.manifest.fingerprint;
    const names = (blocks as unknown as readonly { readonly ulid: string }[]).map(({ ulid }) => ulid).sort();
    expect(blocksIn(data)).toEqual(names);
    expect(log).toContain(`${names.length} blocks are in place in /source/data; every chunk and series of them was read back, ${String(samples)} samples`);
    const kept = aside(data);
    expect(log).toContain(`what was there is in /source/data/${kept.slice(data.length + 1)}: remove it once the application works`);
    // What belongs to no data, such as the lock, stays where it is.
    const own = Object.keys(before).filter((path) => !/^(wal|wbl|chunks_head|[0-9A-Z]{26})(\/|$)/.test(path));
    expect(stateOf(kept)).toEqual(without(before, ...own));
    expect(await contentOf(data)).toEqual(wanted);
  });

  test("gives back what was made, exactly", async () => {
    const data = temporaryDirectory("empty", PROMETHEUS_UID);
    restored(await restore(data));
    const server = await Prometheus.start({ data, scrape: false });
    const counts = await server.query("count_over_time(made[1d])", MADE.until);
    const last = await server.query("made", MADE.until);
    await server.stop();
    expect(counts.map(({ value: [, count] }) => count)).toEqual(Array(MADE.series).fill(String(MADE.samples)));
    const values = last.map(({ metric, value: [, value] }) => [(metric as { readonly series: string }).series, value]);
    expect(values).toEqual(values.map(([series]) => [series, String(Number(series) * 1000 + MADE.samples - 1)]));
  });

  test("into an empty volume needs no word, and belongs to the server's user", async () => {
    const data = temporaryDirectory("empty", PROMETHEUS_UID);
    const log = restored(await restore(data));
    expect(log).not.toContain("keep what is there");
    expect(readdirSync(data).filter((name) => !isBlock(name))).toEqual([]);
    expect(Object.values(stateOf(data)).filter((state) => !state.includes(` ${PROMETHEUS_UID}:${PROMETHEUS_UID} `))).toEqual([]);
    expect(await contentOf(data)).toEqual(wanted);
  });

  test("is of the newest generation that a drill proved", async () => {
    const data = temporaryDirectory("empty", PROMETHEUS_UID);
    const { target } = forge(json, generation, {}, NAME);
    const options = { backup: NAME, services: SERVICES, volumes: { [DATA]: data } };
    expect(refused(await runRestore(json, target, options))).toMatch(/^no drill has proven any generation; set GENERATION/);
    proven(await runDrill(json, target, { backup: NAME, jobName: "prometheus-drill-manual" }));
    restored(await runRestore(json, target, options));
    expect(await contentOf(data)).toEqual(wanted);
  });

  test("takes a block away that the server does not start with", async () => {
    const data = await later();
    const [damaged = ""] = blocksIn(data);
    writeFileSync(join(data, damaged, "index"), "");
    await expect(Prometheus.start({ data })).rejects.toThrow();
    restored(await restore(data, { CONFIRM }));
    expect(await contentOf(data)).toEqual(wanted);
  });

  test("can be added to by newer blocks of what was replaced", async () => {
    const data = await later();
    restored(await restore(data, { CONFIRM }));
    const kept = aside(data);
    for (const name of blocksIn(kept)) renameSync(join(kept, name), join(data, name));
    const server = await Prometheus.start({ data, scrape: false });
    const counts = await server.query("count(count_over_time(made[1d]))", MADE.until);
    const newer = await server.query("made", MADE.until + 3 * 3600);
    await server.stop();
    expect(counts.map(({ value }) => value[1])).toEqual([String(MADE.series)]);
    expect(newer).toHaveLength(3);
  });

  test("removes what one that was killed left, and nothing else", async () => {
    const data = await later();
    const left = join(data, ".cdktf-backup-restoring-20260101T000000Z");
    mkdirSync(join(left, "tree"), { recursive: true });
    chownTree(left, PROMETHEUS_UID);
    expect(restored(await restore(data, { CONFIRM }))).toContain("left by a restore that did not end");
    expect(await contentOf(data)).toEqual(wanted);
    aside(data);
  });
});

describe("refuses, and changes nothing,", () => {
  let data: string;
  let before: ReturnType<typeof stateOf>;
  beforeAll(async () => {
    data = await later();
    before = stateOf(data);
  });
  afterEach(() => expect(stateOf(data)).toEqual(before));

  test("when it is only to say what it would do", async () => {
    const result = await restore(data, { DRY_RUN: "true" });
    expect(restored(result)).toContain(`dry run: nothing was changed; without DRY_RUN it needs CONFIRM="${CONFIRM}"`);
    const { blocks, samples } = generation.manifest.fingerprint;
    const count = (blocks as readonly unknown[]).length;
    expect(result.plan).toEqual([
      expect.stringMatching(`^write ${count} blocks \\(${String(samples)} samples, \\S+ \\S+\\) beside what is there, and read them back$`),
      expect.stringMatching(/^keep what is there in \/source\/data\/\.cdktf-backup-replaced-\d{8}T\d{6}Z: \d+ blocks, and what is in none yet$/),
      "put the new blocks into their places in /source/data",
    ]);
  });

  test("to replace anything without a word, or with the wrong one", async () => {
    const refusal = `the target is not empty, and nothing was changed; to replace it, set CONFIRM to "${CONFIRM}"`;
    expect(refused(await restore(data))).toBe(refusal);
    expect(refused(await restore(data, { CONFIRM: "prometheus" }))).toBe(refusal);
  });

  test("when the snapshot is damaged, though its manifest has its hash", async () => {
    const change = (damage: (content: Buffer) => Buffer): Forgery => ({ change: { [ARCHIVE]: damage } });
    expect(refused(await restore(data, { CONFIRM }, change(cut(0.5))))).toMatch(/^snapshot\.tar\.zst is damaged: /);
    expect(refused(await restore(data, { CONFIRM }, change(decompressed(cut(0.5)))))).toMatch(/^the archive is cut$/);
    const flipped = decompressed((archive) => {
      const [copy, at] = [Buffer.from(archive), archive.indexOf("numSamples")];
      copy[at] = (copy[at] ?? 0) ^ 1;
      return copy;
    });
    expect(refused(await restore(data, { CONFIRM }, change(flipped)))).toMatch(/^block \w{26}: meta\.json says 0 samples, and \d+ are there$/);
  });

  test("when what comes out is not what the fingerprint says", async () => {
    const told = (facts: object): Forgery => ({ manifest: (manifest) => ({ ...manifest, fingerprint: { ...manifest.fingerprint, ...facts } }) });
    const reason = /^what came back is not what was backed up: the blocks: /;
    expect(refused(await restore(data, { CONFIRM }, told({ series: 1 })))).toMatch(reason);
    expect(refused(await restore(data, { CONFIRM }, told({ sha256: "0" })))).toMatch(reason);
  });

  test("when the volume has no room for both", async () => {
    const small = temporaryDirectory("small", PROMETHEUS_UID);
    mountTmpfs(small, 40_000);
    chownTree(small, PROMETHEUS_UID);
    expect(refused(await restore(small))).toMatch(/^\/source\/data has \S+ \S+ free, and \S+ \S+ are written beside what is there: /);
    expect(readdirSync(small)).toEqual([]);
  });

  test("when it is told to stop while it writes", async () => {
    const pod = await startRestore(data);
    pod.kill({ container: "runner", signal: "SIGTERM" });
    const { exitCodes } = await pod.done;
    expect(exitCodes.runner).toBe(143);
  });
});

describe("a server that runs", () => {
  test("is not given anything", async () => {
    const data = await later();
    const server = await Prometheus.start({ data, scrape: false });
    const before = blocksIn(data);
    const reason = refused(await restore(data, { CONFIRM }));
    await server.stop();
    expect(reason).toBe(
      `Prometheus at http://prometheus-server.monitoring:9090: it answers: stop it first, by scaling it to 0; nothing was changed`,
    );
    expect(blocksIn(data)).toEqual(before);
    expect(readdirSync(data).filter((name) => name.startsWith(".cdktf-backup-"))).toEqual([]);
  });

  test("is noticed where it is started while the restore is prepared", async () => {
    const data = await later();
    const before = blocksIn(data);
    const pod = await startRestore(data);
    pod.kill({ container: "runner", signal: "SIGSTOP" });
    const server = await Prometheus.start({ data, scrape: false });
    pod.kill({ container: "runner", signal: "SIGCONT" });
    const { exitCodes, logs } = await pod.done;
    await server.stop();
    expect({ code: exitCodes.runner, log: logs.runner }).toMatchObject({ code: 1, log: expect.stringContaining("it answers: stop it first") as string });
    expect(blocksIn(data)).toEqual(before);
    expect(readdirSync(data).filter((name) => name.startsWith(".cdktf-backup-"))).toEqual([]);
  });
});

test("a tree that is not a server's data is left as it is", async () => {
  const data = temporaryDirectory("other", PROMETHEUS_UID);
  mkdirSync(join(data, "lost+found"));
  writeFileSync(join(data, "notes"), "mine");
  chownTree(data, PROMETHEUS_UID);
  restored(await restore(data));
  rmSync(join(data, "notes"));
  expect(readdirSync(data).filter((name) => !isBlock(name))).toEqual(["lost+found"]);
});
