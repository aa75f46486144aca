import { readFileSync } from "node:fs";
import { resolve } from "node:path";

const root = resolve(__dirname, "../..");

/** The TypeScript of a README: its blocks of code, in order. `path` is relative to the project. */
export function examples(path: string): readonly string[] {
  const text = readFileSync(resolve(root, path), "utf8");
  return [...text.matchAll(/^```ts\n(.*?)^```$/gms)].map(([, block = ""]) => block);
}
