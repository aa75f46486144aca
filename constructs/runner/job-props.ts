import type { Duration } from "../../lib/duration";
import type { ImageReference } from "../../lib/image-reference";
import type { Quantity } from "../../lib/quantity";
import type { Schedule } from "../../lib/schedule";
import type { ServiceEndpoint } from "../../lib/service-endpoint";
import type { Colocation, Toleration } from "./placement";
import type { RunAs } from "./pod-security";
import type { Resources } from "./resources";

/** What every scheduled job of this library can be told. */
export interface JobProps {
  /** When it runs. */
  readonly schedule: Schedule;
  /** Namespace of all its resources. */
  readonly namespace: string;
  /** Name of the CronJob, at most 52 characters; unique in its namespace. @default - the construct's id */
  readonly name?: string;
  /** User and group of the pod. @default - the engine image's own user, stated by each class */
  readonly runAs?: RunAs;
  /** What the runner's container may use. @default - see {@link Resources} */
  readonly resources?: Resources;
  /** Largest size of the runner's scratch directory. @default Quantity.gibibytes(1) */
  readonly scratchSize?: Quantity;
  /**
   * Ends a Job, with all its retries, that has not finished by then. With `Forbid` it must be shorter than the shortest gap of the
   * schedule, or a hanging Job would cost the next run.
   *
   * @default - one hour, or half of the schedule's shortest gap if that is less
   */
  readonly deadline?: Duration;
  /**
   * A run that could not start by then is given up and counted as missed. At least 200 s: the controller that starts Jobs is late when
   * the API server is.
   *
   * @default - a quarter of the schedule's longest gap, but at most one hour
   */
  readonly startingDeadline?: Duration;
  /** What becomes of a run that is due while the last one works: it is left out, or it takes the other's place. @default "Forbid" */
  readonly concurrency?: "Forbid" | "Replace";
  /** Attempts after a failed one, 0 to 6. @default 1 */
  readonly backoffLimit?: number;
  /** Starts no more Jobs. @default false */
  readonly suspend?: boolean;
  /** Deletes a finished Job and its logs after this, at least one hour. @default - never; the newest 3 good and 5 failed Jobs stay */
  readonly ttlAfterFinished?: Duration;
  /** Runs next to the application's pods: needed where a `ReadWriteOnce` claim is mounted. @default - anywhere */
  readonly colocateWith?: Colocation;
  /** Runs on this node. @default - the scheduler's choice */
  readonly nodeName?: string;
  /** Runs on nodes with these labels. @default - any node */
  readonly nodeSelector?: { readonly [label: string]: string };
  /** Taints that the pod puts up with. @default - none */
  readonly tolerations?: readonly Toleration[];
  /** Uses the node's network. No NetworkPolicy is made then, as none would apply. @default false */
  readonly hostNetwork?: boolean;
  /** @default - the cluster's default priority */
  readonly priorityClassName?: string;
  /** Names of Secrets with registry credentials. @default - none */
  readonly imagePullSecrets?: readonly string[];
  /** More labels for all resources. @default - none beyond the standard ones */
  readonly labels?: { readonly [label: string]: string };
  /** More annotations for the CronJob and its pods; they win over the defaults. @default - `keel.sh/policy: never` */
  readonly annotations?: { readonly [annotation: string]: string };
  /** Attributes of the CronJob whose change by others Terraform leaves alone, such as {@link KYVERNO_DNS_CONFIG}. @default - none */
  readonly ignoreChanges?: readonly string[];
  /** Pushgateway that metrics go to, over plain HTTP. @default - no metrics */
  readonly pushgateway?: ServiceEndpoint;
  /** More that the pod may reach. @default - its engine, DNS and the Pushgateway only */
  readonly allowEgressTo?: readonly Egress[];
  /** Image of the runner's container: Node.js 24 and busybox or coreutils. @default - {@link RUNNER_IMAGE} */
  readonly runnerImage?: ImageReference;
}

/** Addresses outside the cluster that a pod may open connections to. */
export interface Egress {
  /** IP block, such as `192.168.1.13/32`. */
  readonly cidr: string;
  /** TCP ports. */
  readonly ports: readonly number[];
  /** Blocks within it that stay closed. @default - none */
  readonly except?: readonly string[];
}
