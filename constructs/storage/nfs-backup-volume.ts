import { PersistentVolumeClaimV1 } from "@cdktf/provider-kubernetes/lib/persistent-volume-claim-v1";
import type { PersistentVolumeClaimV1Config } from "@cdktf/provider-kubernetes/lib/persistent-volume-claim-v1";
import { PersistentVolumeV1 } from "@cdktf/provider-kubernetes/lib/persistent-volume-v1";
import type { PersistentVolumeV1Config } from "@cdktf/provider-kubernetes/lib/persistent-volume-v1";
import { Construct } from "constructs";
import { Problems } from "../../lib/errors";
import { checkConstructId, checkDnsLabel, checkDnsSubdomain } from "../../lib/names";
import { Quantity } from "../../lib/quantity";
import { isToken } from "../../lib/terraform-text";
import type { IBackupVolume, VolumeSource } from "./backup-volume";
import { prepareCommand } from "./backup-volume";
import { NfsExport, checkExport } from "./nfs-export";

/** Options of {@link NfsBackupVolume}. */
export interface NfsBackupVolumeProps {
  /** Name of the PersistentVolume and of its claim. A PersistentVolume's name is unique in the whole cluster. */
  readonly name: string;
  /** Namespace of the claim: that of the backups that use it. */
  readonly namespace: string;
  /** Address or host name of the file server. */
  readonly server: string;
  /** Absolute path of the export on the file server, which must exist: neither Kubernetes nor the driver makes it. */
  readonly path: string;
  /** Name of the claim. @default - `name` */
  readonly claimName?: string;
  /** The driver's id of the volume, unique in the cluster. @default - `name` */
  readonly volumeHandle?: string;
  /** Size that volume and claim state. NFS does not enforce it. @default Quantity.gibibytes(10) */
  readonly capacity?: Quantity;
  /**
   * Storage class that volume and claim state. No StorageClass object of that name is needed, as nothing is provisioned; it may not be
   * empty, because the cluster's default class would then be written into the claim, which would match no volume.
   *
   * @default "nfs-static"
   */
  readonly storageClassName?: string;
  /**
   * Mount options.
   *
   * `hard`: while the server is away a write waits, where `soft` makes it fail in the middle of a file; the Job's deadline bounds the
   * wait. `nfsvers=4.1`: a version that is not pinned, or pinned to `4` alone, is negotiated anew when either side is upgraded.
   *
   * @default ["hard", "nfsvers=4.1"]
   */
  readonly mountOptions?: readonly string[];
  /**
   * Writes the claim into the volume, so that no other claim of that class and size can bind to it. Only a volume that exists without
   * and is taken over as it is has a reason not to.
   *
   * @default true
   */
  readonly claimRef?: boolean;
  /** Labels of volume and claim. @default - none */
  readonly labels?: { readonly [label: string]: string };
  /** Annotations of volume and claim. @default - none */
  readonly annotations?: { readonly [annotation: string]: string };
}

/** Options of {@link NfsBackupVolume.fromClaimName}. */
export interface ExistingClaimOptions {
  /**
   * The export behind the claim. With it, overlaps with data are refused and messages name the path on the file server.
   *
   * @default - not known
   */
  readonly nfs?: NfsExport;
}

/**
 * A directory on an NFS server that backups are written to: a PersistentVolume of the driver `nfs.csi.k8s.io` and its claim.
 *
 * What is on the export outlives both: the volume's reclaim policy is `Retain`. Terraform refuses to destroy or replace either as long
 * as this construct is there (`prevent_destroy`); where it goes, a {@link RetiredBackupVolume} takes its place.
 *
 * Creates a `kubernetes_persistent_volume_v1` (id `Volume`) and a `kubernetes_persistent_volume_claim_v1` (id `Claim`).
 */
export class NfsBackupVolume extends Construct implements IBackupVolume {
  /** A claim that exists already and is managed elsewhere. Creates nothing. */
  public static fromClaimName(scope: Construct, id: string, claimName: string, options: ExistingClaimOptions = {}): IBackupVolume {
    const problems = new Problems(`${scope.node.path}/${id}`);
    checkDnsSubdomain(problems, "claimName", claimName);
    problems.throwIfAny();
    return new ExistingClaim(scope, id, claimName, options.nfs);
  }

  public readonly name: string;
  public readonly namespace: string;
  public readonly claimName: string;
  public readonly volumeHandle: string;
  public readonly nfs: NfsExport;
  public readonly capacity: Quantity;
  public readonly storageClassName: string;
  public readonly mountOptions: readonly string[];
  public readonly source: VolumeSource;
  public readonly sentinel: string;
  /** The L1 PersistentVolume. */
  public readonly persistentVolume: PersistentVolumeV1;
  /** The L1 claim. */
  public readonly persistentVolumeClaim: PersistentVolumeClaimV1;

  /** @throws ValidationError */
  public constructor(scope: Construct, id: string, props: NfsBackupVolumeProps) {
    super(scope, id);
    this.name = props.name;
    this.namespace = props.namespace;
    this.claimName = props.claimName ?? props.name;
    this.volumeHandle = props.volumeHandle ?? props.name;
    this.capacity = props.capacity ?? Quantity.gibibytes(10);
    this.storageClassName = props.storageClassName ?? "nfs-static";
    this.mountOptions = props.mountOptions ?? ["hard", "nfsvers=4.1"];
    this.validate(props);
    this.nfs = NfsExport.of(props.server, props.path);
    this.source = { persistentVolumeClaim: { claimName: this.claimName } };
    this.sentinel = this.claimName;
    this.persistentVolume = new PersistentVolumeV1(this, "Volume", this.renderVolume(props));
    this.persistentVolumeClaim = new PersistentVolumeClaimV1(this, "Claim", this.renderClaim(props));
  }

  public prepareCommand(uid: number, gid: number, directory?: string, shared?: boolean): string {
    return prepareCommand(this.nfs.path, this.sentinel, uid, gid, directory, shared);
  }

  private validate(props: NfsBackupVolumeProps): void {
    const problems = new Problems(this.node.path);
    checkConstructId(problems, "id", this.node.id);
    checkDnsSubdomain(problems, "name", this.name);
    checkDnsLabel(problems, "namespace", this.namespace);
    if (this.claimName !== this.name) checkDnsSubdomain(problems, "claimName", this.claimName);
    checkExport(problems, props.server, props.path);
    problems.check(this.volumeHandle !== "", "volumeHandle", this.volumeHandle, "an id that no other volume has");
    problems.check(this.storageClassName !== "", "storageClassName", this.storageClassName, "a name; an empty one cannot be kept");
    const options = this.mountOptions;
    problems.check(
      options.every((option) => isToken(option) || /^[^\s,]+$/.test(option)),
      "mountOptions",
      options,
      "one option each, without spaces and commas",
    );
    problems.check(!(options.includes("hard") && options.includes("soft")), "mountOptions", options, "either hard or soft");
    problems.throwIfAny();
  }

  private renderVolume(props: NfsBackupVolumeProps): PersistentVolumeV1Config {
    return {
      metadata: { name: this.name, labels: props.labels, annotations: props.annotations },
      spec: [
        {
          capacity: { storage: this.capacity.toString() },
          accessModes: ["ReadWriteMany"],
          persistentVolumeReclaimPolicy: "Retain",
          storageClassName: this.storageClassName,
          volumeMode: "Filesystem",
          mountOptions: [...this.mountOptions],
          claimRef: (props.claimRef ?? true) ? { name: this.claimName, namespace: this.namespace } : undefined,
          persistentVolumeSource: {
            csi: {
              driver: "nfs.csi.k8s.io",
              volumeHandle: this.volumeHandle,
              volumeAttributes: { server: props.server, share: props.path },
            },
          },
        },
      ],
      lifecycle: { preventDestroy: true },
    };
  }

  private renderClaim(props: NfsBackupVolumeProps): PersistentVolumeClaimV1Config {
    return {
      metadata: { name: this.claimName, namespace: this.namespace, labels: props.labels, annotations: props.annotations },
      spec: {
        accessModes: ["ReadWriteMany"],
        resources: { requests: { storage: this.capacity.toString() } },
        storageClassName: this.storageClassName,
        volumeName: this.name,
      },
      lifecycle: { preventDestroy: true },
    };
  }
}

class ExistingClaim extends Construct implements IBackupVolume {
  public readonly source: VolumeSource;
  public readonly sentinel: string;

  public constructor(
    scope: Construct,
    id: string,
    public readonly claimName: string,
    public readonly nfs?: NfsExport,
  ) {
    super(scope, id);
    this.source = { persistentVolumeClaim: { claimName } };
    this.sentinel = claimName;
  }

  public prepareCommand(uid: number, gid: number, directory?: string, shared?: boolean): string {
    if (this.nfs !== undefined) return prepareCommand(this.nfs.path, this.sentinel, uid, gid, directory, shared);
    return `${prepareCommand(".", this.sentinel, uid, gid, directory, shared)} # in the directory behind claim ${this.claimName}`;
  }
}
