import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { Drill, DrillEngine } from "../drill";
import { assertSame } from "../facts";
import type { Fact } from "../manifest";
import { fileOf } from "../store";
import { type Seal, sealOf, VaultClient } from "../vault-client";
import { DATABASE, readVaultDatabase } from "../vault-database";
import { inspectSnapshot } from "../vault-snapshot";
import { SNAPSHOT } from "./vault";

/** Where the scratch node listens: on no port that a Vault has elsewhere. */
const SCRATCH = "http://127.0.0.1:18200";
const SCRATCH_CLUSTER = "127.0.0.1:18201";
/** How long the scratch node may take to start, to become active, or to seal itself. */
const PATIENCE_MS = 120_000;
/** The node answers when it has taken the snapshot. */
const RESTORE_MS = 1_800_000;
/** The seal that needs nothing but keys. Any other is a service that this pod does not reach. */
const SHAMIR = "shamir";

type Json = { readonly [key: string]: unknown };

/**
 * Restores a snapshot into a node of its own, which has other keys, so that it is sealed from then on: by those of the cluster that the
 * snapshot is of. What is in it nobody can read here; that it is all there, entry by entry, is read from the node's own disk.
 */
export class VaultDrill implements DrillEngine {
  private readonly client = new VaultClient(SCRATCH);

  public async restore(drill: Drill): Promise<void> {
    const { agent, manifest, name, work, signal } = drill;
    const { seal: _, ...wanted } = manifest.fingerprint;
    const snapshot = fileOf(manifest.files, SNAPSHOT);
    assertSame("the snapshot:", wanted, await inspectSnapshot(drill.open(snapshot)));
    await mkdir(join(work, name));
    await writeFile(join(work, "vault.json"), JSON.stringify(configuration(name, join(work, name))));
    await agent.text("start", "first");
    const { initialized } = await this.until(drill, "first", "/v1/sys/seal-status", () => true);
    if (initialized !== false) throw new Error(`the server at ${SCRATCH} is not the scratch node ${name}: it has data already`);
    const made = await this.client.call(signal, "/v1/sys/init", { method: "POST", body: { secret_shares: 1, secret_threshold: 1 } });
    const [key] = made.keys_base64 as readonly string[];
    await this.client.call(signal, "/v1/sys/unseal", { method: "POST", body: { key } });
    await this.until(drill, "first", "/v1/sys/leader", ({ is_self: isSelf }) => isSelf === true);
    const { cluster_name: cluster, version } = await this.client.call(signal, "/v1/sys/health");
    if (cluster !== name) throw new Error(`the server at ${SCRATCH} is ${String(cluster)}, and not the scratch node ${name}`);
    drill.log(`started ${name}, of version ${String(version)}`);
    await this.client.call(signal, "/v1/sys/storage/raft/snapshot-force", {
      method: "POST",
      headers: { "x-vault-token": String(made.root_token) },
      upload: drill.open(snapshot),
      silenceMs: RESTORE_MS,
    });
    await this.until(drill, "first", "/v1/sys/seal-status", ({ sealed }) => sealed === true);
  }

  public async compare(drill: Drill): Promise<readonly string[]> {
    const { agent, manifest, name, work, signal } = drill;
    const { index, entries, sha256, seal } = manifest.fingerprint;
    const wanted = seal as unknown as Seal;
    await agent.text("stop", "first");
    const restarted = wanted.type === SHAMIR ? await this.restart(drill) : undefined;
    const found = await readVaultDatabase(join(work, name, DATABASE), signal);
    assertSame("the node:", { entries, sha256 } as Fact, { entries: found.entries, sha256: found.sha256 });
    if (found.index < Number(index)) throw new Error(`the node is at index ${found.index}, and the snapshot is of ${String(index)}`);
    assertSame("the seal:", { ...wanted } as Fact, { ...(restarted ?? { ...wanted, type: found.seal }) });
    return [
      `a node of its own took the snapshot, and sealed itself: ${found.entries} entries, each as it was sent, at index ${found.index}`,
      restarted === undefined
        ? `its seal is ${wanted.type}: whether that still unseals it, only that service can show`
        : `it was started again on them: initialised, and sealed as the source is, by ${wanted.threshold} of ${wanted.shares} keys`,
      "what is in the entries stays sealed, and nobody has looked at it",
    ];
  }

  /** Who can unseal the node, once it has nothing but what came with the snapshot. */
  private async restart(drill: Drill): Promise<Seal> {
    await drill.agent.text("start", "second");
    const status = await this.until(drill, "second", "/v1/sys/seal-status", () => true);
    await drill.agent.text("stop", "second");
    if (status.initialized !== true || status.sealed !== true) throw new Error("the node is not initialised, or not sealed, once it has the snapshot");
    return sealOf(status);
  }

  /** Asks until the answer is as wanted. @throws Error with the server's last words where it has ended */
  private async until({ agent, signal }: Drill, run: string, path: string, wanted: (answer: Json) => boolean): Promise<Json> {
    let last = "";
    for (const end = Date.now() + PATIENCE_MS; Date.now() < end; await sleep(100, undefined, { signal })) {
      const answer = await this.client.call(signal, path).catch((error: Error) => void (last = error.message));
      if (answer !== undefined && wanted(answer)) return answer;
      await agent.text("running", run);
    }
    throw new Error(`the scratch node is not where it should be after ${PATIENCE_MS / 1000} s: ${last}`);
  }
}

function configuration(name: string, path: string): object {
  return {
    cluster_name: name,
    // Elections are over soon: there is nobody else.
    storage: { raft: { path, node_id: name, performance_multiplier: "1" } },
    listener: [{ tcp: { address: SCRATCH.replace("http://", ""), cluster_address: SCRATCH_CLUSTER, tls_disable: "true" } }],
    api_addr: SCRATCH,
    cluster_addr: `https://${SCRATCH_CLUSTER}`,
    disable_mlock: true,
    log_level: "warn",
  };
}
