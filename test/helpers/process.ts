/** Starts and stops the servers of the tests, and makes directories for them. */
import { chmodSync, chownSync, existsSync, lchownSync, lstatSync, mkdtempSync, readdirSync } from "node:fs";
import { spawn } from "node:child_process";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { hostProgram } from "./pod/image";

/** When a server counts as started; all that are given must hold. */
export interface Ready {
  /** It accepts connections on this port of 127.0.0.1. */
  readonly port?: number;
  /** This file exists (a socket, a pid file). */
  readonly file?: string;
  /** It has printed this. */
  readonly log?: RegExp;
}

export interface ProcessOptions {
  /** Program on the host, by name or absolute path. */
  readonly command: string;
  readonly args?: readonly string[];
  /** @default - PATH, HOME and TMPDIR of the tests */
  readonly env?: { readonly [name: string]: string };
  readonly cwd?: string;
  /** Runs as this uid, and as the gid of the same number unless one is given. @default 0 */
  readonly uid?: number;
  readonly gid?: number;
  /** @default - not waited for */
  readonly ready?: Ready;
  /** Seconds to wait for {@link Ready}. @default 30 */
  readonly timeoutSeconds?: number;
}

/** A process of the host that a test started. */
export interface ManagedProcess {
  readonly pid: number;
  /** Standard output and standard error so far. */
  log(): string;
  /** Resolves with the exit status, or the signal's name, once it has ended. */
  readonly exited: Promise<number | NodeJS.Signals>;
  /** Sends a signal and waits for the end; after 10 seconds, KILL. @param signal @default "SIGTERM" */
  stop(signal?: NodeJS.Signals): Promise<void>;
}

/** Starts a server and waits until it is ready. @throws with its log, if it ends before or is not ready in time */
export async function startProcess(options: ProcessOptions): Promise<ManagedProcess> {
  const command = options.command.startsWith("/") ? options.command : hostProgram(options.command);
  const child = spawn(command, options.args ?? [], {
    env: options.env ?? { PATH: "/usr/sbin:/usr/bin:/sbin:/bin", HOME: "/tmp", TMPDIR: tmpdir(), LC_ALL: "C.UTF-8" },
    stdio: ["ignore", "pipe", "pipe"],
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
    ...(options.uid === undefined ? {} : { uid: options.uid, gid: options.gid ?? options.uid }),
  });
  let log = "";
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding("utf8");
    stream.on("data", (chunk: string) => {
      log += chunk;
    });
  }
  let ended = false;
  const exited = new Promise<number | NodeJS.Signals>((resolve, reject) => {
    child.on("error", (error) => {
      ended = true;
      reject(error);
    });
    child.on("exit", (code, signal) => {
      ended = true;
      resolve(signal ?? code ?? -1);
    });
  });
  exited.catch(() => undefined); // reported below, or where the caller waits for it
  const stop = async (signal: NodeJS.Signals = "SIGTERM"): Promise<void> => {
    if (ended) return;
    child.kill(signal);
    const hard = setTimeout(() => child.kill("SIGKILL"), 10_000);
    await exited.finally(() => clearTimeout(hard));
  };
  try {
    await waitFor(
      async () => {
        if (ended) throw new Error(`${command} ended with ${String(await exited)}`);
        return isReady(options.ready ?? {}, log);
      },
      `${command} to be ready`,
      options.timeoutSeconds ?? 30,
    );
  } catch (error) {
    await stop("SIGKILL").catch(() => undefined);
    throw new Error(`${String(error)}\n${log}`, { cause: error });
  }
  return { pid: child.pid ?? -1, log: () => log, exited, stop };
}

async function isReady(ready: Ready, log: string): Promise<boolean> {
  if (ready.log !== undefined && !ready.log.test(log)) return false;
  if (ready.file !== undefined && !existsSync(ready.file)) return false;
  return ready.port === undefined || accepts(ready.port);
}

/** Whether something accepts connections on a port of 127.0.0.1. */
export function accepts(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, "127.0.0.1");
    socket.on("connect", () => {
      socket.destroy();
      resolve(true);
    });
    socket.on("error", () => resolve(false));
  });
}

/** Asks every `everyMs`. @throws after `seconds`, naming `what` */
export async function waitFor(condition: () => boolean | Promise<boolean>, what: string, seconds = 30, everyMs = 20): Promise<void> {
  const end = Date.now() + seconds * 1000;
  while (!(await condition())) {
    if (Date.now() > end) throw new Error(`waited ${seconds} s for ${what}`);
    await new Promise((resolve) => setTimeout(resolve, everyMs));
  }
}

export interface Finished {
  /** Exit status; 128 + n after signal n is not made up: `null` then. */
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs a program of the host to its end. @throws with its standard error unless it ends with 0, or `mayFail` */
export function run(
  command: string,
  args: readonly string[],
  options: Pick<ProcessOptions, "env" | "cwd" | "uid" | "gid"> & { readonly input?: string; readonly mayFail?: boolean } = {},
): Promise<Finished> {
  return new Promise((resolve, reject) => {
    const child = spawn(command.startsWith("/") ? command : hostProgram(command), args, {
      env: { PATH: "/usr/sbin:/usr/bin:/sbin:/bin", HOME: "/tmp", TMPDIR: tmpdir(), LC_ALL: "C.UTF-8", ...options.env },
      stdio: "pipe",
      ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
      ...(options.uid === undefined ? {} : { uid: options.uid, gid: options.gid ?? options.uid }),
    });
    const text = { stdout: "", stderr: "" };
    for (const name of ["stdout", "stderr"] as const) {
      child[name].setEncoding("utf8");
      child[name].on("data", (chunk: string) => {
        text[name] += chunk;
      });
    }
    child.stdin.on("error", () => undefined); // it need not read its input
    child.stdin.end(options.input ?? "");
    child.on("error", reject);
    child.on("close", (status) => {
      if (status === 0 || options.mayFail === true) resolve({ status, ...text });
      else reject(new Error(`${command} ${args.join(" ")} ended with ${status}: ${text.stderr}${text.stdout}`.slice(0, 4000)));
    });
  });
}

/** A new empty directory; it is removed when the tests end. @param uid its owner @default 0 */
export function temporaryDirectory(purpose = "test", uid = 0): string {
  const path = mkdtempSync(join(tmpdir(), `${purpose}-`));
  chmodSync(path, 0o755);
  chownSync(path, uid, uid);
  return path;
}

/** Changes the owner of everything at and below a path, as an application's volume would have it; follows no link. */
export function chownTree(path: string, uid: number, gid = uid): void {
  lchownSync(path, uid, gid);
  if (!lstatSync(path).isDirectory()) return;
  for (const name of readdirSync(path)) chownTree(join(path, name), uid, gid);
}
