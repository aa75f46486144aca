import type { Construct } from "constructs";
import { PgDumpBackup } from "../constructs/backup";
import { Retention } from "../lib";
import { ServiceStack } from "./service-stack";
import { site } from "./site";

/** Immich's own PostgreSQL, every night. The photos are files on the file server, under its snapshots. */
export class ImmichStack extends ServiceStack {
  public constructor(scope: Construct, id: string) {
    super(scope, id);
    const { immich, pushgateway } = site;

    new PgDumpBackup(this, "immich-backup", {
      namespace: immich.namespace,
      schedule: immich.schedule,
      endpoint: immich.endpoint,
      image: immich.image,
      user: immich.user,
      password: immich.password,
      restore: immich.restore,
      expectDatabases: immich.expectDatabases,
      volume: this.backupVolume("immich-volume", immich.namespace, immich.volume),
      retention: Retention.keepDays(14),
      pushgateway,
    });
  }
}
