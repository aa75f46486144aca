import { measure } from "../namespace";
import type { Report } from "../result";

/** What a restore took. */
export interface MeasuredRto {
  /** What was restored, in words. */
  readonly what: string;
  /** Of the data where they came from, on disk. */
  readonly bytes: number;
  /** From the start of the restore's pod, or of the runbook's commands, to their end. */
  readonly seconds: number;
  /** What the homelab's owner promised, in minutes. */
  readonly promisedMinutes: number;
}

/** Recovery time of every kind of restore that the homelab's table of recovery times names, on scaled data. */
export async function benchRto(): Promise<Report> {
  const measured = await measure<readonly MeasuredRto[]>("rto/measure");
  return {
    title: "rto",
    about: [
      "Restores into empty servers and volumes on one machine: the pod from start to end, every file of the generation read and hashed first,",
      "what came back compared afterwards; etcd by the runbook's commands. Beside it, what the homelab's table promises for its own data.",
      "Starting servers, unsealing Vault and deciding are a person's, and not in it.",
    ],
    figures: measured.flatMap(({ what, bytes, seconds, promisedMinutes }) => [
      { name: what, value: seconds, unit: "s", goal: promisedMinutes * 60 },
      { name: `${what}: data`, value: bytes / 1e6, unit: "MB" },
      { name: `${what}: rate`, value: bytes / 1e6 / seconds, unit: "MB/s" },
    ]),
  };
}
