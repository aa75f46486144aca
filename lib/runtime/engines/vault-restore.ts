import { setTimeout as sleep } from "node:timers/promises";
import { assertSame } from "../facts";
import { jsonOf } from "../http-client";
import type { Restore, RestoreEngine, RestorePlan } from "../restore";
import { fileOf } from "../store";
import { reasonIn, type Seal, VaultClient } from "../vault-client";
import { inspectSnapshot } from "../vault-snapshot";
import { readFileOf, SNAPSHOT, SNAPSHOT_PATH, type VaultSettings } from "./vault";

/** The server answers when it has taken the snapshot. */
const RESTORE_MS = 1_800_000;
/** How long it may take to seal itself, or to become active again. */
const PATIENCE_MS = 60_000;
/** Mounts that every server has from the start. */
const OWN_MOUNTS = ["cubbyhole/", "identity/", "sys/", "token/"];

/** What a restore of a Vault is going to do. */
export interface VaultPlan extends RestorePlan {
  readonly client: VaultClient;
  readonly token: string;
}

/**
 * Gives a snapshot to a server that runs and is unsealed, in the place of all that it holds. A server whose keys are not those of the
 * snapshot takes it too, is sealed from then on, and is unsealed by the keys of the cluster that the snapshot is of, and by no others.
 */
export class VaultRestore implements RestoreEngine<VaultPlan> {
  public readonly options = {};
  /** Whether the server's keys are others than the snapshot's. */
  private foreign = false;

  public constructor(private readonly settings: VaultSettings) {}

  public async plan({ manifest, signal, open }: Restore): Promise<VaultPlan> {
    const { address, ca, restoreToken } = this.settings;
    if (restoreToken === undefined) throw new Error("the settings have no 'restoreToken'");
    const token = await tokenAt(restoreToken);
    const client = new VaultClient(address, ca === undefined ? undefined : await readFileOf(ca));
    const { seal, ...wanted } = manifest.fingerprint;
    assertSame("the snapshot:", wanted, await inspectSnapshot(open(fileOf(manifest.files, SNAPSHOT, manifest.generation))));
    const health = await client.call(signal, "/v1/sys/health?standbyok=true&perfstandbyok=true&sealedcode=200&uninitcode=200").catch((error: Error) => {
      throw new Error(`${error.message} (the Service of the active node leads nowhere while every node is sealed)`, { cause: error });
    });
    const { initialized, sealed, cluster_name: cluster } = health;
    if (initialized === false) {
      throw client.error("it is not initialised, and takes nothing: initialise it with any keys, unseal it, and let its root token be the restore's");
    }
    if (sealed === true) throw client.error("it is sealed, and takes nothing: unseal it by the keys that it has now");
    const { is_self: isSelf } = await client.call(signal, "/v1/sys/leader");
    if (isSelf !== true) throw client.error("it is not the active node: the backup's 'endpoint' must be a Service that leads there");
    const mounts = await this.mounts(client, token, signal);
    const empty = mounts.length === 0;
    const { threshold, shares } = seal as unknown as Seal;
    return {
      client,
      token,
      steps: [
        empty ? `${address} holds nothing but what every server has` : `${address} holds ${mounts.length} mounts: ${mounts.slice(0, 10).join(", ")}`,
        `give it the snapshot of index ${String(wanted.index)}, of ${String(wanted.entries)} entries, in the place of all that it holds`,
        "where it is of another cluster, or the keys were changed since: every node is sealed then, and unsealed by " +
          `${threshold} of the ${shares} keys that the cluster of the snapshot had; the keys and the root token that it has now open nothing any more`,
      ],
      ...(empty ? {} : { replaces: String(cluster) }),
    };
  }

  public async apply({ manifest, signal, log, open }: Restore, { client, token }: VaultPlan): Promise<void> {
    const give = async (path: string): Promise<string | undefined> => {
      const options = { method: "POST", headers: { "x-vault-token": token }, upload: open(fileOf(manifest.files, SNAPSHOT, manifest.generation)), silenceMs: RESTORE_MS } as const;
      const answer = await client.send(signal, path, options);
      const { errors } = await jsonOf(answer);
      return answer.statusCode === 200 || answer.statusCode === 204 ? undefined : reasonIn(answer, errors);
    };
    let refusal = await give(SNAPSHOT_PATH);
    // It has looked at the seal of the snapshot, and changed nothing.
    this.foreign = refusal !== undefined && /different set of unseal keys/.test(refusal);
    if (this.foreign) {
      log("the snapshot is sealed by other keys than the server has");
      refusal = await give(`${SNAPSHOT_PATH}-force`);
    }
    if (refusal !== undefined) throw client.error(`it refuses the snapshot: ${refusal}`);
  }

  public async verify({ manifest, signal }: Restore, { client }: VaultPlan): Promise<readonly string[]> {
    const { index, seal } = manifest.fingerprint;
    const { type, threshold, shares } = seal as unknown as Seal;
    const taken = "the server has taken the snapshot, whose SHA-256 are those in it";
    const unseal = type === "shamir" ? `unseal every node by ${threshold} of the snapshot's ${shares} keys` : `restart every node: ${type} unseals it`;
    let last = "";
    for (const end = Date.now() + PATIENCE_MS; Date.now() < end; await sleep(250, undefined, { signal })) {
      const path = this.foreign ? "/v1/sys/seal-status" : "/v1/sys/leader";
      const answer = await client.call(signal, path).catch((error: Error) => void (last = error.message));
      if (this.foreign && answer?.sealed === true) return [taken, `it is sealed: ${unseal}, after a restart where it wants another number of keys`];
      const reached = Number(answer?.raft_applied_index ?? 0);
      if (!this.foreign && answer?.is_self === true && reached >= Number(index)) return [taken, `it is active and not sealed, at index ${reached}`];
    }
    // The Service of the active node has none behind it while every node is sealed.
    if (this.foreign && last !== "") return [taken, `it can be reached no more, as no node is active (${last}): ${unseal}`];
    throw client.error(`it is not where it should be after ${PATIENCE_MS / 1000} s${last === "" ? "" : `: ${last}`}`);
  }

  /** What somebody has put into it: secret engines and auth methods. */
  private async mounts(client: VaultClient, token: string, signal: AbortSignal): Promise<readonly string[]> {
    const found: string[] = [];
    for (const path of ["/v1/sys/mounts", "/v1/sys/auth"]) {
      const { data } = await client.call(signal, path, { headers: { "x-vault-token": token } }).catch((error: Error) => {
        throw new Error(`${error.message} (the restore's token must be a root token, or one that may do everything below sys/)`, { cause: error });
      });
      found.push(...Object.keys(data as object).filter((name) => !OWN_MOUNTS.includes(name)));
    }
    return found;
  }
}

/** The Secret is optional to the pod, as it is there only while something is restored. */
async function tokenAt(path: string): Promise<string> {
  const token = String(await readFileOf(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return "";
    throw error;
  })).trim();
  if (token === "") throw new Error(`there is no token at ${path}: put a root token of the server into the Secret that 'restore: { token }' names`);
  return token;
}

