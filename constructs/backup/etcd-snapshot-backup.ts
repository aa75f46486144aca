import type { Construct } from "constructs";
import { posix } from "node:path";
import type { ImageReference } from "../../lib/image-reference";
import { SCRATCH_CONFIGURATION, SCRATCH_DATA, SCRATCH_PEERS, SNAPSHOT } from "../../lib/runtime/etcd-files";
import { WORK_DIRECTORY } from "../../lib/runtime/settings";
import type { Tools } from "../runner/job-parts";
import { isAbsolutePath, isRelativePath } from "../storage/nfs-export";
import { PodVolume } from "../storage/pod-volume";
import type { BackupProps } from "./backup";
import { Backup } from "./backup";

/** Where the runner sees the node's PKI. */
const PKI = "/source/pki";
/** The label and the taint that kubeadm gives control plane nodes. */
const CONTROL_PLANE = "node-role.kubernetes.io/control-plane";
const REASON = "the PKI on a control plane node can be read by root alone";

/** etcd's own programs restore the snapshot and serve what came of it. Neither has a shell around it, and both have fixed arguments. */
function drillTools(image: ImageReference): Tools {
  // Before 3.5 there is no etcdutl, and from 3.6 on etcdctl does not restore.
  const program = /^v?3\.4\./.test(image.tag ?? "") ? "etcdctl" : "etcdutl";
  const member = ["--name", "drill", "--initial-cluster", `drill=${SCRATCH_PEERS}`, "--initial-advertise-peer-urls", SCRATCH_PEERS];
  const at = (name: string): string => posix.join(WORK_DIRECTORY, name);
  const restore = [program, "snapshot", "restore", at(SNAPSHOT), "--data-dir", at(SCRATCH_DATA), ...member];
  return {
    before: [{ name: "restore", image, command: restore }],
    beside: [{ name: "etcd", image, command: ["etcd", "--config-file", at(SCRATCH_CONFIGURATION)] }],
  };
}

/** Files below the PKI directory with which the backup proves itself to etcd. */
export interface EtcdCertificates {
  /** Certificate of the authority that signed the server's. @default "etcd/ca.crt" - kubeadm's */
  readonly ca?: string;
  /** Client certificate. @default "etcd/healthcheck-client.crt" - kubeadm's */
  readonly cert?: string;
  /** Its key. @default "etcd/healthcheck-client.key" - kubeadm's */
  readonly key?: string;
}

/** Options of {@link EtcdSnapshotBackup}. */
export interface EtcdSnapshotBackupProps extends BackupProps {
  /**
   * Image of the cluster's etcd, such as `registry.k8s.io/etcd:3.5.21-0`, whose programs restore a snapshot in the drill: `etcdutl`, or
   * `etcdctl` where the tag says 3.4. It needs no shell.
   */
  readonly image: ImageReference;
  /** Client address of an etcd member, as the pod reaches it. @default "https://127.0.0.1:2379" - the member on the node */
  readonly endpoint?: string;
  /** Directory on the node with the cluster's PKI; archived with each snapshot. @default "/etc/kubernetes/pki" - kubeadm's */
  readonly pki?: string;
  /** Files below `pki`; unused for an `http` address. @default - kubeadm's, see {@link EtcdCertificates} */
  readonly certificates?: EtcdCertificates;
}

/**
 * Backs up etcd: a snapshot of the keyspace, checked, and the cluster's PKI, without which no snapshot brings a cluster back.
 *
 * The pod is an exemption from Pod Security's `restricted` and `baseline`: it uses the node's network and PKI directory, and runs as
 * root because only root can read the keys. It still has no capability, a read-only root and no service account token. Its namespace
 * must be at `privileged`; give it one of its own.
 *
 * It runs on a control plane node unless `nodeName` or `nodeSelector` say otherwise. Creates what {@link RunnerCronJob} creates, without
 * a NetworkPolicy.
 *
 * The drill needs none of that node: a pod of its own restores the snapshot and starts an etcd on it that nothing outside can reach.
 * There is no restore job, as nothing starts one while the API server is down: its runbook has the commands for the node.
 */
export class EtcdSnapshotBackup extends Backup {
  public readonly endpoint: string;
  public readonly pki: string;

  /** @throws ValidationError */
  public constructor(scope: Construct, id: string, props: EtcdSnapshotBackupProps) {
    const { image, endpoint = "https://127.0.0.1:2379", pki = "/etc/kubernetes/pki", certificates = {} } = props;
    const { ca = "etcd/ca.crt", cert = "etcd/healthcheck-client.crt", key = "etcd/healthcheck-client.key" } = certificates;
    const placed = props.nodeName !== undefined || props.nodeSelector !== undefined || props.colocateWith !== undefined;
    const onControlPlane: BackupProps = {
      ...props,
      hostNetwork: props.hostNetwork ?? true,
      nodeSelector: placed ? props.nodeSelector : { [CONTROL_PLANE]: "" },
      tolerations: props.tolerations ?? [{ key: CONTROL_PLANE, effect: "NoSchedule" }],
    };
    super(scope, id, onControlPlane, (problems) => {
      const isAddress = /^https?:\/\/[A-Za-z0-9.-]+:\d{1,5}$/.test(endpoint) || /^https?:\/\/\[[0-9a-f:]+\]:\d{1,5}$/.test(endpoint);
      problems.check(isAddress, "endpoint", endpoint, "http(s)://<host>:<port>");
      const known = problems.check(isAbsolutePath(pki), "pki", pki, "an absolute, normalised path below /");
      for (const [property, path] of Object.entries({ ca, cert, key })) {
        problems.check(isRelativePath(path), `certificates.${property}`, path, "a normalised path below the PKI directory");
      }
      const [caPath, certPath, keyPath] = [ca, cert, key].map((path) => posix.join(PKI, path)) as [string, string, string];
      return {
        application: "etcd",
        engine: {
          kind: "etcd",
          endpoint,
          tls: endpoint.startsWith("https:") ? { ca: caPath, cert: certPath, key: keyPath } : undefined,
          pki: PKI,
        },
        defaultRunAs: { uid: 0, reason: REASON },
        drill: { tools: drillTools(image), assertions: false },
        mounts: known ? [{ volume: PodVolume.fromHostPath(pki), path: PKI }] : [],
      };
    });
    this.endpoint = endpoint;
    this.pki = pki;
  }
}
