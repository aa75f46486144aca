import type { Construct } from "constructs";
import { FileBackup } from "../constructs/backup";
import { PodVolume } from "../constructs/storage";
import { Duration, Retention } from "../lib";
import { ServiceStack } from "./service-stack";
import { site } from "./site";

/** Nextcloud's files, every week; unchanged ones are hard links. Its database is dumped every night with the other MySQL databases. */
export class NextcloudStack extends ServiceStack {
  public constructor(scope: Construct, id: string) {
    super(scope, id);
    const { nextcloud, pushgateway } = site;

    new FileBackup(this, "nextcloud-backup", {
      namespace: nextcloud.namespace,
      schedule: nextcloud.schedule,
      sources: [{ name: "data", volume: PodVolume.fromClaim(nextcloud.claim) }],
      exclude: nextcloud.exclude,
      consistency: "crash-consistent",
      layout: "hard-linked",
      colocateWith: { labels: nextcloud.labels },
      runAs: nextcloud.user,
      deadline: Duration.hours(4),
      drill: { deadline: Duration.hours(4) },
      volume: this.backupVolume("nextcloud-volume", nextcloud.namespace, nextcloud.volume),
      retention: Retention.keepLast(7),
      pushgateway,
    });
  }
}
