import { rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { DELETING, type Generation } from "./generation";
import type { RetentionSettings } from "./settings";

const DAY_MS = 86_400_000;
/** What is further ahead is from the future; less is two clocks that differ a little. */
const AHEAD_MS = 3_600_000;

/**
 * Names of the generations to remove, oldest first.
 *
 * Kept are those younger than `keepDays`, the last `keepLast`, and any that is dated in the future: that one was made
 * under a wrong clock, so its age is unknown, and it must not take the place of one of the last.
 *
 * @param generations valid ones only, in any order; ordered here by name, never by a file's time
 * @param now milliseconds; the earliest of the clocks that can be asked, because an early clock keeps more
 */
export function planRetention(
  generations: readonly Pick<Generation, "name" | "time">[],
  { keepDays, keepLast }: RetentionSettings,
  now: number,
): readonly string[] {
  return generations
    .filter(({ time }) => time <= now + AHEAD_MS)
    .sort((a, b) => (a.name < b.name ? -1 : 1))
    .slice(0, -Math.max(keepLast, 1))
    .filter(({ time }) => keepDays === undefined || now - time > keepDays * DAY_MS)
    .map(({ name }) => name);
}

/** Removes generations, each renamed first: one that is half removed has no generation's name. */
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
  }
}
