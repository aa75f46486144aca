import type { Construct } from "constructs";
import { VaultRaftBackup } from "../constructs/backup";
import { Retention } from "../lib";
import { ServiceStack } from "./service-stack";
import { site } from "./site";

/** Vault's integrated storage, every week. */
export class VaultStack extends ServiceStack {
  public constructor(scope: Construct, id: string) {
    super(scope, id);
    const { vault, pushgateway } = site;

    new VaultRaftBackup(this, "vault-backup", {
      namespace: vault.namespace,
      schedule: vault.schedule,
      image: vault.image,
      endpoint: vault.endpoint,
      restore: vault.restore,
      role: vault.role,
      volume: this.backupVolume("vault-volume", vault.namespace, vault.volume),
      retention: Retention.keepDays(30),
      pushgateway,
    });
  }
}
