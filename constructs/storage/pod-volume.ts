import { Problems } from "../../lib/errors";
import { isToken } from "../../lib/terraform-text";
import type { VolumeSource } from "./backup-volume";
import { NfsExport, isAbsolutePath, isRelativePath } from "./nfs-export";

/** How a volume is mounted. */
export interface PodVolumeOptions {
  /** Mounts the volume read-only. @default true */
  readonly readOnly?: boolean;
  /** Mounts this directory of the volume instead of its root. @default - the root */
  readonly subPath?: string;
}

/** Options of {@link PodVolume.fromClaim}. */
export interface ClaimVolumeOptions extends PodVolumeOptions {
  /**
   * How the claim may be attached. A `ReadWriteOnce` claim can be mounted on the application's node alone, so a backup that mounts one
   * must say where it runs.
   *
   * @default "ReadWriteOnce" - the stricter assumption, and true of block storage
   */
  readonly accessMode?: "ReadWriteOnce" | "ReadWriteMany" | "ReadOnlyMany";
  /** The NFS export behind the claim, so that a backup into the same directory is refused. @default - not known */
  readonly nfs?: NfsExport;
}

/** Options of {@link PodVolume.fromConfigMap} and {@link PodVolume.fromSecret}. */
export interface KeyedVolumeOptions {
  /** Mode of the files, in octal digits. @default "0444" - readable by whatever user the pod runs as */
  readonly mode?: string;
  /** Whether the pod starts where there is no such object; a runner then says what it lacks. @default false */
  readonly optional?: boolean;
}

/** A volume that a backup reads: data to back up, or files that its tools need. */
export class PodVolume {
  /** A PersistentVolumeClaim of the backup's namespace. */
  public static fromClaim(claimName: string, options: ClaimVolumeOptions = {}): PodVolume {
    const problems = new Problems("PodVolume.fromClaim");
    problems.check(claimName !== "", "claimName", claimName, "the name of a PersistentVolumeClaim");
    checkSubPath(problems, options.subPath);
    problems.throwIfAny();
    return new PodVolume(
      `claim ${claimName}`,
      { persistentVolumeClaim: { claimName } },
      options,
      (options.accessMode ?? "ReadWriteOnce") === "ReadWriteOnce",
      options.nfs,
    );
  }

  /** A directory of the node that must exist (`type: Directory`): a missing one is an error and never an empty backup. */
  public static fromHostPath(path: string, options: PodVolumeOptions = {}): PodVolume {
    const problems = new Problems("PodVolume.fromHostPath");
    problems.check(isToken(path) || isAbsolutePath(path), "path", path, "an absolute, normalised path below /");
    checkSubPath(problems, options.subPath);
    problems.throwIfAny();
    return new PodVolume(`host path ${path}`, { hostPath: { path, type: "Directory" } }, options);
  }

  /** An NFS export, mounted by the kubelet without a claim. */
  public static fromNfs(server: string, path: string, options: PodVolumeOptions = {}): PodVolume {
    const nfs = NfsExport.of(server, path);
    const problems = new Problems("PodVolume.fromNfs");
    checkSubPath(problems, options.subPath);
    problems.throwIfAny();
    return new PodVolume(`nfs ${nfs.toString()}`, { nfs: { server, path } }, options, false, nfs);
  }

  /** The keys of a ConfigMap of the backup's namespace, as files. */
  public static fromConfigMap(name: string, options: KeyedVolumeOptions = {}): PodVolume {
    return new PodVolume(`config map ${name}`, { configMap: { name, optional: options.optional, defaultMode: options.mode ?? "0444" } }, {});
  }

  /** The keys of a Secret of the backup's namespace, as files. */
  public static fromSecret(name: string, options: KeyedVolumeOptions = {}): PodVolume {
    return new PodVolume(`secret ${name}`, { secret: { secretName: name, optional: options.optional, defaultMode: options.mode ?? "0444" } }, {});
  }

  /** Whether the volume is mounted read-only. */
  public readonly readOnly: boolean;
  /** The directory of the volume that is mounted; undefined for its root. */
  public readonly subPath?: string;

  private constructor(
    /** What it is, for messages. */
    public readonly description: string,
    /** What the pod mounts. */
    public readonly source: VolumeSource,
    options: PodVolumeOptions,
    /** True if only one node at a time can mount it. */
    public readonly singleNode: boolean = false,
    /** The export whose root the volume is, where known. */
    private readonly root?: NfsExport,
  ) {
    this.readOnly = options.readOnly ?? true;
    this.subPath = options.subPath;
  }

  /** The same volume, mounted to be written to: what a restore needs. */
  public get writable(): PodVolume {
    return new PodVolume(this.description, this.source, { subPath: this.subPath, readOnly: false }, this.singleNode, this.root);
  }

  /** The directory on the file server that holds the data, where known. */
  public get nfs(): NfsExport | undefined {
    return this.subPath === undefined ? this.root : this.root?.at(this.subPath);
  }
}

function checkSubPath(problems: Problems, subPath: string | undefined): void {
  problems.check(
    subPath === undefined || isToken(subPath) || isRelativePath(subPath),
    "subPath",
    subPath,
    "a normalised path below the volume's root",
  );
}
