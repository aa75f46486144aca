import { parseArgs } from "node:util";
import { SUBJECTS } from "../helpers/subjects";
import { FAULTS } from "./faults";

export const HELP = `usage: npm run test:faults -- [--minutes M] [--seed N] [--from K] [--episodes K] [--engines a,b] [--faults a,b]

Backs up a random engine under a random load while a random fault happens, again and again. After each episode every published
generation must be restored and found equal, or be marked red; whatever is not so ends the run with 1 and the line that repeats it.

  --minutes    how long, 1 to 600 (default 10)
  --seed       where the choices come from; printed, random by default
  --from       first episode (default 1): with --episodes 1 the one that failed, again
  --episodes   ends after this many
  --engines    ${Object.keys(SUBJECTS).join(", ")} (default: all)
  --faults     ${Object.keys(FAULTS).join(", ")}
               (default: all)

Needs Linux, root and the Debian packages of test:engines (installed if missing).
`;

/** What was asked for on the command line. */
export interface Options {
  readonly minutes: number;
  readonly seed: number;
  readonly from: number;
  readonly episodes: number;
  readonly engines: readonly string[];
  readonly faults: readonly string[];
}

/** @throws Error that says what is allowed; undefined where help was asked for */
export function readOptions(args: readonly string[]): Options | undefined {
  const text = { type: "string" } as const;
  const { values } = parseArgs({
    args: [...args],
    options: { minutes: text, seed: text, from: text, episodes: text, engines: text, faults: text, help: { type: "boolean" } },
  });
  if (values.help === true) return undefined;
  return {
    minutes: whole("minutes", values.minutes ?? "10", 1, 600),
    seed: whole("seed", values.seed ?? String(Math.floor(Math.random() * 2 ** 31)), 0, 2 ** 32 - 1),
    from: whole("from", values.from ?? "1", 1, 1_000_000),
    episodes: whole("episodes", values.episodes ?? "1000000", 1, 1_000_000),
    engines: names("engines", values.engines, Object.keys(SUBJECTS)),
    faults: names("faults", values.faults, Object.keys(FAULTS)),
  };
}

function whole(name: string, text: string, min: number, max: number): number {
  const value = Number(text);
  if (!/^\d+$/.test(text) || value < min || value > max) throw new Error(`--${name} must be a whole number from ${min} to ${max}, but got ${text}`);
  return value;
}

function names(name: string, text: string | undefined, known: readonly string[]): readonly string[] {
  const wanted = text === undefined ? known : text.split(",");
  const unknown = wanted.filter((word) => !known.includes(word));
  if (unknown.length > 0) throw new Error(`--${name} must be some of ${known.join(", ")}, but got ${unknown.join(", ")}`);
  return wanted;
}
