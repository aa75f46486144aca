import { randomBytes } from "node:crypto";
import { mkdtemp, readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { finished } from "node:stream/promises";
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
import { manifestHash, readVerdict, VERDICT_FORMAT, writeVerdict } from "./verdict";
import { unlessAborted } from "./within";

/** How long an engine may take to unwind once it is told to stop. */
const GRACE_MS = 2000;

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
  /** @default - the clock */
  readonly now?: () => Date;
  /** Tells a mount point. @default - asks the kernel */
  readonly mounted?: Mounted;
}

/**
 * Restores the newest generation into a scratch instance and compares it with what was backed up. Its verdict lies beside the
 * generation: red from the moment it begins, green only once every comparison held.
 *
 * @throws Error with the reason where the verdict is red, or there is nothing to drill
 */
export async function drill(context: DrillContext): Promise<void> {
  const { settings, agent, signal, log, mounted, now = (): Date => new Date() } = context;
  const { target } = targetOf(settings);
  const { maxAgeSeconds } = drillSettingsOf(settings);
  await checkMount(target, mounted);
  const directory = join(target.mount, target.directory);
  let damaged = { name: "", reason: "" };
  const generations = await listGenerations(directory, settings, (reason, name) => (damaged = { name, reason }));
  // What a restore put aside is no sign that backups are made.
  const newest = generations.filter(({ manifest }) => manifest.purpose === undefined).at(-1);
  // Another one would be proven in its place, and nobody would look at this one.
  if (damaged.name > (newest?.name ?? "")) throw new Error(damaged.reason);
  if (newest === undefined) throw new Error(`there is no generation in ${directory}: nothing was ever backed up there`);

  const startedAt = now();
  const verdict = {
    formatVersion: VERDICT_FORMAT,
    generation: newest.name,
    manifestSha256: await manifestHash(directory, newest.name),
    startedAt: startedAt.toISOString(),
    bytes: bytesOf(newest.manifest),
  } as const;
  await writeVerdict(directory, { ...verdict, green: false, reason: "the drill did not end", checks: [] });
  log(`drilling ${newest.name}: ${humanBytes(verdict.bytes)} in ${newest.manifest.files.length} files`);
  const proof: { restoreSeconds?: number; checks: readonly string[] } = { checks: [] };
  let reason: string | undefined;
  try {
    // Tried all the same where it is too old: whether it restores is worth knowing then more than ever.
    Object.assign(proof, await prove(context, directory, newest));
    const age = Math.round((startedAt.getTime() - Date.parse(newest.manifest.startedAt)) / 1000);
    if (age > maxAgeSeconds) throw new Error(`the newest generation is ${hours(age)} old, but may be ${hours(maxAgeSeconds)} at most`);
  } catch (error) {
    reason = reasonOf(signal.aborted ? signal.reason : error);
    throw error;
  } finally {
    const finishedAt = now().toISOString();
    await writeVerdict(directory, { ...verdict, ...proof, green: reason === undefined, reason, finishedAt });
  }
  for (const check of proof.checks) log(check);
  log(`${newest.name} is proven: restored in ${proof.restoreSeconds?.toFixed(1)} s, and equal to what was backed up`);
  signal.throwIfAborted();
  await agent?.exit().catch((error: Error) => log(`warning: ${error.message}`));
}

async function prove(
  { settings, engine, agent, scratch, work, signal, log }: DrillContext,
  directory: string,
  { name, manifest }: Generation,
): Promise<{ readonly restoreSeconds: number; readonly checks: readonly string[] }> {
  if (manifest.engine !== settings.engine.kind) throw new Error(`${name} was made by ${manifest.engine}, not ${settings.engine.kind}`);
  const path = join(directory, name);
  const own = await mkdtemp(join(scratch, "drill-"));
  const progress = new Progress(log);
  try {
    const whole = new Set<string>();
    const context: Drill = {
      directory: path,
      manifest,
      name: `drill-${randomBytes(8).toString("hex")}`,
      scratch: own,
      work,
      assertions: drillSettingsOf(settings).assertions,
      signal,
      log,
      open: (file) => openFile(path, file, { signal, count: progress.count, onWhole: (read) => whole.add(read) }),
      get agent(): Agent {
        if (agent === undefined) throw new Error("this drill's pod has no engine's container");
        return agent;
      },
    };
    const step = async <T>(what: string, work: () => Promise<T>): Promise<T> => {
      signal.throwIfAborted();
      progress.step(what);
      return unlessAborted(signal, GRACE_MS, work());
    };
    const began = performance.now();
    await step("restoring", () => engine.restore(context));
    const restoreSeconds = (performance.now() - began) / 1000;
    const checks = await step("comparing", () => engine.compare(context));
    // What the engine had no use for must be whole all the same.
    await step("reading", async () => {
      for (const file of manifest.files) if (!whole.has(file.path)) await finished(context.open(file).resume());
    });
    return { restoreSeconds, checks };
  } finally {
    progress.stop();
    await Promise.all([own, ...(await inside(work))].map((left) => rm(left, { recursive: true, force: true }).catch(() => undefined)));
  }
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

