import { waitFor } from "../helpers/process";
import type { Cluster } from "./cluster";

/** A Job that has ended. */
export interface FinishedJob {
  readonly name: string;
  readonly succeeded: boolean;
  /** Why it failed, in Kubernetes' word: `BackoffLimitExceeded`, `DeadlineExceeded`. */
  readonly reason?: string;
  /** Its runners' logs, those of all attempts, oldest first. */
  readonly log: string;
}

export interface JobOptions {
  /** @default - `<cronjob>-by-hand-<n>` */
  readonly name?: string;
  /** Variables of its runner that this one run has besides, or with other values. @default - none */
  readonly env?: { readonly [name: string]: string };
  /** Changes to the Job's `spec`, such as a shorter deadline. @default - none */
  readonly change?: (spec: Record<string, unknown>) => void;
}

interface JobObject {
  readonly metadata: { readonly name: string; readonly namespace: string };
  readonly spec: Record<string, unknown>;
  readonly status?: { readonly conditions?: readonly { readonly type: string; readonly status: string; readonly reason?: string }[] };
}

let count = 0;

/**
 * Starts a CronJob's Job by hand, also that of a suspended one, as a person does:
 * `kubectl create job --from=cronjob/<name> --dry-run=client -o json | kubectl set env --local -f - -c runner KEY=value -o json | kubectl create -f -`
 *
 * @returns the Job's name
 */
export async function startJob(cluster: Cluster, namespace: string, cronJob: string, options: JobOptions = {}): Promise<string> {
  const name = options.name ?? `${cronJob}-by-hand-${++count}`;
  const env = Object.entries(options.env ?? {}).map(([variable, value]) => `${variable}=${value}`);
  let json = await cluster.kubectl("create", "job", name, "--namespace", namespace, `--from=cronjob/${cronJob}`, "--dry-run=client", "-o", "json");
  if (env.length > 0) json = (await cluster.tryKubectl({ input: json }, "set", "env", "--local", "-f", "-", "-c", "runner", ...env, "-o", "json")).stdout;
  const job = JSON.parse(json) as JobObject;
  options.change?.(job.spec);
  await cluster.tryKubectl({ input: JSON.stringify(job) }, "create", "-f", "-");
  return name;
}

/** Waits for a Job's end. The logs of its pods are read while they last. */
export async function endOfJob(cluster: Cluster, namespace: string, name: string, seconds = 150): Promise<FinishedJob> {
  let job: JobObject | undefined;
  const logs = new Map<string, string>();
  const end = (): { readonly type: string; readonly reason?: string } | undefined =>
    job?.status?.conditions?.find(({ type, status }) => (type === "Complete" || type === "Failed") && status === "True");
  try {
    await waitFor(
      async () => {
        await readLogs(cluster, namespace, name, logs);
        job = JSON.parse(await cluster.kubectl("get", "job", name, "--namespace", namespace, "-o", "json")) as JobObject;
        if (end() === undefined) await new Promise((resolve) => setTimeout(resolve, 500));
        return end() !== undefined;
      },
      `job ${name} to end`,
      seconds,
    );
  } catch (error) {
    const events = await cluster.kubectl("describe", "pods", "--namespace", namespace, "--selector", `job-name=${name}`);
    throw new Error(`${String(error)}\n${[...logs.values()].join("\n")}\n${events}`, { cause: error });
  }
  await readLogs(cluster, namespace, name, logs);
  const { type, reason } = end() ?? { type: "" };
  return { name, succeeded: type === "Complete", ...(reason === undefined ? {} : { reason }), log: [...logs.values()].join("") };
}

/** {@link startJob} and {@link endOfJob}. */
export async function runJob(cluster: Cluster, namespace: string, cronJob: string, options: JobOptions = {}): Promise<FinishedJob> {
  return endOfJob(cluster, namespace, await startJob(cluster, namespace, cronJob, options));
}

/** A Job that must succeed. @returns it @throws with its log if it did not */
export function succeeded(job: FinishedJob | undefined): FinishedJob {
  if (job?.succeeded !== true) throw new Error(`${job?.name} ended with ${job?.reason}:\n${job?.log}`);
  return job;
}

/** Names of a Job's pods that exist, oldest first. */
export async function podsOf(cluster: Cluster, namespace: string, job: string): Promise<readonly string[]> {
  const names = await cluster.kubectl(
    ...["get", "pods", "--namespace", namespace, "--selector", `job-name=${job}`, "--sort-by=.metadata.creationTimestamp"],
    ...["-o", "jsonpath={.items[*].metadata.name}"],
  );
  return names.split(" ").filter((name) => name !== "");
}

async function readLogs(cluster: Cluster, namespace: string, job: string, logs: Map<string, string>): Promise<void> {
  for (const pod of await podsOf(cluster, namespace, job)) {
    const { status, stdout } = await cluster.tryKubectl({ mayFail: true }, "logs", "--namespace", namespace, pod, "--container", "runner");
    if (status === 0 && stdout !== "") logs.set(pod, stdout);
  }
}
