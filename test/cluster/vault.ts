import { createServer, request as send, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { buffer } from "node:stream/consumers";
import { site } from "../../stacks/site";
import { VAULT_PORT, VaultDouble, type VaultState } from "../helpers/servers/vault-double";
import { NODE_ADDRESS, type Cluster } from "./cluster";
import type { KubernetesObject } from "./direct";

const NOBODY = "a token that nobody has";

/**
 * The stand-in for Vault behind the homelab's Service. Whose token a login brings is asked of the cluster's own API server, as Vault's
 * Kubernetes auth method does, for the audience and the ServiceAccount that the role is bound to.
 */
export class VaultOnTheNode {
  /** @param state what it is like, where that matters */
  public static async start(cluster: Cluster, state: Partial<VaultState> = {}): Promise<VaultOnTheNode> {
    const vault = new VaultOnTheNode(cluster, await VaultDouble.start({ role: site.vault.role, jwt: NOBODY, ...state }));
    vault.server = createServer((request, response) => void vault.forward(request, response));
    await new Promise<void>((resolve) => vault.server?.listen(VAULT_PORT, NODE_ADDRESS, resolve));
    return vault;
  }

  /** What the role is bound to. */
  public readonly bound = { audience: "vault", user: `system:serviceaccount:${site.vault.namespace}:vault-backup` };
  private server: Server | undefined;

  private constructor(
    private readonly cluster: Cluster,
    public readonly double: VaultDouble,
  ) {}

  /** The Service, and where it leads. */
  public objects(): readonly KubernetesObject[] {
    const { service: name, namespace, port } = site.vault.endpoint;
    return [
      { apiVersion: "v1", kind: "Service", metadata: { name, namespace }, spec: { ports: [{ name: "http", port }] } },
      {
        apiVersion: "discovery.k8s.io/v1",
        kind: "EndpointSlice",
        metadata: { name, namespace, ...{ labels: { "kubernetes.io/service-name": name } } },
        addressType: "IPv4",
        ports: [{ name: "http", port: VAULT_PORT }],
        endpoints: [{ addresses: [NODE_ADDRESS] }],
      },
    ];
  }

  public async stop(): Promise<void> {
    this.server?.closeAllConnections();
    this.server?.close();
    await this.double.stop();
  }

  private async forward(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { method, url = "", headers } = request;
    const body = await buffer(request);
    if (url.endsWith("/login")) {
      const { jwt } = JSON.parse(body.toString()) as { readonly jwt: string };
      this.double.state.jwt = (await this.isBound(jwt)) ? jwt : NOBODY;
    }
    const forwarded = send({ host: "127.0.0.1", port: VAULT_PORT, method, path: url, headers }, (answer) => {
      response.writeHead(answer.statusCode ?? 502, answer.headers);
      answer.pipe(response);
    });
    forwarded.on("error", () => response.destroy());
    forwarded.end(body);
  }

  private async isBound(token: string): Promise<boolean> {
    const { audience, user } = this.bound;
    const review = { apiVersion: "authentication.k8s.io/v1", kind: "TokenReview", spec: { token, audiences: [audience] } };
    const { stdout } = await this.cluster.tryKubectl({ input: JSON.stringify(review) }, "create", "-o", "json", "-f", "-");
    const { status } = JSON.parse(stdout) as { readonly status: { readonly authenticated?: boolean; readonly user?: { readonly username?: string } } };
    return status.authenticated === true && status.user?.username === user;
  }
}
