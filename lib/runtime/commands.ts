import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { AgentError } from "./agent";
import { backup, targetSamples, type BackupContext } from "./backup-run";
import type { Engine } from "./engine";
import { integrity, INTEGRITY, integritySamples, type IntegrityCheck } from "./integrity-run";
import { log, reasonOf } from "./log";
import { METRICS, type Sample } from "./metrics";
import { PodAgent } from "./pod-agent";
import { push } from "./pushgateway";
import { CONFIG_DIRECTORY, EXCHANGE_DIRECTORY, SCRATCH_DIRECTORY, type Settings } from "./settings";
import type { Mounted } from "./target";
import { unlessAborted, within } from "./within";

const HELP = `usage: node runner.js <command>

commands:
  backup            make a generation of the backup that settings.json declares
  check-integrity   check a live SQLite database and report the result

exit codes:
  0    done, or not due today
  1    failed, the last line says why; of check-integrity: the database is corrupt
  2    of check-integrity: the database could not be checked
  64   unknown command
  75   another run holds the lock; nothing was done, nothing reported
  143  stopped by TERM or INT
`;

const EXIT = { done: 0, "not due": 0, failed: 1, usage: 64, busy: 75, terminated: 143 } as const;
/** What was told to stop and has not by then is left behind, so that its end can still be reported. */
const GRACE_MS = 4000;
/** For each of the last words of a run that was told to stop: a look at the target, and the report. */
const LAST_WORD_MS = 3000;

class Terminated extends Error {}

/** Where things are in the runner's container. */
export interface Paths {
  readonly config: string;
  readonly exchange: string;
  readonly scratch: string;
}

/** What a runner is made of; each engine has one that holds no other's code. */
export interface Parts {
  readonly engineFor: (settings: Settings) => Engine;
  /** Absent in the runner of an engine that has no such check. */
  readonly checkIntegrity?: IntegrityCheck;
  /** Tells a mount point. @default - asks the kernel */
  readonly mounted?: Mounted;
}

/** The runner's program, from its arguments to its exit code. */
export function start(parts: Parts): void {
  // Calls that a file server does not answer must not keep all others from a thread. Read when the pool is first used.
  process.env.UV_THREADPOOL_SIZE ??= "16";
  const paths = { config: CONFIG_DIRECTORY, exchange: EXCHANGE_DIRECTORY, scratch: SCRATCH_DIRECTORY };
  void runCommand(process.argv[2], paths, parts).then(end);
}

/** Runs a command to its exit code. Never throws. */
export async function runCommand(command: string | undefined, paths: Paths, parts: Parts): Promise<number> {
  if (command === "--help" || command === "-h") {
    process.stdout.write(HELP);
    return EXIT.done;
  }
  const { checkIntegrity } = parts;
  if (command !== "backup" && (command !== "check-integrity" || checkIntegrity === undefined)) {
    process.stderr.write(`unknown command ${JSON.stringify(command ?? "")}\n\n${HELP}`);
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
    return command === "backup" ? EXIT.failed : INTEGRITY.unknown;
  }
  if (command === "check-integrity" && checkIntegrity !== undefined) return runIntegrityCheck(settings, checkIntegrity, control.signal);
  return runBackup(settings, paths, parts, control);
}

async function runBackup(settings: Settings, { exchange, scratch }: Paths, parts: Parts, control: AbortController): Promise<number> {
  const { mounted } = parts;
  const started = Date.now();
  const { signal } = control;
  let code: number;
  try {
    // First of all: the engine's container waits for its pipes, and has nothing else to end it.
    const onDeath = (error: Error): void => control.abort(error);
    const agent = existsSync(exchange) ? new PodAgent({ exchange, signal, log, onDeath }) : undefined;
    const jobName = process.env.JOB_NAME;
    const context: BackupContext = { settings, engine: parts.engineFor(settings), agent, jobName, scratch, control, log, mounted };
    const outcome = await unlessAborted(signal, GRACE_MS, backup(context));
    if (outcome !== "done") return EXIT[outcome];
    code = EXIT.done;
  } catch (error) {
    const failure = verdict(error, signal);
    log(`backup failed: ${failure.reason}`);
    code = failure.code;
  }
  const now = Date.now();
  const target = within(LAST_WORD_MS, "the target does not answer", targetSamples(settings, now, mounted));
  await report(settings, signal, [
    [METRICS.lastRun, Math.floor(now / 1000)],
    [METRICS.lastExitCode, code],
    [METRICS.duration, (now - started) / 1000],
    ...(await target.catch(() => [])),
  ]);
  return code;
}

async function runIntegrityCheck(settings: Settings, check: IntegrityCheck, signal: AbortSignal): Promise<number> {
  try {
    const { state, samples } = await unlessAborted(signal, 0, integrity(settings, check, log));
    await report(settings, signal, samples);
    return INTEGRITY[state];
  } catch (error) {
    const { code, reason } = verdict(error, signal);
    log(`integrity check failed: ${reason}`);
    await report(settings, signal, integritySamples("unknown"));
    return code === EXIT.terminated ? code : INTEGRITY.unknown;
  }
}

/** Being told to stop is the reason for whatever follows it; else a tool's own words say more than the signal they set off. */
function verdict(error: unknown, signal: AbortSignal): { readonly code: number; readonly reason: string } {
  const cause: unknown = signal.aborted && !(error instanceof AgentError) ? signal.reason : error;
  if (process.env.DEBUG !== undefined && cause instanceof Error) process.stderr.write(`${cause.stack}\n`);
  if (signal.reason instanceof Terminated) return { code: EXIT.terminated, reason: signal.reason.message };
  return { code: EXIT.failed, reason: reasonOf(cause) };
}

/** A report that does not get through changes nothing about the run. */
async function report(settings: Settings, signal: AbortSignal, samples: readonly Sample[]): Promise<void> {
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
