/**
 * What the tests of all engines' drills and restores share: the drill and the restore of a target as pods, and generations that
 * are damaged in ways which their own manifest does not tell.
 */
import { createHash } from "node:crypto";
import { mkdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from "node:fs";
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { constants, zstdCompressSync, zstdDecompressSync } from "node:zlib";
import { timeOf } from "../../lib/runtime/generation";
import { MANIFEST, type Manifest, type ManifestFile } from "../../lib/runtime/manifest";
import { readVerdict, type Verdict } from "../../lib/runtime/verdict";
import { findCronJob, runCronJob, type CronJobOptions, type PodResult } from "./pod";
import { generationsDirectory, generationsOn, makeTarget, type FoundGeneration } from "./pod/target";
import { block, blocks, text } from "./pod/terraform";

const HOUR_MS = 3_600_000;
/** So that the runner has its pipes when the engine's container looks for them the first time, and not only a second later. */
const PAUSE_MS = 350;

/** Rounds of a drill under load that must all be green. */
export const DRILL_ROUNDS = Number(process.env.DRILL_ROUNDS ?? 50);

/** Where in an artefact it is damaged: at every twentieth of it. */
export const TWENTIETHS: readonly number[] = Array.from({ length: 20 }, (_, index) => index / 20);

export interface CompanionOptions extends CronJobOptions {
  /** Name of the backup. @default - the only one */
  readonly backup?: string;
}

export interface DrillResult extends PodResult {
  /** The verdict on the newest generation; undefined where there is none. */
  readonly verdict: Verdict | undefined;
  /** Why the drill failed, as it was printed; "" where it did not. */
  readonly failure: string;
}

/** Runs a backup's drill on a target. */
export async function runDrill(json: string, target: string, options: CompanionOptions = {}): Promise<DrillResult> {
  const { backup = findCronJob(json).name } = options;
  const result = await runCronJob(json, {
    pauseMs: PAUSE_MS,
    ...options,
    name: `${backup}-drill`,
    volumes: { [targetVolume(json, backup)]: target, ...options.volumes },
  });
  const newest = generationsOn(json, target, backup).at(-1);
  const verdict = newest && (await readVerdict(generationsDirectory(json, target, backup), newest.name));
  return { ...result, verdict, failure: failureOf(result, "drill") };
}

/** The checks of a drill that proved its generation. @throws with its logs where it did not */
export function proven({ ok, verdict, logs }: DrillResult): readonly string[] {
  if (!ok || verdict?.green !== true) throw new Error(JSON.stringify({ verdict, logs }, undefined, 2));
  return verdict.checks;
}

/** Why a drill is red: in its log, as its exit code, and in its verdict. @throws with its logs where it is not */
export function red({ exitCodes, verdict, failure, logs }: DrillResult): string {
  // A drill that begins in a container of its own may end there.
  if ((exitCodes.runner ?? exitCodes.stage) !== 1 || verdict?.green !== false || verdict.reason !== failure || failure === "") {
    throw new Error(JSON.stringify({ exitCodes, verdict, logs }, undefined, 2));
  }
  return failure;
}

/** Reasons of many red drills, in their order; two at a time, as most of each is waiting. */
export async function redInPairs<T>(forgeries: readonly T[], drill: (forgery: T) => Promise<DrillResult>): Promise<readonly string[]> {
  const found: string[] = [];
  const next = forgeries.entries();
  const lane = async (): Promise<void> => {
    for (const [index, forgery] of next) found[index] = red(await drill(forgery));
  };
  await Promise.all([lane(), lane()]);
  return found;
}

/** What a drill's pod is given: its volumes, each with its kind, and where it may connect to, as text. */
export function reachOfDrill(json: string, backup: string): { readonly volumes: readonly (readonly [unknown, string])[]; readonly egress: string } {
  const { cronJob, resources } = findCronJob(json, `${backup}-drill`);
  const pod = block(block(block(block(block(cronJob.spec).job_template).spec).template).spec);
  const policy = block(resources.find("kubernetes_network_policy_v1", `${backup}-drill`)?.spec);
  return { volumes: blocks(pod.volume).map(({ name, ...source }) => [name, Object.keys(source).join()]), egress: JSON.stringify(policy.egress) };
}

/** The volumes of a drill that has a server of its own. */
export const OWN_VOLUMES: readonly (readonly [string, string])[] = [
  ["config", "config_map"],
  ["scratch", "empty_dir"],
  ["work", "empty_dir"],
  ["exchange", "empty_dir"],
  ["target", "persistent_volume_claim"],
];

export interface RestoreResult extends PodResult {
  /** Why the restore failed, as it was printed; "" where it did not. */
  readonly failure: string;
  /** The lines of the plan. */
  readonly plan: readonly string[];
}

/** Runs a backup's restore on a target. @param options `env` holds what the person chose: GENERATION, CONFIRM, ... */
export async function runRestore(json: string, target: string, options: CompanionOptions = {}): Promise<RestoreResult> {
  const { backup = findCronJob(json).name } = options;
  const result = await runCronJob(json, {
    pauseMs: PAUSE_MS,
    ...options,
    name: `${backup}-restore`,
    volumes: { [targetVolume(json, backup)]: target, ...options.volumes },
  });
  const plan = (result.logs.runner ?? "").split("\n").flatMap((line) => / plan: (.*)$/.exec(line)?.[1] ?? []);
  return { ...result, failure: failureOf(result, "restore"), plan };
}

/** What a restore that succeeded printed. @throws with its logs where it did not */
export function restored({ ok, logs }: RestoreResult): string {
  if (!ok) throw new Error(JSON.stringify(logs, undefined, 2));
  return logs.runner ?? "";
}

/** Why a restore failed: in its log, and by its exit code. @throws with its logs where it did not, or did not say why */
export function refused({ ok, exitCodes, failure, logs }: RestoreResult): string {
  if (ok || exitCodes.runner !== 1 || failure === "") throw new Error(JSON.stringify({ exitCodes, logs }, undefined, 2));
  return failure;
}

function failureOf({ logs }: PodResult, duty: string): string {
  return new RegExp(`^\\S+ ${duty} failed: (.*)$`, "m").exec(logs.runner ?? logs.stage ?? "")?.[1] ?? "";
}

/** What {@link CronJobOptions.volumes} calls the backup's target. */
export function targetVolume(json: string, backup?: string): string {
  const { cronJob } = findCronJob(json, backup);
  const job = block(block(block(cronJob.spec).job_template).spec);
  const volumes = blocks(block(block(job.template).spec).volume);
  const of = volumes.find(({ name }) => name === "target") ?? {};
  const claim = text(block(of.persistent_volume_claim).claim_name);
  if (claim !== undefined) return claim;
  const { server, share, path = share } = { ...block(of.nfs), ...block(block(of.csi).volume_attributes) };
  if (server === undefined) throw new Error(`not a target that is known: ${JSON.stringify(of)}`);
  return `${String(server)}:${String(path)}`;
}

/** What a generation is made to be. */
export interface Forgery {
  /** Other content of artefacts, by path: what is on disk, compressed or not. @default - as it is */
  readonly change?: { readonly [path: string]: (content: Buffer) => Buffer };
  /** Whether the manifest has the hashes and sizes of what there is now, so that only a restore can tell. @default true */
  readonly rehash?: boolean;
  /** Made this long before it was. @default 0 */
  readonly hoursOlder?: number;
  /** Any other change of the manifest. @default - none */
  readonly manifest?: (manifest: Manifest) => Manifest;
}

/** A new target whose only generation is a copy of this one, forged. */
export function forge(json: string, original: FoundGeneration, forgery: Forgery = {}, backup?: string): ForgedTarget {
  const target = makeTarget(json, { ...(backup === undefined ? {} : { name: backup }) });
  return { target, generation: addForged(json, target, original, forgery, backup) };
}

export interface ForgedTarget {
  readonly target: string;
  readonly generation: FoundGeneration;
}

/** Copies a generation to a target, forged. The copy's files keep their owner and mode. */
export function addForged(json: string, target: string, original: FoundGeneration, forgery: Forgery = {}, backup?: string): FoundGeneration {
  const { change = {}, rehash = true, hoursOlder = 0, manifest: changed = (manifest) => manifest } = forgery;
  const directory = generationsDirectory(json, target, backup);
  mkdirSync(directory, { recursive: true });
  const path = join(directory, original.name);
  const { status, stderr } = spawnSync("cp", ["-a", original.path, path], { encoding: "utf8" });
  if (status !== 0) throw new Error(stderr);
  for (const [name, damage] of Object.entries(change)) {
    const file = join(path, name);
    writeFileSync(file, damage(readFileSync(file)));
  }
  const { files, ...rest } = original.manifest;
  const described = files.map((file) => (rehash && file.path in change ? describe(path, file) : file));
  const manifest = changed(older({ ...rest, files: described }, hoursOlder));
  writeFileSync(join(path, MANIFEST), `${JSON.stringify(manifest, undefined, 2)}\n`);
  const final = join(directory, manifest.generation);
  if (final !== path) {
    rmSync(final, { recursive: true, force: true });
    renameSync(path, final);
  }
  return { name: manifest.generation, path: final, manifest };
}

/** What the manifest would say of the file as it is. Of what no longer decompresses, the size that it had. */
function describe(path: string, file: ManifestFile): ManifestFile {
  const content = readFileSync(join(path, file.path));
  const own = { ...file, bytes: statSync(join(path, file.path)).size, sha256: createHash("sha256").update(content).digest("hex") };
  if (file.uncompressedBytes === undefined) return own;
  try {
    return { ...own, uncompressedBytes: zstdDecompressSync(content).length };
  } catch {
    return own;
  }
}

function older(manifest: Manifest, hours: number): Manifest {
  if (hours === 0) return manifest;
  const before = (time: string): string => new Date(Date.parse(time) - hours * HOUR_MS).toISOString();
  const time = timeOf(manifest.generation);
  if (time === undefined) throw new Error(`not a generation's name: ${manifest.generation}`);
  const stamp = new Date(time - hours * HOUR_MS).toISOString().replace(/\.\d+|[-:]/g, "");
  const generation = stamp + manifest.generation.slice(manifest.generation.indexOf("-"));
  return { ...manifest, generation, startedAt: before(manifest.startedAt), finishedAt: before(manifest.finishedAt) };
}

/** What is left of `content` when the rest is missing. @param fraction from 0 to 1 */
export function cut(fraction: number): (content: Buffer) => Buffer {
  return (content) => content.subarray(0, Math.floor(content.length * fraction));
}

export function withoutLastByte(content: Buffer): Buffer {
  return content.subarray(0, -1);
}

/** One bit flipped. @param fraction where, from 0 to less than 1 */
export function flip(fraction: number): (content: Buffer) => Buffer {
  return (content) => {
    const changed = Buffer.from(content);
    const at = Math.floor(content.length * fraction);
    changed[at] = (changed[at] ?? 0) ^ 0x10;
    return changed;
  };
}

/** 64 bytes, or what there is of them, replaced by others. @param fraction where, from 0 to less than 1 */
export function overwrite(fraction: number): (content: Buffer) => Buffer {
  return (content) => {
    const changed = Buffer.from(content);
    const at = Math.floor(content.length * fraction);
    for (let index = at; index < Math.min(at + 64, changed.length); index++) changed[index] = (changed[index] ?? 0) ^ 0xa5;
    return changed;
  };
}

/** A change of what an artefact holds, compressed again as the runner compresses. */
export function decompressed(change: (content: Buffer) => Buffer): (content: Buffer) => Buffer {
  return (content) => zstdCompressSync(change(zstdDecompressSync(content)), { params: { [constants.ZSTD_c_checksumFlag]: 1 } });
}
