import { type Candidate, planRetention, usualSize } from "../../lib/runtime/retention";
import type { RetentionSettings } from "../../lib/runtime/settings";

const DAY = 86_400_000;
const START = Date.parse("2025-01-01T00:00:00Z");
const DAYS = 200;
/** Of each kind. */
const SERIES = 250;
const SEED = 20_261_123;
const settings: RetentionSettings = { keepDays: 30, keepLast: 3, proof: "verification", removeAtMost: 0.25, freezeBelow: 0.5 };

/** Numbers from 0 to 1 (mulberry32); the same for the same seed. */
function random(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

type Series = (chance: () => number) => (day: number) => number;

/** Sizes as they come about: each function draws a series' own numbers, and returns its size on a day. */
const USUAL: { readonly [kind: string]: Series } = {
  growth: (chance) => {
    const [perDay, step, after] = [chance() * 0.03, chance() * 4, Math.floor(chance() * DAYS)];
    return (day) => (1 + perDay) ** day * (day >= after ? 1 + step : 1) * (0.9 + 0.2 * chance());
  },
  "a weekly pattern": (chance) => {
    // Weekends down to six tenths of the other days, or a weekly peak of up to ten times.
    const [weekend, peak] = [0.6 + 0.4 * chance(), 1 + 9 * chance()];
    return (day) => (day % 7 > 4 ? weekend : day % 7 === 2 ? peak : 1) * (0.95 + 0.1 * chance());
  },
  "noise and spikes": (chance) => (day) => (day > 0 && chance() < 0.03 ? 2 + 8 * chance() : 1) * (0.75 + 0.5 * chance()),
  "a tidy owner": (chance) => {
    // Grows, and every month is cleaned to between six and nine tenths.
    const [perDay, rest] = [0.005 + chance() * 0.01, 0.6 + 0.3 * chance()];
    return (day) => (1 + perDay) ** day * rest ** Math.floor(day / 30) * (0.95 + 0.1 * chance());
  },
};

/** On which days of a series nothing may be removed, played as the runner does: what a plan removes is gone for the next one. */
function frozenDays(sizeOn: (day: number) => number, days = DAYS): number[] {
  let there: Candidate[] = [];
  const frozen: number[] = [];
  for (let day = 0; day < days; day++) {
    const time = START + day * DAY;
    const name = `${new Date(time).toISOString().replace(/[-:]|\.\d+/g, "")}-00000000`;
    const size = Math.round(1e9 * sizeOn(day));
    there.push({ name, time, size, usual: usualSize(there, settings, time), safety: false, pinned: false, accepted: false });
    const plan = planRetention(there, settings, time);
    if (plan.frozen !== undefined) frozen.push(day);
    const gone = new Set(plan.decisions.filter(({ remove }) => remove).map((decision) => decision.name));
    there = there.filter((generation) => !gone.has(generation.name));
  }
  return frozen;
}

test.each(Object.entries(USUAL))(`${SERIES} series of %s freeze nothing`, (kind, series) => {
  const chance = random(SEED);
  let alarms = 0;
  for (let count = 0; count < SERIES; count++) alarms += frozenDays(series(chance)).length;
  process.stderr.write(`${kind}: ${alarms} false alarms in ${SERIES} series of ${DAYS} days (seed ${SEED})\n`);
  expect(alarms).toBe(0);
});

test.each(Object.entries(USUAL))("of %s, what falls to a fifth freezes at once, and as long as it is so", (kind, series) => {
  const chance = random(SEED);
  let missed = 0;
  for (let count = 0; count < SERIES; count++) {
    const usual = series(chance);
    const since = 20 + Math.floor(chance() * 60);
    // From what is usual: not from the peak of a week, nor one day's spike.
    const after = 0.2 * Math.min(...Array.from({ length: 7 }, (_, day) => usual(since - 1 - day)));
    const frozen = frozenDays((day) => (day < since ? usual(day) : after), since + 40);
    if (frozen.filter((day) => day >= since).length !== 40) missed++;
  }
  process.stderr.write(`${kind}: ${missed} of ${SERIES} falls were missed\n`);
  expect(missed).toBe(0);
});
