import type { Construct } from "constructs";
import { SqliteBackup } from "../constructs/backup";
import { PodVolume } from "../constructs/storage";
import { Retention } from "../lib";
import { ServiceStack } from "./service-stack";
import { site } from "./site";

/** plotting-book: one SQLite database on iSCSI, every week. */
export class PlottingBookStack extends ServiceStack {
  public constructor(scope: Construct, id: string) {
    super(scope, id);
    const { plottingBook, pushgateway } = site;

    new SqliteBackup(this, "plotting-book-backup", {
      namespace: plottingBook.namespace,
      schedule: plottingBook.schedule,
      data: PodVolume.fromClaim(plottingBook.claim),
      database: plottingBook.database,
      colocateWith: { labels: plottingBook.labels },
      volume: this.backupVolume("plotting-book-volume", plottingBook.namespace, plottingBook.volume),
      retention: Retention.keepDays(30),
      pushgateway,
    });
  }
}
