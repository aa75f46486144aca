import type { Manifest } from "../../../lib/runtime/manifest";
import type { Settings } from "../../../lib/runtime/settings";
import type { Synthesised } from "./terraform";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { MANIFEST } from "../../../lib/runtime/manifest";
import { findCronJob } from "../pod";
import { temporaryDirectory } from "../process";
import { block, blocks, text } from "./terraform";

/** `settings.json` of a CronJob's runner, out of its ConfigMap. @param name @default - the only CronJob */
export function settingsOf(synthesised: Synthesised | string, name?: string): Settings {
  const { pod, resources, namespace } = podOf(synthesised, name);
  for (const volume of blocks(pod.volume)) {
    const configMap = text(block(volume.config_map).name);
    const found = configMap === undefined ? undefined : resources.find("kubernetes_config_map_v1", configMap, namespace);
    const settings = block(found?.data)["settings.json"];
    if (settings !== undefined) return JSON.parse(String(settings)) as Settings;
  }
  throw new Error("the pod mounts no ConfigMap with a settings.json");
}

function podOf(synthesised: Synthesised | string, name?: string) {
  const found = findCronJob(synthesised, name);
  const job = block(block(block(found.cronJob.spec).job_template).spec);
  return { ...found, pod: block(block(job.template).spec) };
}

export interface TargetOptions {
  /** `metadata.name` of the CronJob. @default - the only one */
  readonly name?: string;
  /** A file system of its own with this many bytes. @default - a directory */
  readonly bytes?: number;
  /** `false`: as a new export is, `root:root 755` and empty. @default true, by the command that the settings give the administrator */
  readonly prepared?: boolean;
}

/** Makes a directory of the host that stands for the backup's NFS export. */
export function makeTarget(synthesised: Synthesised | string, options: TargetOptions = {}): string {
  const path = temporaryDirectory("target");
  if (options.bytes !== undefined) mountTmpfs(path, options.bytes);
  if (options.prepared !== false) prepareTarget(synthesised, path, options.name);
  return path;
}

/** Runs the command that the settings give the administrator, on a directory in the export's place. */
export function prepareTarget(synthesised: Synthesised | string, path: string, name?: string): void {
  const { target } = settingsOf(synthesised, name);
  if (target === undefined) throw new Error("the job writes no backups");
  runOnExport(target.prepare, target.directory, path);
}

/** Runs a command that begins with `mkdir -p <export>/<directory>`, with `path` in the export's place. */
export function runOnExport(command: string, directory: string, path: string): void {
  const [, made = ""] = /^mkdir -p (\S+)/.exec(command) ?? [];
  const root = directory === "" ? made : made.slice(0, -directory.length - 1);
  if (root === "" || !made.endsWith(directory)) throw new Error(`not a command for ${directory}: ${command}`);
  system("sh", ["-c", command.replaceAll(root, path)]);
}

/** Synthesised JSON with other settings for a runner, such as a short lease of the lock. */
export function withSettings(synthesised: string, change: (settings: Settings) => Settings, name?: string): string {
  const parsed = JSON.parse(synthesised) as { resource: { kubernetes_config_map_v1: Record<string, { data: Record<string, string> }> } };
  const before = JSON.stringify(settingsOf(synthesised, name));
  for (const { data } of Object.values(parsed.resource.kubernetes_config_map_v1)) {
    const settings = data["settings.json"];
    if (settings === undefined || JSON.stringify(JSON.parse(settings)) !== before) continue;
    data["settings.json"] = JSON.stringify(change(JSON.parse(settings) as Settings));
    return JSON.stringify(parsed);
  }
  throw new Error("no ConfigMap has these settings, or they are escaped");
}

/** Mounts an empty file system of that size at an existing directory; it goes when the tests end, or by {@link unmount}. */
export function mountTmpfs(path: string, bytes: number): void {
  system("mount", ["-t", "tmpfs", "-o", `size=${bytes},mode=0755`, "tmpfs", path]);
}

export function unmount(path: string): void {
  system("umount", [path]);
}

function system(command: string, args: readonly string[]): void {
  const { status, stderr } = spawnSync(command, args, { encoding: "utf8" });
  if (status !== 0) throw new Error(`${command}: ${stderr}`);
}

export interface FoundGeneration {
  readonly name: string;
  readonly path: string;
  readonly manifest: Manifest;
}

/** Where a backup's generations are on its target. */
export function generationsDirectory(synthesised: Synthesised | string, target: string, name?: string): string {
  return join(target, settingsOf(synthesised, name).target?.directory ?? "");
}

/** The generations on a target, oldest first. @throws if one that is published has no readable manifest */
export function generationsOn(synthesised: Synthesised | string, target: string, name?: string): readonly FoundGeneration[] {
  const directory = generationsDirectory(synthesised, target, name);
  if (!existsSync(directory)) return [];
  return readdirSync(directory)
    .filter((entry) => !entry.startsWith(".") && !/\.(drill\.json|pin|accepted)$/.test(entry))
    .sort()
    .map((entry) => {
      const path = join(directory, entry);
      return { name: entry, path, manifest: JSON.parse(readFileSync(join(path, MANIFEST), "utf8")) as Manifest };
    });
}
