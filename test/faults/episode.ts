import type { CronJobOptions, PodResult } from "../helpers/pod";
import type { FoundGeneration } from "../helpers/pod/target";
import type { Subject } from "../helpers/subjects/subject";
import type { Fault } from "./faults";
import { existsSync, readdirSync, readFileSync, statSync, utimesSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { VERDICT, type Verdict } from "../../lib/runtime/verdict";
import { findCronJob, runCronJob, startCronJob } from "../helpers/pod";
import { generationsOn, makeTarget, unmount } from "../helpers/pod/target";
import { TARGET_CLAIM } from "../helpers/subjects/subject";

const ROOMY = 256 << 20;
/** Episodes that one target serves: what one leaves behind is there for the next. */
const EPISODES_A_TARGET = 5;
/** Age up to which the subjects' newest generations are recent: a day's schedule and its grace. */
const RPO_MS = 26 * 3_600_000;
const AGE = /^the newest generation is .* old, but may be 26\.0 h at most$/;

/** What is done to a subject's source while it is backed up. */
export interface Load {
  readonly name: "none" | "light" | "heavy";
  /** Between two changes, in milliseconds. */
  readonly pauseMs: number;
}

/** What came of an episode. */
export interface Outcome {
  readonly published: number;
  readonly codes: readonly number[];
  readonly drilled: number;
  readonly detail: string;
}

/** A subject with a target of its own, on which episodes take place one after the other. */
export class Stage {
  private target: string | undefined;
  private episodes = 0;

  public constructor(private readonly subject: Subject) {}

  /** @throws Error that says which promise was broken */
  public async play(fault: Fault, load: Load): Promise<Outcome> {
    const { subject } = this;
    if (fault.targetBytes !== undefined || fault.spoils === true) this.leave();
    const target = (this.target ??= makeTarget(subject.synthesised, { bytes: fault.targetBytes ?? ROOMY }));
    passLease(target);
    const before = new Set(this.published(target).map(({ name }) => name));
    const results = await this.backUp(target, fault, load);
    const codes = results.map(({ exitCodes }) => exitCodes["runner"] ?? -1);
    const fresh = this.published(target).filter(({ name }) => !before.has(name));
    const successes = codes.filter((code) => code === 0).length;
    const logs = (): string => results.map((result) => result.logs["runner"]).join("\n");
    if (successes > fresh.length) throw new Error(`${successes} runs ended well, but ${fresh.length} generations are new\n${logs()}`);
    for (const generation of fresh) {
      checkWhole(generation);
      if (load.name === "none") await subject.restoreEqual(generation);
    }
    const newest = fresh.at(-1);
    let detail = fault.detail;
    let drilled = 0;
    if (newest !== undefined && this.hasDrill) {
      if (fault.damage !== undefined) detail = fault.damage(newest);
      await this.judge(target, newest, fault.damage === undefined);
      drilled = 1;
    }
    if (fault.spoils === true || ++this.episodes >= EPISODES_A_TARGET) this.leave();
    return { published: fresh.length, codes, drilled, detail };
  }

  /** Lets go of the target. */
  public leave(): void {
    if (this.target !== undefined) unmount(this.target);
    this.target = undefined;
    this.episodes = 0;
  }

  private optionsFor(target: string, more: CronJobOptions = {}): CronJobOptions {
    const { options } = this.subject;
    return { timeoutSeconds: 120, ...options, ...more, volumes: { ...options.volumes, [TARGET_CLAIM]: target } };
  }

  private published(target: string): readonly FoundGeneration[] {
    return generationsOn(this.subject.synthesised, target);
  }

  private get drill(): string {
    return `${findCronJob(this.subject.synthesised).name}-drill`;
  }

  private get hasDrill(): boolean {
    return findCronJob(this.subject.synthesised).resources.names("kubernetes_cron_job_v1").includes(this.drill);
  }

  /** The backup, or two at once, with the fault and under the load. */
  private async backUp(target: string, fault: Fault, load: Load): Promise<readonly PodResult[]> {
    const writer = this.startLoad(load);
    let undo: (() => void | Promise<void>) | undefined;
    try {
      const pods = Array.from({ length: fault.twice === true ? 2 : 1 }, () =>
        startCronJob(this.subject.synthesised, this.optionsFor(target, fault.options)),
      );
      const [pod] = pods;
      if (pod !== undefined) undo = await fault.during?.(pod, target);
      return await Promise.all(pods.map(({ done }) => done));
    } finally {
      await undo?.();
      await writer.stop();
    }
  }

  private startLoad({ name, pauseMs }: Load): { stop(): Promise<void> } {
    const { load } = this.subject;
    if (load === undefined || name === "none") return { stop: () => Promise.resolve() };
    let over = false;
    const work = (async () => {
      for (let round = 0; !over; round++) {
        await load.write(round).catch(() => undefined); // the fault may have stopped its server
        await sleep(pauseMs);
      }
    })();
    return {
      stop: async () => {
        over = true;
        await work;
        await load.undo();
      },
    };
  }

  /** Drills the target, and holds the verdict against what is known of the generation. */
  private async judge(target: string, generation: FoundGeneration, sound: boolean): Promise<void> {
    const result = await runCronJob(this.subject.synthesised, this.optionsFor(target, { name: this.drill }));
    const path = generation.path + VERDICT;
    const verdict = existsSync(path) ? (JSON.parse(readFileSync(path, "utf8")) as Verdict) : undefined;
    const green = result.ok && verdict?.green === true;
    if (green === sound) return;
    // Written under a clock that was days behind, it says that it is old, and its content was compared before that was said.
    if (sound && Date.now() - Date.parse(generation.manifest.startedAt) > RPO_MS && AGE.test(verdict?.reason ?? "")) return;
    const what = sound ? "a sound generation was not proven" : "a damaged generation was proven";
    throw new Error(`${what}: ${generation.name}\n${Object.values(result.logs).join("\n")}`);
  }
}

/** Lets the lease of a killed run end, as it has when a schedule's next run begins: nobody waits minutes for it here. */
function passLease(target: string): void {
  const long = Date.now() / 1000 - 86_400;
  const locks = readdirSync(target, { recursive: true, encoding: "utf8" }).filter((path) => /(^|\/)\.lock\.\d+$/.test(path));
  for (const lock of locks) utimesSync(join(target, lock), long, long);
}

/** @throws Error unless every file of a published generation is there with its size */
function checkWhole({ name, path, manifest }: FoundGeneration): void {
  for (const { path: file, bytes } of manifest.files) {
    const { size } = statSync(join(path, file));
    if (size !== bytes) throw new Error(`${name} was published with ${file} of ${size} bytes instead of ${bytes}`);
  }
}
