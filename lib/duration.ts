import { ValidationError } from "./errors";

const MINUTE = 60;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

/** A length of time in whole seconds. */
export class Duration {
  /** @throws ValidationError unless `amount` is a whole number of seconds, zero or more */
  public static seconds(amount: number): Duration {
    return Duration.of("seconds", amount, 1);
  }

  /** @throws ValidationError unless `amount` minutes are a whole number of seconds, zero or more */
  public static minutes(amount: number): Duration {
    return Duration.of("minutes", amount, MINUTE);
  }

  /** @throws ValidationError unless `amount` hours are a whole number of seconds, zero or more */
  public static hours(amount: number): Duration {
    return Duration.of("hours", amount, HOUR);
  }

  /** A day is 24 hours. @throws ValidationError unless `amount` days are a whole number of seconds, zero or more */
  public static days(amount: number): Duration {
    return Duration.of("days", amount, DAY);
  }

  private static of(property: string, amount: number, unit: number): Duration {
    const seconds = amount * unit;
    if (!Number.isSafeInteger(seconds) || seconds < 0) {
      const allowed = unit === 1 ? "a whole number, 0 or more" : "0 or more, and a whole number of seconds";
      throw new ValidationError("Duration", [{ property, value: amount, allowed }]);
    }
    return new Duration(seconds);
  }

  private constructor(private readonly total: number) {}

  public toSeconds(): number {
    return this.total;
  }

  /**
   * The duration as people write it and as Prometheus reads it: `45s`, `1h30m`, `36h`, `31d`.
   * Days are used from two whole days on, because `24h` and `25h` are compared more often than `1d` is said.
   */
  public toHuman(): string {
    if (this.total >= 2 * DAY && this.total % DAY === 0) return `${this.total / DAY}d`;
    const hours = Math.floor(this.total / HOUR);
    const minutes = Math.floor((this.total % HOUR) / MINUTE);
    const seconds = this.total % MINUTE;
    return `${hours ? `${hours}h` : ""}${minutes ? `${minutes}m` : ""}${seconds ? `${seconds}s` : ""}` || "0s";
  }

  public toString(): string {
    return this.toHuman();
  }
}
