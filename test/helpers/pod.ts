/**
 * Runs a pod of synthesised Terraform JSON as a kubelet would, each container as a process in a bubblewrap sandbox.
 *
 * What is like in a cluster: files of ConfigMaps, Secrets, projected volumes and the downward API (links behind `..data`, modes,
 * fsGroup); emptyDirs; claims, NFS and host paths, which are directories of the host here; environment with `$(NAME)` expansion;
 * init containers one after the other, then the containers together; uid, gid, groups, read-only root, dropped capabilities, no new
 * privileges; each command as process 1 of its own process namespace; only the image's programs on PATH; service names
 * in /etc/hosts; deadline, grace period, exit codes, one log per container.
 *
 * What is not: cgroup limits, size limits of emptyDirs, seccomp filters, NetworkPolicies, a second try by the Job controller,
 * fsGroup on claims (an NFS export has none), a musl C library.
 */
import { mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { CronJobOptions, PodContext, PodResult, RunningPod } from "./pod/options";
import type { Block, Synthesised } from "./pod/terraform";
import { Pod } from "./pod/lifecycle";
import { block, number, Resources, text, textMap } from "./pod/terraform";

export type { ImageProfile, Shell } from "./pod/image";
export type { CronJobOptions, Kill, PodContext, PodOptions, PodResult, RunningPod } from "./pod/options";
export type { Block, Synthesised } from "./pod/terraform";
export type { HostVolume } from "./pod/volumes";
export { declaredTools, hostProgram, NODE_ALPINE } from "./pod/image";
export { Resources } from "./pod/terraform";

/** Runs one Job of a CronJob in synthesised JSON to its end. */
export async function runCronJob(synthesised: Synthesised | string, options: CronJobOptions = {}): Promise<PodResult> {
  return startCronJob(synthesised, options).done;
}

/** Starts one Job of a CronJob in synthesised JSON. */
export function startCronJob(synthesised: Synthesised | string, options: CronJobOptions = {}): RunningPod {
  const { cronJob, name, namespace, resources } = findCronJob(synthesised, options.name);
  const job = block(block(block(cronJob.spec, "spec").job_template, "job_template").spec, "job_template.spec");
  const template = block(job.template, "template");
  const metadata = block(template.metadata);
  const jobName = options.jobName ?? `${name}-${Math.floor(Date.now() / 60_000)}`;
  const deadline = options.deadlineSeconds ?? number(job.active_deadline_seconds);
  return startPod(block(template.spec, "template.spec"), {
    ...options,
    ...(deadline === undefined ? {} : { deadlineSeconds: deadline }),
    resources,
    namespace,
    podName: `${jobName}-${Math.random().toString(36).slice(2, 7).padEnd(5, "0")}`,
    labels: { ...textMap(metadata.labels), "batch.kubernetes.io/job-name": jobName, "job-name": jobName },
    annotations: textMap(metadata.annotations),
  });
}

/** Runs a pod, given the `spec` of its template, to its end. */
export async function runPod(podSpec: Block, options: PodContext = {}): Promise<PodResult> {
  return startPod(podSpec, options).done;
}

/** Starts a pod, given the `spec` of its template. */
export function startPod(podSpec: Block, options: PodContext = {}): RunningPod {
  return new Pod(options.podName ?? "pod", podSpec, options, mkdtempSync(join(tmpdir(), "pod-")));
}

export interface FoundCronJob {
  readonly cronJob: Block;
  readonly name: string;
  readonly namespace: string;
  readonly resources: Resources;
}

/** What comes with a backup, which is meant where no name is given. */
const COMPANION = /-(drill|restore)$/;

/** The CronJob of that name in synthesised JSON, evaluated; the only backup where no name is given. */
export function findCronJob(synthesised: Synthesised | string, name?: string): FoundCronJob {
  const resources = new Resources(synthesised);
  const names = resources.names("kubernetes_cron_job_v1");
  const own = names.filter((found) => !COMPANION.test(found));
  const wanted = name ?? (own.length === 1 ? own[0] : undefined);
  const cronJob = wanted === undefined ? undefined : resources.find("kubernetes_cron_job_v1", wanted);
  if (wanted === undefined || cronJob === undefined) {
    throw new Error(`no CronJob ${name ?? "that is the only one"}; there is ${names.join(", ")}`);
  }
  return { cronJob, name: wanted, namespace: text(block(cronJob.metadata).namespace) ?? "default", resources };
}
