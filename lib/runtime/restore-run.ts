import { mkdtemp, rm } from "node:fs/promises";
import { hostname } from "node:os";
import { join } from "node:path";
import { finished } from "node:stream/promises";
import { identitiesIn } from "./age-identity";
import type { Agent } from "./agent";
import { generate, type BackupContext, type Outcome, targetOf } from "./backup-run";
import { bytesOf, type Generation, listGenerations } from "./generation";
import { Lock, LockBusy } from "./lock";
import { humanBytes, Progress } from "./progress";
import type { Restore, RestoreEngine } from "./restore";
import { openFile } from "./store";
import { probeTarget, targetError } from "./target";
import { readVerdict } from "./verdict";
import { unlessAborted } from "./within";

/** How long an engine may take to unwind once it is told to stop. */
const GRACE_MS = 2000;

/** The variables by which a person says what is to be restored, for every engine. */
export const OPTIONS: { readonly [name: string]: string } = {
  GENERATION: "name of the generation, or 'newest'; by default the newest that a drill proved",
  DRY_RUN: "'true' prints the plan and changes nothing",
  CONFIRM: "name of what is replaced, as the plan prints it; needed where the target is not empty",
  SAFETY_DUMP: "'skip' replaces the target without backing it up first",
};

/** What a restore works with besides its settings. */
export interface RestoreContext extends Omit<BackupContext, "jobName"> {
  readonly restorer: RestoreEngine;
  /** What the person who started it chose, by name. */
  readonly options: { readonly [name: string]: string | undefined };
}

/**
 * Puts one generation back: chosen, read to its last byte, planned, confirmed, the target backed up first where it holds anything.
 *
 * @throws Error with the reason where it failed; the target is unchanged unless the log says that the restore had begun
 */
export async function restore(context: RestoreContext): Promise<Outcome> {
  const { settings, control, log, mounted, agent } = context;
  const { target } = targetOf(settings);
  checkOptions(context);
  const { directory } = await probeTarget(target, mounted);
  let lock: Lock;
  try {
    const { leaseSeconds, onLost } = { leaseSeconds: target.lockLeaseSeconds, onLost: (error: Error) => control.abort(error) };
    // Nothing may be removed meanwhile, least of all what is being read.
    lock = await Lock.acquire(directory, { leaseSeconds, owner: hostname(), signal: control.signal, onLost });
  } catch (error) {
    if (!(error instanceof LockBusy)) throw targetError("cannot take the lock", error, target);
    log(error.message);
    return "busy";
  }
  const scratch = await mkdtemp(join(context.scratch, "restore-"));
  const progress = new Progress(log);
  try {
    await carryOut(context, directory, lock, scratch, progress);
    await agent?.exit().catch((error: Error) => log(`warning: ${error.message}`));
    return "done";
  } finally {
    progress.stop();
    await rm(scratch, { recursive: true, force: true }).catch(() => undefined);
    await lock.release();
  }
}

async function carryOut(context: RestoreContext, directory: string, lock: Lock, scratch: string, progress: Progress): Promise<void> {
  const { settings, restorer, control, log } = context;
  const { signal } = control;
  const generations = await listGenerations(directory, settings, log);
  const { name, manifest } = await choose(context, directory, generations);
  if (manifest.engine !== settings.engine.kind) throw new Error(`${name} was made by ${manifest.engine}, not ${settings.engine.kind}`);
  const path = join(directory, name);
  const keyOf = identitiesIn(settings.identity);
  const run: Restore = {
    directory: path,
    manifest,
    scratch,
    signal,
    log,
    option: (option) => optionOf(context, option),
    open: (file) => openFile(path, file, { signal, count: progress.count, keyOf }),
    get agent(): Agent {
      if (context.agent === undefined) throw new Error("this restore's pod has no engine's container");
      return context.agent;
    },
  };
  const step = async <T>(what: string, work: () => Promise<T>): Promise<T> => {
    signal.throwIfAborted();
    progress.step(what);
    return unlessAborted(signal, GRACE_MS, work());
  };
  // Before anything is touched: what turns out to be damaged half way would leave a target that is neither old nor new.
  await step("reading", async () => {
    for (const file of manifest.files) await finished(run.open(file).resume());
  });
  const plan = await step("planning", () => restorer.plan(run));
  log(`generation ${name}: ${humanBytes(bytesOf(manifest))}, data as of ${manifest.startedAt}`);
  for (const line of plan.steps) log(`plan: ${line}`);
  const { replaces, aside } = plan;
  const skip = optionOf(context, "SAFETY_DUMP") === "skip";
  const dumped = replaces !== undefined && aside === undefined;
  if (dumped) log(skip ? "plan: no safety dump, as SAFETY_DUMP is 'skip'" : "plan: back up what is there first");
  if (optionOf(context, "DRY_RUN") === "true") {
    const needs = replaces === undefined ? "" : `; without DRY_RUN it needs CONFIRM=${JSON.stringify(replaces)}`;
    log(`dry run: nothing was changed${needs}`);
    return;
  }
  if (replaces !== undefined && optionOf(context, "CONFIRM") !== replaces) {
    throw new Error(`the target is not empty, and nothing was changed; to replace it, set CONFIRM to ${JSON.stringify(replaces)}`);
  }
  if (dumped && !skip) {
    const safety = await generate({ ...context, settings: { ...settings, purpose: "safety" } }, directory, generations.at(-1), lock);
    log(`what is there now is kept as ${safety}`);
  }
  await lock.assertHeld();
  log("restoring");
  const began = performance.now();
  await step("restoring", () => restorer.apply(run, plan));
  const seconds = (performance.now() - began) / 1000;
  for (const check of await step("comparing", () => restorer.verify(run, plan))) log(check);
  log(`restored ${name} in ${seconds.toFixed(1)} s`);
  if (aside !== undefined) log(`what was there is in ${aside}: remove it once the application works`);
}

async function choose(context: RestoreContext, directory: string, all: readonly Generation[]): Promise<Generation> {
  const wanted = optionOf(context, "GENERATION");
  const names = all.map(({ name }) => name).join(", ");
  if (wanted !== undefined && wanted !== "newest") {
    const found = all.find(({ name }) => name === wanted);
    if (found === undefined) throw new Error(`there is no whole generation ${JSON.stringify(wanted)}; there is ${names || "none"}`);
    return found;
  }
  // A safety dump holds what somebody wanted to be rid of.
  const own = all.filter(({ manifest }) => manifest.purpose === undefined);
  const newest = own.at(-1);
  if (newest === undefined) throw new Error(`there is no generation in ${directory}`);
  if (wanted === "newest") return newest;
  for (const generation of [...own].reverse()) {
    if ((await readVerdict(directory, generation.name))?.green === true) return generation;
  }
  throw new Error(`no drill has proven any generation; set GENERATION to one of ${names}, or to 'newest'`);
}

/** What is misspelt would be left out in silence. */
function checkOptions({ options }: RestoreContext): void {
  const allowed: { readonly [name: string]: readonly string[] } = { DRY_RUN: ["true", "false"], SAFETY_DUMP: ["skip"] };
  for (const [name, values] of Object.entries(allowed)) {
    const value = options[name];
    if (value !== undefined && value !== "" && !values.includes(value)) {
      throw new Error(`${name} must be ${values.map((word) => `'${word}'`).join(" or ")}, but is ${JSON.stringify(value)}`);
    }
  }
}

function optionOf({ options }: RestoreContext, name: string): string | undefined {
  const value = options[name];
  return value === "" ? undefined : value;
}

