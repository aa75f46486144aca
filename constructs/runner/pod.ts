import type { Quantity } from "../../lib/quantity";
import type { ImageReference } from "../../lib/image-reference";
import {
  CONFIG_DIRECTORY,
  EXCHANGE_DIRECTORY,
  IDENTITY_DIRECTORY,
  SCRATCH_DIRECTORY,
  TARGET_DIRECTORY,
  WORK_DIRECTORY,
} from "../../lib/runtime/settings";
import type { VolumeSource } from "../storage/backup-volume";
import { renderEnv } from "./env";
import type { EngineContainer, JobParts, Mount, Tool } from "./job-parts";
import type { JobProps } from "./job-props";
import { renderAffinity } from "./placement";
import type { Identity } from "./pod-security";
import { containerSecurityContext, podSecurityContext } from "./pod-security";
import type { Container, PodSpec, Volume, VolumeMount } from "./pod-types";
import { renderResources } from "./resources";
import type { SecretRef } from "./secret-ref";

/** Where runner and engine see the data of a scratch instance. */
const WORK: VolumeMount = { name: "work", mountPath: WORK_DIRECTORY };

/** What the pod is made of, with every default resolved. */
export interface PodModel {
  readonly props: JobProps;
  readonly parts: JobParts;
  readonly identity: Identity;
  readonly runnerImage: ImageReference;
  readonly configMapName: string;
  readonly serviceAccountName?: string;
  readonly scratchSize: Quantity;
  readonly exchangeSize: Quantity;
}

/** The pod's specification as the provider writes it. */
export function renderPod(pod: PodModel): PodSpec {
  const { props, parts, identity } = pod;
  const volumes = new Volumes();
  volumes.add("config", { configMap: { name: pod.configMapName, defaultMode: "0444" } });
  volumes.add("scratch", { emptyDir: { sizeLimit: pod.scratchSize.toString() } });
  if (parts.workSize !== undefined) volumes.add("work", { emptyDir: { sizeLimit: parts.workSize.toString() } });
  if (parts.container !== undefined) volumes.add("exchange", { emptyDir: { sizeLimit: pod.exchangeSize.toString() } });
  if (parts.target !== undefined) volumes.add("target", parts.target.volume.source);
  if (parts.token !== undefined) volumes.add("token", renderToken(parts.token));
  if (parts.identity !== undefined) volumes.add("identity", renderSecret(parts.identity));
  const { tools } = parts;
  const render = (tool: Tool): Container => renderTool(tool, pod);
  const stage = tools && [renderRunner(pod, volumes, "stage"), ...tools.before.map(render)];
  const runner = renderRunner(pod, volumes);
  const engine = parts.container === undefined ? [] : [renderEngine(parts.container, pod, volumes)];
  const hostNetwork = props.hostNetwork ?? false;
  return {
    restartPolicy: "Never",
    automountServiceAccountToken: false,
    // Variables such as REDIS_PORT=tcp://10.0.0.1:6379, made up from Services, would reach the engine's tools.
    enableServiceLinks: false,
    serviceAccountName: pod.serviceAccountName,
    securityContext: podSecurityContext(identity),
    hostNetwork: hostNetwork ? true : undefined,
    // The Pushgateway is a Service, also for a pod on the node's network.
    dnsPolicy: hostNetwork ? "ClusterFirstWithHostNet" : undefined,
    nodeName: props.nodeName,
    nodeSelector: props.nodeSelector === undefined ? undefined : { ...props.nodeSelector },
    priorityClassName: props.priorityClassName,
    affinity: props.colocateWith === undefined ? undefined : renderAffinity(props.colocateWith),
    toleration: props.tolerations?.map((toleration) => ({
      ...toleration,
      operator: toleration.operator ?? (toleration.value === undefined ? "Exists" : "Equal"),
    })),
    imagePullSecrets: props.imagePullSecrets?.map((name) => ({ name })),
    initContainer: stage,
    container: [runner, ...engine, ...(tools?.beside.map(render) ?? [])],
    volume: volumes.rendered,
  };
}

function renderRunner({ parts, identity, runnerImage, props }: PodModel, volumes: Volumes, step?: "stage"): Container {
  const mounts: VolumeMount[] = [
    { name: "config", mountPath: CONFIG_DIRECTORY, readOnly: true },
    { name: "scratch", mountPath: SCRATCH_DIRECTORY },
  ];
  if (parts.container !== undefined) mounts.push({ name: "exchange", mountPath: EXCHANGE_DIRECTORY });
  if (parts.workSize !== undefined) mounts.push(WORK);
  if (parts.target !== undefined) mounts.push({ name: "target", mountPath: TARGET_DIRECTORY });
  if (parts.token !== undefined) mounts.push({ name: "token", mountPath: parts.token.directory, readOnly: true });
  if (parts.identity !== undefined) {
    mounts.push({ name: "identity", mountPath: `${IDENTITY_DIRECTORY}/${parts.identity.name}`, readOnly: true });
  }
  mounts.push(...volumes.mounts(parts.mounts ?? []));
  return {
    name: step ?? "runner",
    image: runnerImage.toString(),
    command: ["node", `${CONFIG_DIRECTORY}/runner.js`, step ?? parts.command],
    env: [
      // The Job's name tells a scheduled run from one that a person started.
      { name: "JOB_NAME", valueFrom: { fieldRef: { fieldPath: "metadata.labels['batch.kubernetes.io/job-name']" } } },
      { name: "TMPDIR", value: SCRATCH_DIRECTORY },
    ],
    resources: renderResources(props.resources),
    securityContext: containerSecurityContext(identity),
    volumeMount: mounts,
  };
}

function renderEngine(container: EngineContainer, { parts, identity }: PodModel, volumes: Volumes): Container {
  return {
    name: "engine",
    image: container.image.toString(),
    command: ["/bin/sh", `${CONFIG_DIRECTORY}/agent.sh`],
    env: renderEnv({
      ENGINE_SCRIPT: `${CONFIG_DIRECTORY}/${container.script}`,
      EXCHANGE: EXCHANGE_DIRECTORY,
      TMPDIR: parts.workSize === undefined ? EXCHANGE_DIRECTORY : WORK_DIRECTORY,
      ...(parts.workSize === undefined ? {} : { WORK: WORK_DIRECTORY }),
      ...container.environment,
    }),
    resources: renderResources(container.resources),
    securityContext: containerSecurityContext(identity),
    volumeMount: [
      { name: "config", mountPath: CONFIG_DIRECTORY, readOnly: true },
      { name: "exchange", mountPath: EXCHANGE_DIRECTORY },
      ...(parts.workSize === undefined ? [] : [WORK]),
      ...volumes.mounts(container.mounts ?? []),
    ],
  };
}

function renderTool({ name, image, command, resources }: Tool, { identity }: PodModel): Container {
  return {
    name,
    image: image.toString(),
    command: [...command],
    resources: renderResources(resources),
    securityContext: containerSecurityContext(identity),
    volumeMount: [WORK],
  };
}

function renderToken({ audience, expirationSeconds }: { audience: string; expirationSeconds: number }): VolumeSource {
  return { projected: [{ defaultMode: "0400", sources: [{ serviceAccountToken: { audience, expirationSeconds, path: "token" } }] }] };
}

/** A pod would wait for ever for a Secret that is not there; this way its runner says so. Any user of the container can read it. */
function renderSecret({ name, key }: SecretRef): VolumeSource {
  return { secret: { secretName: name, optional: true, defaultMode: "0444", items: [{ key, path: key }] } };
}

/** The pod's volumes. One source becomes one volume: a kubelet waits for ever for a claim that a pod lists twice. */
class Volumes {
  public readonly rendered: Volume[] = [];
  private readonly names = new Map<string, string>();

  public add(name: string, source: VolumeSource): void {
    this.rendered.push({ name, ...source });
  }

  public mounts(mounts: readonly Mount[]): VolumeMount[] {
    return mounts.map(({ volume, path }) => ({
      name: this.nameOf(volume.source),
      mountPath: path,
      readOnly: volume.readOnly ? true : undefined,
      subPath: volume.subPath,
    }));
  }

  private nameOf(source: VolumeSource): string {
    const key = JSON.stringify(source);
    let name = this.names.get(key);
    if (name === undefined) {
      name = `source-${this.names.size + 1}`;
      this.names.set(key, name);
      this.add(name, source);
    }
    return name;
  }
}
