import { removedWithoutTombstone, type SynthesisedStack } from "../../constructs/storage";
import { block, blocks, Resources, type Block, type Synthesised } from "../helpers/pod/terraform";

/** A Kubernetes object, as the API takes it. */
export interface KubernetesObject {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: { readonly name: string; readonly namespace?: string };
  readonly [field: string]: unknown;
}

/** Provider types in the order in which their objects must exist. */
const KINDS: { readonly [type: string]: { readonly apiVersion: string; readonly kind: string } } = {
  kubernetes_namespace_v1: { apiVersion: "v1", kind: "Namespace" },
  kubernetes_service_account_v1: { apiVersion: "v1", kind: "ServiceAccount" },
  kubernetes_config_map_v1: { apiVersion: "v1", kind: "ConfigMap" },
  kubernetes_persistent_volume_v1: { apiVersion: "v1", kind: "PersistentVolume" },
  kubernetes_persistent_volume_claim_v1: { apiVersion: "v1", kind: "PersistentVolumeClaim" },
  kubernetes_network_policy_v1: { apiVersion: "networking.k8s.io/v1", kind: "NetworkPolicy" },
  kubernetes_cron_job_v1: { apiVersion: "batch/v1", kind: "CronJob" },
};
/** Terraform's own arguments of a resource. */
const META_ARGUMENTS = new Set(["lifecycle", "depends_on", "provider", "//"]);
/** Blocks that Terraform names in the singular, and that repeat. */
const PLURALS: { readonly [name: string]: string } = {
  container: "containers",
  init_container: "initContainers",
  volume: "volumes",
  volume_mount: "volumeMounts",
  toleration: "tolerations",
};
const RENAMED: { readonly [name: string]: string } = { timezone: "timeZone", host_pid: "hostPID", host_ipc: "hostIPC" };
/** Attributes that stay lists, however few their items are. */
const LISTS = new Set(
  `containers initContainers volumes volumeMounts tolerations env envFrom imagePullSecrets accessModes mountOptions command args egress ingress
   ports to from policyTypes sources items drop add except namespaces matchExpressions values finalizers
   requiredDuringSchedulingIgnoredDuringExecution preferredDuringSchedulingIgnoredDuringExecution`.split(/\s+/),
);
/** Attributes whose keys are the user's and not the schema's. */
const MAPS = new Set("labels annotations data matchLabels capacity requests limits volumeAttributes nodeSelector".split(" "));
/** Numbers that the provider has as text, some of them octal. */
const NUMBERS = new Set("runAsUser runAsGroup fsGroup ttlSecondsAfterFinished".split(" "));
const OCTALS = new Set(["defaultMode", "mode"]);
/** What the provider writes where a block says nothing, by the field that the block becomes, and where need be the field around that. */
const DEFAULTS: { readonly [field: string]: Block } = {
  ConfigMap: { immutable: false },
  "jobTemplate.spec": { completions: 1, manualSelector: false, parallelism: 1 },
  "template.spec": { shareProcessNamespace: false },
  volumeMounts: { mountPropagation: "None" },
  configMap: { optional: false },
  secret: { optional: false },
  secretKeyRef: { optional: false },
};

/**
 * The objects of a stack, translated from `kubernetes_*_v1` blocks without Terraform: what the provider would send.
 * @throws Error for a type or an expression that it does not know
 */
export function objectsOf(stack: Synthesised): readonly KubernetesObject[] {
  return [...addressed(stack).values()];
}

/**
 * What has to be deleted so that a stack becomes another, in that order.
 * @throws Error for what `prevent_destroy` protects, unless a tombstone lets go of it
 */
export function removals(before: Synthesised, after: Synthesised): readonly KubernetesObject[] {
  const lost = removedWithoutTombstone(before as SynthesisedStack, after as SynthesisedStack);
  if (lost.length > 0) throw new Error(`prevent_destroy: ${lost.join(", ")}`);
  const retired = ((after as SynthesisedStack).removed ?? []).filter(({ lifecycle }) => lifecycle?.destroy === false);
  const kept = new Set([...addressed(after).keys(), ...retired.map(({ from }) => from)]);
  return [...addressed(before)]
    .filter(([address]) => !kept.has(address))
    .map(([, object]) => object)
    .reverse();
}

function addressed(stack: Synthesised): ReadonlyMap<string, KubernetesObject> {
  const unknown = Object.keys(stack.resource ?? {}).filter((type) => KINDS[type] === undefined);
  if (unknown.length > 0) throw new Error(`no translation for ${unknown.join(", ")}`);
  const resources = new Resources(stack);
  return new Map(
    Object.entries(KINDS).flatMap(([type, { apiVersion, kind }]) => {
      const ids = Object.keys(stack.resource?.[type] ?? {});
      return resources.evaluated(type).map((resource, index) => {
        const fields = translate(withoutMetaArguments(resource), kind) as Pick<KubernetesObject, "metadata">;
        return [`${type}.${ids[index]}`, { apiVersion, kind, ...fields }] as const;
      });
    }),
  );
}

function withoutMetaArguments(resource: Block): Block {
  return Object.fromEntries(Object.entries(resource).filter(([name]) => !META_ARGUMENTS.has(name)));
}

/** @param field what the value becomes @param around the field that it is in */
function translate(value: unknown, field: string, around = ""): unknown {
  if (Array.isArray(value)) return value.map((item) => translate(item, field, around));
  if (typeof value !== "object" || value === null) return value;
  const fields = Object.entries(value as Block).flatMap(([name, inner]): readonly (readonly [string, unknown])[] => {
    // A block of the provider's own around what is one field of the spec.
    if (name === "persistent_volume_source") return Object.entries(translate(block(inner), field) as Block);
    const own = PLURALS[name] ?? RENAMED[name] ?? name.replace(/_([a-z])/g, (_, letter: string) => letter.toUpperCase());
    return [[own, fieldValue(own, inner, field)]];
  });
  return { ...DEFAULTS[field], ...DEFAULTS[`${around}.${field}`], ...Object.fromEntries(fields) };
}

function fieldValue(field: string, value: unknown, around: string): unknown {
  if (MAPS.has(field)) return block(value);
  if (OCTALS.has(field)) return Number.parseInt(String(value), 8);
  if (NUMBERS.has(field)) return Number(value);
  if (field === "port" && /^\d+$/.test(String(value))) return Number(value);
  if (LISTS.has(field)) return blocks(value).map((item) => translate(item, field, around));
  return translate(Array.isArray(value) ? block(value, field) : value, field, around);
}
