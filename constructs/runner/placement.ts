import type { Affinity } from "./pod-types";

/** Next to which pods a backup runs. */
export interface Colocation {
  /** Labels of the application's pods. */
  readonly labels: { readonly [label: string]: string };
  /**
   * `required`: on a node of such a pod only, so a backup of an application that is scaled to zero stays pending.
   * `preferred`: there if such a pod exists, anywhere otherwise; for applications that may be parked.
   *
   * @default "required"
   */
  readonly mode?: "required" | "preferred";
  /** Namespaces of the application's pods. @default - the backup's own */
  readonly namespaces?: readonly string[];
}

/** A taint that the pod puts up with. */
export interface Toleration {
  /** @default - every key */
  readonly key?: string;
  /** @default "Equal" if there is a value, "Exists" otherwise */
  readonly operator?: "Equal" | "Exists";
  /** @default - any */
  readonly value?: string;
  /** @default - every effect */
  readonly effect?: "NoSchedule" | "PreferNoSchedule" | "NoExecute";
}

/** The node is the unit: a volume that is attached to it can be mounted by each of its pods. */
const TOPOLOGY_KEY = "kubernetes.io/hostname";

/** The command that stops an application, for a person who is about to restore its data. */
export function stopCommand(namespace: string, colocation: Colocation | undefined): string | undefined {
  if (colocation === undefined || colocation.namespaces !== undefined) return undefined;
  const labels = Object.entries(colocation.labels).map(([name, value]) => `${name}=${value}`);
  return `kubectl scale deployment,statefulset -n ${namespace} -l ${labels.join(",")} --replicas=0`;
}

/** `affinity` of a pod as the provider writes it. */
export function renderAffinity(colocation: Colocation): Affinity {
  const term = {
    topologyKey: TOPOLOGY_KEY,
    labelSelector: [{ matchLabels: { ...colocation.labels } }],
    namespaces: colocation.namespaces === undefined ? undefined : [...colocation.namespaces],
  };
  return {
    podAffinity:
      colocation.mode === "preferred"
        ? { preferredDuringSchedulingIgnoredDuringExecution: [{ weight: 100, podAffinityTerm: term }] }
        : { requiredDuringSchedulingIgnoredDuringExecution: [term] },
  };
}
