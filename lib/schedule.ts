import { DESCRIPTORS, parseCron, WHITE_SPACE, type CronDelay, type CronFields } from "./cron";
import { firstRun, longestGap, nextRun, runsOnceAMonth, type Timetable } from "./cron-runs";
import { Duration } from "./duration";
import { Problems } from "./errors";
import { describeTimes } from "./schedule-text";
import { isToken } from "./terraform-text";
import { TimeZone } from "./time-zone";

const DEFAULT_ZONE = "Etc/UTC";
/** A week: the first Sunday of a month is the one on the 7th or before. */
const FIRST_WEEK = 7;
const MINUTES_A_DAY = 1440;
/** Longest month: every day of a month is on it or before. */
const WHOLE_MONTH = 31;

/** Options of {@link Schedule.cron}. */
export interface ScheduleOptions {
  /** Name of an IANA time zone. @default "Etc/UTC" */
  readonly timeZone?: string;
}

/** Options of {@link Schedule.firstSunday}. */
export interface FirstSundayOptions extends ScheduleOptions {
  /** 0 to 23 */
  readonly hour: number;
  /** 0 to 59 */
  readonly minute: number;
}

const gaps = new Map<string, Duration>();

/**
 * When something runs: a cron expression and a time zone, in exactly the dialect and with exactly the semantics of a
 * Kubernetes CronJob.
 *
 * Worth knowing: where both day of month and day of week are restricted, one of them is enough, and a step of 2 or more is a
 * restriction; a local time that a change of the clock skips is not run that day, and one that it repeats is run twice.
 */
export class Schedule {
  /**
   * @param expression five fields, or `@hourly`, `@daily`, `@midnight`, `@weekly`, `@monthly`, `@yearly`, `@annually`,
   *   `@every <duration>`
   * @throws ValidationError where Kubernetes refuses the expression or the zone, where the expression never runs, and for
   *   `@every` of less than a minute
   */
  public static cron(expression: string, options: ScheduleOptions = {}): Schedule {
    return Schedule.checked(expression, options.timeZone ?? DEFAULT_ZONE);
  }

  /**
   * Twelve runs a year. Cron cannot say this (`1-7 * 0` means the first week and every Sunday), so the CronJob fires every Sunday
   * and the program it starts ends at once where the day of the month is past {@link Schedule.lastDayOfMonth}.
   *
   * @throws ValidationError for an hour or minute that is out of range, and for a time that a change of the clock in the zone
   *   skips or repeats on a first Sunday
   */
  public static firstSunday({ hour, minute, timeZone = DEFAULT_ZONE }: FirstSundayOptions): Schedule {
    const problems = new Problems("Schedule");
    problems.check(isWhole(hour, 23), "hour", hour, "a whole number from 0 to 23");
    problems.check(isWhole(minute, 59), "minute", minute, "a whole number from 0 to 59");
    checkZone(problems, timeZone);
    problems.throwIfAny();
    const schedule = Schedule.checked(`${minute} ${hour} * * 0`, timeZone, FIRST_WEEK);
    if (!isDelay(schedule.runs) && !schedule.runs.zone.isUtc) {
      const allowed = `an hour that no change of the clock in ${timeZone} skips or repeats on a first Sunday`;
      problems.check(runsOnceAMonth(schedule.runs), "hour", hour, allowed);
      problems.throwIfAny();
    }
    return schedule;
  }

  private static checked(expression: string, timeZone: string, lastDayOfMonth?: number): Schedule {
    const problems = new Problems("Schedule");
    const cron = checkExpression(problems, expression);
    const zone = checkZone(problems, timeZone);
    problems.throwIfAny();
    if (cron === undefined || zone === undefined) throw new Error("a problem without a record");
    if (isDelay(cron)) return new Schedule(expression, timeZone, cron);

    const timetable = { fields: cron, zone, lastDayOfMonth: lastDayOfMonth ?? WHOLE_MONTH };
    const allowed = "a cron expression that runs: with a minute, an hour, and a day that exists in a chosen month";
    problems.check(firstRun(timetable) !== undefined, "expression", expression, allowed);
    problems.throwIfAny();
    return new Schedule(expression, timeZone, timetable, lastDayOfMonth);
  }

  private constructor(
    /** As it was given; goes into the CronJob unchanged. */
    public readonly expression: string,
    /** IANA name; goes into the CronJob unchanged. */
    public readonly timeZone: string,
    private readonly runs: Timetable | CronDelay,
    /** Runs on days of the month up to this one only; the program that the CronJob starts sees to it. 7 = first week. */
    public readonly lastDayOfMonth?: number,
  ) {}

  /**
   * The first run after `after`. For `@every` this takes `after` for the run before, as Kubernetes does: its first run depends on
   * when the CronJob was created.
   *
   * @throws RangeError for an invalid date, and where no run follows within five years (29 February in the years before 2100,
   *   which is no leap year)
   */
  public next(after: Date): Date {
    const seconds = Math.floor(after.getTime() / 1000);
    if (Number.isNaN(seconds)) throw new RangeError("'after' must be a valid date");
    const run = isDelay(this.runs) ? seconds + this.runs.everySeconds : nextRun(this.runs, seconds);
    if (run === undefined) throw new RangeError(`no run of '${this.expression}' follows ${after.toISOString()} within 5 years`);
    return new Date(run * 1000);
  }

  /** The first `count` runs after `after`, in order; see {@link Schedule.next}. */
  public nextRuns(after: Date, count: number): Date[] {
    const runs: Date[] = [];
    for (let run = after; runs.length < count; ) {
      run = this.next(run);
      runs.push(run);
    }
    return runs;
  }

  /**
   * The longest time between two consecutive runs in the 28 years from 2024, after which the calendar repeats; changes of the
   * clock count. An alert on the age of the last run must wait longer than this.
   *
   * For `@every` it is the delay: Kubernetes counts it from the scheduled time of the run before, not from that run's end.
   */
  public longestGap(): Duration {
    const key = `${this.timeZone} ${this.lastDayOfMonth ?? WHOLE_MONTH} ${this.expression}`;
    let gap = gaps.get(key);
    if (gap === undefined) {
      gap = Duration.seconds(isDelay(this.runs) ? this.runs.everySeconds : (longestGap(this.runs) ?? 0));
      gaps.set(key, gap);
    }
    return gap;
  }

  /**
   * A run on each day that this schedule has runs on, `by` after the first of them.
   *
   * Undefined where cron cannot say it: `by` leads into the next day and this schedule does not run daily, or it is `@every`.
   */
  public delayed(by: Duration): Schedule | undefined {
    if (isDelay(this.runs)) return undefined;
    const { minutes, hours } = this.runs.fields;
    const at = hours.indexOf(1) * 60 + minutes.indexOf(1) + Math.ceil(by.toSeconds() / 60);
    const text = DESCRIPTORS.get(this.expression) ?? this.expression;
    const days = text.split(WHITE_SPACE).filter((field) => field !== "").slice(2);
    if (at >= MINUTES_A_DAY && (days.some((field) => field !== "*") || this.lastDayOfMonth !== undefined)) return undefined;
    const [minute, hour] = [at % 60, Math.floor(at / 60) % 24];
    return Schedule.checked(`${minute} ${hour} ${days.join(" ")}`, this.timeZone, this.lastDayOfMonth);
  }

  /** The schedule in words: `at 01:00 on Sunday (Etc/UTC)`; the expression itself where words would not be clearer. */
  public describe(): string {
    const words = isDelay(this.runs)
      ? `every ${Duration.seconds(this.runs.everySeconds).toHuman()}`
      : describeTimes(this.runs.fields, this.lastDayOfMonth);
    return `${words ?? `cron '${this.expression}'`} (${this.timeZone})`;
  }

  public toString(): string {
    return this.describe();
  }
}

function isDelay(runs: Timetable | CronFields | CronDelay): runs is CronDelay {
  return "everySeconds" in runs;
}

function isWhole(value: number, max: number): boolean {
  return Number.isInteger(value) && value >= 0 && value <= max;
}

function checkExpression(problems: Problems, expression: string): CronFields | CronDelay | undefined {
  const known = typeof expression === "string" && !isToken(expression);
  const parsed = known ? parseCron(expression) : "text that is known before Terraform runs";
  if (typeof parsed === "string") {
    problems.check(false, "expression", expression, parsed);
    return undefined;
  }
  const ok = !isDelay(parsed) || parsed.everySeconds >= 60;
  problems.check(ok, "expression", expression, "'@every' with 1m or more");
  return parsed;
}

function checkZone(problems: Problems, timeZone: string): TimeZone | undefined {
  const zone = typeof timeZone === "string" ? TimeZone.find(timeZone) : undefined;
  problems.check(zone !== undefined, "timeZone", timeZone, 'an IANA time zone in its exact spelling, such as "Etc/UTC" or "Europe/London"');
  return zone;
}
