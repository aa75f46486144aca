import type { Block } from "./terraform";
import { block, blocks, number, text } from "./terraform";

/** What a pod's environment and files may refer to. */
export interface Sources {
  /** Data of a ConfigMap or Secret of the pod's namespace; `undefined` if it does not exist. */
  readonly configMap: (name: string) => { readonly [key: string]: string } | undefined;
  readonly secret: (name: string) => { readonly [key: string]: string } | undefined;
  readonly metadata: PodMetadata;
  /** `serviceAccountName`. */
  readonly serviceAccount: string;
}

export interface PodMetadata {
  readonly name: string;
  readonly namespace: string;
  readonly uid: string;
  readonly labels: { readonly [key: string]: string };
  readonly annotations: { readonly [key: string]: string };
}

/** The variables a container declares, in order, with the kubelet's expansion of `$(NAME)`; `given` are known before them. */
export function declaredEnvironment(container: Block, sources: Sources, given: Record<string, string>): Record<string, string> {
  const result: Record<string, string> = {};
  for (const from of blocks(container.env_from)) {
    const prefix = text(from.prefix) ?? "";
    const data =
      from.secret_ref === undefined
        ? referred("ConfigMap", block(from.config_map_ref), sources.configMap)
        : referred("Secret", block(from.secret_ref), sources.secret);
    for (const [key, value] of Object.entries(data ?? {})) result[prefix + key] = value;
  }
  for (const variable of blocks(container.env)) {
    const name = String(variable.name);
    const value =
      variable.value_from === undefined
        ? expand(text(variable.value) ?? "", { ...given, ...result })
        : valueFrom(block(variable.value_from), container, sources);
    if (value !== undefined) result[name] = value;
  }
  return result;
}

function valueFrom(from: Block, container: Block, sources: Sources): string | undefined {
  if (from.secret_key_ref !== undefined) return keyOf("Secret", block(from.secret_key_ref), sources.secret);
  if (from.config_map_key_ref !== undefined) return keyOf("ConfigMap", block(from.config_map_key_ref), sources.configMap);
  if (from.field_ref !== undefined) return field(String(block(from.field_ref).field_path), sources);
  if (from.resource_field_ref !== undefined) return resourceField(block(from.resource_field_ref), container);
  throw new Error(`value_from: the pod harness does not know ${Object.keys(from).join(", ")}`);
}

function referred<T>(kind: string, reference: Block, find: (name: string) => T | undefined): T | undefined {
  const name = String(reference.name);
  const found = find(name);
  if (found === undefined && reference.optional !== true) throw new Error(`CreateContainerConfigError: ${kind} "${name}" not found`);
  return found;
}

function keyOf(kind: string, reference: Block, find: (name: string) => { readonly [key: string]: string } | undefined): string | undefined {
  const key = String(reference.key);
  const value = referred(kind, reference, find)?.[key];
  if (value === undefined && reference.optional !== true) {
    throw new Error(`CreateContainerConfigError: no key ${key} in ${kind} "${String(reference.name)}"`);
  }
  return value;
}

/** A field of the downward API. Whole `metadata.labels` and `metadata.annotations` exist in volumes only, as `key="value"` lines. */
export function field(path: string, { metadata, serviceAccount }: Sources): string {
  const [, map, key] = /^metadata\.(labels|annotations)\['(.*)'\]$/.exec(path) ?? [];
  if (map === "labels" || map === "annotations") return metadata[map][key ?? ""] ?? "";
  switch (path) {
    case "metadata.name":
    case "metadata.namespace":
    case "metadata.uid":
      return metadata[path.slice("metadata.".length) as "name" | "namespace" | "uid"];
    case "metadata.labels":
    case "metadata.annotations":
      return Object.entries(metadata[path.slice("metadata.".length) as "labels" | "annotations"])
        .map(([name, value]) => `${name}=${JSON.stringify(value)}\n`)
        .join("");
    case "spec.nodeName":
      return "node";
    case "spec.serviceAccountName":
      return serviceAccount;
    case "status.podIP":
    case "status.hostIP":
      return "127.0.0.1";
    default:
      throw new Error(`field_ref: the pod harness does not know ${path}`);
  }
}

const UNITS: { readonly [suffix: string]: number } = { "": 1, m: 1e-3, k: 1e3, M: 1e6, G: 1e9, Ki: 2 ** 10, Mi: 2 ** 20, Gi: 2 ** 30 };

function resourceField(reference: Block, container: Block): string {
  const [kind = "", resource = ""] = String(reference.resource).split(".");
  const quantity = text(block(block(container.resources)[kind])[resource]);
  if (quantity === undefined) throw new Error(`resource_field_ref: the container has no ${kind}.${resource}`);
  return String(Math.ceil(parseQuantity(quantity) / parseQuantity(text(reference.divisor) ?? "1")));
}

function parseQuantity(quantity: string): number {
  const [, digits, suffix = ""] = /^([\d.]+)([A-Za-z]*)$/.exec(quantity) ?? [];
  const unit = UNITS[suffix];
  const value = number(digits);
  if (unit === undefined || value === undefined) throw new Error(`not a quantity: ${quantity}`);
  return value * unit;
}

/**
 * The kubelet's expansion in `command`, `args` and env values: `$(NAME)` becomes the value where NAME is known and stays as it is
 * where it is not; `$$` becomes `$`, so that `$$(NAME)` yields the text `$(NAME)`; any other `$` stays.
 */
export function expand(source: string, known: { readonly [name: string]: string }): string {
  return source.replace(/\$\$|\$\(([^)]*)\)/g, (found, name: string | undefined) => (name === undefined ? "$" : (known[name] ?? found)));
}
