/** A stretch of time with one offset from UTC. All numbers are seconds; `from` and `to` are seconds since 1970. */
export interface OffsetInterval {
  readonly from: number;
  /** The first second that no longer belongs to it. */
  readonly to: number;
  /** What local clocks are ahead of UTC. */
  readonly offset: number;
}

const DAY = 86_400;
/** Offsets are looked up a year at a time. */
const CHUNK = 366 * DAY;
/** No zone has changed its clock twice within a week since 1970, so one look a week misses nothing. */
const PROBE = 7 * DAY;

/** The areas of the IANA time zone database, and the names that stand outside them. */
const AREAS = "Africa|America|Antarctica|Arctic|Asia|Atlantic|Australia|Brazil|Canada|Chile|Etc|Europe|Indian|Mexico|Pacific|US";
const AREA_NAME = new RegExp(`^(?:${AREAS})(?:/[A-Z][A-Za-z0-9_+-]*)+$`);
const PLAIN_NAMES: ReadonlySet<string> = new Set(
  (
    "CET CST6CDT Cuba EET EST EST5EDT Egypt Eire GB GB-Eire GMT GMT+0 GMT-0 GMT0 Greenwich HST Hongkong Iceland Iran Israel Jamaica " +
    "Japan Kwajalein Libya MET MST MST7MDT NZ NZ-CHAT Navajo PRC PST8PDT Poland Portugal ROC ROK Singapore Turkey UCT UTC Universal " +
    "W-SU WET Zulu"
  ).split(" "),
);

const zones = new Map<string, TimeZone | undefined>();

/** A zone of the IANA database, by Intl's copy of it. Instants are seconds since 1970. */
export class TimeZone {
  /**
   * The zone of that name, or undefined where Kubernetes has none: it looks a name up as it is written, so case counts, and
   * Intl's own short names and plain offsets are no zones.
   */
  public static find(name: string): TimeZone | undefined {
    if (!zones.has(name)) zones.set(name, isZoneName(name) ? new TimeZone(name) : undefined);
    return zones.get(name);
  }

  /** Whether the zone is UTC, under whichever name. */
  public readonly isUtc: boolean;

  private readonly format: Intl.DateTimeFormat;
  private readonly chunks = new Map<number, readonly OffsetInterval[]>();
  private recent: OffsetInterval;

  private constructor(public readonly name: string) {
    this.format = new Intl.DateTimeFormat("en-US", { timeZone: name, timeZoneName: "longOffset" });
    this.isUtc = this.format.resolvedOptions().timeZone === "UTC";
    this.recent = this.isUtc ? { from: -Infinity, to: Infinity, offset: 0 } : { from: 0, to: 0, offset: 0 };
  }

  /** The interval that `instant` belongs to. It may end where the offset does not change. */
  public at(instant: number): OffsetInterval {
    if (instant >= this.recent.from && instant < this.recent.to) return this.recent;
    const found = this.chunk(Math.floor(instant / CHUNK)).find(({ to }) => instant < to);
    if (found === undefined) throw new RangeError(`no offset of ${this.name} is known at ${instant}`);
    this.recent = found;
    return found;
  }

  /** The instants after `from` and before `to` at which the offset changes, in order. */
  public changes(from: number, to: number): readonly number[] {
    const found: number[] = [];
    let interval = this.at(from);
    while (interval.to < to) {
      const next = this.at(interval.to);
      if (next.offset !== interval.offset) found.push(next.from);
      interval = next;
    }
    return found;
  }

  /** What a local clock shows at `instant`, as a date whose UTC fields are the local ones. */
  public clock(instant: number): Date {
    return new Date((instant + this.at(instant).offset) * 1000);
  }

  /**
   * The instant at which a local clock shows this; `month` counts from 0, and fields beyond their range carry over.
   *
   * A time that the zone skips or has twice is resolved as Go's `time.Date` does it, because Kubernetes does: by the offset that
   * would apply if the local time were UTC, unless that offset is not in force at the result.
   */
  public instant(year: number, month: number, day: number, hour = 0, minute = 0, second = 0): number {
    const asUtc = Date.UTC(year, month, day, hour, minute, second) / 1000;
    const guess = this.at(asUtc);
    const instant = asUtc - guess.offset;
    return instant >= guess.from && instant < guess.to ? instant : asUtc - this.at(instant).offset;
  }

  private chunk(index: number): readonly OffsetInterval[] {
    const known = this.chunks.get(index);
    if (known !== undefined) return known;
    const end = (index + 1) * CHUNK;
    const intervals: OffsetInterval[] = [];
    let from = index * CHUNK;
    let offset = this.offset(from);
    for (let low = from; low < end; low += PROBE) {
      const high = Math.min(low + PROBE, end);
      const after = this.offset(high);
      if (after === offset) continue;
      const change = this.firstSecondOf(after, low, high);
      intervals.push({ from, to: change, offset });
      from = change;
      offset = after;
    }
    intervals.push({ from, to: end, offset });
    this.chunks.set(index, intervals);
    return intervals;
  }

  private firstSecondOf(offset: number, before: number, within: number): number {
    let [low, high] = [before, within];
    while (high - low > 1) {
      const middle = Math.floor((low + high) / 2);
      if (this.offset(middle) === offset) high = middle;
      else low = middle;
    }
    return high;
  }

  private offset(instant: number): number {
    const match = /GMT(?:([+-])(\d+):(\d+)(?::(\d+))?)?$/.exec(this.format.format(instant * 1000));
    if (match === null) throw new RangeError(`Intl names no offset of ${this.name} at ${instant}`);
    const [, sign, hours = "0", minutes = "0", seconds = "0"] = match;
    return (sign === "-" ? -1 : 1) * (Number(hours) * 3600 + Number(minutes) * 60 + Number(seconds));
  }
}

function isZoneName(name: string): boolean {
  if (!AREA_NAME.test(name) && !PLAIN_NAMES.has(name)) return false;
  try {
    const { timeZone } = new Intl.DateTimeFormat("en-US", { timeZone: name }).resolvedOptions();
    // Intl ignores case and may resolve a link to its target; a name that resolves to itself must be in its own case.
    return timeZone === name || timeZone.toLowerCase() !== name.toLowerCase();
  } catch {
    return false;
  }
}
