import { Problems } from "./errors";

/** Fewest generations that any retention keeps: with one, a bad run replaces the only copy. */
const FEWEST = 2;

/**
 * How long generations are kept.
 *
 * Only proven generations count: those whose drill found them equal to what was backed up; where a backup has no drill, those that were
 * verified when they were made. A generation is removed once enough proven ones are newer, and it is old enough.
 */
export class Retention {
  /**
   * Keeps what is younger than `days` days, and never fewer than `atLeast` proven generations.
   *
   * @param days whole days, 1 or more
   * @throws ValidationError unless `days` is a whole number from 1, `atLeast` a whole number from 2, and the shares are in their ranges
   */
  public static keepDays(days: number, options: KeepDaysOptions = {}): Retention {
    const { atLeast = 3 } = options;
    const problems = new Problems("Retention");
    problems.check(Number.isSafeInteger(days) && days >= 1, "days", days, "a whole number of days, 1 or more");
    problems.check(isEnough(atLeast), "atLeast", atLeast, `a whole number of generations, ${FEWEST} or more`);
    return new Retention(problems, options, atLeast, days);
  }

  /**
   * Keeps the newest `generations` proven generations, whatever their age, and all that is newer than the first of them.
   *
   * @throws ValidationError unless `generations` is a whole number from 2, and the shares are in their ranges
   */
  public static keepLast(generations: number, options: RetentionOptions = {}): Retention {
    const problems = new Problems("Retention");
    problems.check(isEnough(generations), "generations", generations, `a whole number of generations, ${FEWEST} or more`);
    return new Retention(problems, options, generations);
  }

  /** One run removes no more than this share of the generations there are, the oldest first; but one may always go. */
  public readonly removeAtMost: number;
  /** Nothing is removed while the newest generation holds less than this share of what is usual. */
  public readonly freezeBelow: number;

  private constructor(
    problems: Problems,
    { removeAtMost = 0.25, freezeBelow = 0.5 }: RetentionOptions,
    /** Never fewer proven generations than this are kept. */
    public readonly keepLast: number,
    /** Generations younger than this many days are kept; absent for a retention by count alone. */
    public readonly keepDays?: number,
  ) {
    problems.check(removeAtMost > 0 && removeAtMost <= 1, "removeAtMost", removeAtMost, "a share, more than 0 and at most 1");
    problems.check(freezeBelow >= 0 && freezeBelow < 1, "freezeBelow", freezeBelow, "a share, 0 or more and less than 1");
    problems.throwIfAny();
    this.removeAtMost = removeAtMost;
    this.freezeBelow = freezeBelow;
  }

  /** The rule in words: `30 days, at least 3 proven generations`. */
  public describe(): string {
    return this.keepDays === undefined
      ? `the last ${this.keepLast} proven generations`
      : `${this.keepDays} ${this.keepDays === 1 ? "day" : "days"}, at least ${this.keepLast} proven generations`;
  }

  public toString(): string {
    return this.describe();
  }
}

/** How carefully a {@link Retention} removes. */
export interface RetentionOptions {
  /**
   * Largest share of all generations that one run removes, more than 0 and at most 1: the oldest first, the rest in later runs. One may
   * go in any case.
   *
   * @default 0.25
   */
  readonly removeAtMost?: number;
  /**
   * Nothing is removed while the newest generation is smaller than this share, 0 to below 1, of the median of the seven before it. Those
   * that shrank so far themselves do not count among the seven, so that a month of empty dumps is measured by the last good ones. 0 never
   * finds one too small.
   *
   * @default 0.5
   */
  readonly freezeBelow?: number;
}

/** Options of {@link Retention.keepDays}. */
export interface KeepDaysOptions extends RetentionOptions {
  /** Proven generations that are kept however old they are. @default 3 */
  readonly atLeast?: number;
}

function isEnough(generations: number): boolean {
  return Number.isSafeInteger(generations) && generations >= FEWEST;
}
