import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { hostname } from "node:os";
import { join } from "node:path";
import { finished } from "node:stream/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { whyNotDue } from "./due";
import type { Engine } from "./engine";
import { bytesOf, type Generation, listGenerations, newName, PARTIAL, publish, removeLeftovers } from "./generation";
import { Lock, LockBusy } from "./lock";
import { MANIFEST_FORMAT, type Manifest } from "./manifest";
import { METRICS, type Sample } from "./metrics";
import type { PodAgent } from "./pod-agent";
import { humanBytes, Progress } from "./progress";
import { candidatesOf, removeGenerations, removeStrayVerdicts } from "./prune";
import { planRetention, usualSize } from "./retention";
import { createRun } from "./run";
import type { RetentionSettings, Settings, TargetSettings } from "./settings";
import { checkMount, checkSpace, clockSkew, errorCode, freeBytes, probeTarget, targetError, type Mounted } from "./target";
import { unlessAborted } from "./within";

/** How long an engine may take to unwind once it is told to stop. */
const GRACE_MS = 2000;

const clock = (): Date => new Date();

/** What a run works with besides its settings. */
export interface BackupContext {
  readonly settings: Settings;
  readonly engine: Engine;
  /** Where the pod has an engine's container. */
  readonly agent?: PodAgent;
  /** Name of the Job, by which a scheduled run is told from a manual one. */
  readonly jobName?: string;
  readonly scratch: string;
  /** Aborted by TERM, a lost lock and the death of the engine's container; the reason says which. */
  readonly control: AbortController;
  readonly log: (message: string) => void;
  /** @default - the clock */
  readonly now?: () => Date;
  /** Tells a mount point. @default - asks the kernel */
  readonly mounted?: Mounted;
}

/** What there was to do. */
export type Outcome = "done" | "busy" | "not due";

/** @throws Error if settings lack what a backup needs */
export function targetOf(settings: Settings): { readonly target: TargetSettings; readonly retention: RetentionSettings } {
  const { target, retention } = settings;
  if (target === undefined || retention === undefined) throw new Error("the settings have no 'target' or no 'retention'");
  return { target, retention };
}

/**
 * One backup: from the lock to the retention. The generation appears whole or not at all, and nothing is removed unless it did.
 * @throws Error with the reason where it failed
 */
export async function backup(context: BackupContext): Promise<Outcome> {
  const { settings, agent, jobName, control, log, mounted, now = clock } = context;
  const { target, retention } = targetOf(settings);
  const notDue = whyNotDue(settings, jobName);
  if (notDue !== undefined) {
    log(notDue);
    await agent?.exit();
    return "not due";
  }
  const { directory, serverTime } = await probeTarget(target, mounted);
  const skew = clockSkew(now().getTime(), serverTime);
  if (skew !== undefined) log(`warning: ${skew}, so no generation is removed`);

  let lock: Lock;
  try {
    const { leaseSeconds, onLost } = { leaseSeconds: target.lockLeaseSeconds, onLost: (error: Error) => control.abort(error) };
    lock = await Lock.acquire(directory, { leaseSeconds, owner: hostname(), signal: control.signal, onLost });
  } catch (error) {
    if (!(error instanceof LockBusy)) throw targetError("cannot take the lock", error, target);
    log(error.message);
    return "busy";
  }
  try {
    // Before the space is counted: what a killed run left may be all that is missing.
    await removeLeftovers(directory, serverTime, log);
    const before = await listGenerations(directory, settings, log);
    const newest = before.at(-1);
    await checkSpace(directory, newest === undefined ? 0 : bytesOf(newest.manifest), target);
    const usualBytes = usualSize(await candidatesOf(directory, before), retention, now().getTime());
    const name = await generate({ ...context, usualBytes }, directory, newest, lock);
    await agent?.exit().catch((error: Error) => log(`warning: ${error.message}`));
    try {
      if (skew !== undefined) return "done";
      const held = await lock.assertHeld();
      const candidates = await candidatesOf(directory, await listGenerations(directory, settings, () => undefined));
      const { frozen, decisions } = planRetention(candidates, retention, Math.min(now().getTime(), held));
      if (frozen !== undefined) log(`warning: no generation is removed: ${frozen}`);
      const old = decisions.filter(({ remove }) => remove).map(({ name }) => name);
      await removeGenerations(directory, old, control.signal, log);
      await removeStrayVerdicts(directory, held);
    } catch (error) {
      throw new Error(`${name} is published, but old generations were not removed: ${(error as Error).message}`, { cause: error });
    }
    return "done";
  } finally {
    await lock.release();
  }
}

/** Says of every generation whether the next run keeps it, and why. Writes nothing. @throws Error where the target cannot be asked */
export async function explainRetention(context: Pick<BackupContext, "settings" | "log" | "mounted" | "now">): Promise<void> {
  const { settings, log, mounted, now = clock } = context;
  const { target, retention } = targetOf(settings);
  await checkMount(target, mounted);
  const directory = join(target.mount, target.directory);
  const candidates = await candidatesOf(directory, await listGenerations(directory, settings, log));
  const { frozen, decisions } = planRetention(candidates, retention, now().getTime());
  for (const { name, remove, why } of decisions) log(`${name}: ${remove ? "removed" : "kept"}: ${why}`);
  if (frozen !== undefined) log(`no generation is removed: ${frozen}`);
  log("dry run: nothing was backed up, and nothing removed");
}

/** Makes and publishes a generation. Only for the holder of the lock. */
export async function generate(
  context: Omit<BackupContext, "jobName"> & Pick<Manifest, "usualBytes">,
  directory: string,
  newest: Generation | undefined,
  lock: Lock,
): Promise<string> {
  const { settings, engine, agent, control, log, usualBytes, now = clock } = context;
  const { target } = targetOf(settings);
  const { signal } = control;
  // Generations are ordered by name, and two of one second would be by chance.
  if (newest !== undefined && Math.floor(now().getTime() / 1000) * 1000 === newest.time) await sleep(1000, undefined, { signal });
  const startedAt = now();
  const name = newName(startedAt);
  const partial = join(directory, PARTIAL + name);
  const scratch = await mkdtemp(join(context.scratch, "run-"));
  const progress = new Progress(log);
  try {
    const whole = new Set<string>();
    const run = createRun({
      directory: partial,
      scratch,
      signal,
      log,
      agent,
      previous: newest && { directory: join(directory, newest.name), manifest: newest.manifest },
      level: settings.compressionLevel,
      recipients: settings.encryption?.recipients,
      count: progress.count,
      onWhole: (path) => whole.add(path),
    });
    const step = async <T>(what: string, work: () => Promise<T>): Promise<T> => {
      signal.throwIfAborted();
      progress.step(what);
      return unlessAborted(signal, GRACE_MS, work());
    };
    const { versions } = await step("looking at the source", () => engine.preflight(run));
    await mkdir(partial, { mode: 0o750 });
    const dump = await step("dumping", () => engine.dump(run));
    const checks = await step("verifying", async () => {
      const passed = await engine.verify(run, dump);
      // What the engine did not look at must be there all the same.
      for (const file of dump.files) if (!whole.has(file.path)) await finished(run.open(file).resume());
      return passed;
    });
    signal.throwIfAborted();
    const manifest: Manifest = {
      formatVersion: MANIFEST_FORMAT,
      backup: settings.backup,
      namespace: settings.namespace,
      generation: name,
      startedAt: startedAt.toISOString(),
      finishedAt: now().toISOString(),
      engine: settings.engine.kind,
      purpose: settings.purpose,
      versions,
      fingerprint: dump.fingerprint,
      usualBytes,
      files: dump.files,
      checks,
    };
    await publish(directory, manifest, async () => {
      await lock.assertHeld();
      signal.throwIfAborted();
    });
    log(`published ${name}: ${humanBytes(bytesOf(manifest))} in ${dump.files.length} files`);
    return name;
  } catch (error) {
    await rm(partial, { recursive: true, force: true }).catch((left: Error) => log(`${partial} is left: ${left.message}`));
    const code = errorCode(error);
    throw code === "ENOSPC" || code === "EDQUOT" ? targetError("cannot write the backup", error, target) : error;
  } finally {
    progress.stop();
    await rm(scratch, { recursive: true, force: true }).catch(() => undefined);
  }
}

/**
 * What the target itself says of the backup, whichever run made it. A generation that is dated in the future,
 * made under a wrong clock, is no success yet: it would silence every alert until its date.
 * @throws Error where the target cannot be asked
 */
export async function targetSamples(settings: Settings, now: number, mounted?: Mounted): Promise<Sample[]> {
  const { target, retention } = targetOf(settings);
  await checkMount(target, mounted);
  const directory = join(target.mount, target.directory);
  const generations = await listGenerations(directory, settings, () => undefined);
  const { frozen } = planRetention(await candidatesOf(directory, generations), retention, now);
  const newest = generations.filter(({ time, manifest }) => time <= now && manifest.purpose === undefined).at(-1)?.manifest;
  const unix = (time: string | undefined): number | undefined => (time === undefined ? undefined : Math.floor(Date.parse(time) / 1000));
  return [
    [METRICS.lastSuccess, unix(newest?.finishedAt)],
    [METRICS.snapshot, unix(newest?.startedAt)],
    [METRICS.size, newest && bytesOf(newest)],
    [METRICS.generations, generations.length],
    [METRICS.retentionFrozen, frozen === undefined ? 0 : 1],
    [METRICS.targetFree, await freeBytes(directory)],
  ];
}
