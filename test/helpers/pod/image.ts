import { chmodSync, existsSync, mkdirSync, mkdtempSync, readdirSync, realpathSync, symlinkSync, writeFileSync } from "node:fs";
import { spawnSync } from "node:child_process";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";

/** The shell that is `/bin/sh` of an image; `busybox` stands for Alpine, whose small tools are then busybox's too. */
export type Shell = "dash" | "busybox" | "bash";

/** What a container's image holds, as far as a program can see. */
export interface ImageProfile {
  /** The external programs in it, by name. `sh` is always there. Nothing else is on PATH. */
  readonly tools: readonly string[];
  /** Programs that are not the host's of that name (a double, another version), in it besides the tools: name to path on the host. */
  readonly programs?: { readonly [tool: string]: string };
  /** Every applet of Alpine's busybox. @default false */
  readonly alpine?: boolean;
  /** @default - the shell of the run's options */
  readonly shell?: Shell;
  /** Users of its /etc/passwd besides root and nobody, by name. */
  readonly users?: { readonly [name: string]: number };
  /** Uid it runs as where the pod names none. @default 0 */
  readonly user?: number;
  /** Variables that the image sets. */
  readonly env?: { readonly [name: string]: string };
  /** What runs where the container has no `command`. */
  readonly entrypoint?: readonly string[];
}

const PROJECT = resolve(__dirname, "../../..");
const NODE = join(PROJECT, "node_modules/node/bin/node");

/** `docker.io/library/node:<version>-alpine`: Node 24 and busybox. */
export const NODE_ALPINE: ImageProfile = {
  tools: ["node"],
  programs: { node: NODE },
  alpine: true,
  shell: "busybox",
  users: { node: 1000 },
  env: { NODE_VERSION: "24.21.0" },
};

/** Programs of Alpine 3.22's busybox that this harness offers where the host's busybox has them too. */
const ALPINE_APPLETS = `[ [[ arch ash awk base64 basename bc bunzip2 bzcat bzip2 cat chgrp chmod chown chroot cksum clear cmp comm cp cpio
  cut date dc dd df diff dirname dmesg dos2unix du echo egrep env expand expr factor fallocate false fgrep find flock fold free fsync fuser
  getopt grep groups gunzip gzip head hexdump hostid hostname id install ionice ipcs kill killall ln ls lsof lzcat lzma md5sum
  mkdir mkfifo mknod mktemp more mountpoint mv nc nice nl nohup nproc nslookup od paste pgrep pidof ping pkill printenv printf ps pwd
  readlink realpath renice reset rev rm rmdir sed seq setsid sha1sum sha256sum sha512sum shred shuf sleep sort split stat strings stty
  sum sync tac tail tar tee test time timeout top touch tr traceroute tree true truncate tty uname unexpand uniq unix2dos unlink unlzma
  unxz unzip usleep uuencode vi watch wc wget which whoami xargs xxd xz xzcat yes zcat`.split(/\s+/);

/** Where programs of Debian packages are, the unwrapped PostgreSQL ones first. */
function searchPath(): readonly string[] {
  const postgres = "/usr/lib/postgresql";
  const versions = existsSync(postgres) ? readdirSync(postgres).map((version) => join(postgres, version, "bin")) : [];
  return [...versions, "/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin"];
}

/** Path of a program on the host, by its own name, which some programs go by. @throws if no package that is installed has it */
export function hostProgram(name: string): string {
  for (const directory of searchPath()) {
    const candidate = join(directory, name);
    if (existsSync(candidate)) return candidate;
  }
  throw new Error(`the host has no program ${name}; test/engines/run.sh installs what the tests need`);
}

/** Programs that look for their libraries beside the directory that they were started from, and so have to be in their own. */
const AT_HOME = new Set(["initdb", "pg_ctl", "postgres"]);

let applets: ReadonlySet<string> | undefined;

function busyboxApplets(): ReadonlySet<string> {
  applets ??= new Set(spawnSync(hostProgram("busybox"), ["--list"], { encoding: "utf8" }).stdout.split("\n"));
  return applets;
}

/** An image made ready: its directory of programs on the host, and what has to be bound over the placeholders in it. */
export interface Image {
  /** Host directory that becomes /usr/bin. */
  readonly bin: string;
  /** Program of /usr/bin to the host's file. */
  readonly binds: ReadonlyMap<string, string>;
}

const ready = new Map<string, Image>();

/** The programs of an image as a directory, made once for each set of programs. */
export function prepareImage(profile: ImageProfile, shell: Shell): Image {
  const key = JSON.stringify([profile.tools, profile.programs, profile.alpine, shell]);
  const known = ready.get(key);
  if (known !== undefined) return known;
  const binds = new Map<string, string>();
  const atHome = new Map<string, string>();
  const links = new Set<string>(profile.alpine === true ? ALPINE_APPLETS.filter((name) => busyboxApplets().has(name)) : []);
  for (const tool of new Set([...profile.tools, ...Object.keys(profile.programs ?? {})])) {
    const given = profile.programs?.[tool];
    if (given !== undefined) binds.set(tool, realpathSync(given));
    else if (tool === "sh") continue;
    else if (AT_HOME.has(tool)) atHome.set(tool, hostProgram(tool));
    else if (shell === "busybox" && busyboxApplets().has(tool)) links.add(tool);
    else binds.set(tool, realpathSync(hostProgram(tool)));
  }
  if (shell === "busybox") links.add("sh");
  else binds.set("sh", realpathSync(hostProgram(shell)));
  if (links.size > 0) binds.set("busybox", realpathSync(hostProgram("busybox")));
  const bin = mkdtempSync(join(tmpdir(), "image-"));
  chmodSync(bin, 0o755);
  for (const name of binds.keys()) writeFileSync(join(bin, name), "", { mode: 0o755 });
  for (const [name, path] of atHome) writeFileSync(join(bin, name), `#!/bin/sh\nexec ${path} "$@"\n`, { mode: 0o755 });
  for (const name of links) if (!binds.has(name)) symlinkSync("busybox", join(bin, name));
  const image = { bin, binds };
  ready.set(key, image);
  return image;
}

/** The small files of /etc that every image has, on the host. */
export function writeEtc(directory: string, profile: ImageProfile, hosts: string): readonly string[] {
  mkdirSync(directory, { recursive: true });
  const users = Object.entries({ root: 0, ...profile.users, nobody: 65534 });
  const files: Record<string, string> = {
    passwd: users.map(([name, id]) => `${name}:x:${id}:${id}::${home(id)}:/bin/sh\n`).join(""),
    group: users.map(([name, id]) => `${name}:x:${id}:\n`).join(""),
    hosts,
    // No server answers on loopback, so a name that is not in the hosts file fails at once, as an unknown name does.
    "resolv.conf": "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n",
    "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
  };
  for (const [name, content] of Object.entries(files)) writeFileSync(join(directory, name), content);
  return Object.keys(files);
}

/** HOME of a uid in an image: `/root`, or `/` for one without a home. */
export function home(uid: number): string {
  return uid === 0 ? "/root" : "/";
}

/** Programs that a script says it needs: its line `# tools: name name ...`. */
export function declaredTools(script: string): readonly string[] {
  const line = /^# tools:(.*)$/m.exec(script)?.[1];
  return line === undefined ? [] : line.trim().split(/\s+/);
}
