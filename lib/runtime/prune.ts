import { readdir, rename, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { DELETING, type Generation, timeOf } from "./generation";
import { reasonOf } from "./log";
import { ACCEPTED, type Candidate, PIN } from "./retention";
import { readVerdict, VERDICT } from "./verdict";

/** A verdict is written in a moment. What is left of one after this is left for good. */
const WRITING_MS = 3_600_000;

/** What the retention knows of the generations of a directory. */
export async function candidatesOf(directory: string, generations: readonly Generation[]): Promise<readonly Candidate[]> {
  const beside = new Set(await readdir(directory));
  const candidates: Candidate[] = [];
  for (const { name, time, manifest } of generations) {
    candidates.push({
      name,
      time,
      size: manifest.files.reduce((sum, { bytes, uncompressedBytes = bytes }) => sum + uncompressedBytes, 0),
      usual: manifest.usualBytes,
      safety: manifest.purpose !== undefined,
      // What cannot be read is no reason to remove anything, and none to make no backup.
      verdict: await readVerdict(directory, name).catch((error: unknown) => ({ green: false, reason: reasonOf(error) })),
      pinned: beside.has(name + PIN),
      accepted: beside.has(name + ACCEPTED),
    });
  }
  return candidates;
}

/** Removes generations, each renamed first: one that is half removed has no generation's name. What a drill said of it goes after it. */
export async function removeGenerations(
  directory: string,
  names: readonly string[],
  signal: AbortSignal,
  log: (message: string) => void,
): Promise<void> {
  for (const name of names) {
    signal.throwIfAborted();
    log(`removing generation ${name}`);
    await rename(join(directory, name), join(directory, DELETING + name));
    await rm(join(directory, DELETING + name), { recursive: true, force: true });
    await rm(join(directory, name + VERDICT), { force: true });
  }
}

/** Removes the verdicts on generations that are gone, and what is left of verdicts that were never written. */
export async function removeStrayVerdicts(directory: string, serverTime: number): Promise<void> {
  const entries = new Set(await readdir(directory));
  for (const entry of entries) {
    if (!entry.endsWith(VERDICT)) continue;
    const hidden = entry.startsWith(".");
    const generation = entry.slice(hidden ? 1 : 0, -VERDICT.length);
    if (timeOf(generation) === undefined) continue;
    const stray = hidden ? await isOlder(join(directory, entry), serverTime - WRITING_MS) : !entries.has(generation);
    if (stray) await rm(join(directory, entry), { force: true });
  }
}

/** What is gone meanwhile is not. */
async function isOlder(path: string, time: number): Promise<boolean> {
  const { mtimeMs } = await stat(path).catch(() => ({ mtimeMs: time }));
  return mtimeMs < time;
}
