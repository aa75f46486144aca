import { randomBytes } from "node:crypto";
import { open, readdir, readFile, rename, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { CONTENDER } from "./lock";
import { isoSeconds, reasonOf } from "./log";
import { MANIFEST, MANIFEST_FORMAT, type Manifest } from "./manifest";
import { PROBE } from "./target";

const HOUR_MS = 3_600_000;
/** What is being written; never a generation, whatever it holds. */
export const PARTIAL = ".partial-";
/** What is being removed; no generation any more. */
export const DELETING = ".deleting-";
const NAME = /^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z-[0-9a-f]{8}$/;

/** A directory that exists whole: its manifest is valid and every file in it has its size. */
export interface Generation {
  readonly name: string;
  /** From the name, milliseconds. */
  readonly time: number;
  readonly manifest: Manifest;
}

/** Whose generations are meant. */
export interface Owner {
  readonly backup: string;
  readonly namespace: string;
}

/** A new generation's name, `20261123T190000Z-1f2e3d4c`: sorts by time, and two runs of one second differ. */
export function newName(time: Date): string {
  return `${isoSeconds(time).replace(/[-:]/g, "")}-${randomBytes(4).toString("hex")}`;
}

/** The time in a generation's name in milliseconds; undefined where it is no generation's name. */
export function timeOf(name: string): number | undefined {
  const parts = NAME.exec(name);
  if (parts === null) return undefined;
  const time = Date.parse(`${parts[1]}-${parts[2]}-${parts[3]}T${parts[4]}:${parts[5]}:${parts[6]}Z`);
  return Number.isNaN(time) ? undefined : time;
}

/** Size of a generation on the target; of a tree of hard links, what it does not share with the one before. */
export function bytesOf({ files }: Pick<Manifest, "files">): number {
  return files.reduce((sum, { bytes, treeBytes = 0 }) => sum + bytes + treeBytes, 0);
}

/**
 * The generations of a backup, oldest first. What is named like one and is none is told to `onInvalid` and left out;
 * everything else in the directory is none of our business.
 */
export async function listGenerations(
  directory: string,
  owner: Owner,
  onInvalid: (message: string, name: string) => void,
): Promise<Generation[]> {
  const generations: Generation[] = [];
  for (const name of (await readdir(directory)).sort()) {
    const time = timeOf(name);
    if (time === undefined) continue;
    try {
      generations.push({ name, time, manifest: await readManifest(directory, name, owner) });
    } catch (error) {
      onInvalid(`${name} is not counted and left alone: ${reasonOf(error)}`, name);
    }
  }
  return generations;
}

/** @throws Error unless the directory is a whole generation of this backup */
async function readManifest(directory: string, name: string, owner: Owner): Promise<Manifest> {
  const manifest = parseManifest(await readFile(join(directory, name, MANIFEST), "utf8"));
  if (manifest.generation !== name) throw new Error(`its manifest is that of ${manifest.generation}`);
  if (manifest.backup !== owner.backup || manifest.namespace !== owner.namespace) {
    throw new Error(`it belongs to ${manifest.namespace}/${manifest.backup}`);
  }
  await checkFiles(join(directory, name), manifest);
  return manifest;
}

/** @throws Error unless `text` is a manifest */
export function parseManifest(text: string): Manifest {
  const manifest = JSON.parse(text) as Partial<Manifest> | null;
  if (manifest?.formatVersion !== MANIFEST_FORMAT) throw new Error(`its manifest is not of format ${MANIFEST_FORMAT}`);
  const texts = [manifest.backup, manifest.namespace, manifest.generation, manifest.engine];
  const times = [manifest.startedAt, manifest.finishedAt];
  const whole =
    texts.every((value) => typeof value === "string") &&
    times.every((value) => typeof value === "string" && !Number.isNaN(Date.parse(value))) &&
    Array.isArray(manifest.files) &&
    manifest.files.length > 0 &&
    manifest.files.every(
      ({ path, bytes, sha256 }) => isBelow(path) && Number.isSafeInteger(bytes) && /^[0-9a-f]{64}$/.test(sha256),
    );
  if (!whole) throw new Error("its manifest is incomplete");
  return manifest as Manifest;
}

/** Whether an artefact's path stays in its generation. */
export function isBelow(path: unknown): path is string {
  return typeof path === "string" && path.split("/").every((part) => part !== "" && part !== "." && part !== "..");
}

async function checkFiles(directory: string, { files }: Manifest): Promise<void> {
  for (const { path, bytes } of files) {
    const found = await stat(join(directory, path));
    if (!found.isFile() || found.size !== bytes) throw new Error(`${path} has ${found.size} bytes instead of ${bytes}`);
  }
}

/**
 * Turns a partial generation, whose files are durable, into a generation. Everything is on the disk before the name exists.
 * @param mayPublish last check before the name; throws where the generation must not appear
 */
export async function publish(directory: string, manifest: Manifest, mayPublish: () => Promise<void>): Promise<void> {
  const partial = join(directory, PARTIAL + manifest.generation);
  await checkFiles(partial, parseManifest(JSON.stringify(manifest)));
  const file = await open(join(partial, MANIFEST), "wx", 0o640);
  try {
    await file.writeFile(`${JSON.stringify(manifest, undefined, 2)}\n`);
    await file.sync();
  } finally {
    await file.close();
  }
  await syncTree(partial);
  await mayPublish();
  await rename(partial, join(directory, manifest.generation));
  await syncDirectory(directory);
}

/** Makes the names durable; what the files hold is already. */
async function syncTree(path: string): Promise<void> {
  for (const entry of await readdir(path, { withFileTypes: true })) {
    if (entry.isDirectory()) await syncTree(join(path, entry.name));
  }
  await syncDirectory(path);
}

/** Makes the names in a directory durable. */
export async function syncDirectory(path: string): Promise<void> {
  const directory = await open(path, "r");
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}

/** Removes what runs left that did not end. Only for the holder of the lock. */
export async function removeLeftovers(directory: string, serverTime: number, log: (message: string) => void): Promise<void> {
  for (const name of await readdir(directory)) {
    const path = join(directory, name);
    if (name.startsWith(PARTIAL) || name.startsWith(DELETING)) {
      log(`removing ${name}, left by a run that did not end`);
      await rm(path, { recursive: true, force: true });
    } else if (name.startsWith(PROBE) || name.startsWith(CONTENDER)) {
      // A young one may be in use: who waits for the lock has no lock.
      const { mtimeMs } = await stat(path).catch(() => ({ mtimeMs: serverTime }));
      if (serverTime - mtimeMs > HOUR_MS) await rm(path, { force: true });
    }
  }
}
