import type { Subject } from "./subject";
import type { VaultState } from "../servers/vault-double";
import { randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { VaultRaftBackup } from "../../../constructs/backup";
import { ServiceEndpoint } from "../../../lib/service-endpoint";
import { VAULT_IMAGE } from "../servers/vault";
import { VaultDouble } from "../servers/vault-double";
import { scratchProfile } from "../servers/vault-scratch-profile";
import { makeSnapshot, stateOf } from "../vault-snapshot";
import { COMMON_SERVICES, synthesise } from "./subject";

const FROM_VAULT = /Vault at http:\/\/vault-active\.vault:8200: /;

/** The one entry that is not sealed. */
const SEAL = '{"type":"shamir","secret_shares":5,"secret_threshold":3}';

/** A server in Vault's place; a snapshot is sealed, so that equal bytes are what can be asked of a restore. */
export async function startVault(): Promise<Subject> {
  const snapshot = makeSnapshot({
    state: stateOf({ "core/seal-config": Buffer.from(SEAL), "logical/sealed": randomBytes(2 << 20) }),
  });
  const double = await VaultDouble.start({ role: "raft-backup", jwt: "token of the service account", snapshot });
  const set = (change: Partial<VaultState>): Promise<() => void> => {
    const before = { ...double.state };
    Object.assign(double.state, change);
    return Promise.resolve(() => void Object.assign(double.state, before));
  };
  return {
    name: "vault",
    synthesised: synthesise((stack, common) => {
      const endpoint = ServiceEndpoint.of("vault-active.vault:8200");
      new VaultRaftBackup(stack, "vault", { ...common, image: VAULT_IMAGE, endpoint, role: "raft-backup" });
    }),
    options: {
      serviceAccountToken: "token of the service account",
      services: [...COMMON_SERVICES, "vault-active.vault"],
      images: { [VAULT_IMAGE.repository]: scratchProfile() },
    },
    stall: async () => ({ undo: await set({ cut: { bytes: 100_000, how: "hang" } }) }),
    sourceFaults: [
      { name: "sealed", reason: /Vault at http:\/\/vault-active\.vault:8200: .*sealed/, inject: () => set({ sealed: true }) },
      { name: "refusing", reason: /permission denied/, inject: () => set({ maySnapshot: false }) },
      { name: "breaking off", reason: FROM_VAULT, inject: () => set({ cut: { bytes: 100_000, how: "close" } }) },
      { name: "empty", reason: FROM_VAULT, inject: () => set({ cut: { bytes: 0, how: "end" } }) },
    ],
    restoreEqual: ({ path }) => {
      if (!readFileSync(join(path, "vault.snap")).equals(snapshot)) throw new Error("the snapshot on the target is not the server's");
      return Promise.resolve();
    },
    stop: () => double.stop(),
  };
}
