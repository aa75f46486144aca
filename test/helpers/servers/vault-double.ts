/** A server in Vault's place: speaks as much of its HTTP API as backups and restores use, strictly, and checks what it is sent. */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { createServer as createTlsServer, type ServerOptions } from "node:https";
import { buffer } from "node:stream/consumers";
import { indexOf, makeSnapshot } from "../vault-snapshot";

export const VAULT_PORT = 8200;
/** A root token of a double, and its cluster's name. */
export const [ROOT, CLUSTER] = ["hvs.root-of-the-double", "vault-cluster-of-the-double"];

/** A request as the double got it. */
export interface VaultRequest {
  readonly method: string;
  readonly path: string;
  readonly token: string | undefined;
  readonly headers: { readonly [name: string]: string | string[] | undefined };
  readonly body: unknown;
}

/** What the double is like; may be changed while it runs. */
export interface VaultState {
  initialized: boolean;
  sealed: boolean;
  /** Address of the active node; "" for none. */
  leader: string;
  isSelf: boolean;
  appliedIndex: number | undefined;
  raft: boolean;
  /** Where a standby sends requests for a snapshot. */
  redirect: string | undefined;
  mount: string;
  role: string;
  jwt: string;
  /** What the role's policy allows. */
  maySnapshot: boolean;
  mayRevoke: boolean;
  snapshot: Buffer;
  /** What a restore logs in with. */
  rootToken: string;
  /** Names of what somebody has put into it. */
  mounts: readonly string[];
  /** Whether snapshots that it is given were made by a cluster with other keys. */
  foreign: boolean;
  /** Sends this many bytes of the snapshot and then breaks off, or waits for ever. */
  cut: { readonly bytes: number; readonly how: "close" | "hang" | "end" } | undefined;
  /** Answers everything with it. */
  answer: { readonly status: number; readonly body: string } | undefined;
}

/** A stand-in for one node of a Vault cluster. */
export class VaultDouble {
  /** Starts one. @param tls certificate and key for HTTPS @default - plain HTTP */
  public static async start(state: Partial<VaultState> = {}, port = VAULT_PORT, tls?: ServerOptions): Promise<VaultDouble> {
    const double = new VaultDouble(state, port);
    const listener = (request: IncomingMessage, response: ServerResponse): void => void double.handle(request, response);
    double.server = tls === undefined ? createServer(listener) : createTlsServer(tls, listener);
    await new Promise<void>((resolve) => double.server?.listen(port, "127.0.0.1", resolve));
    return double;
  }

  public readonly state: VaultState;
  public readonly requests: VaultRequest[] = [];
  /** Requests that a real server would have answered with an error that no backup expects. */
  public readonly violations: string[] = [];
  /** Tokens that were given and not revoked; nodes of one cluster share them. */
  public tokens = new Set<string>();
  private server?: Server;
  private given = 0;

  private constructor(state: Partial<VaultState>, port: number) {
    this.state = {
      ...{ initialized: true, sealed: false, leader: `http://127.0.0.1:${port}`, isSelf: true, appliedIndex: 1000, raft: true },
      ...{
        redirect: undefined,
        mount: "kubernetes",
        role: "raft-backup",
        jwt: "service-account-token",
        maySnapshot: true,
        mayRevoke: true,
      },
      ...{ snapshot: makeSnapshot(), rootToken: ROOT, mounts: ["secret/"], foreign: false, cut: undefined, answer: undefined },
      ...state,
    };
  }

  public async stop(): Promise<void> {
    this.server?.closeAllConnections();
    await new Promise((resolve) => this.server?.close(resolve));
  }

  private async handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { method = "", url = "", headers } = request;
    const content = await buffer(request).catch(() => Buffer.alloc(0));
    const upload = url.startsWith("/v1/sys/storage/raft/snapshot");
    const body: unknown = content.length === 0 || upload ? undefined : JSON.parse(content.toString());
    const token = headers["x-vault-token"]?.toString();
    this.requests.push({ method, path: url, token, headers, body });
    const reply = (status: number, json?: object): void => {
      response.writeHead(status, { "content-type": "application/json" }).end(json === undefined ? "" : JSON.stringify(json));
    };
    const violation = (what: string, status: number): void => {
      this.violations.push(`${method} ${url}: ${what}`);
      reply(status, { errors: [what] });
    };
    if (this.state.answer !== undefined) {
      response.writeHead(this.state.answer.status).end(this.state.answer.body);
      return;
    }
    if (headers["x-vault-request"] !== "true") return violation("the header X-Vault-Request is missing", 412);
    if (body !== undefined && headers["content-type"] !== "application/json") return violation("a body that is not said to be JSON", 400);
    const { initialized, sealed, leader, isSelf, appliedIndex, mount } = this.state;
    const query = "standbyok=true&perfstandbyok=true&sealedcode=200&uninitcode=200";
    switch (`${method} ${url}`) {
      case `GET /v1/sys/health?${query}`:
        return reply(200, { initialized, sealed, standby: !isSelf, version: "1.18.1", cluster_name: CLUSTER });
      case "GET /v1/sys/leader":
        return sealed
          ? reply(503, { errors: ["Vault is sealed"] })
          : reply(200, { ha_enabled: true, is_self: isSelf, leader_address: leader, raft_applied_index: appliedIndex });
      case "GET /v1/sys/seal-status":
        return reply(200, { type: "shamir", initialized, sealed, t: 3, n: 5 });
      case `POST /v1/auth/${mount}/login`:
        return this.login(body, token, reply, violation);
      case "GET /v1/sys/storage/raft/snapshot":
        return this.snapshot(token, response, reply, violation);
      case "POST /v1/sys/storage/raft/snapshot":
      case "POST /v1/sys/storage/raft/snapshot-force":
        return this.restore(content, url.endsWith("-force"), token, reply);
      case "GET /v1/sys/mounts":
      case "GET /v1/sys/auth":
        if (token !== this.state.rootToken) return reply(403, { errors: ["permission denied"] });
        return reply(200, { data: url.endsWith("auth") ? { "token/": {} } : namesOf("cubbyhole/", "identity/", "sys/", ...this.state.mounts) });
      case "POST /v1/auth/token/revoke-self":
        if (token === undefined || !this.tokens.has(token)) return violation("a token that is none", 403);
        if (!this.state.mayRevoke) return reply(403, { errors: ["1 error occurred:\n\t* permission denied\n\n"] });
        this.tokens.delete(token);
        return reply(204);
      default:
        return violation("nobody asked for that", 404);
    }
  }

  private login(
    body: unknown,
    token: string | undefined,
    reply: (status: number, json?: object) => void,
    violation: (what: string, status: number) => void,
  ): void {
    const { role, jwt, sealed } = this.state;
    const { role: askedRole, jwt: askedJwt, ...more } = (body ?? {}) as { readonly [key: string]: unknown };
    if (Object.keys(more).length > 0 || token !== undefined) return violation("a login with more than role and jwt", 400);
    if (sealed) return reply(503, { errors: ["Vault is sealed"] });
    if (askedRole !== role) return reply(400, { errors: [`invalid role name "${String(askedRole)}"`] });
    if (askedJwt !== jwt) return reply(403, { errors: ["permission denied"] });
    const given = `hvs.${++this.given}-of-the-double`;
    this.tokens.add(given);
    reply(200, { auth: { client_token: given, lease_duration: 3600, policies: ["raft-backup"] } });
  }

  /** What a server of other keys cannot check it refuses, unless it is forced; from then on it is sealed. */
  private restore(snapshot: Buffer, forced: boolean, token: string | undefined, reply: (status: number, json?: object) => void): void {
    const { rootToken, sealed, foreign } = this.state;
    if (sealed) return reply(503, { errors: ["Vault is sealed"] });
    if (token !== rootToken) return reply(403, { errors: ["permission denied"] });
    if (foreign && !forced) {
      const how = "possibly the snapshot is using a different set of unseal keys; use the snapshot-force API to bypass this check";
      return reply(400, { errors: [`could not verify hash file, ${how}`] });
    }
    try {
      Object.assign(this.state, { appliedIndex: indexOf(snapshot), snapshot, sealed: foreign });
      reply(204);
    } catch (error) {
      reply(500, { errors: [`failed to read snapshot: ${(error as Error).message}`] });
    }
  }

  private snapshot(
    token: string | undefined,
    response: ServerResponse,
    reply: (status: number, json?: object) => void,
    violation: (what: string, status: number) => void,
  ): void {
    const { redirect, maySnapshot, raft, snapshot, cut } = this.state;
    if (token === undefined) return violation("no token", 400);
    if (redirect !== undefined) {
      response.writeHead(307, { location: redirect }).end();
      return;
    }
    if (!this.tokens.has(token)) return violation("a token that is none", 403);
    if (!maySnapshot) return reply(403, { errors: ["1 error occurred:\n\t* permission denied\n\n"] });
    if (!raft) return reply(400, { errors: ["raft storage is not in use"] });
    response.writeHead(200, { "content-type": "application/gzip", "content-disposition": "attachment" });
    if (cut === undefined || cut.how === "end") {
      response.end(snapshot.subarray(0, cut?.bytes));
      return;
    }
    response.write(snapshot.subarray(0, cut.bytes), () => {
      if (cut.how === "close") response.destroy();
    });
  }
}

const namesOf = (...names: readonly string[]): object => Object.fromEntries(names.map((name) => [name, {}]));
