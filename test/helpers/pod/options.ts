import type { ImageProfile, Shell } from "./image";
import type { Resources } from "./terraform";
import type { HostVolume } from "./volumes";

/** Storage, secrets and network around a pod, and what is done to it. */
export interface PodOptions {
  /** Host directories by claim name, `server:/path` of an NFS export, or path of a hostPath. @default {} */
  readonly volumes?: { readonly [key: string]: string | HostVolume };
  /** Secrets of the pod's namespace. @default {} */
  readonly secrets?: { readonly [name: string]: { readonly [key: string]: string } };
  /** ConfigMaps of the pod's namespace that are not in the synthesised JSON. @default {} */
  readonly configMaps?: { readonly [name: string]: { readonly [key: string]: string } };
  /** In-cluster services that resolve, to 127.0.0.1: `name.namespace`. @default [] */
  readonly services?: readonly string[];
  /**
   * What the images hold, by repository (`docker.io/library/postgres`). @default - Node and Alpine's busybox for a repository that
   * ends in `/node`; for others the programs in the `# tools:` lines of the scripts in the container's command and `ENGINE_SCRIPT`
   */
  readonly images?: { readonly [repository: string]: ImageProfile };
  /** Programs that every container has in place of the host's of that name, or besides: tool to path on the host. @default {} */
  readonly programs?: { readonly [tool: string]: string };
  /** `/bin/sh` of images that do not say. @default "dash" */
  readonly shell?: Shell;
  /** Content of service account tokens. @default "service-account-token" */
  readonly serviceAccountToken?: string;
  /** Milliseconds between the starts of two containers, which a kubelet starts in turn. @default 200 */
  readonly pauseMs?: number;
  /** What to kill, and when. @default [] */
  readonly kill?: Kill | readonly Kill[];
  /** Variables that `kubectl set env -c runner` gave the Job. @default {} */
  readonly env?: { readonly [name: string]: string };
  /** Replaces `activeDeadlineSeconds`, so that a test need not wait hours. @default - as declared */
  readonly deadlineSeconds?: number;
  /** Replaces `terminationGracePeriodSeconds`. @default - as declared, else 30 */
  readonly graceSeconds?: number;
  /** Real seconds after which the harness ends the pod and fails. @default 120 */
  readonly timeoutSeconds?: number;
}

export interface CronJobOptions extends PodOptions {
  /** `metadata.name` of the CronJob. @default - the only one */
  readonly name?: string;
  /** Name of the Job. @default - `<cronjob>-<unix minutes>`, as a scheduled run has */
  readonly jobName?: string;
}

/** A fault: a signal to a container, or to one program in it, at a moment. */
export interface Kill {
  /** @default - every container that runs */
  readonly container?: string;
  /** Name of a program: the signal goes to its processes and not to the container's process 1. @default - process 1 */
  readonly process?: string;
  /** @default "SIGKILL" */
  readonly signal?: NodeJS.Signals;
  /** Milliseconds after all containers of the pod have started. @default 0, or what `when` says */
  readonly afterMs?: number;
  /** The moment: asked again at every line of log and every 2 ms; counts from `afterMs` on. @default - at once */
  readonly when?: (pod: RunningPod) => boolean;
}

export interface PodResult {
  /** Every container ended with 0. */
  readonly ok: boolean;
  /** By container; one that was never started is absent. 128 + n after signal n. */
  readonly exitCodes: { readonly [container: string]: number };
  /** By container: standard output and standard error as they came. */
  readonly logs: { readonly [container: string]: string };
  /** `DeadlineExceeded` where the deadline ended the pod. */
  readonly reason?: "DeadlineExceeded" | "Deleted";
  readonly durationMs: number;
  /** How many processes the faults of {@link PodOptions.kill} reached. */
  readonly killed: number;
  /** The pod's name, which is also its hostname. */
  readonly pod: string;
}

export interface RunningPod {
  readonly name: string;
  /** What a container has printed so far; "" before it runs. */
  log(container: string): string;
  /** See {@link Kill}; returns how many processes got the signal. */
  kill(kill?: Pick<Kill, "container" | "process" | "signal">): number;
  /** Deletes the pod: TERM, the grace period, KILL. */
  delete(): void;
  /** Fails where a cluster would never start the containers, too. */
  readonly done: Promise<PodResult>;
}

export interface PodContext extends PodOptions {
  /** Where ConfigMaps of the pod's namespace are looked for besides {@link PodOptions.configMaps}. */
  readonly resources?: Resources;
  /** @default "default" */
  readonly namespace?: string;
  /** @default "pod" */
  readonly podName?: string;
  readonly labels?: { readonly [key: string]: string };
  readonly annotations?: { readonly [key: string]: string };
}
