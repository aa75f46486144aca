import type { CronJobOptions, RunningPod } from "../helpers/pod";
import type { FoundGeneration } from "../helpers/pod/target";
import type { Random } from "../helpers/random";
import type { Subject } from "../helpers/subjects/subject";
import { spawnSync } from "node:child_process";
import { chmodSync, readdirSync, readFileSync, readlinkSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { hostProgram } from "../helpers/pod";
import { temporaryDirectory } from "../helpers/process";

/** What a fault may do to one backup. */
export interface Fault {
  /** Its details, for the line that tells of the episode. */
  readonly detail: string;
  /** Options that the pod is started with. */
  readonly options?: CronJobOptions;
  /** Size of the target in bytes. @default - roomy */
  readonly targetBytes?: number;
  /** Starts a second run at the same moment. */
  readonly twice?: boolean;
  /** The target is of no use to the next episode. */
  readonly spoils?: boolean;
  /** Happens while the pod runs; returns what undoes it. */
  readonly during?: (pod: RunningPod, target: string) => Promise<(() => void | Promise<void>) | undefined>;
  /** Damages a published generation, whose verdict must then be red. */
  readonly damage?: (generation: FoundGeneration) => string;
}

/** The longest that a fault waits, in milliseconds; most backups of the subjects take less. */
const LATEST = 1500;

/** When a fault happens, milliseconds after the containers have started. Earlier ones are likelier, as most backups are short. */
function moment(random: Random): number {
  return Math.floor(random.next() ** 2 * LATEST);
}

/** Makes a fault for a subject; undefined where it cannot happen to that. */
export type MakeFault = (random: Random, subject: Subject) => Fault | undefined;

/** Every kind of fault, by name. */
export const FAULTS: { readonly [name: string]: MakeFault } = {
  none: () => ({ detail: "" }),

  kill: (random, subject) => {
    const engine = subject.producer !== undefined;
    const who = random.pick(engine ? ["runner", "engine", "producer"] : ["runner"]);
    const afterMs = moment(random);
    const kill = who === "producer" ? { container: "engine", process: subject.producer?.program ?? "" } : { container: who };
    return { detail: `${who} at ${afterMs} ms`, options: { kill: { ...kill, afterMs } } };
  },

  term: (random) => {
    const afterMs = moment(random);
    return { detail: `at ${afterMs} ms`, options: { kill: { signal: "SIGTERM", afterMs } } };
  },

  full: (random) => {
    const targetBytes = random.between(64 << 10, 6 << 20);
    return { detail: `${targetBytes >> 10} KiB`, targetBytes, spoils: true };
  },

  slow: (random) => {
    const pauses = Array.from({ length: random.between(2, 8) }, () => [random.between(20, 300), random.between(50, 700)] as const);
    const during: Fault["during"] = async (pod) => {
      for (const [runs, stands] of pauses) {
        await sleep(runs);
        if (pod.kill({ container: "runner", signal: "SIGSTOP" }) === 0) break;
        await sleep(stands);
        pod.kill({ container: "runner", signal: "SIGCONT" });
      }
      return undefined;
    };
    return { detail: `${pauses.length} pauses`, during };
  },

  backend: (random, subject) => {
    const fault = random.pick(subject.sourceFaults.filter(({ slow }) => slow !== true));
    const at = moment(random);
    const during: Fault["during"] = async () => {
      await sleep(at);
      return fault.inject();
    };
    return { detail: `${fault.name} from ${at} ms on`, during };
  },

  readonly: (random) => {
    const at = moment(random);
    const during: Fault["during"] = async (_, target) => {
      await sleep(at);
      // As after an error of a journal, or when somebody sets the export so.
      const set = (mode: "ro" | "rw"): number | null => spawnSync("mount", ["-o", `remount,${mode}`, target]).status;
      for (let tries = 0; set("ro") !== 0 && tries < 200; tries++) await sleep(5); // busy while a file is open for writing
      return () => {
        if (set("rw") !== 0) throw new Error(`cannot mount ${target} for writing again`);
      };
    };
    return { detail: `from ${at} ms on`, during };
  },

  unmounted: (random) => {
    const at = moment(random);
    const during: Fault["during"] = async () => {
      await sleep(at);
      for (const pid of runners()) spawnSync("nsenter", [`--mount=/proc/${pid}/ns/mnt`, "umount", "-l", "/backup"]);
      return undefined;
    };
    return { detail: `at ${at} ms`, during, spoils: true };
  },

  clock: (random) => {
    const at = moment(random);
    const hours = random.pick([-8766, -48, -1, 1, 48, 8766]);
    const shift = `const real=Date.now,start=real();Date.now=()=>real()+(real()-start>${at}?${hours * 3_600_000}:0);
      const D=Date;globalThis.Date=class extends D{constructor(...a){a.length?super(...a):super(D.now())}}`;
    const node = join(temporaryDirectory("clock"), "node");
    const code = `data:text/javascript;base64,${Buffer.from(shift).toString("base64")}`;
    writeFileSync(node, `#!/bin/sh\nexec node.real --import "${code}" "$@"\n`);
    chmodSync(node, 0o755);
    const options = { programs: { node, "node.real": hostProgram("node") } };
    return { detail: `${hours} h at ${at} ms`, options, spoils: true };
  },

  twice: () => ({ detail: "", twice: true }),

  damage: (random) => ({
    detail: "",
    spoils: true,
    damage: ({ path, manifest }) => {
      const files = manifest.files.filter(({ bytes }) => bytes > 0);
      const { path: name, bytes } = random.pick(files);
      const at = random.between(0, bytes - 1);
      const file = join(path, name);
      const how = random.pick(["flip", "cut", "zero"]);
      if (how === "cut") truncateSync(file, at);
      else {
        const content = readFileSync(file);
        const before = content[at] ?? 0;
        content[at] = how === "flip" || before === 0 ? before ^ (1 << random.between(0, 7)) : 0;
        const { mode } = statSync(file);
        writeFileSync(file, content, { mode });
      }
      return `${how} ${name} at ${at} of ${bytes}`;
    },
  }),
};

/** Processes that run the runner of a backup, in whatever sandbox. */
function runners(): readonly string[] {
  return readdirSync("/proc").filter((pid) => {
    try {
      if (!/^\d+$/.test(pid) || !readFileSync(`/proc/${pid}/cmdline`, "utf8").includes("runner.js\0backup")) return false;
      return readlinkSync(`/proc/${pid}/exe`).includes("node");
    } catch {
      return false; // it is gone
    }
  });
}
