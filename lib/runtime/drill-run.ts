import { randomBytes } from "node:crypto";
import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { finished } from "node:stream/promises";
import { identitiesIn } from "./age-identity";
import type { Agent } from "./agent";
import { targetOf } from "./backup-run";
import type { Drill, DrillEngine } from "./drill";
import { bytesOf, type Generation, listGenerations } from "./generation";
import { reasonOf } from "./log";
import { METRICS, type Sample } from "./metrics";
import type { PodAgent } from "./pod-agent";
import { humanBytes, Progress } from "./progress";
import type { DrillSettings, Settings } from "./settings";
import { openFile } from "./store";
import { checkMount, type Mounted } from "./target";
import { manifestHash, readVerdict, type Verdict, VERDICT_FORMAT, writeVerdict } from "./verdict";
import { unlessAborted } from "./within";

/** How long an engine may take to unwind once it is told to stop. */
const GRACE_MS = 2000;

const clock = (): Date => new Date();

/** What a drill works with besides its settings. */
export interface DrillContext {
  readonly settings: Settings;
  readonly engine: DrillEngine;
  /** Where the pod has an engine's container. */
  readonly agent?: PodAgent;
  readonly scratch: string;
  readonly work: string;
  readonly signal: AbortSignal;
  readonly log: (message: string) => void;
  /** What {@link stage} prepared. @default - the drill begins here */
  readonly staged?: Staged;
  /** @default - the clock */
  readonly now?: () => Date;
  /** Tells a mount point. @default - asks the kernel */
  readonly mounted?: Mounted;
}

/** A drill that has begun in another container. */
export interface Staged {
  readonly generation: string;
  /** Name of the scratch instance. */
  readonly name: string;
  /** ISO 8601, UTC. */
  readonly startedAt: string;
}

/** Where {@link stage} leaves {@link Staged}, in the directory that all containers share. */
const STAGED = ".staged.json";

/**
 * Prepares a drill for programs that run after this one, up to {@link drill} in yet another container. The verdict is red until that ends.
 *
 * @throws Error with the reason where the verdict is red, or there is nothing to drill
 */
export async function stage(context: DrillContext): Promise<void> {
  const { engine, work, log, signal, now = clock } = context;
  const { directory, generation } = await choose(context);
  const startedAt = now().toISOString();
  const staged: Staged = { generation: generation.name, name: scratchName(), startedAt };
  const verdict = await begin(directory, generation, startedAt, log);
  let reason = "it was not restored: the logs of the pod's other containers say why";
  try {
    await inScratch({ ...context, staged }, directory, generation, (drill, step) => step("staging", async () => engine.stage?.(drill)));
    await writeFile(join(work, STAGED), JSON.stringify(staged));
  } catch (error) {
    reason = reasonOf(signal.aborted ? signal.reason : error);
    throw error;
  } finally {
    await writeVerdict(directory, { ...verdict, green: false, reason, checks: [] });
  }
}

/** What {@link stage} left. @throws Error where it left nothing */
export async function readStaged(work: string): Promise<Staged> {
  return JSON.parse(await readFile(join(work, STAGED), "utf8")) as Staged;
}

/**
 * Restores the newest generation into a scratch instance and compares it with what was backed up. Its verdict lies beside the
 * generation: red from the moment it begins, green only once every comparison held.
 *
 * @throws Error with the reason where the verdict is red, or there is nothing to drill
 */
export async function drill(context: DrillContext): Promise<void> {
  const { settings, agent, signal, log, staged, work, now = clock } = context;
  const { maxAgeSeconds } = drillSettingsOf(settings);
  const { directory, generation } = await choose(context);
  const { name, manifest } = generation;
  const startedAt = staged?.startedAt ?? now().toISOString();
  const verdict = await begin(directory, generation, startedAt, log);
  const proof: { restoreSeconds?: number; checks: readonly string[] } = { checks: [] };
  let reason: string | undefined;
  try {
    // Tried all the same where it is too old: whether it restores is worth knowing then more than ever.
    Object.assign(proof, await prove(context, directory, generation));
    const age = Math.round((Date.parse(startedAt) - Date.parse(manifest.startedAt)) / 1000);
    if (age > maxAgeSeconds) throw new Error(`the newest generation is ${hours(age)} old, but may be ${hours(maxAgeSeconds)} at most`);
  } catch (error) {
    reason = reasonOf(signal.aborted ? signal.reason : error);
    throw error;
  } finally {
    await Promise.all((await inside(work)).map(remove));
    const finishedAt = now().toISOString();
    await writeVerdict(directory, { ...verdict, ...proof, green: reason === undefined, reason, finishedAt });
  }
  for (const check of proof.checks) log(check);
  log(`${name} is proven: restored in ${proof.restoreSeconds?.toFixed(1)} s, and equal to what was backed up`);
  signal.throwIfAborted();
  await agent?.exit().catch((error: Error) => log(`warning: ${error.message}`));
}

/** The generation that is drilled: the newest, or the one that was when the drill began. */
async function choose({ settings, staged, mounted }: DrillContext): Promise<{ readonly directory: string; readonly generation: Generation }> {
  const { target } = targetOf(settings);
  await checkMount(target, mounted);
  const directory = join(target.mount, target.directory);
  let damaged = { name: "", reason: "" };
  const generations = await listGenerations(directory, settings, (reason, name) => (damaged = { name, reason }));
  if (staged !== undefined) {
    const generation = generations.find(({ name }) => name === staged.generation);
    if (generation === undefined) throw new Error(`${staged.generation}, whose drill has begun, is no whole generation any more`);
    return { directory, generation };
  }
  // What a restore put aside is no sign that backups are made.
  const newest = generations.filter(({ manifest }) => manifest.purpose === undefined).at(-1);
  // Another one would be proven in its place, and nobody would look at this one.
  if (damaged.name > (newest?.name ?? "")) throw new Error(damaged.reason);
  if (newest === undefined) throw new Error(`there is no generation in ${directory}: nothing was ever backed up there`);
  return { directory, generation: newest };
}

/** Makes the verdict red, before anything can go wrong without a word. */
async function begin(directory: string, { name, manifest }: Generation, startedAt: string, log: (message: string) => void): Promise<Verdict> {
  const verdict: Verdict = {
    formatVersion: VERDICT_FORMAT,
    generation: name,
    manifestSha256: await manifestHash(directory, name),
    startedAt,
    bytes: bytesOf(manifest),
    green: false,
    reason: "the drill did not end",
    checks: [],
  };
  await writeVerdict(directory, verdict);
  log(`drilling ${name}: ${humanBytes(verdict.bytes)} in ${manifest.files.length} files`);
  return verdict;
}

async function prove(
  context: DrillContext,
  directory: string,
  generation: Generation,
): Promise<{ readonly restoreSeconds: number; readonly checks: readonly string[] }> {
  const { engine, staged } = context;
  return inScratch(context, directory, generation, async (drill, step, whole) => {
    const before = staged === undefined ? 0 : Date.now() - Date.parse(staged.startedAt);
    const began = performance.now();
    await step("restoring", () => engine.restore(drill));
    const restoreSeconds = (performance.now() - began + before) / 1000;
    const checks = await step("comparing", () => engine.compare(drill));
    // What the engine had no use for must be whole all the same.
    await step("reading", async () => {
      for (const file of drill.manifest.files) if (!whole.has(file.path)) await finished(drill.open(file).resume());
    });
    return { restoreSeconds, checks };
  });
}

type Step = <T>(what: string, work: () => Promise<T>) => Promise<T>;

/** Gives an engine what it works with, and empties its scratch space afterwards. */
async function inScratch<T>(
  { settings, agent, staged, scratch, work, signal, log }: DrillContext,
  directory: string,
  { name, manifest }: Generation,
  use: (drill: Drill, step: Step, whole: ReadonlySet<string>) => Promise<T>,
): Promise<T> {
  if (manifest.engine !== settings.engine.kind) throw new Error(`${name} was made by ${manifest.engine}, not ${settings.engine.kind}`);
  const path = join(directory, name);
  const own = await mkdtemp(join(scratch, "drill-"));
  const progress = new Progress(log);
  const keyOf = identitiesIn(settings.identity);
  try {
    const whole = new Set<string>();
    const context: Drill = {
      directory: path,
      manifest,
      name: staged?.name ?? scratchName(),
      scratch: own,
      scratchBytes: drillSettingsOf(settings).scratchBytes,
      work,
      assertions: drillSettingsOf(settings).assertions,
      signal,
      log,
      open: (file) => openFile(path, file, { signal, count: progress.count, onWhole: (read) => whole.add(read), keyOf }),
      get agent(): Agent {
        if (agent === undefined) throw new Error("this drill's pod has no engine's container");
        return agent;
      },
    };
    const step: Step = async (what, work) => {
      signal.throwIfAborted();
      progress.step(what);
      return unlessAborted(signal, GRACE_MS, work());
    };
    return await use(context, step, whole);
  } finally {
    progress.stop();
    await remove(own);
  }
}

function scratchName(): string {
  return `drill-${randomBytes(8).toString("hex")}`;
}

async function remove(path: string): Promise<void> {
  await rm(path, { recursive: true, force: true }).catch(() => undefined);
}

/** What may lie in the directory that is shared with the engine; its own files go with the pod. */
async function inside(work: string): Promise<readonly string[]> {
  return (await readdir(work).catch(() => [])).map((name) => join(work, name));
}

/** What the verdicts on the target say of the newest proven generation, for the metrics. */
export async function drillSamples(settings: Settings, mounted?: Mounted): Promise<Sample[]> {
  const { target } = targetOf(settings);
  await checkMount(target, mounted);
  const directory = join(target.mount, target.directory);
  for (const { name, manifest } of (await listGenerations(directory, settings, () => undefined)).reverse()) {
    const verdict = await readVerdict(directory, name);
    if (verdict?.green !== true) continue;
    return [
      [METRICS.drillLastSuccess, unix(verdict.finishedAt)],
      [METRICS.drillSnapshot, unix(manifest.startedAt)],
      [METRICS.drillRestoreSeconds, verdict.restoreSeconds],
      [METRICS.drillBytes, verdict.bytes],
    ];
  }
  return [];
}

function unix(time: string | undefined): number | undefined {
  return time === undefined ? undefined : Math.floor(Date.parse(time) / 1000);
}

function drillSettingsOf({ drill: settings }: Settings): DrillSettings {
  if (settings === undefined) throw new Error("the settings have no 'drill'");
  return settings;
}

function hours(seconds: number): string {
  return `${(seconds / 3600).toFixed(1)} h`;
}

