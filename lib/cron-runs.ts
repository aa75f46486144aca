import type { CronFields } from "./cron";
import type { TimeZone } from "./time-zone";

const DAY = 86_400;
/** Beyond this many years Kubernetes gives up looking for a run. */
const YEARS_AHEAD = 5;
/**
 * Weekdays and leap years repeat every 28 years between 1901 and 2099, so that 28 of them hold every gap that a schedule has.
 * The window is fixed: what is synthesised must not depend on the day of the synthesis.
 */
const WINDOW_START = Date.UTC(2024, 0, 1) / 1000;
const WINDOW_END = Date.UTC(2024 + 28, 0, 1) / 1000;

/** When something runs. */
export interface Timetable {
  readonly fields: CronFields;
  readonly zone: TimeZone;
  /** Runs on later days of the month do not count; 31 = all do. */
  readonly lastDayOfMonth: number;
}

/**
 * The first run after `after`; seconds since 1970. Undefined where there is none within five years.
 *
 * Follows github.com/robfig/cron v3, which Kubernetes uses, also where clocks change: a time that does not exist is skipped,
 * and one that exists twice runs twice.
 */
export function nextRun(timetable: Timetable, after: number): number | undefined {
  let run = nextCronRun(timetable, after);
  while (run !== undefined && timetable.zone.clock(run).getUTCDate() > timetable.lastDayOfMonth) run = nextCronRun(timetable, run);
  return run;
}

/** The first run of the window in which gaps are measured; undefined where a schedule never runs. */
export function firstRun(timetable: Timetable): number | undefined {
  return nextRun(timetable, WINDOW_START - 1);
}

/** Whether every month of the window has exactly one run. */
export function runsOnceAMonth(timetable: Timetable): boolean {
  let run = firstRun(timetable);
  for (let month = 0; month < 12 * 28; month++) {
    const clock = run === undefined ? undefined : timetable.zone.clock(run);
    if (run === undefined || clock?.getUTCMonth() !== month % 12) return false;
    run = nextRun(timetable, run);
  }
  return true;
}

/** The longest time in seconds between two consecutive runs in the 28 years from 2024; undefined where there is no run. */
export function longestGap(timetable: Timetable): number | undefined {
  const times = timesOfDay(timetable.fields);
  const [firstTime, lastTime] = [times[0], times.at(-1)];
  let run = firstRun(timetable);
  if (run === undefined || firstTime === undefined || lastTime === undefined) return undefined;
  const withinDay = Math.max(0, ...times.slice(1).map((time, index) => time - (times[index] ?? 0)));
  const { firstDay, isRunDay } = runDays(timetable);

  let longest = 0;
  for (const { from, to, offset } of steadyDays(timetable.zone)) {
    // Runs are looked up one by one until the clock is steady and a day begins.
    while (run < WINDOW_END && (run + offset < from * DAY || (run + offset) % DAY !== firstTime)) {
      const next = nextRun(timetable, run);
      if (next === undefined) return longest;
      longest = Math.max(longest, next - run);
      run = next;
    }
    // From there on, days are alike.
    for (let day = Math.floor((run + offset) / DAY); day < to; day++) {
      if (isRunDay[day - firstDay] !== 1) continue;
      const start = day * DAY - offset;
      longest = Math.max(longest, start + firstTime - run, withinDay);
      run = start + lastTime;
    }
  }
  const beyond = run < WINDOW_END ? nextRun(timetable, run) : undefined;
  return beyond === undefined ? longest : Math.max(longest, beyond - run);
}

/** Runs of local days, numbered from 1970-01-01, from `from` until before `to`, on which the clock does not change. */
interface SteadyDays {
  readonly from: number;
  readonly to: number;
  readonly offset: number;
}

function steadyDays(zone: TimeZone): readonly SteadyDays[] {
  const steady: SteadyDays[] = [];
  let from = WINDOW_START / DAY;
  let { offset } = zone.at(WINDOW_START);
  for (const change of zone.changes(WINDOW_START, WINDOW_END)) {
    const after = zone.at(change).offset;
    // The change may move the clock across midnight: both days are touched then.
    const days = [Math.floor((change - 1 + offset) / DAY), Math.floor((change + after) / DAY)];
    steady.push({ from, to: Math.min(...days), offset });
    from = Math.max(...days) + 1;
    offset = after;
  }
  return [...steady, { from, to: WINDOW_END / DAY, offset }];
}

function nextCronRun({ fields, zone }: Timetable, after: number): number | undefined {
  const { minutes, hours, months } = fields;
  let instant = Math.floor(after) + 1;
  let clock = zone.clock(instant);
  const lastYear = clock.getUTCFullYear() + YEARS_AHEAD;
  // Whether the clock still shows the fields of `after`; the smaller ones are reset when a field is first moved on.
  let untouched = true;
  const moveTo = (moved: number): void => {
    untouched = false;
    instant = moved;
    clock = zone.clock(instant);
  };
  const setDate = (month: number, day: number): void =>
    moveTo(zone.instant(clock.getUTCFullYear(), month, day, clock.getUTCHours(), clock.getUTCMinutes(), clock.getUTCSeconds()));

  // Each field is moved on until it matches. Where a field wraps around, the larger ones are looked at again.
  search: while (clock.getUTCFullYear() <= lastYear) {
    while (months[clock.getUTCMonth() + 1] !== 1) {
      if (untouched) moveTo(zone.instant(clock.getUTCFullYear(), clock.getUTCMonth(), 1));
      setDate(clock.getUTCMonth() + 1, clock.getUTCDate());
      if (clock.getUTCMonth() === 0) continue search;
    }
    while (!isRunDay(fields, clock.getUTCDate(), clock.getUTCDay())) {
      if (untouched) moveTo(zone.instant(clock.getUTCFullYear(), clock.getUTCMonth(), clock.getUTCDate()));
      const before = instant;
      setDate(clock.getUTCMonth(), clock.getUTCDate() + 1);
      // Where a zone skips a whole day, upstream never returns.
      if (instant <= before) moveTo(before + DAY);
      // Where midnight does not exist, the clock stands an hour beside it.
      const hour = clock.getUTCHours();
      if (hour !== 0) moveTo(instant + (hour > 12 ? 24 - hour : -hour) * 3600);
      if (clock.getUTCDate() === 1) continue search;
    }
    while (hours[clock.getUTCHours()] !== 1) {
      if (untouched) moveTo(zone.instant(clock.getUTCFullYear(), clock.getUTCMonth(), clock.getUTCDate(), clock.getUTCHours()));
      moveTo(instant + 3600);
      if (clock.getUTCHours() === 0) continue search;
    }
    while (minutes[clock.getUTCMinutes()] !== 1) {
      moveTo(instant - (untouched ? instant % 60 : 0) + 60);
      if (clock.getUTCMinutes() === 0) continue search;
    }
    if (clock.getUTCSeconds() === 0) return instant;
    moveTo(instant + 60 - clock.getUTCSeconds());
  }
  return undefined;
}

/** Where both day fields are restricted, one of them is enough. */
function isRunDay(fields: CronFields, day: number, weekday: number): boolean {
  const dayMatches = fields.daysOfMonth[day] === 1;
  const weekdayMatches = fields.daysOfWeek[weekday] === 1;
  return fields.bothDays ? dayMatches && weekdayMatches : dayMatches || weekdayMatches;
}

/** The seconds of a day at which something runs, in order. */
function timesOfDay({ hours, minutes }: CronFields): readonly number[] {
  const times: number[] = [];
  for (const [hour, isRunHour] of hours.entries()) {
    for (const [minute, isRunMinute] of minutes.entries()) {
      if (isRunHour === 1 && isRunMinute === 1) times.push(hour * 3600 + minute * 60);
    }
  }
  return times;
}

interface WindowDays {
  readonly firstDay: number;
  readonly daysOfMonth: Uint8Array;
  readonly months: Uint8Array;
  readonly weekdays: Uint8Array;
}

let windowDays: WindowDays | undefined;

/** The dates of the window, computed once for all schedules. */
function getWindowDays(): WindowDays {
  if (windowDays === undefined) {
    const firstDay = WINDOW_START / DAY;
    const dates = Array.from({ length: WINDOW_END / DAY - firstDay }, (_, index) => new Date((firstDay + index) * DAY * 1000));
    windowDays = {
      firstDay,
      daysOfMonth: Uint8Array.from(dates, (date) => date.getUTCDate()),
      months: Uint8Array.from(dates, (date) => date.getUTCMonth() + 1),
      weekdays: Uint8Array.from(dates, (date) => date.getUTCDay()),
    };
  }
  return windowDays;
}

function runDays({ fields, lastDayOfMonth }: Timetable): { readonly firstDay: number; readonly isRunDay: Uint8Array } {
  const { firstDay, daysOfMonth, months, weekdays } = getWindowDays();
  const runs = daysOfMonth.map((day, index) => {
    const inMonth = day <= lastDayOfMonth && fields.months[months[index] ?? 0] === 1;
    return inMonth && isRunDay(fields, day, weekdays[index] ?? 0) ? 1 : 0;
  });
  return { firstDay, isRunDay: runs };
}
