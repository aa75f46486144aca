import { isIP } from "node:net";
import type { Problems } from "../../lib/errors";
import { checkCronJobName, checkDnsLabel, checkDnsSubdomain, checkLabelValue } from "../../lib/names";
import { isToken } from "../../lib/terraform-text";
import { isRelativePath } from "../storage/nfs-export";
import type { JobParts, Mount, Target } from "./job-parts";
import type { Egress, JobProps } from "./job-props";

/** Records what is wrong with the options that all jobs share. */
export function checkJob(problems: Problems, name: string, props: JobProps, parts: JobParts): void {
  checkCronJobName(problems, "name", name);
  checkDnsLabel(problems, "namespace", props.namespace);
  for (const [key, value] of Object.entries(props.labels ?? {})) {
    problems.check(!key.startsWith("app.kubernetes.io/"), "labels", key, "labels other than app.kubernetes.io/*, which are set already");
    checkLabelValue(problems, `labels.${key}`, value);
  }
  for (const secret of props.imagePullSecrets ?? []) checkDnsSubdomain(problems, "imagePullSecrets", secret);
  if (props.priorityClassName !== undefined) checkDnsSubdomain(problems, "priorityClassName", props.priorityClassName);
  if (props.nodeName !== undefined) checkDnsSubdomain(problems, "nodeName", props.nodeName);
  for (const egress of props.allowEgressTo ?? []) checkEgress(problems, egress);
  if (props.colocateWith !== undefined) {
    const labels = props.colocateWith.labels;
    problems.check(Object.keys(labels).length > 0, "colocateWith.labels", labels, "at least one label of the application's pods");
  }
  const mounts = [...(parts.mounts ?? []), ...(parts.container?.mounts ?? [])];
  // A restore has the volume for itself, since the application was stopped for it.
  if (parts.command !== "restore") checkPlace(problems, props, mounts);
  if (parts.target !== undefined) checkTarget(problems, props.namespace, parts.target, mounts);
}

/** A claim that one node at a time can mount is mounted by the application: the backup must run there. */
function checkPlace(problems: Problems, props: JobProps, mounts: readonly Mount[]): void {
  const placed = props.colocateWith !== undefined || props.nodeName !== undefined || props.nodeSelector !== undefined;
  const single = mounts.find(({ volume }) => volume.singleNode);
  if (placed || single === undefined) return;
  const allowed = `the application's pods, or nodeName or nodeSelector, since ${single.volume.description} is ReadWriteOnce`;
  problems.check(false, "colocateWith", undefined, allowed);
}

/** The pod must see the volume, and the copy must not lie in the data that it is a copy of, nor the data in the copy. */
function checkTarget(problems: Problems, namespace: string, { volume, directory }: Target, mounts: readonly Mount[]): void {
  const own = volume.namespace ?? namespace;
  const reachable = own === namespace || isToken(own) || isToken(namespace);
  problems.check(reachable, "namespace", namespace, `that of the volume's claim, '${own}'`);
  const relative = directory === "" || isToken(directory) || isRelativePath(directory);
  problems.check(relative, "directory", directory, "a normalised path below the volume's root, or '' for the root itself");
  for (const { volume: source } of mounts) {
    const claim = source.source.persistentVolumeClaim?.claimName;
    const sameClaim = claim !== undefined && claim === volume.claimName;
    const overlaps = sameClaim || (source.nfs !== undefined && (volume.nfs?.overlaps(source.nfs) ?? false));
    const value = volume.nfs?.toString() ?? volume.claimName;
    problems.check(!overlaps, "volume", value, `a place that is neither that of its data, above nor below it (${source.description})`);
  }
}

function checkEgress(problems: Problems, { cidr, ports, except = [] }: Egress): void {
  for (const block of [cidr, ...except]) {
    problems.check(isToken(block) || isBlock(block), "allowEgressTo", block, "an IP block such as 192.168.1.13/32");
  }
  for (const port of ports) {
    problems.check(Number.isInteger(port) && port > 0 && port < 65536, "allowEgressTo", port, "a port from 1 to 65535");
  }
  problems.check(ports.length > 0, "allowEgressTo", ports, "at least one port");
}

function isBlock(text: string): boolean {
  const [, address = "", prefix = ""] = /^([^/]+)\/(\d{1,3})$/.exec(text) ?? [];
  const version = isIP(address);
  return version !== 0 && Number(prefix) <= (version === 4 ? 32 : 128);
}
