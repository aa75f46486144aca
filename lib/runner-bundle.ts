import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";

/** `dist/runner.js`, seen from `dist/lib` and from `lib`. */
const PLACES = [join(__dirname, "..", "runner.js"), join(__dirname, "..", "dist", "runner.js")];
let text: string | undefined;

/**
 * The runner's program, one readable file for the pods' ConfigMap. Read once.
 * @throws Error where it was not built
 */
export function runnerBundle(): string {
  if (text === undefined) {
    const place = PLACES.find((path) => existsSync(path));
    if (place === undefined) throw new Error(`the runner is not built: no file at ${PLACES.join(" or ")}; run: npm run build`);
    text = readFileSync(place, "utf8");
  }
  return text;
}
