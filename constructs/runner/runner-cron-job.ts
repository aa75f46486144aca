import { ConfigMapV1 } from "@cdktf/provider-kubernetes/lib/config-map-v1";
import { CronJobV1 } from "@cdktf/provider-kubernetes/lib/cron-job-v1";
import type { CronJobV1Config } from "@cdktf/provider-kubernetes/lib/cron-job-v1";
import { NetworkPolicyV1 } from "@cdktf/provider-kubernetes/lib/network-policy-v1";
import { ServiceAccountV1 } from "@cdktf/provider-kubernetes/lib/service-account-v1";
import { Construct } from "constructs";
import type { Duration } from "../../lib/duration";
import { Problems } from "../../lib/errors";
import type { ImageReference } from "../../lib/image-reference";
import { checkConstructId, standardLabels } from "../../lib/names";
import { Quantity } from "../../lib/quantity";
import { IDENTITY_DIRECTORY, TARGET_DIRECTORY } from "../../lib/runtime/settings";
import type { RetentionSettings, Settings, TargetSettings } from "../../lib/runtime/settings";
import type { Schedule } from "../../lib/schedule";
import { renderConfigData } from "./config-map";
import {
  ANNOTATIONS,
  CHECKSUM_ANNOTATION,
  COMPRESSION_LEVEL,
  HISTORY,
  LOCK_LEASE_SECONDS,
  ROOT_REASON_ANNOTATION,
  RUNNER_IMAGE,
} from "./defaults";
import type { JobParts, Target } from "./job-parts";
import type { JobProps } from "./job-props";
import { renderNetworkPolicy } from "./network-policy";
import { renderPod } from "./pod";
import type { Identity } from "./pod-security";
import { resolveIdentity } from "./pod-security";
import { takeDirectory, takeName } from "./registry";
import type { Timing } from "./timing";
import { resolveTiming } from "./timing";
import { checkJob } from "./validation";

/**
 * A CronJob whose pods run this library's runner, alone or beside a container with the engine's tools.
 *
 * Creates a `kubernetes_cron_job_v1` (id `Resource`), a `kubernetes_config_map_v1` (id `Config`) with the runner, its settings and the
 * engine's script, a `kubernetes_network_policy_v1` (id `NetworkPolicy`) unless the pod uses the node's network, and a
 * `kubernetes_service_account_v1` (id `ServiceAccount`) for an engine that needs a token.
 */
export abstract class RunnerCronJob extends Construct {
  public readonly name: string;
  public readonly namespace: string;
  public readonly schedule: Schedule;
  /** After this a Job is ended. */
  public readonly deadline: Duration;
  /** A run may start this late. */
  public readonly startingDeadline: Duration;
  public readonly concurrency: "Forbid" | "Replace";
  public readonly backoffLimit: number;
  /** User and group of the pod. */
  public readonly runAs: Identity;
  public readonly runnerImage: ImageReference;
  public readonly scratchSize: Quantity;
  /** Labels of every resource and of the pods. */
  public readonly labels: { readonly [label: string]: string };
  /** What the runner is told. */
  public readonly settings: Settings;
  /** The L1 CronJob. */
  public readonly resource: CronJobV1;
  /** The L1 ConfigMap. */
  public readonly configMap: ConfigMapV1;
  /** The L1 NetworkPolicy; absent on the node's network. */
  public readonly networkPolicy?: NetworkPolicyV1;
  /** The L1 ServiceAccount, where the engine needs a token. */
  public readonly serviceAccount?: ServiceAccountV1;

  /**
   * @param describe what the engine adds; it records what is wrong with its own options
   * @throws ValidationError
   */
  protected constructor(scope: Construct, id: string, props: JobProps, describe: (problems: Problems) => JobParts) {
    super(scope, id);
    const problems = new Problems(this.node.path);
    checkConstructId(problems, "id", id);
    const parts = describe(problems);
    const timing = resolveTiming(problems, props);
    this.name = props.name ?? id;
    this.namespace = props.namespace;
    this.schedule = props.schedule;
    this.deadline = timing.deadline;
    this.startingDeadline = timing.startingDeadline;
    this.concurrency = timing.concurrency;
    this.backoffLimit = timing.backoffLimit;
    this.runAs = resolveIdentity(problems, props.runAs ?? parts.defaultRunAs);
    this.runnerImage = props.runnerImage ?? RUNNER_IMAGE;
    this.scratchSize = props.scratchSize ?? Quantity.gibibytes(1);
    checkJob(problems, this.name, props, parts);
    takeName(problems, this, this.namespace, this.name);
    const { command, target } = parts;
    if (command === "backup" && target !== undefined) takeDirectory(problems, this, this.namespace, target.volume, target.directory);
    problems.throwIfAny();

    const standard = standardLabels({ name: parts.application, instance: this.name, component: parts.command });
    this.labels = { ...props.labels, ...standard };
    this.settings = this.renderSettings(props, parts, timing);
    const config = renderConfigData(this.settings, parts.command, parts.container);
    const metadata = { name: this.name, namespace: this.namespace, labels: { ...this.labels } };
    this.configMap = new ConfigMapV1(this, "Config", { metadata, data: config.data });
    if (parts.token !== undefined && parts.token.serviceAccountName === undefined) {
      this.serviceAccount = new ServiceAccountV1(this, "ServiceAccount", { metadata, automountServiceAccountToken: false });
    }
    if (!props.hostNetwork) {
      const endpoints = [...(parts.endpoints ?? []), ...(props.pushgateway === undefined ? [] : [props.pushgateway])];
      const policy = renderNetworkPolicy(metadata, standard, endpoints, props.allowEgressTo ?? []);
      this.networkPolicy = new NetworkPolicyV1(this, "NetworkPolicy", policy);
    }
    this.resource = new CronJobV1(this, "Resource", this.render(props, parts, timing, config.checksum));
  }

  private renderSettings(props: JobProps, parts: JobParts, timing: Timing): Settings {
    const { target } = parts;
    return {
      formatVersion: 1,
      backup: parts.backup ?? this.name,
      namespace: this.namespace,
      cronJob: this.name,
      engine: parts.engine,
      target: target === undefined ? undefined : this.renderTarget(target),
      retention: target === undefined ? undefined : renderRetention(target),
      drill: parts.drill,
      lastDayOfMonth: this.schedule.lastDayOfMonth,
      timeZone: this.schedule.timeZone,
      pushgateway: props.pushgateway === undefined ? undefined : `http://${props.pushgateway.toString()}`,
      deadlineSeconds: timing.deadline.toSeconds(),
      compressionLevel: parts.compressionLevel ?? COMPRESSION_LEVEL,
      encryption: parts.recipients === undefined ? undefined : { recipients: parts.recipients },
      identity: parts.identity === undefined ? undefined : `${IDENTITY_DIRECTORY}/${parts.identity.name}/${parts.identity.key}`,
    };
  }

  private renderTarget({ volume, directory, shared, owner = this.runAs }: Target): TargetSettings {
    return {
      mount: TARGET_DIRECTORY,
      directory,
      sentinel: volume.sentinel,
      prepare: volume.prepareCommand(owner.uid, owner.gid, directory, shared),
      lockLeaseSeconds: LOCK_LEASE_SECONDS,
    };
  }

  private render(props: JobProps, parts: JobParts, timing: Timing, checksum: string): CronJobV1Config {
    const labels = { ...this.labels };
    const annotations: { [annotation: string]: string } = { ...ANNOTATIONS, ...props.annotations };
    if (this.runAs.uid === 0) annotations[ROOT_REASON_ANNOTATION] = this.runAs.reason ?? "";
    return {
      metadata: { name: this.name, namespace: this.namespace, labels, annotations },
      spec: {
        schedule: this.schedule.expression,
        timezone: this.schedule.timeZone,
        concurrencyPolicy: timing.concurrency,
        startingDeadlineSeconds: timing.startingDeadline.toSeconds(),
        suspend: props.suspend ?? false,
        successfulJobsHistoryLimit: HISTORY.successful,
        failedJobsHistoryLimit: HISTORY.failed,
        jobTemplate: {
          metadata: { labels },
          spec: {
            activeDeadlineSeconds: timing.deadline.toSeconds(),
            backoffLimit: timing.backoffLimit,
            ttlSecondsAfterFinished: props.ttlAfterFinished === undefined ? undefined : String(props.ttlAfterFinished.toSeconds()),
            template: {
              metadata: { labels, annotations: { ...annotations, [CHECKSUM_ANNOTATION]: checksum } },
              spec: renderPod({
                props,
                parts,
                identity: this.runAs,
                runnerImage: this.runnerImage,
                configMapName: this.name,
                serviceAccountName: parts.token && (parts.token.serviceAccountName ?? this.name),
                scratchSize: this.scratchSize,
                exchangeSize: parts.container?.exchangeSize ?? Quantity.gibibytes(1),
              }),
            },
          },
        },
      },
      lifecycle: props.ignoreChanges === undefined ? undefined : { ignoreChanges: [...props.ignoreChanges] },
    };
  }
}

function renderRetention({ retention, proof }: Target): RetentionSettings {
  const { keepDays, keepLast, removeAtMost, freezeBelow } = retention;
  return { keepDays, keepLast, proof, removeAtMost, freezeBelow };
}
