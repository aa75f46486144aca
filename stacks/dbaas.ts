import type { Construct } from "constructs";
import { MySqlDumpBackup, PgDumpBackup } from "../constructs/backup";
import { Retention } from "../lib";
import { ServiceStack } from "./service-stack";
import { site } from "./site";

/** The shared databases: PostgreSQL and MySQL, every night. */
export class DbaasStack extends ServiceStack {
  public constructor(scope: Construct, id: string) {
    super(scope, id);
    const { postgresql, mysql, pushgateway } = site;

    new PgDumpBackup(this, "postgresql-backup", {
      namespace: postgresql.namespace,
      schedule: postgresql.schedule,
      endpoint: postgresql.endpoint,
      image: postgresql.image,
      user: postgresql.user,
      password: postgresql.password,
      restore: postgresql.restore,
      expectDatabases: postgresql.expectDatabases,
      volume: this.backupVolume("postgresql-volume", postgresql.namespace, postgresql.volume),
      retention: Retention.keepDays(14),
      pushgateway,
    });

    new MySqlDumpBackup(this, "mysql-backup", {
      namespace: mysql.namespace,
      schedule: mysql.schedule,
      endpoint: mysql.endpoint,
      image: mysql.image,
      user: mysql.user,
      password: mysql.password,
      restore: mysql.restore,
      expectDatabases: mysql.expectDatabases,
      volume: this.backupVolume("mysql-volume", mysql.namespace, mysql.volume),
      retention: Retention.keepDays(14),
      pushgateway,
    });
  }
}
