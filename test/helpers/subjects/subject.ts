import { chmodSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { BackupProps } from "../../../constructs/backup";
import type { CronJobOptions } from "../pod";
import type { FoundGeneration } from "../pod/target";
import { NfsBackupVolume } from "../../../constructs/storage";
import { Retention } from "../../../lib/retention";
import { Schedule } from "../../../lib/schedule";
import { ServiceEndpoint } from "../../../lib/service-endpoint";
import { hostProgram } from "../pod";
import { temporaryDirectory } from "../process";
import { TerraformStack, Testing } from "cdktf";

/** One kind of backup whose source is running: what a fault is tried on. */
export interface Subject {
  readonly name: string;
  /** A stack with its construct and nothing else, as Terraform JSON. */
  readonly synthesised: string;
  /** What its pods need besides the target. */
  readonly options: CronJobOptions;
  /** The engine's program that makes the dump; absent where the runner does it all. */
  readonly producer?: Producer;
  /** Ways in which its source can be unfit for a backup. */
  readonly sourceFaults: readonly SourceFault[];
  /** Keeps a dump that has begun from ending; absent where nothing outside the runner can. */
  stall?(): Promise<Stall>;
  /** Changes to the source, which {@link Subject.restoreEqual} knows nothing of; absent where nothing may change during a backup. */
  readonly load?: SourceLoad;
  /** Restores a generation by hand into a scratch place, and compares it with the source. @throws where they differ */
  restoreEqual(generation: FoundGeneration): Promise<void>;
  stop(): Promise<void>;
}

/** Work on a source while it is backed up. */
export interface SourceLoad {
  /** One small change, each time another. */
  write(round: number): Promise<void>;
  /** Undoes all of them. */
  undo(): Promise<void>;
}

/** A program, and which of its calls is the dump. */
export interface Producer {
  readonly program: string;
  /** Pattern of a shell that the arguments of those calls match. @default "*" */
  readonly dumps?: string;
}

/** How long work is held up, and what ends that. */
export interface Stall {
  /** Options that the pod is started with. @default - the subject's own */
  readonly options?: Pick<CronJobOptions, "programs">;
  undo(): void | Promise<void>;
}

export interface SourceFault {
  readonly name: string;
  /** What the one line with the reason says. */
  readonly reason: RegExp;
  /** It takes the runner long to be sure. @default false */
  readonly slow?: boolean;
  /** Does it; returns what undoes it. */
  inject(): Promise<() => void | Promise<void>>;
}

/** Options under which a shell script does the dump in the producer's place; the real program is `<program>.real`. */
export function doubleOf({ program, dumps = "*" }: Producer, script: string): Pick<CronJobOptions, "programs"> {
  const path = join(temporaryDirectory("double"), program);
  const isDump = `case "$*" in --version | -V) ;; ${dumps}) dump=yes ;; esac`;
  const otherwise = `${isDump}\nif [ -z "\${dump:-}" ]; then exec ${program}.real "$@"; fi`;
  writeFileSync(path, `#!/bin/sh\n${otherwise}\n${script}\n`);
  chmodSync(path, 0o755);
  return { programs: { [program]: path, [`${program}.real`]: hostProgram(program) } };
}

/** A dump that hangs because the engine's program does. */
export function hanging(producer: Producer): () => Promise<Stall> {
  const options = doubleOf(producer, "while :; do sleep 1; done");
  return () => Promise.resolve({ options, undo: () => undefined });
}

/** Name of the claim that every subject writes to. */
export const TARGET_CLAIM = "backup-target";
const NAMESPACE = "apps";
const PUSHGATEWAY = ServiceEndpoint.of("pushgateway.monitoring:9091");
/** Services that every subject's pod can look up. */
export const COMMON_SERVICES = ["pushgateway.monitoring"];

/** A stack with one backup; what all backups have in common is given to `build`. */
export function synthesise(build: (stack: TerraformStack, common: BackupProps) => void): string {
  const stack = new TerraformStack(Testing.app(), "stack");
  const nfs = { server: "192.0.2.1", path: "/mnt/main/target" };
  build(stack, {
    namespace: NAMESPACE,
    volume: new NfsBackupVolume(stack, "volume", { name: TARGET_CLAIM, namespace: NAMESPACE, ...nfs }),
    schedule: Schedule.cron("0 0 * * *"),
    retention: Retention.keepDays(14),
    pushgateway: PUSHGATEWAY,
  });
  return Testing.synth(stack);
}
