import { closeSync, constants, fchownSync, openSync, readdirSync, readFileSync, readlinkSync } from "node:fs";
import { spawn, spawnSync } from "node:child_process";
import { Socket } from "node:net";
import { join } from "node:path";
import type { Image } from "./image";
import { hostProgram } from "./image";

/** Libraries and data that programs of any image need; never a directory of programs on PATH. */
const SHARED = [
  ["/usr/lib", "/usr/lib"],
  ["/usr/lib64", "/usr/lib64"],
  ["/usr/share/zoneinfo", "/usr/share/zoneinfo"],
  ["/usr/share/postgresql", "/usr/share/postgresql"],
  ["/usr/share/mysql", "/usr/share/mysql"],
  ["/usr/share/mariadb", "/usr/share/mariadb"],
  ["/usr/share/ca-certificates", "/usr/share/ca-certificates"],
  ["/etc/ssl", "/etc/ssl"],
] as const;

/** What a container runtime leaves a container that drops nothing (containerd's default set). */
const DEFAULT_CAPABILITIES = [
  "chown", "dac_override", "fsetid", "fowner", "mknod", "net_raw", "setgid", "setuid", "setfcap", "setpcap", "net_bind_service",
  "sys_chroot", "kill", "audit_write",
]; // prettier-ignore

/** One directory or file of the host at a path of the container. */
export interface Mount {
  readonly at: string;
  /** `undefined`: an empty directory of the container's own root. */
  readonly from: string | undefined;
  readonly readOnly: boolean;
}

export interface SandboxSpec {
  readonly name: string;
  readonly hostname: string;
  readonly argv: readonly string[];
  readonly env: { readonly [name: string]: string };
  readonly cwd: string;
  readonly uid: number;
  readonly gid: number;
  readonly groups: readonly number[];
  readonly readOnlyRoot: boolean;
  /** Capabilities that are dropped and added, in Kubernetes' names (`ALL`, `NET_RAW`). */
  readonly drop: readonly string[];
  readonly add: readonly string[];
  readonly image: Image;
  /** Directory on the host with the files of /etc, and their names. */
  readonly etc: { readonly directory: string; readonly files: readonly string[] };
  readonly mounts: readonly Mount[];
  /** A FIFO on the host that becomes standard output and standard error. */
  readonly logPipe: string;
}

/** A container that was started. */
export interface Container {
  readonly name: string;
  /** Everything it has printed so far. */
  log(): string;
  /** Sends a signal to its process 1, or to the processes of a given name in it. Returns how many got it. */
  signal(signal: NodeJS.Signals, process?: string): number;
  /** True until it has ended. */
  running(): boolean;
  /** Resolves when process 1 runs, and the pid on the host is known. */
  readonly started: Promise<void>;
  /** The exit code; 128 + n after signal n, as a container runtime reports it. */
  readonly exit: Promise<number>;
  onLog(listener: () => void): void;
}

/** Makes the FIFOs that containers print into: real pipes, since programs may open /dev/stderr again, which a socket refuses. */
export function makePipes(paths: readonly string[]): void {
  const { status, stderr } = spawnSync(hostProgram("mkfifo"), paths.map(String), { encoding: "utf8" });
  if (status !== 0) throw new Error(`mkfifo: ${stderr}`);
}

/** Runs a container's process as process 1 of a sandbox. */
export function startSandbox(spec: SandboxSpec): Container {
  const reading = openSync(spec.logPipe, constants.O_RDONLY | constants.O_NONBLOCK);
  const writing = openSync(spec.logPipe, constants.O_WRONLY);
  fchownSync(writing, spec.uid, spec.gid);
  const child = spawn(hostProgram("bwrap"), bwrapArguments(spec), { env: spec.env, cwd: "/", stdio: ["ignore", writing, writing, "pipe"] });
  closeSync(writing);

  let log = "";
  let pid: number | undefined;
  let running = true;
  const early: NodeJS.Signals[] = [];
  const listeners: (() => void)[] = [];
  const output = new Socket({ fd: reading, readable: true, writable: false });
  output.setEncoding("utf8");
  output.on("data", (chunk: string) => {
    log += chunk;
    for (const listener of listeners) listener();
  });
  const drained = new Promise<void>((resolve) => {
    output.on("close", () => resolve());
    output.on("error", () => resolve());
  });

  const started = new Promise<void>((resolve) => {
    let status = "";
    child.stdio[3]?.on("data", (chunk: Buffer) => {
      status += chunk.toString();
      const found = /"child-pid": (\d+)/.exec(status)?.[1];
      if (found === undefined || pid !== undefined) return;
      pid = Number(found);
      for (const signal of early) send(pid, signal);
      resolve();
    });
    child.on("exit", () => resolve());
  });

  const exit = new Promise<number>((resolve, reject) => {
    child.on("error", reject);
    child.on("exit", (code, signal) => {
      running = false;
      // Ends with the last writer; a sandbox leaves none behind, because its process 1 takes all others with it.
      void drained.then(() => {
        if (signal !== null) reject(new Error(`container ${spec.name}: the sandbox itself was ended by ${signal}`));
        else if (/^bwrap: /m.test(log)) reject(new Error(`container ${spec.name} could not be started: ${log.trim()}`));
        else resolve(code ?? -1);
      });
    });
  });

  return {
    name: spec.name,
    log: () => log,
    running: () => running,
    started,
    exit,
    onLog: (listener) => void listeners.push(listener),
    signal: (signal, name) => {
      if (!running) return 0;
      if (pid === undefined && name === undefined) early.push(signal);
      if (pid === undefined) return name === undefined ? 1 : 0;
      const targets = name === undefined ? [pid] : processesNamed(name, pid);
      return targets.filter((target) => send(target, signal)).length;
    },
  };
}

function send(pid: number, signal: NodeJS.Signals): boolean {
  try {
    return process.kill(pid, signal);
  } catch {
    return false; // it ended in the meantime
  }
}

/** Processes of that name in the process namespace of `pid`. */
function processesNamed(name: string, pid: number): readonly number[] {
  const namespaceOf = (process: string | number): string => readlinkSync(`/proc/${process}/ns/pid`);
  return readdirSync("/proc")
    .filter((entry) => /^\d+$/.test(entry))
    .filter((entry) => {
      try {
        return readFileSync(`/proc/${entry}/comm`, "utf8").trim() === name.slice(0, 15) && namespaceOf(entry) === namespaceOf(pid);
      } catch {
        return false; // it ended in the meantime
      }
    })
    .map(Number);
}

function bwrapArguments(spec: SandboxSpec): string[] {
  const capabilities = capabilitiesOf(spec);
  return [
    // The container's command is process 1 of its own namespace: TERM reaches only a program that handles it, and KILL ends all.
    ...["--unshare-pid", "--as-pid-1", "--unshare-ipc", "--unshare-uts", "--hostname", spec.hostname, "--new-session", "--die-with-parent"],
    ...["setuid", "setgid", "setpcap", ...capabilities].flatMap((name) => ["--cap-add", `CAP_${name.toUpperCase()}`]),
    // Named one by one, because bwrap makes parents that nobody but root may enter.
    ...["/usr", "/usr/share", "/etc", "/var", "/.pod"].flatMap((directory) => ["--dir", directory]),
    ...SHARED.flatMap(([from, at]) => ["--ro-bind-try", from, at]),
    ...["--symlink", "usr/lib", "/lib", "--symlink", "usr/lib64", "/lib64"],
    ...["--ro-bind", spec.image.bin, "/usr/bin", "--symlink", "usr/bin", "/bin", "--symlink", "bin", "/usr/sbin"],
    ...[...spec.image.binds].flatMap(([name, from]) => ["--ro-bind", from, `/usr/bin/${name}`]),
    ...["--ro-bind", hostProgram("setpriv"), "/.pod/setpriv"],
    ...spec.etc.files.flatMap((name) => ["--ro-bind", join(spec.etc.directory, name), `/etc/${name}`]),
    ...["--proc", "/proc", "--dev", "/dev", "--perms", "1777", "--tmpfs", "/dev/shm"],
    ...["--perms", "1777", "--dir", "/tmp", "--perms", "1777", "--dir", "/var/tmp", "--dir", "/run", "--dir", "/root"],
    ...spec.mounts.flatMap(({ at, from, readOnly }) => [
      ...parents(at).flatMap((directory) => ["--dir", directory]),
      ...(from === undefined ? ["--perms", "0777", "--dir", at] : [readOnly ? "--ro-bind" : "--bind", from, at]),
    ]),
    ...(spec.readOnlyRoot ? ["--remount-ro", "/"] : []),
    ...["--chdir", spec.cwd, "--json-status-fd", "3", "--"],
    ...["/.pod/setpriv", "--reuid", String(spec.uid), "--regid", String(spec.gid)],
    ...(spec.groups.length === 0 ? ["--clear-groups"] : ["--groups", spec.groups.join(",")]),
    ...["--inh-caps=-all", `--bounding-set=${["-all", ...capabilities.map((name) => `+${name}`)].join(",")}`, "--"],
    ...spec.argv,
  ];
}

/** `/a`, `/a/b` of `/a/b/c`. */
function parents(path: string): readonly string[] {
  const parts = path.split("/").slice(1, -1);
  return parts.map((_, index) => `/${parts.slice(0, index + 1).join("/")}`);
}

function capabilitiesOf({ drop, add }: SandboxSpec): readonly string[] {
  const dropped = new Set(drop.map((name) => name.toLowerCase()));
  const kept = dropped.has("all") ? [] : DEFAULT_CAPABILITIES.filter((name) => !dropped.has(name));
  return [...new Set([...kept, ...add.map((name) => name.toLowerCase())])];
}
