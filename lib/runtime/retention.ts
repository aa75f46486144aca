import type { Generation } from "./generation";
import { humanBytes } from "./progress";
import type { RetentionSettings } from "./settings";

const DAY_MS = 86_400_000;
/** What is further ahead is from the future; less is two clocks that differ a little. */
const AHEAD_MS = 3_600_000;
/** How many generations tell what size is usual: a week of daily ones. */
const USUAL = 7;

/** Suffix of a file beside a generation that keeps it for ever. */
export const PIN = ".pin";
/** Suffix of a file beside a generation by which a person says that its size is right. */
export const ACCEPTED = ".accepted";

/** What the retention knows of a generation. */
export interface Candidate extends Pick<Generation, "name" | "time"> {
  /** Bytes of what is in it, not of what it takes on the target. */
  readonly size: number;
  /** The size that was usual when it was made, see {@link usualSize}; absent where it was the first. */
  readonly usual?: number;
  /** Whether it is what a restore put aside, and no backup of the schedule's. */
  readonly safety: boolean;
  /** What its drill found; absent where it was never drilled. */
  readonly verdict?: { readonly green: boolean; readonly reason?: string };
  readonly pinned: boolean;
  /** Whether a person said that its size is right. */
  readonly accepted: boolean;
}

/** What a run of the retention does. */
export interface RetentionPlan {
  /** Why nothing at all is removed; absent where the rule is applied. */
  readonly frozen?: string;
  /** Every generation, oldest first. */
  readonly decisions: readonly Decision[];
}

/** What becomes of one generation, and why. */
export interface Decision {
  readonly name: string;
  readonly remove: boolean;
  readonly why: string;
}

/**
 * A generation goes once `keepLast` proven ones are newer, and it is older than `keepDays`. So the last proven ones always stay, and
 * where there are fewer, everything does. Whatever is dated in the future stays, and proves nothing: it was made under a wrong clock, so
 * its age is unknown, and it must not take the place of one of the last.
 *
 * @param generations valid ones only, in any order; ordered here by name, never by a file's time
 * @param now milliseconds; the earliest of the clocks that can be asked, because an early clock keeps more
 */
export function planRetention(generations: readonly Candidate[], settings: RetentionSettings, now: number): RetentionPlan {
  const sorted = ordered(generations);
  const frozen = whyFrozen(sorted.filter(({ safety }) => !safety), settings, now);
  let room = Math.max(1, Math.floor(sorted.length * settings.removeAtMost));
  const decisions = sorted.map((generation, index): Decision => {
    const { name } = generation;
    const kept = whyKept(generation, sorted.slice(index + 1), settings, now);
    if (kept !== undefined) return { name, remove: false, why: kept };
    if (frozen !== undefined) return { name, remove: false, why: "nothing is removed now" };
    if (room > 0) {
      room--;
      return { name, remove: true, why: whyRemoved(settings) };
    }
    return { name, remove: false, why: "others go first, so that no run removes too many" };
  });
  return { frozen, decisions };
}

function whyKept(generation: Candidate, newer: readonly Candidate[], settings: RetentionSettings, now: number): string | undefined {
  const { keepDays, keepLast } = settings;
  if (generation.pinned) return "pinned";
  if (generation.time > now + AHEAD_MS) return "dated in the future";
  if (keepDays !== undefined && now - generation.time <= keepDays * DAY_MS) return `younger than ${keepDays} d`;
  const proven = newer.filter((other) => isProven(other, settings, now)).length;
  return proven >= Math.max(keepLast, 1) ? undefined : `only ${proven} of ${keepLast} proven generations are newer`;
}

function whyRemoved({ keepDays, keepLast }: RetentionSettings): string {
  const newer = `${keepLast} proven generations are newer`;
  return keepDays === undefined ? newer : `older than ${keepDays} d, and ${newer}`;
}

function isProven({ time, safety, verdict }: Candidate, { proof }: RetentionSettings, now: number): boolean {
  if (safety || time > now + AHEAD_MS) return false;
  return proof === "verification" || verdict?.green === true;
}

/** @param own the schedule's generations, oldest first */
function whyFrozen(own: readonly Candidate[], { proof, freezeBelow }: RetentionSettings, now: number): string | undefined {
  const drilled = own.findLast(({ verdict }) => verdict !== undefined);
  if (proof === "drill" && drilled?.verdict?.green === false) {
    return `the drill of ${drilled.name} failed: ${drilled.verdict.reason ?? "it did not say why"}`;
  }
  const newest = own.findLast(({ time }) => time <= now + AHEAD_MS);
  if (newest?.usual === undefined || !isSmall(newest, freezeBelow)) return undefined;
  const { name, size, usual } = newest;
  const found = `${name} has ${humanBytes(size)}, and ${humanBytes(usual)} were usual`;
  return `${found}; if that is right, make the file ${name}${ACCEPTED} beside it`;
}

/** By what was usual when it was made: what was before it may be gone by now. */
function isSmall({ size, usual, accepted }: Candidate, freezeBelow: number): boolean {
  return usual !== undefined && !accepted && size < usual * freezeBelow;
}

/**
 * The size that the next generation is measured by: the median of the last seven, or of those since a person last said that one is
 * right. Those that shrank do not count: else a week of empty dumps would be usual.
 *
 * @param generations as for {@link planRetention}
 * @returns undefined where there is none to measure by
 */
export function usualSize(generations: readonly Candidate[], { freezeBelow }: RetentionSettings, now: number): number | undefined {
  const own = ordered(generations).filter(({ safety, time }) => !safety && time <= now + AHEAD_MS);
  const since = own.slice(Math.max(0, own.findLastIndex(({ accepted }) => accepted)));
  const sizes = since.filter((generation) => !isSmall(generation, freezeBelow)).map(({ size }) => size);
  const week = sizes.slice(-USUAL).sort((a, b) => a - b);
  // Of two in the middle, the smaller one.
  return week[(week.length - 1) >> 1];
}

function ordered(generations: readonly Candidate[]): Candidate[] {
  return [...generations].sort((a, b) => (a.name < b.name ? -1 : 1));
}
