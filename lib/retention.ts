import { Problems } from "./errors";

/** Fewest generations that any retention keeps: with one, a bad run replaces the only copy. */
const FEWEST = 2;

/** How long generations are kept. Only proven generations count, and the newest are never removed for their age. */
export class Retention {
  /**
   * Keeps what is younger than `days` days, and never fewer than `atLeast` proven generations.
   *
   * @param days whole days, 1 or more
   * @throws ValidationError unless `days` is a whole number from 1 and `atLeast` a whole number from 2
   */
  public static keepDays(days: number, options: KeepDaysOptions = {}): Retention {
    const { atLeast = 3 } = options;
    const problems = new Problems("Retention");
    problems.check(Number.isSafeInteger(days) && days >= 1, "days", days, "a whole number of days, 1 or more");
    problems.check(isEnough(atLeast), "atLeast", atLeast, `a whole number of generations, ${FEWEST} or more`);
    problems.throwIfAny();
    return new Retention(atLeast, days);
  }

  /**
   * Keeps the newest `generations` proven generations, whatever their age.
   *
   * @throws ValidationError unless `generations` is a whole number from 2
   */
  public static keepLast(generations: number): Retention {
    const problems = new Problems("Retention");
    problems.check(isEnough(generations), "generations", generations, `a whole number of generations, ${FEWEST} or more`);
    problems.throwIfAny();
    return new Retention(generations);
  }

  private constructor(
    /** Never fewer proven generations than this are kept. */
    public readonly keepLast: number,
    /** Generations younger than this many days are kept; absent for a retention by count alone. */
    public readonly keepDays?: number,
  ) {}

  /** The rule in words: `30 days, at least 3 generations`. */
  public describe(): string {
    return this.keepDays === undefined
      ? `the last ${this.keepLast} generations`
      : `${this.keepDays} ${this.keepDays === 1 ? "day" : "days"}, at least ${this.keepLast} generations`;
  }

  public toString(): string {
    return this.describe();
  }
}

/** Options of {@link Retention.keepDays}. */
export interface KeepDaysOptions {
  /** Proven generations that are kept however old they are. @default 3 */
  readonly atLeast?: number;
}

function isEnough(generations: number): boolean {
  return Number.isSafeInteger(generations) && generations >= FEWEST;
}
