import { TerraformStack } from "cdktf";
import type { Construct } from "constructs";
import { NfsBackupVolume, PodVolume, Retention, Schedule, SqliteBackup } from "../../constructs";

/** A new service whose data is a SQLite database on iSCSI, and its backup. The stack's provider and backend are the owner's. */
export class RecipesStack extends TerraformStack {
  public constructor(scope: Construct, id: string) {
    super(scope, id);
    // README: begin
    new SqliteBackup(this, "recipes-backup", {
      namespace: "recipes",
      data: PodVolume.fromClaim("recipes-data"),
      database: "recipes.db",
      colocateWith: { labels: { app: "recipes" } },
      schedule: Schedule.cron("40 2 * * *"),
      retention: Retention.keepDays(30),
      volume: new NfsBackupVolume(this, "volume", {
        name: "recipes-backup", namespace: "recipes", server: "10.0.10.15", path: "/mnt/main/recipes-backup",
      }),
    });
    // README: end
  }
}
