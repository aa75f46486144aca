import { randomBytes } from "node:crypto";
import { mkdir, open, readFile, statfs, unlink } from "node:fs/promises";
import { join } from "node:path";
import { humanBytes } from "./progress";
import { reasonOf } from "./log";
import { SENTINEL, type TargetSettings } from "./settings";

/** How far the pod's and the file server's clocks may be apart before ages mean nothing. */
const MAX_CLOCK_SKEW_MS = 3_600_000;

/** Name of the file that a target is probed with. */
export const PROBE = ".probe-";

const CAUSES: { readonly [code: string]: string } = {
  EACCES: "permission denied",
  EPERM: "not permitted",
  EROFS: "exported or mounted read-only",
  ENOSPC: "no space left",
  EDQUOT: "quota exceeded",
  ENOENT: "does not exist",
  ESTALE: "the export was replaced while it was mounted",
  EIO: "input/output error",
};

export type Mounted = (path: string) => Promise<boolean>;

/** Tells a mount point from a directory of the pod's own file system. */
export async function isMountPoint(path: string): Promise<boolean> {
  const lines = (await readFile("/proc/self/mountinfo", "utf8")).split("\n");
  // Spaces and the like are octal in mountinfo; the runner's mount point has none.
  return lines.some((line) => line.split(" ")[4] === path);
}

/** Adds to an error of the file system what it means and the command that mends it. */
export function targetError(what: string, error: unknown, { prepare }: TargetSettings): Error {
  const code = errorCode(error);
  const why = code === undefined || CAUSES[code] === undefined ? reasonOf(error) : `${CAUSES[code]} (${code})`;
  const who = code === "EACCES" || code === "EPERM" ? ` as uid ${process.getuid?.()}, gid ${process.getgid?.()}` : "";
  return new Error(`${what}${who}: ${why}; ${mend(prepare)}`, { cause: error });
}

/** Code of an error of the operating system, also where it is the cause of another. */
export function errorCode(error: unknown): string | undefined {
  for (let e = error as NodeJS.ErrnoException | undefined; e != null; e = e.cause as typeof e) {
    const { code, syscall } = e;
    if (code !== undefined && syscall !== undefined) return code;
  }
  return undefined;
}

function mend(prepare: string): string {
  return `on the file server run: ${prepare}`;
}

/**
 * Proves that the target is the export it should be, and can be written, before anything else touches it.
 *
 * @returns the directory of the backup's generations, made where it was missing, and the file server's clock (milliseconds)
 * @throws Error that names the command which mends it
 */
export async function probeTarget(
  target: TargetSettings,
  mounted?: Mounted,
): Promise<{ readonly directory: string; readonly serverTime: number }> {
  await checkMount(target, mounted);
  const directory = join(target.mount, target.directory);
  try {
    await mkdir(directory, { recursive: true });
  } catch (error) {
    throw targetError(`cannot make ${directory}`, error, target);
  }
  try {
    return { directory, serverTime: await writeProbe(directory) };
  } catch (error) {
    throw targetError(`cannot write to ${directory}`, error, target);
  }
}

/** @throws Error unless the volume is mounted and is the export of this backup; writes nothing */
export async function checkMount(target: TargetSettings, mounted: Mounted = isMountPoint): Promise<void> {
  const { mount, prepare } = target;
  if (!(await mounted(mount))) throw new Error(`${mount} is not a mount point: the backup volume is not mounted; ${mend(prepare)}`);
  const path = join(target.mount, SENTINEL);
  let found: string;
  try {
    found = (await readFile(path, "utf8")).trim();
  } catch (error) {
    if (errorCode(error) === "ENOENT") {
      throw new Error(`${path} is missing: this is another export, or one that was never prepared; ${mend(prepare)}`, { cause: error });
    }
    throw targetError(`cannot read ${path}`, error, target);
  }
  if (found !== target.sentinel) {
    throw new Error(
      `${path} says ${JSON.stringify(found.slice(0, 100))} instead of ${JSON.stringify(target.sentinel)}: ` +
        `this export belongs to another backup; ${mend(prepare)}`,
    );
  }
}

async function writeProbe(directory: string): Promise<number> {
  const path = join(directory, `${PROBE}${randomBytes(8).toString("hex")}`);
  const content = randomBytes(4096);
  const file = await open(path, "wx+", 0o640);
  try {
    await file.writeFile(content);
    await file.sync();
    const { buffer } = await file.read(Buffer.alloc(content.length), 0, content.length, 0);
    if (!content.equals(buffer)) throw new Error("it does not give back what was written");
    return (await file.stat()).mtimeMs;
  } finally {
    await file.close();
    await unlink(path).catch(() => undefined);
  }
}

/** @throws Error unless there is room for twice the last generation */
export async function checkSpace(directory: string, lastBytes: number, target: TargetSettings): Promise<void> {
  const free = await freeBytes(directory);
  if (free < 2 * lastBytes) {
    throw new Error(
      `only ${humanBytes(free)} free on ${target.mount}, but twice the last backup (${humanBytes(lastBytes)}) is needed: ` +
        `make room or enlarge the quota; ${mend(target.prepare)}`,
    );
  }
}

/** Bytes that this process may still write to the file system of `path`. */
export async function freeBytes(path: string): Promise<number> {
  const { bavail, bsize } = await statfs(path);
  return bavail * bsize;
}

/** Why ages cannot be trusted; undefined where they can. */
export function clockSkew(local: number, server: number): string | undefined {
  const skew = Math.abs(local - server);
  if (skew <= MAX_CLOCK_SKEW_MS) return undefined;
  const [here, there] = [local, server].map((time) => new Date(time).toISOString());
  return `the pod's clock (${here}) and the file server's (${there}) are ${Math.round(skew / 3_600_000)} h apart`;
}
