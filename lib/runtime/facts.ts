import { isDeepStrictEqual } from "node:util";
import type { Fact } from "./manifest";

/** How many differences are named. */
const NAMED = 5;

/** @throws Error that names what differs from what was backed up */
export function assertSame(what: string, wanted: Fact | undefined, found: Fact): void {
  const all = differences(wanted, found, what);
  if (all.length === 0) return;
  const more = all.length > NAMED ? `, and ${all.length - NAMED} more` : "";
  throw new Error(`what came back is not what was backed up: ${all.slice(0, NAMED).join(", ")}${more}`);
}

function differences(wanted: Fact | undefined, found: Fact | undefined, path: string): readonly string[] {
  if (isDeepStrictEqual(wanted, found)) return [];
  const [one, other] = [entries(wanted), entries(found)];
  if (one === undefined || other === undefined) return [`${path} is ${text(found)}, but was ${text(wanted)}`];
  const keys = new Set([...one.keys(), ...other.keys()]);
  return [...keys].flatMap((key) => differences(one.get(key), other.get(key), `${path} ${key}`));
}

function entries(fact: Fact | undefined): ReadonlyMap<string, Fact> | undefined {
  return typeof fact === "object" && fact !== null ? new Map(Object.entries(fact)) : undefined;
}

function text(fact: Fact | undefined): string {
  return fact === undefined ? "not there" : JSON.stringify(fact).slice(0, 100);
}
