import { createHash } from "node:crypto";
import { open, readFile, rename } from "node:fs/promises";
import { join } from "node:path";
import { syncDirectory } from "./generation";
import { MANIFEST } from "./manifest";

/** Suffix of the file beside a generation that holds what its newest drill found. */
export const VERDICT = ".drill.json";
export const VERDICT_FORMAT = 1;

/** What a drill found of one generation. */
export interface Verdict {
  readonly formatVersion: typeof VERDICT_FORMAT;
  readonly generation: string;
  /** SHA-256 of the manifest that was drilled, hex: a verdict says nothing about another. */
  readonly manifestSha256: string;
  /** Whether it was restored and found equal. A drill that did not end is red. */
  readonly green: boolean;
  /** Why it is red. */
  readonly reason?: string;
  /** ISO 8601, UTC. */
  readonly startedAt: string;
  readonly finishedAt?: string;
  /** From the first byte read to data that can be used: the recovery time that was measured. */
  readonly restoreSeconds?: number;
  /** Size of the generation on the target. */
  readonly bytes: number;
  /** The checks that passed, in words, in order. */
  readonly checks: readonly string[];
}

/** Puts a verdict beside its generation, in the place of an earlier one, whole or not at all. */
export async function writeVerdict(directory: string, verdict: Verdict): Promise<void> {
  const path = join(directory, verdict.generation + VERDICT);
  // Hidden, and no generation's name; two drills of one generation at the same time are kept apart by the CronJob.
  const temporary = join(directory, `.${verdict.generation}${VERDICT}`);
  const file = await open(temporary, "w", 0o640);
  try {
    await file.writeFile(`${JSON.stringify(verdict, undefined, 2)}\n`);
    await file.sync();
  } finally {
    await file.close();
  }
  await rename(temporary, path);
  await syncDirectory(directory);
}

/** The verdict on a generation as it is now; undefined where it was never drilled, or changed since. */
export async function readVerdict(directory: string, generation: string): Promise<Verdict | undefined> {
  try {
    const verdict = JSON.parse(await readFile(join(directory, generation + VERDICT), "utf8")) as Partial<Verdict> | null;
    if (verdict?.formatVersion !== VERDICT_FORMAT || verdict.generation !== generation) return undefined;
    if (verdict.manifestSha256 !== (await manifestHash(directory, generation))) return undefined;
    return typeof verdict.green === "boolean" ? (verdict as Verdict) : undefined;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "ENOENT" || error instanceof SyntaxError) return undefined;
    throw error;
  }
}

/** SHA-256 of a generation's manifest, hex. */
export async function manifestHash(directory: string, generation: string): Promise<string> {
  return createHash("sha256").update(await readFile(join(directory, generation, MANIFEST))).digest("hex");
}
