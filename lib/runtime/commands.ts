import { readFileSync } from "node:fs";
import { join } from "node:path";
import { AgentError } from "./agent";
import { log, reasonOf } from "./log";
import type { Sample } from "./metrics";
import { push } from "./pushgateway";
import { CONFIG_DIRECTORY, EXCHANGE_DIRECTORY, SCRATCH_DIRECTORY, WORK_DIRECTORY, type Settings } from "./settings";
import type { Mounted } from "./target";

export const EXIT = { done: 0, "not due": 0, failed: 1, usage: 64, busy: 75, terminated: 143 } as const;
/** What was told to stop and has not by then is left behind, so that its end can still be reported. */
export const GRACE_MS = 4000;
/** For each of the last words of a run that was told to stop: a look at the target, and the report. */
export const LAST_WORD_MS = 3000;

class Terminated extends Error {}

/** Where things are in the runner's container. */
export interface Paths {
  readonly config: string;
  readonly exchange: string;
  readonly scratch: string;
  /** Shared with the engine's container where the two hand over files. */
  readonly work: string;
}

/** What a command works with. */
export interface CommandContext {
  readonly settings: Settings;
  readonly paths: Paths;
  /** Aborted by TERM, and by whatever else ends a run before its time; the reason says which. */
  readonly control: AbortController;
  /** Tells a mount point. @default - asks the kernel */
  readonly mounted?: Mounted;
}

/** One thing that the runner can be asked to do. */
export interface Command {
  /** For the usage, one line. */
  readonly help: string;
  /** Exit code where the settings cannot be read. @default 1 */
  readonly unreadable?: number;
  /** @returns the exit code; must not throw */
  readonly run: (context: CommandContext) => Promise<number>;
}

/** What a runner can be asked to do, by name. Each pod's runner has its own command alone. */
export interface Commands {
  readonly [name: string]: Command;
}

/** The runner's program, from its arguments to its exit code. */
export function start(commands: Commands): void {
  // Calls that a file server does not answer must not keep all others from a thread. Read when the pool is first used.
  process.env.UV_THREADPOOL_SIZE ??= "16";
  const paths = { config: CONFIG_DIRECTORY, exchange: EXCHANGE_DIRECTORY, scratch: SCRATCH_DIRECTORY, work: WORK_DIRECTORY };
  void runCommand(process.argv[2], paths, commands).then(end);
}

/** Runs a command to its exit code. Never throws. */
export async function runCommand(name: string | undefined, paths: Paths, commands: Commands, mounted?: Mounted): Promise<number> {
  if (name === "--help" || name === "-h") {
    process.stdout.write(usage(commands));
    return EXIT.done;
  }
  const command = name === undefined || !Object.hasOwn(commands, name) ? undefined : commands[name];
  if (command === undefined) {
    process.stderr.write(`unknown command ${JSON.stringify(name ?? "")}\n\n${usage(commands)}`);
    return EXIT.usage;
  }
  const control = new AbortController();
  for (const name of ["SIGTERM", "SIGINT"] as const) process.on(name, () => control.abort(new Terminated(`stopped by ${name}`)));
  for (const name of ["uncaughtException", "unhandledRejection"] as const) process.on(name, (error) => control.abort(error));
  // A promise that nothing will ever settle ends a Node program quietly, and well. Not this one.
  process.exitCode = EXIT.failed;
  process.on("beforeExit", () => control.abort(new Error("there is nothing left that could end what is waited for")));
  let settings: Settings;
  try {
    settings = readSettings(join(paths.config, "settings.json"));
  } catch (error) {
    log(`cannot read the settings: ${reasonOf(error)}`);
    return command.unreadable ?? EXIT.failed;
  }
  return command.run({ settings, paths, control, mounted });
}

function usage(commands: Commands): string {
  const lines = Object.entries(commands).map(([name, { help }]) => `  ${name.padEnd(16)}  ${help}\n`);
  return `usage: node runner.js <command>

commands:
${lines.join("")}
exit codes:
  0    done, or not due today
  1    failed, the last line says why
  64   unknown command
  75   another run holds the lock; nothing was done, nothing reported
  143  stopped by TERM or INT
`;
}

/** Being told to stop is the reason for whatever follows it; else a tool's own words say more than the signal they set off. */
export function verdictOf(error: unknown, signal: AbortSignal): { readonly code: number; readonly reason: string } {
  const cause: unknown = signal.aborted && !(error instanceof AgentError) ? signal.reason : error;
  if (process.env.DEBUG !== undefined && cause instanceof Error) process.stderr.write(`${cause.stack}\n`);
  if (signal.reason instanceof Terminated) return { code: EXIT.terminated, reason: signal.reason.message };
  return { code: EXIT.failed, reason: reasonOf(cause) };
}

/** Pushes metrics. A report that does not get through changes nothing about the run. */
export async function report(settings: Settings, signal: AbortSignal, samples: readonly Sample[]): Promise<void> {
  const options = signal.reason instanceof Terminated ? { attempts: 1, timeoutMs: LAST_WORD_MS } : {};
  await push(settings, samples, options).catch((error: unknown) => log(`metrics not pushed: ${reasonOf(error)}`));
}

/** @throws Error where the file is not what the construct rendered */
function readSettings(path: string): Settings {
  const settings = JSON.parse(readFileSync(path, "utf8")) as Settings;
  if (settings.formatVersion !== 1) throw new Error(`${path} must have the format version 1, but has ${String(settings.formatVersion)}`);
  return settings;
}

/** Ends the process, also where a thread of it hangs in a system call, as on a file server that does not answer. */
export function end(code: number): never {
  // An exit waits for such a thread for ever. Another program in the place of this one does not, and has the same exit code.
  if (process.getActiveResourcesInfo().some((name) => /^(FS|GetAddrInfo)Req/.test(name))) {
    process.execve?.(process.execPath, [process.execPath, "-e", `process.exitCode = ${code}`], {});
  }
  process.exit(code);
}
