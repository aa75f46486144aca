import { Duration } from "../../lib/duration";
import type { Schedule } from "../../lib/schedule";

/** A fixed day, as what is synthesised must not depend on the day of the synthesis. */
const START = new Date(Date.UTC(2024, 0, 1));
/** Enough for a day of hourly runs and for half a year of weekly ones; more would be felt with a thousand schedules. */
const RUNS = 32;
const cache = new Map<string, Duration>();

/** The shortest time between two consecutive runs of a CronJob, among the first 32 from a fixed day on. */
export function shortestGap(schedule: Schedule): Duration {
  const key = `${schedule.timeZone} ${schedule.lastDayOfMonth ?? 31} ${schedule.expression}`;
  let gap = cache.get(key);
  if (gap === undefined) {
    const runs = schedule.nextRuns(START, RUNS).map((run) => run.getTime() / 1000);
    gap = Duration.seconds(Math.min(...runs.slice(1).map((run, index) => run - (runs[index] ?? 0))));
    cache.set(key, gap);
  }
  return gap;
}
