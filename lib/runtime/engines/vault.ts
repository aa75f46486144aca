import { readFile } from "node:fs/promises";
import type { IncomingMessage } from "node:http";
import { isDeepStrictEqual } from "node:util";
import type { Dump, Engine, Run } from "../engine";
import { jsonOf } from "../http-client";
import { reasonOf } from "../log";
import { mending } from "../readable";
import { reasonIn, type Seal, sealOf, VaultClient } from "../vault-client";
import { VAULT_RULES } from "../vault-rules";
import { inspectSnapshot } from "../vault-snapshot";

/** Where a Vault is, and how the runner logs in. */
export interface VaultSettings {
  readonly kind: "vault";
  /** e.g. `http://vault-active.vault:8200` */
  readonly address: string;
  /** Path in the runner of a CA certificate for an https address. */
  readonly ca?: string;
  /** Kubernetes auth: mount path, role, and where the projected token is. */
  readonly auth: { readonly mount: string; readonly role: string; readonly tokenPath: string };
  /** Path of the token that may replace everything; in the runner of a restore alone. */
  readonly restoreToken?: string;
}

/** The artefact. */
export const SNAPSHOT = "vault.snap";
/** Gives a snapshot, and takes one. */
export const SNAPSHOT_PATH = "/v1/sys/storage/raft/snapshot";
const REDIRECTS = [301, 302, 307, 308];
/** A token is revoked also when the run is being aborted, within the time that it has left. */
const REVOKE_MS = 1500;

/**
 * A raft snapshot, stored as the server sends it (`vault.snap`), inspected. Its values stay encrypted by the server's own keys.
 *
 * Logs in by the Kubernetes auth method with the pod's projected token; the token it gets is revoked at the end of every run.
 */
export class VaultEngine implements Engine {
  private client: VaultClient;
  /** Of the active node before the snapshot, which must not be older. */
  private appliedIndex = 0;
  private seal?: Seal;

  public constructor(private readonly settings: VaultSettings) {
    this.client = new VaultClient(settings.address);
  }

  public async preflight(run: Run): Promise<{ readonly versions: { readonly [tool: string]: string } }> {
    const { ca, auth } = this.settings;
    if (ca !== undefined) this.client = new VaultClient(this.settings.address, await readFileOf(ca));
    await readFileOf(auth.tokenPath);
    // Every state of the server is an answer of status 200 then.
    const path = "/v1/sys/health?standbyok=true&perfstandbyok=true&sealedcode=200&uninitcode=200";
    const health = await this.client.call(run.signal, path).catch((error: Error) => {
      throw new Error(`${error.message} (the Service of the active node leads nowhere while every node is sealed)`);
    });
    if (health.initialized === false) throw this.client.error("it is not initialised");
    if (health.sealed === true) throw this.client.error("it is sealed; unseal it, nothing can be backed up until then");
    const { ha_enabled: ha, leader_address: leader, is_self: isSelf, raft_applied_index: index } = await this.client.call(run.signal, "/v1/sys/leader");
    if (ha !== false && (typeof leader !== "string" || leader === ""))
      throw this.client.error("the cluster has no leader; nothing can be backed up until it has");
    if (isSelf === true) this.appliedIndex = Number(index ?? 0);
    this.seal = sealOf(await this.client.call(run.signal, "/v1/sys/seal-status"));
    return { versions: { vault: String(health.version) } };
  }

  public async dump(run: Run): Promise<Dump> {
    const token = await this.login(run);
    let dump: Dump;
    try {
      const answer = await this.snapshot(run, token);
      const file = await run.store(SNAPSHOT, answer, { compress: false }).catch((error: NodeJS.ErrnoException) => {
        throw error.code === "ECONNRESET" ? this.client.error("it broke off in the middle of the snapshot") : error;
      });
      const facts = await inspectSnapshot(run.open(file)).catch((error: Error) => {
        throw run.signal.aborted ? error : this.client.error(error.message);
      });
      const { index, term, entries } = facts;
      if (index < this.appliedIndex)
        throw this.client.error(`the snapshot is of index ${index}, and the server was at ${this.appliedIndex} before`);
      run.log(`index ${index}, term ${term}: ${entries} entries`);
      dump = { files: [file], fingerprint: { ...facts, seal: { ...this.seal } } };
    } catch (error) {
      await this.revoke(token).catch((left: unknown) => run.log(`warning: ${reasonOf(left)}`));
      throw error;
    }
    await this.revoke(token);
    return dump;
  }

  public async verify(run: Run, { files, fingerprint }: Dump): Promise<readonly string[]> {
    const [file] = files;
    if (file === undefined) throw new Error("there is no snapshot");
    const found = await inspectSnapshot(run.open(file));
    const { seal: _, ...received } = fingerprint;
    if (!isDeepStrictEqual(found, received)) throw new Error("the snapshot on the target is not the one that was received");
    return ["the snapshot on the target has all its members, their SHA-256 are those in it, and nothing follows its end"];
  }

  private async login(run: Run): Promise<string> {
    const { mount, role, tokenPath } = this.settings.auth;
    const path = `/v1/auth/${mount}/login`;
    const answer = await this.client.send(run.signal, path, { method: "POST", body: { role, jwt: String(await readFileOf(tokenPath)).trim() } });
    const { auth, errors } = await jsonOf(answer);
    const token = (auth as { readonly client_token?: unknown } | undefined)?.client_token;
    if (answer.statusCode === 200 && typeof token === "string" && token !== "") return token;
    throw this.client.error(
      `it refuses to log in the role ${JSON.stringify(role)} at auth/${mount} (${reasonIn(answer, errors)}): ` +
        "the role must exist and name this pod's service account, its namespace and the audience of its token",
    );
  }

  /** The snapshot as it comes, from the active node wherever that is. */
  private async snapshot(run: Run, token: string): Promise<IncomingMessage> {
    const headers = { "x-vault-token": token };
    let answer = await this.client.send(run.signal, SNAPSHOT_PATH, { headers });
    if (REDIRECTS.includes(answer.statusCode ?? 0)) {
      const active = await this.active(run, answer);
      answer = await this.client.send(run.signal, SNAPSHOT_PATH, { headers, origin: active });
    }
    if (answer.statusCode === 200) return answer;
    const { errors } = await jsonOf(answer);
    const reason = reasonIn(answer, errors);
    // Depending on the version the server has no such path then, or says so.
    if (/raft storage is not in use|unsupported path/.test(reason))
      throw this.client.error("it does not keep its data in integrated storage (raft), and only that has snapshots");
    if (answer.statusCode === 403)
      throw this.client.error(
        `it refuses a snapshot (${reason}): the policy of the role ${this.settings.auth.role} must have ${VAULT_RULES.snapshot}`,
      );
    throw this.client.error(`it refuses a snapshot: ${reason}`);
  }

  /** Where a standby sends us, unless that is a place where the token must not go. */
  private async active(run: Run, answer: IncomingMessage): Promise<URL> {
    answer.resume();
    const to = new URL(answer.headers.location ?? "", new URL(SNAPSHOT_PATH, this.client.base));
    const { leader_address: leader } = await this.client.call(run.signal, "/v1/sys/leader");
    const known = [this.client.base.origin, URL.canParse(String(leader)) ? new URL(String(leader)).origin : undefined];
    if (to.protocol !== this.client.base.protocol || to.pathname !== SNAPSHOT_PATH || !known.includes(to.origin)) {
      throw this.client.error(
        `it sends the snapshot's request to ${to.origin}${to.pathname}, which is not its leader ${String(leader)} over ${this.client.base.protocol.slice(0, -1)}; ` +
          "the token was not sent there",
      );
    }
    return to;
  }

  /** @throws Error where the token stays valid */
  private async revoke(token: string): Promise<void> {
    const signal = AbortSignal.timeout(REVOKE_MS);
    const answer = await this.client.send(signal, "/v1/auth/token/revoke-self", { method: "POST", headers: { "x-vault-token": token } });
    const { errors } = await jsonOf(answer);
    if (answer.statusCode === 204 || answer.statusCode === 200) return;
    const { role } = this.settings.auth;
    const policy = `the policy of the role ${role} must have ${VAULT_RULES.revoke}, and its tokens must outlive the backup`;
    throw this.client.error(`it refuses to revoke the backup's token (${reasonIn(answer, errors)}): ${policy}`);
  }
}

/** @throws Error with the command that mends it, where that is a matter of permissions */
export async function readFileOf(path: string): Promise<Buffer> {
  return readFile(path).catch(async (error: unknown) => {
    throw await mending(error);
  });
}
