/** A parsed expression of five fields. Each field is indexed by its own value and holds 1 where that value is chosen. */
export interface CronFields {
  readonly minutes: Uint8Array;
  readonly hours: Uint8Array;
  readonly daysOfMonth: Uint8Array;
  readonly months: Uint8Array;
  readonly daysOfWeek: Uint8Array;
  /** Both day fields must match where one of them was a star; otherwise one match is enough. */
  readonly bothDays: boolean;
}

/** A parsed `@every` expression: a constant delay after the run before. */
export interface CronDelay {
  readonly everySeconds: number;
}

interface Field {
  readonly name: string;
  readonly min: number;
  readonly max: number;
  readonly names?: readonly string[];
}

interface Selection {
  readonly chosen: Uint8Array;
  readonly star: boolean;
}

const MINUTE: Field = { name: "minute", min: 0, max: 59 };
const HOUR: Field = { name: "hour", min: 0, max: 23 };
const DAY_OF_MONTH: Field = { name: "day of month", min: 1, max: 31 };
const MONTH: Field = {
  name: "month",
  min: 1,
  max: 12,
  names: ["", "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"],
};
const DAY_OF_WEEK: Field = { name: "day of week", min: 0, max: 6, names: ["sun", "mon", "tue", "wed", "thu", "fri", "sat"] };

/** Names that stand for expressions of five fields. */
export const DESCRIPTORS: ReadonlyMap<string, string> = new Map([
  ["@yearly", "0 0 1 1 *"],
  ["@annually", "0 0 1 1 *"],
  ["@monthly", "0 0 1 * *"],
  ["@weekly", "0 0 * * 0"],
  ["@daily", "0 0 * * *"],
  ["@midnight", "0 0 * * *"],
  ["@hourly", "0 * * * *"],
]);

/** What Go's `strings.Fields` takes for white space. */
export const WHITE_SPACE = /[\t-\r \u0085\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]+/;
/** Go's `time.ParseDuration`, and its units in seconds. */
const GO_DURATION = /^[+-]?(?:0|(?:(?:\d+\.?\d*|\.\d+)(?:ns|us|µs|μs|ms|s|m|h))+)$/;
const GO_UNITS: { readonly [unit: string]: number } = { ns: 1e-9, us: 1e-6, µs: 1e-6, μs: 1e-6, ms: 1e-3, s: 1, m: 60, h: 3600 };

/** 2^63 nanoseconds: what a duration in Go stays below. */
const LONGEST = 2 ** 63 / 1e9;

/** Thrown inside the parser alone; its message says what an expression must be. */
class Refused extends Error {}

/**
 * Parses a CronJob's schedule in the dialect of Kubernetes, which is `ParseStandard` of github.com/robfig/cron v3
 * without time zones in the expression.
 *
 * @returns the schedule, or text that says what the expression must be
 */
export function parseCron(expression: string): CronFields | CronDelay | string {
  try {
    return parse(expression);
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    return error.message;
  }
}

function parse(expression: string): CronFields | CronDelay {
  if (expression.includes("TZ")) throw new Refused("a cron expression without 'TZ', which Kubernetes refuses; use 'timeZone'");
  if (expression.startsWith("@every ")) return { everySeconds: parseDelay(expression.slice("@every ".length)) };
  const described = DESCRIPTORS.get(expression);
  if (expression.startsWith("@") && described === undefined) {
    throw new Refused(`one of ${[...DESCRIPTORS.keys()].join(", ")}, "@every <duration>", or 5 fields`);
  }
  const fields = (described ?? expression).split(WHITE_SPACE).filter((field) => field !== "");
  if (fields.length !== 5) throw new Refused("a cron expression of 5 fields: minute, hour, day of month, month, day of week");
  const [minute = "", hour = "", dayOfMonth = "", month = "", dayOfWeek = ""] = fields;
  const days = select(dayOfMonth, DAY_OF_MONTH);
  const weekdays = select(dayOfWeek, DAY_OF_WEEK);
  return {
    minutes: select(minute, MINUTE).chosen,
    hours: select(hour, HOUR).chosen,
    daysOfMonth: days.chosen,
    months: select(month, MONTH).chosen,
    daysOfWeek: weekdays.chosen,
    bothDays: days.star || weekdays.star,
  };
}

/** A field is a list of ranges; empty members are skipped, and one star makes the whole field a star. */
function select(text: string, field: Field): Selection {
  const chosen = new Uint8Array(field.max + 1);
  let star = false;
  for (const range of text.split(",")) {
    if (range === "") continue;
    star = selectRange(range, field, chosen) || star;
  }
  return { chosen, star };
}

/**
 * Marks the values of `*`, `?`, `a`, `a-b`, each with an optional `/step`; `a/step` runs to the end of the field.
 *
 * @returns whether the range counts as a star: `*` and `?`, but not with a step above 1
 */
function selectRange(range: string, field: Field, chosen: Uint8Array): boolean {
  const { name, min, max } = field;
  const [bounds = "", stepText, ...moreSteps] = range.split("/");
  const [lowText = "", highText, ...moreBounds] = bounds.split("-");
  const star = lowText === "*" || lowText === "?";
  const refuse = (what: string): never => {
    throw new Refused(`a cron expression whose ${name} ${what} (Kubernetes dialect)`);
  };

  // After a star, Kubernetes ignores whatever a hyphen adds.
  if ((!star && moreBounds.length > 0) || moreSteps.length > 0) refuse("is *, ?, a, a-b, */n, a/n or a-b/n");
  const step = stepText === undefined ? 1 : parseNumber(stepText);
  if (step === undefined || step === 0) return refuse("has a step of 1 or more");

  const low = star ? min : parseValue(lowText, field);
  let high = low;
  if (star || (highText === undefined && stepText !== undefined)) high = max;
  else if (highText !== undefined) high = parseValue(highText, field);
  if (low === undefined || high === undefined || low < min || high > max) {
    const names = field.names === undefined ? "" : ` or ${field.names.find((each) => each !== "")} to ${field.names.at(-1)}`;
    return refuse(`is from ${min} to ${max}${names}`);
  }
  if (low > high) refuse("ranges run upwards");

  for (let value = low; value <= high; value += step) chosen[value] = 1;
  return star && step === 1;
}

function parseValue(text: string, { names }: Field): number | undefined {
  const named = text === "" ? -1 : (names?.indexOf(text.toLowerCase()) ?? -1);
  return named >= 0 ? named : parseNumber(text);
}

/** Go's `Atoi` for numbers that are not negative. */
function parseNumber(text: string): number | undefined {
  if (/^-0+$/.test(text)) return 0;
  return /^\+?\d+$/.test(text) && BigInt(text.replace("+", "")) < 2n ** 63n ? Number(text) : undefined;
}

/** Whole seconds, at least one, as Kubernetes rounds them. */
function parseDelay(text: string): number {
  let seconds = 0;
  for (const [, amount, unit] of text.matchAll(/([\d.]+)([a-zµμ]+)/g)) seconds += Number(amount) * (GO_UNITS[unit ?? ""] ?? 0);
  if (!GO_DURATION.test(text) || seconds >= LONGEST) throw new Refused('"@every <duration>", as in "@every 6h" or "@every 1h30m"');
  return text.startsWith("-") ? 1 : Math.max(1, Math.floor(seconds + 1e-9));
}
