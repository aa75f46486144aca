import { readFileSync } from "node:fs";
import { join } from "node:path";
import { Fn } from "cdktf";
import * as fc from "fast-check";
import { parseCron } from "../../lib/cron";
import { Schedule } from "../../lib/schedule";
import { TimeZone } from "../../lib/time-zone";

/** What Kubernetes' own libraries answer; see the README beside the file. */
const kubernetes = JSON.parse(readFileSync(join(__dirname, "data/kubernetes.json"), "utf8")) as {
  readonly expressions: readonly (readonly [expression: string, accepted: boolean])[];
  readonly runs: readonly (readonly [expression: string, timeZone: string, after: readonly number[], runs: readonly (number | null)[]])[];
};

const HOUR = 3600_000;
const DAY = 24 * HOUR;
const WINDOW_END = Date.UTC(2052, 0, 1);
const BEFORE_WINDOW = new Date(Date.UTC(2024, 0, 1) - 1000);

/** A field of a cron expression together with what it means, made meaning first. */
interface Field {
  readonly text: string;
  readonly values: ReadonlySet<number>;
  readonly star: boolean;
}

function anyField(min: number, max: number, starWeight: number): fc.Arbitrary<Field> {
  const value = fc.integer({ min, max });
  const span = (from: number, to: number, step: number): number[] =>
    Array.from({ length: max + 1 }, (_, each) => each).filter((each) => each >= from && each <= to && (each - from) % step === 0);
  const step = fc.constantFrom(2, 3, 5, 15);
  const part: fc.Arbitrary<readonly [string, readonly number[]]> = fc.oneof(
    value.map((each) => [`${each}`, [each]] as const),
    fc.tuple(value, value).map(([a, b]) => [`${Math.min(a, b)}-${Math.max(a, b)}`, span(Math.min(a, b), Math.max(a, b), 1)] as const),
    fc.tuple(value, step).map(([a, n]) => [`${a}/${n}`, span(a, max, n)] as const),
    step.map((n) => [`*/${n}`, span(min, max, n)] as const),
  );
  const list = fc.array(part, { minLength: 1, maxLength: 3 }).map((parts) => ({
    text: parts.map(([text]) => text).join(","),
    values: new Set(parts.flatMap(([, values]) => values)),
    star: false,
  }));
  const star = fc.constantFrom("*", "?", "*/1").map((text) => ({ text, values: new Set(span(min, max, 1)), star: true }));
  return fc.oneof({ weight: starWeight, arbitrary: star }, { weight: 10 - starWeight, arbitrary: list });
}

const anyExpression = fc.tuple(anyField(0, 59, 1), anyField(0, 23, 2), anyField(1, 31, 5), anyField(1, 12, 8), anyField(0, 6, 5));
const sparseExpression = fc.tuple(
  fc.integer({ min: 0, max: 59 }).map(String),
  fc.constantFrom("0", "1", "2", "3", "12", "23", "1,2", "*/12"),
  anyField(1, 31, 5).map(({ text }) => text),
  anyField(1, 12, 5).map(({ text }) => text),
  anyField(0, 6, 5).map(({ text }) => text),
);

/** Every minute of a stretch of time with what a wall clock shows, straight from Intl. */
interface Minute {
  readonly instant: number;
  readonly fields: readonly [minute: number, hour: number, day: number, month: number, weekday: number];
}

function wallClock(timeZone: string, from: number, to: number): readonly Minute[] {
  const format = new Intl.DateTimeFormat("en-US", {
    timeZone, hourCycle: "h23", minute: "numeric", hour: "numeric", day: "numeric", month: "numeric", weekday: "short",
  });
  const minutes: Minute[] = [];
  // Offsets are whole quarters of an hour, so that one look a quarter is enough.
  for (let quarter = from; quarter < to; quarter += HOUR / 4) {
    const shown = Object.fromEntries(format.formatToParts(quarter).map(({ type, value }) => [type, value]));
    const weekday = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"].indexOf(shown.weekday ?? "");
    for (let minute = 0; minute < 15; minute++) {
      const fields = [Number(shown.minute) + minute, Number(shown.hour), Number(shown.day), Number(shown.month), weekday] as const;
      minutes.push({ instant: quarter + minute * 60_000, fields });
    }
  }
  return minutes;
}

type Fields = readonly [minutes: Field, hours: Field, days: Field, months: Field, weekdays: Field];

function runsByBruteForce(clock: readonly Minute[], [minutes, hours, days, months, weekdays]: Fields): number[] {
  return clock
    .filter(({ fields: [minute, hour, day, month, weekday] }) => {
      if (!minutes.values.has(minute) || !hours.values.has(hour) || !months.values.has(month)) return false;
      const [dayMatches, weekdayMatches] = [days.values.has(day), weekdays.values.has(weekday)];
      return days.star || weekdays.star ? dayMatches && weekdayMatches : dayMatches || weekdayMatches;
    })
    .map(({ instant }) => instant);
}

/** The runs after `after` until before `to`, which may be none. */
function runsBetween(schedule: Schedule, after: number, to: number): number[] {
  const runs: number[] = [];
  for (let run = schedule.next(new Date(after)); run.getTime() < to; run = schedule.next(run)) runs.push(run.getTime());
  return runs;
}

describe("the cron dialect", () => {
  test.each(kubernetes.expressions)("Kubernetes' answer to %j is ours: %s", (expression, accepted) => {
    expect(typeof parseCron(expression) !== "string").toBe(accepted);
  });

  test("a step of 2 or more is a restriction, so that either day field is enough", () => {
    const days = (expression: string): string[] =>
      Schedule.cron(expression).nextRuns(new Date("2026-02-28T12:00:00Z"), 4).map((run) => run.toISOString().slice(0, 10));
    expect(days("0 0 */10 * 0")).toEqual(["2026-03-01", "2026-03-08", "2026-03-11", "2026-03-15"]);
    expect(days("0 0 */1 * 0")).toEqual(["2026-03-01", "2026-03-08", "2026-03-15", "2026-03-22"]);
    expect(days("0 0 1,11,21,31,* * 0")).toEqual(["2026-03-01", "2026-03-08", "2026-03-15", "2026-03-22"]);
  });
});

describe("runs", () => {
  test("are those that Kubernetes' own library computes, in every kind of zone and around changes of the clock", () => {
    const wrong = kubernetes.runs.flatMap(([expression, timeZone, after, expected]) => {
      if (expected.every((run) => run === null)) return [];
      const schedule = Schedule.cron(expression, { timeZone });
      const runs = after.map((instant) => schedule.next(new Date(instant * 1000)).getTime() / 1000);
      return runs.every((run, index) => run === expected[index]) ? [] : [{ expression, timeZone, after, expected, runs }];
    });
    expect(wrong).toEqual([]);
    expect(kubernetes.runs.length).toBeGreaterThan(300);
  });

  test("are null in Kubernetes' library where our schedule is refused as one that never runs", () => {
    const never = kubernetes.runs.filter(([, , , runs]) => runs.includes(null));
    expect(never.length).toBeGreaterThan(0);
    for (const [expression, timeZone] of never) {
      expect(() => Schedule.cron(expression, { timeZone })).toThrow("a cron expression that runs");
    }
  });

  test.each([
    ["Etc/UTC", "2026-02-25"],
    ["Asia/Kathmandu", "2027-12-29"],
    ["Europe/London", "2026-03-26"],
    ["Europe/London", "2026-10-22"],
    ["Europe/London", "2026-06-28"],
    ["America/New_York", "2026-03-05"],
    ["America/New_York", "2026-10-29"],
    ["Australia/Sydney", "2026-10-01"],
    ["Australia/Sydney", "2026-04-02"],
  ])("equal a search minute by minute in %s from %s", (timeZone, start) => {
    const from = Date.parse(`${start}T00:00:00Z`);
    const to = from + 6 * DAY;
    const clock = wallClock(timeZone, from, to);
    fc.assert(
      fc.property(anyExpression, (fields) => {
        const expression = fields.map(({ text }) => text).join(" ");
        fc.pre(parsesToARun(expression));
        expect(runsBetween(Schedule.cron(expression, { timeZone }), from - 1, to)).toEqual(runsByBruteForce(clock, fields));
      }),
      { numRuns: 20, seed: 1 },
    );
  });

  test("a time that the clock skips is not run, and one that it repeats is run twice", () => {
    const schedule = Schedule.cron("30 1 * * *", { timeZone: "Europe/London" });
    expect(schedule.nextRuns(new Date("2026-03-28T00:00:00Z"), 2).map(iso)).toEqual(["2026-03-28T01:30Z", "2026-03-30T00:30Z"]);
    expect(schedule.nextRuns(new Date("2026-10-25T00:00:00Z"), 2).map(iso)).toEqual(["2026-10-25T00:30Z", "2026-10-25T01:30Z"]);
  });

  test("come after the given time, to the second", () => {
    const schedule = Schedule.cron("0 0 * * *");
    expect(schedule.next(new Date("2026-01-01T00:00:00.000Z")).toISOString()).toBe("2026-01-02T00:00:00.000Z");
    expect(schedule.next(new Date("2026-01-01T23:59:59.999Z")).toISOString()).toBe("2026-01-02T00:00:00.000Z");
    expect(schedule.nextRuns(new Date("2026-01-01T00:00:00Z"), 0)).toEqual([]);
  });

  test("@every counts from the run before", () => {
    const schedule = Schedule.cron("@every 1h30m", { timeZone: "Europe/London" });
    expect(schedule.nextRuns(new Date("2026-03-29T00:10:20.7Z"), 2).map((run) => run.toISOString())).toEqual([
      "2026-03-29T01:40:20.000Z",
      "2026-03-29T03:10:20.000Z",
    ]);
  });

  test("end where a zone leaves out a whole day and Kubernetes' library would search for ever", () => {
    const schedule = Schedule.cron("0 16 1-3 * *", { timeZone: "Pacific/Apia" });
    expect(iso(schedule.next(new Date("2011-12-29T00:15:07Z")))).toBe("2012-01-01T02:00Z");
  });

  test("fails when there is none within five years, and for an invalid date", () => {
    const leapDay = Schedule.cron("0 0 29 2 *");
    expect(iso(leapDay.next(new Date("2026-01-01T00:00:00Z")))).toBe("2028-02-29T00:00Z");
    expect(() => leapDay.next(new Date("2097-01-01T00:00:00Z"))).toThrow(
      "no run of '0 0 29 2 *' follows 2097-01-01T00:00:00.000Z within 5 years",
    );
    expect(() => leapDay.next(new Date("today"))).toThrow("'after' must be a valid date");
  });
});

describe("the longest gap", () => {
  test.each([
    ["0 0 * * *", "Etc/UTC", "24h"],
    ["30 1 * * *", "Europe/London", "47h"],
    ["0 0 * * *", "Europe/London", "25h"],
    ["0 */6 * * *", "Etc/UTC", "6h"],
    ["0 */6 * * *", "Europe/London", "7h"],
    ["0 1 * * 0", "Etc/UTC", "7d"],
    ["0 1 * * 0", "Europe/London", "335h"],
    ["0 0 1 * *", "Etc/UTC", "31d"],
    ["0 4 1-7 * 0", "Etc/UTC", "7d"],
    ["* * * * *", "America/New_York", "1m"],
    ["*/7 * * * *", "Etc/UTC", "7m"],
    ["0 9,17 * * 1-5", "Etc/UTC", "64h"],
    ["0 0 1 1,8 *", "Europe/London", "5111h"],
    ["0 0 29 2 *", "Etc/UTC", "1461d"],
    ["0 2 * * *", "Australia/Lord_Howe", "48h30m"],
    ["30 23 */2 * *", "America/Nuuk", "95h"],
    ["@yearly", "Etc/UTC", "366d"],
    ["@every 90m", "Europe/London", "1h30m"],
  ])("of %s in %s is %s", (expression, timeZone, gap) => {
    expect(Schedule.cron(expression, { timeZone }).longestGap().toHuman()).toBe(gap);
  });

  test.each(["Etc/UTC", "Europe/London", "America/Santiago"])("is the longest of all gaps, run by run, in %s", (timeZone) => {
    fc.assert(
      fc.property(sparseExpression, (fields) => {
        const expression = fields.join(" ");
        fc.pre(parsesToARun(expression));
        const schedule = Schedule.cron(expression, { timeZone });
        let [run, longest] = [schedule.next(BEFORE_WINDOW), 0];
        while (run.getTime() < WINDOW_END) {
          const next = schedule.next(run);
          longest = Math.max(longest, next.getTime() - run.getTime());
          run = next;
        }
        expect([expression, schedule.longestGap().toSeconds()]).toEqual([expression, longest / 1000]);
      }),
      { numRuns: 5, seed: 7 },
    );
  });

  test("does not depend on what was asked before", () => {
    const schedules = [Schedule.cron("0 4 * * 0"), Schedule.firstSunday({ hour: 4, minute: 0 })];
    const gaps = (): string[] => schedules.map((schedule) => schedule.longestGap().toHuman());
    expect([gaps(), gaps()]).toEqual([["7d", "35d"], ["7d", "35d"]]);
  });
});

describe("the first Sunday", () => {
  const firstSundays = (year: number): string[] =>
    Array.from({ length: 12 }, (_, month) => {
      const first = new Date(Date.UTC(year, month, 1));
      return new Date(first.getTime() + ((7 - first.getUTCDay()) % 7) * DAY + 4 * HOUR).toISOString();
    });

  test("comes twelve times a year, on the right days, for a hundred years", () => {
    const schedule = Schedule.firstSunday({ hour: 4, minute: 0 });
    const runs = runsBetween(schedule, Date.UTC(2000, 0, 1), Date.UTC(2100, 0, 1)).map((run) => new Date(run).toISOString());
    expect(runs).toEqual(Array.from({ length: 100 }, (_, index) => firstSundays(2000 + index)).flat());
    expect(runs).toHaveLength(1200);
  });

  test("comes twelve times a year where the clock changes too", () => {
    const schedule = Schedule.firstSunday({ hour: 4, minute: 30, timeZone: "Australia/Sydney" });
    for (let year = 2024; year < 2052; year++) {
      const zone = Date.UTC(year, 0, 1) - 11 * HOUR;
      expect(runsBetween(schedule, zone, Date.UTC(year + 1, 0, 1) - 11 * HOUR)).toHaveLength(12);
    }
  });

  test("is at most 35 days after the one before", () => {
    expect(Schedule.firstSunday({ hour: 4, minute: 0 }).longestGap().toHuman()).toBe("35d");
    expect(Schedule.firstSunday({ hour: 4, minute: 0, timeZone: "Europe/London" }).longestGap().toHuman()).toBe("841h");
  });

  test("is a weekly CronJob and a last day of the month", () => {
    const { expression, timeZone, lastDayOfMonth } = Schedule.firstSunday({ hour: 4, minute: 5, timeZone: "Europe/London" });
    expect({ expression, timeZone, lastDayOfMonth }).toEqual({ expression: "5 4 * * 0", timeZone: "Europe/London", lastDayOfMonth: 7 });
    expect(Schedule.cron("5 4 * * 0").lastDayOfMonth).toBeUndefined();
  });
});

describe("the description", () => {
  test.each([
    ["0 0 * * *", "at 00:00 every day (Etc/UTC)"],
    ["30 0 1 * *", "at 00:30 on day 1 of the month (Etc/UTC)"],
    ["0 1 * * 0", "at 01:00 on Sunday (Etc/UTC)"],
    ["5 22 * * mon-wed", "at 22:05 on Monday, Tuesday, Wednesday (Etc/UTC)"],
    ["0 */6 * * *", "at 00:00, 06:00, 12:00, 18:00 every day (Etc/UTC)"],
    ["17 * * * *", "every hour at minute 17 every day (Etc/UTC)"],
    ["@every 6h", "every 6h (Etc/UTC)"],
    ["*/5 * * * *", "cron '*/5 * * * *' (Etc/UTC)"],
    ["0 0 1 1 *", "cron '0 0 1 1 *' (Etc/UTC)"],
    ["0 0 1 * 0", "cron '0 0 1 * 0' (Etc/UTC)"],
  ])("of %s is: %s", (expression, description) => {
    expect(Schedule.cron(expression).describe()).toBe(description);
    expect(String(Schedule.cron(expression))).toBe(description);
  });

  test("of the first Sunday names it", () => {
    expect(Schedule.firstSunday({ hour: 4, minute: 0 }).describe()).toBe("at 04:00 on the first Sunday of the month (Etc/UTC)");
  });
});

describe("time zones", () => {
  test("every zone that Intl lists is one", () => {
    expect(Intl.supportedValuesOf("timeZone").filter((name) => TimeZone.find(name) === undefined)).toEqual([]);
  });

  test.each([
    "Etc/UTC", "UTC", "Etc/GMT+5", "Asia/Kolkata", "Asia/Calcutta", "US/Pacific", "America/Argentina/Buenos_Aires",
    "America/Port-au-Prince", "EST5EDT", "GB-Eire",
  ])("%s is one", (name) => {
    expect(TimeZone.find(name)?.name).toBe(name);
  });

  test.each([
    "", "Local", "local", "utc", "europe/london", "Europe/london", "Europe/LONDON", "ASIA/KOLKATA", "PST", "IST", "+01:00", "GMT+5",
    "SystemV/PST8", "Europe/Nowhere", "Etc/Unknown", " Etc/UTC",
  ])("refuses %j", (name) => {
    expect(TimeZone.find(name)).toBeUndefined();
  });

  test("clocks show what Intl shows", () => {
    const instant = fc.integer({ min: Date.UTC(1970, 0, 1) / 1000, max: Date.UTC(2060, 0, 1) / 1000 });
    const zone = fc.constantFrom("Etc/UTC", "Europe/London", "America/St_Johns", "Africa/Casablanca", "Pacific/Apia", "Africa/Monrovia");
    fc.assert(
      fc.property(zone, instant, (name, seconds) => {
        const shown = new Intl.DateTimeFormat("sv-SE", { timeZone: name, dateStyle: "short", timeStyle: "medium" }).format(seconds * 1000);
        expect(TimeZone.find(name)?.clock(seconds).toISOString().slice(0, 19).replace("T", " ")).toBe(shown);
      }),
      { numRuns: 300, seed: 3 },
    );
  });
});

test("refuses an expression that only Terraform would know", () => {
  const token = Fn.upper("x") as string;
  expect(() => Schedule.cron(token)).toThrow("'expression' must be text that is known before Terraform runs");
  expect(() => Schedule.cron("@daily", { timeZone: token })).toThrow("'timeZone' must be an IANA time zone");
  expect(() => Schedule.firstSunday({ hour: Fn.abs(1) as number, minute: 0 })).toThrow("'hour' must be a whole number from 0 to 23");
});

function iso(run: Date): string {
  return run.toISOString().replace(":00.000Z", "Z");
}

/** Whether an expression names a day that exists; others are refused, which has its own test. */
function parsesToARun(expression: string): boolean {
  try {
    Schedule.cron(expression);
    return true;
  } catch {
    return false;
  }
}
