import { TerraformStack } from "cdktf";
import type { IConstruct } from "constructs";
import { posix } from "node:path";
import type { Problems } from "../../lib/errors";
import { isToken } from "../../lib/terraform-text";
import type { IBackupVolume } from "../storage/backup-volume";

/** What a stack's jobs have taken, and the path of the construct that did. */
interface Registry {
  readonly cronJobs: Map<string, string>;
  readonly directories: Map<string, string>;
  /** Every directory above a taken one. */
  readonly above: Map<string, string>;
}

/** One per stack: a stack is one cluster's state, and another may have the same names. */
const registries = new WeakMap<IConstruct, Registry>();

/** Records a problem if another CronJob of the stack has the name. Names that Terraform computes pass. */
export function takeName(problems: Problems, job: IConstruct, namespace: string, name: string): void {
  const { cronJobs } = registryOf(job);
  const key = `${namespace}/${name}`;
  if (isToken(key)) return;
  const taken = cronJobs.get(key);
  problems.check(taken === undefined, "name", name, `a name that no other CronJob in namespace '${namespace}' has (${taken} has it)`);
  cronJobs.set(key, job.node.path);
}

/**
 * Records a problem if another backup of the stack writes to the same directory, or to one above or below it: neither would know
 * whose the generations are. Addresses that Terraform computes pass.
 */
export function takeDirectory(problems: Problems, job: IConstruct, namespace: string, volume: IBackupVolume, directory: string): void {
  const { directories, above } = registryOf(job);
  // A volume is known by its claim, by its export, or by both.
  const roots = [
    ...(volume.claimName === undefined ? [] : [`claim ${namespace}/${volume.claimName}`]),
    ...(volume.nfs === undefined ? [] : [`nfs ${volume.nfs.toString()}`]),
  ];
  const places = roots.map((root) => posix.join(root, directory)).filter((place) => !isToken(place));
  const taken = places.map((place) => above.get(place) ?? lookUp(directories, place)).find((path) => path !== undefined);
  const allowed = "a directory that is neither another backup's nor above or below it";
  problems.check(taken === undefined, "directory", directory, `${allowed} (${taken} writes there)`);
  for (const place of places) {
    directories.set(place, job.node.path);
    for (const parent of parentsOf(place)) above.set(parent, job.node.path);
  }
}

function lookUp(directories: Map<string, string>, place: string): string | undefined {
  return [place, ...parentsOf(place)].map((path) => directories.get(path)).find((path) => path !== undefined);
}

function parentsOf(place: string): string[] {
  const parts = place.split("/");
  return parts.slice(1).map((_, index) => parts.slice(0, index + 1).join("/"));
}

function registryOf(construct: IConstruct): Registry {
  const stack = TerraformStack.of(construct);
  let registry = registries.get(stack);
  if (registry === undefined) {
    registry = { cronJobs: new Map(), directories: new Map(), above: new Map() };
    registries.set(stack, registry);
  }
  return registry;
}
