import type { PodResult } from "../pod";
import type { FoundGeneration } from "./target";

/** A run of a backup's pod, and what is on its target afterwards. */
export interface Backup extends PodResult {
  readonly generations: readonly FoundGeneration[];
}

/** The generation that a run published, the first one where there are more. @throws the logs of a run that failed */
export function succeeded({ ok, logs, generations }: Backup): FoundGeneration {
  const [generation] = generations;
  if (!ok || generation === undefined) throw new Error(JSON.stringify(logs, undefined, 2));
  return generation;
}

/** The reason of a failed run, which is told once, and after which nothing is on the target. */
export function failure({ ok, exitCodes, logs, generations }: Backup): string {
  expect({ ok, runner: exitCodes.runner, generations }).toEqual({ ok: false, runner: 1, generations: [] });
  const reasons = (logs.runner ?? "").split("\n").filter((line) => line.includes("backup failed: "));
  expect(reasons).toHaveLength(1);
  return (reasons[0] ?? "").replace(/^.*backup failed: /, "");
}
