import { CHECK_FILES } from "./common";
import { block } from "./markdown";
import { placeOf, type ProtectedService } from "./service";

const STOPPED = "/etc/kubernetes/stopped";

/**
 * How etcd is restored on a control plane node that kubeadm made: no job can, as nothing starts one while the API server is down.
 * By etcd's own guide to disaster recovery, the names and addresses taken from the node's static pod.
 */
export function etcdRestoreSteps(service: ProtectedService): readonly string[] {
  const { nfs, directory } = service;
  const mount = nfs === undefined ? `cd ${placeOf(service)}/GENERATION` : `mount -t nfs ${nfs.server}:${nfs.path} /mnt\ncd /mnt/${directory}/GENERATION`;
  return [
    "## Restore",
    "No job restores etcd, since nothing starts one while the API server is down. On the control plane node, as root; it needs `etcdutl` of " +
      "etcd's own release there (`etcdctl` before 3.5). Of several control plane nodes do this on one, and join the others anew.",
    "Take the newest generation whose drill was green, and see that it is what its manifest says:",
    block(`${mount}\n${CHECK_FILES}`, "node"),
    "Stop what the kubelet runs by itself, etcd and the API server included:",
    block(
      [
        `mkdir -p ${STOPPED}`,
        `mv /etc/kubernetes/manifests/*.yaml ${STOPPED}/`,
        "while crictl ps -q --name '^(etcd|kube-apiserver)$' | grep -q .; do sleep 1; done",
      ].join("\n"),
      "node",
    ),
    "On a node that was installed anew the cluster's keys come first; where they are there still, leave them:",
    block("test -e /etc/kubernetes/pki/ca.key || { mkdir -p /etc/kubernetes/pki && tar -xf pki.tar -C /etc/kubernetes/pki; }", "node"),
    "The old data are put aside, and nothing is written over them. What runs in the cluster remembers revisions that are not there any more; " +
      "so the count goes on far above all of them, and whoever asks for one of those is told to read anew. (The flags of the last line " +
      "are unknown to `etcdctl`; leave them out where that has to be used.)",
    block(
      [
        'if test -e /var/lib/etcd; then mv /var/lib/etcd "/var/lib/etcd.replaced-$(date -u +%Y%m%dT%H%M%SZ)"; fi',
        `flag() { sed -n "s/^ *- --$1=//p" ${STOPPED}/etcd.yaml; }`,
        'etcdutl snapshot restore snapshot.db --data-dir /var/lib/etcd --name "$(flag name)" \\',
        '  --initial-cluster "$(flag name)=$(flag initial-advertise-peer-urls)" \\',
        '  --initial-advertise-peer-urls "$(flag initial-advertise-peer-urls)" \\',
        "  --bump-revision 1000000000 --mark-compacted",
      ].join("\n"),
      "node",
    ),
    "Start everything, and the kubelet anew:",
    block(
      [
        `mv ${STOPPED}/*.yaml /etc/kubernetes/manifests/`,
        "systemctl restart kubelet",
        "until kubectl --kubeconfig /etc/kubernetes/admin.conf get --raw /readyz; do sleep 2; done",
      ].join("\n"),
      "node",
    ),
    "Then back up once by hand, and let the drill run. When all is well, remove `/var/lib/etcd.replaced-*`.",
  ];
}
