import type { NetworkPolicyV1Config, NetworkPolicyV1SpecEgress } from "@cdktf/provider-kubernetes/lib/network-policy-v1";
import type { ServiceEndpoint } from "../../lib/service-endpoint";
import type { Egress } from "./job-props";

/** Where cluster DNS listens in every usual distribution: the label is the one that kube-dns had and CoreDNS kept. */
const DNS: NetworkPolicyV1SpecEgress = {
  to: [
    {
      namespaceSelector: { matchLabels: { "kubernetes.io/metadata.name": "kube-system" } },
      podSelector: { matchLabels: { "k8s-app": "kube-dns" } },
    },
  ],
  ports: [
    { protocol: "UDP", port: "53" },
    { protocol: "TCP", port: "53" },
  ],
};

/** Lets nothing in, and out only to DNS and to what the job names. Volumes are not concerned: the kubelet mounts them. */
export function renderNetworkPolicy(
  metadata: { name: string; namespace: string; labels: { [label: string]: string } },
  podLabels: { [label: string]: string },
  endpoints: readonly ServiceEndpoint[],
  egress: readonly Egress[],
): NetworkPolicyV1Config {
  return {
    metadata,
    spec: {
      podSelector: { matchLabels: podLabels },
      policyTypes: ["Ingress", "Egress"],
      egress: [DNS, ...endpoints.map(toPods), ...egress.map(toBlock)],
    },
  };
}

/** A policy is applied after the Service's address became a pod's, so it names the pods' port. */
function toPods(endpoint: ServiceEndpoint): NetworkPolicyV1SpecEgress {
  return {
    to: [{ namespaceSelector: { matchLabels: { "kubernetes.io/metadata.name": endpoint.namespace } } }],
    ports: [{ protocol: "TCP", port: String(endpoint.podPort) }],
  };
}

function toBlock({ cidr, ports, except }: Egress): NetworkPolicyV1SpecEgress {
  return {
    to: [{ ipBlock: { cidr, except: except === undefined ? undefined : [...except] } }],
    ports: ports.map((port) => ({ protocol: "TCP", port: String(port) })),
  };
}
