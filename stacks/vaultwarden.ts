import type { Construct } from "constructs";
import { SqliteBackup, SqliteIntegrityCheck } from "../constructs/backup";
import { PodVolume } from "../constructs/storage";
import { Retention } from "../lib";
import { ServiceStack } from "./service-stack";
import { site } from "./site";

/**
 * Vaultwarden: the password vault, every six hours with the files without which the database is of no use, and a check every hour
 * that notices damage before it reaches the backups.
 */
export class VaultwardenStack extends ServiceStack {
  public constructor(scope: Construct, id: string) {
    super(scope, id);
    const { vaultwarden, pushgateway } = site;
    const common = {
      namespace: vaultwarden.namespace,
      data: PodVolume.fromClaim(vaultwarden.claim),
      database: vaultwarden.database,
      colocateWith: { labels: vaultwarden.labels },
      pushgateway,
    };

    new SqliteBackup(this, "vaultwarden-backup", {
      ...common,
      schedule: vaultwarden.schedule,
      files: [
        { path: "rsa_key.pem" },
        // Newer releases derive the public key and keep no file of it; the rest exists once it has been used.
        { path: "rsa_key.pub.pem", required: false },
        { path: "attachments", required: false },
        { path: "sends", required: false },
        { path: "config.json", required: false },
      ],
      volume: this.backupVolume("vaultwarden-volume", vaultwarden.namespace, vaultwarden.volume),
      retention: Retention.keepDays(30),
    });

    new SqliteIntegrityCheck(this, "vaultwarden-integrity-check", {
      ...common,
      schedule: vaultwarden.integritySchedule,
      metric: "vaultwarden_sqlite_integrity_ok",
    });
  }
}
