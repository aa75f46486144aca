import { chmodSync, chownSync, existsSync, mkdirSync, readdirSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import type { Block } from "./terraform";
import type { Sources } from "./environment";
import { block, blocks, text } from "./terraform";
import { field } from "./environment";

/** A directory of the host that stands for storage outside the pod. */
export interface HostVolume {
  readonly path: string;
  /** Mounted read-only, as an export that went read-only is. @default false */
  readonly readOnly?: boolean;
  /** `false`: nothing is mounted; the mount point is an empty directory of the container's own root. @default true */
  readonly mounted?: boolean;
}

/** A volume of the pod, ready to be bound into containers. */
export interface PreparedVolume {
  /** Directory or file on the host; `undefined` where nothing is mounted. */
  readonly path: string | undefined;
  readonly readOnly: boolean;
}

export interface VolumeContext {
  /** Directory on the host for what the kubelet makes: emptyDirs and projected files. */
  readonly root: string;
  /** Storage by claim name, `server:/path` of NFS, or path of a hostPath. */
  readonly given: { readonly [key: string]: string | HostVolume };
  readonly sources: Sources;
  readonly fsGroup: number | undefined;
  /** The uid that all containers share, if they do; owner of a service account's token then, as in the kubelet. */
  readonly commonUser: number | undefined;
  readonly token: string;
}

/** A file of a ConfigMap, Secret or projected volume. */
interface ProjectedFile {
  readonly path: string;
  readonly content: string;
  readonly mode: number;
  readonly owner?: number;
}

/** The pod's volumes by name. */
export function prepareVolumes(volumes: readonly Block[], context: VolumeContext): ReadonlyMap<string, PreparedVolume> {
  return new Map(volumes.map((volume) => [String(volume.name), prepare(volume, context)]));
}

function prepare(volume: Block, context: VolumeContext): PreparedVolume {
  const name = String(volume.name);
  const kind = Object.keys(volume).find((key) => key !== "name") ?? "";
  const of = block(volume[kind], name);
  const made = join(context.root, name);
  switch (kind) {
    case "empty_dir":
      mkdirSync(made, { recursive: true });
      chmodSync(made, 0o777);
      if (context.fsGroup !== undefined) {
        chownSync(made, 0, context.fsGroup);
        chmodSync(made, 0o2777);
      }
      return { path: made, readOnly: false };
    case "config_map":
    case "secret":
    case "downward_api":
      return project(made, filesOf(kind, of, mode(of.default_mode), context), context);
    case "projected":
      return project(
        made,
        blocks(of.sources).flatMap((source) =>
          Object.entries(source).flatMap(([sourceKind, value]) =>
            blocks(value).flatMap((item) => filesOf(sourceKind, item, mode(of.default_mode), context)),
          ),
        ),
        context,
      );
    case "persistent_volume_claim":
      return outside(String(of.claim_name), of, context);
    case "nfs":
      return outside(`${String(of.server)}:${String(of.path)}`, of, context);
    case "csi": {
      const attributes = block(of.volume_attributes);
      if (of.driver !== "nfs.csi.k8s.io") throw new Error(`volume ${name}: the pod harness does not know the driver ${String(of.driver)}`);
      return outside(`${String(attributes.server)}:${String(attributes.share)}`, of, context);
    }
    case "host_path":
      return outside(String(of.path), of, context);
    default:
      throw new Error(`volume ${name}: the pod harness does not know ${kind}`);
  }
}

function mode(value: unknown, fallback = 0o644): number {
  const written = text(value);
  return written === undefined || written === "" ? fallback : parseInt(written, 8);
}

function outside(key: string, of: Block, { given }: VolumeContext): PreparedVolume {
  const found = given[key];
  if (found === undefined) throw new Error(`the pod mounts ${key}, which options.volumes does not have`);
  const volume = typeof found === "string" ? { path: found } : found;
  if (volume.mounted === false) return { path: undefined, readOnly: false };
  const exists = existsSync(volume.path);
  const type = text(of.type) ?? "";
  if (!exists && type === "DirectoryOrCreate") mkdirSync(volume.path, { recursive: true });
  else if (!exists) throw new Error(`FailedMount: ${key}: ${volume.path} does not exist`);
  else if (type.startsWith("Directory") !== statSync(volume.path).isDirectory() && type !== "") {
    throw new Error(`FailedMount: ${key}: ${volume.path} is not a ${type}`);
  }
  return { path: volume.path, readOnly: volume.readOnly === true || of.read_only === true };
}

function filesOf(kind: string, of: Block, defaultMode: number, context: VolumeContext): readonly ProjectedFile[] {
  switch (kind) {
    case "config_map":
      return keyFiles(`ConfigMap ${String(of.name)}`, of, context.sources.configMap(String(of.name)), defaultMode);
    case "secret": {
      const name = String(of.secret_name ?? of.name);
      return keyFiles(`Secret ${name}`, of, context.sources.secret(name), defaultMode);
    }
    case "downward_api":
      return blocks(of.items ?? of.item).map((item) => ({
        path: String(item.path),
        content: field(String(block(item.field_ref).field_path), context.sources),
        mode: mode(item.mode, defaultMode),
      }));
    case "service_account_token":
      return [
        {
          path: String(of.path),
          content: context.token,
          ...(context.commonUser === undefined ? { mode: defaultMode } : { mode: 0o600, owner: context.commonUser }),
        },
      ];
    default:
      throw new Error(`projected volume: the pod harness does not know ${kind}`);
  }
}

function keyFiles(
  what: string,
  of: Block,
  data: { readonly [key: string]: string } | undefined,
  defaultMode: number,
): readonly ProjectedFile[] {
  if (data === undefined) {
    if (of.optional === true) return [];
    throw new Error(`FailedMount: ${what} not found`);
  }
  if (of.items === undefined) return Object.entries(data).map(([path, content]) => ({ path, content, mode: defaultMode }));
  return blocks(of.items).flatMap((item) => {
    const content = data[String(item.key)];
    if (content === undefined && of.optional === true) return [];
    if (content === undefined) throw new Error(`FailedMount: ${what} has no key ${String(item.key)}`);
    return [{ path: String(item.path), content, mode: mode(item.mode, defaultMode) }];
  });
}

/** Writes files as the kubelet's atomic writer does: in a dated directory, behind `..data` and one link for each top-level name. */
function project(directory: string, files: readonly ProjectedFile[], { fsGroup }: VolumeContext): PreparedVolume {
  const dated = "..2026_01_01_00_00_00.0";
  mkdirSync(join(directory, dated), { recursive: true });
  for (const file of files) {
    const path = join(directory, dated, file.path);
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, file.content);
    chownSync(path, file.owner ?? 0, fsGroup ?? 0);
    chmodSync(path, fsGroup === undefined ? file.mode : file.mode | 0o440);
  }
  symlinkSync(dated, join(directory, "..data"));
  for (const name of readdirSync(join(directory, dated))) symlinkSync(`..data/${name}`, join(directory, name));
  chmodSync(directory, 0o777);
  return { path: directory, readOnly: true };
}

/** The part of a volume that a mount with `sub_path` shows; made as the kubelet makes it where it is missing. */
export function subPath(path: string, sub: string): string {
  const part = join(path, sub);
  if (!existsSync(part)) mkdirSync(part, { recursive: true });
  return part;
}
