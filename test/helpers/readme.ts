import { readFileSync } from "node:fs";
import { resolve } from "node:path";

const root = resolve(__dirname, "../..");

/** Blocks of code of a README, in order. @param path relative to the project @param language @default "ts" */
export function examples(path: string, language = "ts"): readonly string[] {
  const text = readFileSync(resolve(root, path), "utf8");
  return [...text.matchAll(new RegExp(`^\`\`\`${language}\\n(.*?)^\`\`\`$`, "gms"))].map(([, block = ""]) => block);
}
