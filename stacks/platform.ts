import { NamespaceV1 } from "@cdktf/provider-kubernetes/lib/namespace-v1";
import type { Construct } from "constructs";
import { EtcdSnapshotBackup } from "../constructs/backup";
import { Retention } from "../lib";
import { ServiceStack } from "./service-stack";
import { site } from "./site";

/** What the cluster itself stands on: etcd and the control plane's PKI. */
export class PlatformStack extends ServiceStack {
  public constructor(scope: Construct, id: string) {
    super(scope, id);
    const { etcd, pushgateway } = site;

    // The one exemption from the restricted level in this homelab, kept to a namespace that holds nothing else.
    const namespace = new NamespaceV1(this, "etcd-namespace", {
      metadata: { name: etcd.namespace, labels: { "pod-security.kubernetes.io/enforce": "privileged" } },
      lifecycle: { preventDestroy: true },
    });
    const volume = this.backupVolume("etcd-volume", etcd.namespace, etcd.volume);
    const backup = new EtcdSnapshotBackup(this, "etcd-backup", {
      namespace: etcd.namespace,
      schedule: etcd.schedule,
      image: etcd.image,
      endpoint: etcd.endpoint,
      pki: etcd.pki,
      nodeName: etcd.node,
      volume,
      retention: Retention.keepDays(30),
      pushgateway,
    });
    this.waitFor(namespace, volume, backup);
  }
}
