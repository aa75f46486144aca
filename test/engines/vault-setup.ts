import { VaultRaftBackup, SecretRef, type VaultRaftBackupProps } from "../../constructs/backup";
import { NfsBackupVolume } from "../../constructs/storage";
import { vaultBackupRoleCommands } from "../../lib/privileges/vault";
import { Retention } from "../../lib/retention";
import { Schedule } from "../../lib/schedule";
import { ServiceEndpoint } from "../../lib/service-endpoint";
import { runCronJob, type ImageProfile } from "../helpers/pod";
import { succeeded } from "../helpers/pod/backup";
import { generationsOn, makeTarget, type FoundGeneration } from "../helpers/pod/target";
import { realProfile, VAULT_IMAGE, VaultServer, type VaultOptions } from "../helpers/servers/vault";
import { VaultDouble } from "../helpers/servers/vault-double";
import { scratchProfile } from "../helpers/servers/vault-scratch-profile";
import { makeSnapshot } from "../helpers/vault-snapshot";
import { Template } from "../helpers/template";

export const NAME = "vault-backup";
export const NAMESPACE = "vault";
export const SERVICES = ["vault-active.vault"];
export const TOKEN_SECRET = { name: "vault-root", key: "token" };
const ROLE = "raft-backup";
const JWT = "the token of the service account";

export function synthesise(props: Partial<VaultRaftBackupProps> = {}): string {
  const template = Template.of((stack) => {
    const nfs = { server: "10.0.10.15", path: "/mnt/main/vault-backup" };
    new VaultRaftBackup(stack, NAME, {
      image: VAULT_IMAGE,
      namespace: NAMESPACE,
      volume: new NfsBackupVolume(stack, "volume", { name: NAME, namespace: NAMESPACE, ...nfs }),
      schedule: Schedule.cron("0 2 * * 0"),
      retention: Retention.keepDays(30),
      endpoint: ServiceEndpoint.of("vault-active.vault:8200"),
      role: ROLE,
      restore: { token: SecretRef.of(TOKEN_SECRET.name, TOKEN_SECRET.key) },
      ...props,
    });
  });
  return JSON.stringify(template.json);
}

/** A source of snapshots, and the image of its kind. */
export interface Source {
  readonly profile: ImageProfile;
  /** Changes something that is in the next snapshot. */
  write(round: number): Promise<void>;
  backUp(): Promise<FoundGeneration>;
  stop(): Promise<void>;
}

async function backUp(serviceAccountToken: string): Promise<FoundGeneration> {
  const json = synthesise();
  const target = makeTarget(json, { name: NAME });
  const result = await runCronJob(json, { name: NAME, services: SERVICES, serviceAccountToken, volumes: { [NAME]: target } });
  return succeeded({ ...result, generations: generationsOn(json, target, NAME) });
}

/** Without a real server: doubles of the one that is backed up and of the one that the drill starts. */
export async function startDouble(): Promise<Source & { readonly double: VaultDouble }> {
  const double = await VaultDouble.start({ role: ROLE, jwt: JWT });
  return {
    double,
    profile: scratchProfile(),
    write: () => Promise.resolve(void (double.state.snapshot = makeSnapshot())),
    backUp: () => backUp(JWT),
    stop: () => double.stop(),
  };
}

/** A real server with the backup's policy and role, and some secrets. */
export async function startPrepared(options: VaultOptions): Promise<Source & { readonly vault: VaultServer; readonly jwt: string }> {
  const vault = await VaultServer.start({ seal: { threshold: 3, shares: 5 }, ...options });
  try {
    const jwt = await vault.enableKubernetesAuth(NAME, NAMESPACE, "vault");
    await vault.shell(vaultBackupRoleCommands({ role: ROLE, serviceAccount: NAME, namespace: NAMESPACE }));
    await vault.call("POST", "sys/mounts/kv", { type: "kv" });
    const write = async (round: number): Promise<void> => void (await vault.call("POST", `kv/${round % 40}`, { value: `secret ${round}`.repeat(20) }));
    for (let round = 0; round < 40; round++) await write(round);
    return { vault, jwt, write, profile: realProfile(options.program), backUp: () => backUp(jwt), stop: () => vault.stop() };
  } catch (error) {
    await vault.stop();
    throw error;
  }
}
