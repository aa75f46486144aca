/** One thing that is wrong with what a user declared. */
export interface Problem {
  /** The property as the user wrote it, dotted where nested: `target.path`. */
  readonly property: string;
  /** The value that was given; never a secret. */
  readonly value: unknown;
  /** What would have been accepted, in words or as a pattern. */
  readonly allowed: string;
}

/** Characters of a value that a message shows. */
const LONGEST_VALUE = 200;

const brand = Symbol.for("cdktf-backup.ValidationError");

/**
 * Everything that is wrong with one construct or value object, reported at once.
 *
 * The message names each property, the value it had, what is allowed, and the construct's path.
 */
export class ValidationError extends Error {
  /** True for a `ValidationError` of any copy of this library (no `instanceof`, which copies break). */
  public static is(error: unknown): error is ValidationError {
    return typeof error === "object" && error !== null && brand in error;
  }

  /**
   * @param path the construct's path, or the value object's name where there is no tree
   * @param problems at least one
   */
  public constructor(
    public readonly path: string,
    public readonly problems: readonly Problem[],
  ) {
    super(`${path}: ${problems.map(describe).join("; ")}`);
    this.name = "ValidationError";
    Object.defineProperty(this, brand, { value: true });
  }
}

/** Collects problems so that a user sees all of them in one run. */
export class Problems {
  private readonly found: Problem[] = [];

  /** @param path what the problems belong to, see {@link ValidationError} */
  public constructor(private readonly path: string) {}

  /** Records a problem unless `ok`. Returns `ok`, so that a dependent check can be skipped. */
  public check(ok: boolean, property: string, value: unknown, allowed: string): boolean {
    if (!ok) this.found.push({ property, value, allowed });
    return ok;
  }

  /** Runs `make` and takes over the problems of a `ValidationError` it throws, under `property`. */
  public collect<T>(property: string, make: () => T): T | undefined {
    try {
      return make();
    } catch (error) {
      if (!ValidationError.is(error)) throw error;
      for (const problem of error.problems) {
        this.found.push({ ...problem, property: `${property}.${problem.property}` });
      }
      return undefined;
    }
  }

  /** @throws ValidationError if any problem was recorded */
  public throwIfAny(): void {
    if (this.found.length > 0) throw new ValidationError(this.path, this.found);
  }
}

function describe({ property, value, allowed }: Problem): string {
  return `'${property}' must be ${allowed}, but got ${show(value)}`;
}

/** A value on one line, as the user would write it, and no longer than a message can carry. */
function show(value: unknown): string {
  if (typeof value === "string") return shorten(JSON.stringify(value));
  // JSON has no word for NaN, Infinity, undefined and big integers.
  if (typeof value !== "object" || value === null) return String(value);
  const isPlain = Array.isArray(value) || !("toString" in value) || value.toString === Object.prototype.toString;
  return shorten(isPlain ? json(value) : String(value));
}

function json(value: object): string {
  try {
    return JSON.stringify(value);
  } catch {
    // It holds itself, or a big integer.
    return Object.prototype.toString.call(value);
  }
}

function shorten(text: string): string {
  return text.length <= LONGEST_VALUE ? text : `${text.slice(0, LONGEST_VALUE)}...`;
}
