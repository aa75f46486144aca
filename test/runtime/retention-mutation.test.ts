import { readFileSync } from "node:fs";
import { resolve } from "node:path";
import type * as prune from "../../lib/runtime/prune";
import type * as retention from "../../lib/runtime/retention";
import { load, mutantsOf } from "./support/mutants";
import { promises, type Subject } from "./support/retention-promises";

const RULE = resolve(__dirname, "../../lib/runtime/retention.ts");
const DISK = resolve(__dirname, "../../lib/runtime/prune.ts");
/** Fewer than the tests of the rule itself play: what needs more of them to be noticed would be noticed too seldom. */
const HELD = Object.entries(promises(300));

/** Changes that change nothing: of names no two are equal, and of what a comparison returns the sign alone counts. */
const EQUIVALENT = ["a.name < b.name -> a.name <= b.name", "1 -> 2"];

function subject(rule: string, disk: string): Subject {
  const first = load<typeof retention>(RULE, rule);
  return { ...first, ...load<typeof prune>(DISK, disk, { "./retention": first }) };
}

/** The first promise that does not hold any more. */
async function broken(of: Subject): Promise<string | undefined> {
  for (const [name, promise] of HELD) {
    try {
      await promise(of);
    } catch {
      return name;
    }
  }
  return undefined;
}

const sources = { [RULE]: readFileSync(RULE, "utf8"), [DISK]: readFileSync(DISK, "utf8") };
const original = (path: string): string => sources[path] as string;

test("every promise holds for the program as it is", async () => {
  expect(await broken(subject(original(RULE), original(DISK)))).toBeUndefined();
}, 60_000);

test.each([
  ["retention.ts", RULE, 60],
  ["prune.ts", DISK, 20],
])("whatever is changed in %s breaks a promise", async (name, path, fewest) => {
  const mutants = mutantsOf(path);
  expect(mutants.length).toBeGreaterThan(fewest);
  const unnoticed: string[] = [];
  for (const { what, text } of mutants) {
    const changed = path === RULE ? subject(text, original(DISK)) : subject(original(RULE), text);
    if ((await broken(changed)) === undefined) unnoticed.push(what);
  }
  process.stderr.write(`${name}: ${mutants.length} changes, ${unnoticed.length} unnoticed\n`);
  const comparison = original(path).split("\n").findIndex((line) => line.includes("a.name < b.name")) + 1;
  const equivalent = EQUIVALENT.map((change) => `retention.ts:${comparison}: ${change}`);
  expect(unnoticed.filter((what) => !equivalent.includes(what))).toEqual([]);
}, 600_000);
