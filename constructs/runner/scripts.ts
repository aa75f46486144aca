import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { runnerBundle, type Duty } from "../../lib/runner-bundle";
import type { EngineSettings } from "../../lib/runtime/engines";
import { literal } from "../../lib/terraform-text";

/** A file of the ConfigMap, as Terraform must be given it, and the hash of what arrives. */
export interface ConfigFile {
  readonly text: string;
  readonly sha256: string;
}

/** Built from the sources and from `dist` alike: both have `lib/scripts` two directories up from here. */
const DIRECTORY = join(__dirname, "..", "..", "lib", "scripts");
const cache = new Map<string, ConfigFile>();

/** The runner's program for a duty of an engine. Read, escaped and hashed once, as it is the bulk of every ConfigMap. */
export function runnerFile(kind: EngineSettings["kind"], duty: Duty): ConfigFile {
  return cached(`runner/${kind}-${duty}.js`, () => runnerBundle(kind, duty));
}

/** A script of `lib/scripts`, read once. */
export function scriptFile(name: string): ConfigFile {
  return cached(name, () => readFileSync(join(DIRECTORY, name), "utf8"));
}

/** Text that only one backup has. */
export function configFile(text: string): ConfigFile {
  return { text: literal(text), sha256: createHash("sha256").update(text).digest("hex") };
}

function cached(name: string, read: () => string): ConfigFile {
  let file = cache.get(name);
  if (file === undefined) {
    file = configFile(read());
    cache.set(name, file);
  }
  return file;
}
