import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { EngineSettings } from "./runtime/engines";

/** What a runner can be asked to do; each pod gets the program of its own duty alone. */
export type Duty = "backup" | "check-integrity" | "drill" | "restore";

/** Where `npm run build` puts them, seen from `dist/lib` and from `lib`. */
const PLACES = [join(__dirname, ".."), join(__dirname, "..", "dist")];
const texts = new Map<string, string>();

/**
 * The runner's program for one duty of one engine, one readable file for a pod's ConfigMap. Read once.
 *
 * @throws Error where it was not built
 */
export function runnerBundle(kind: EngineSettings["kind"], duty: Duty): string {
  const name = join("runner", `${kind}-${duty}.js`);
  let text = texts.get(name);
  if (text === undefined) {
    const places = PLACES.map((place) => join(place, name));
    const found = places.find((place) => existsSync(place));
    if (found === undefined) throw new Error(`the runner is not built, there is no file at ${places.join(" or ")}; run: npm run build`);
    text = readFileSync(found, "utf8");
    texts.set(name, text);
  }
  return text;
}
