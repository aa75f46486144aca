/** Synthesises services with a database in a file and a volume each, a stack for each: `services.js <out> <how many>`. */
import { NfsBackupVolume, PodVolume, SqliteBackup } from "../../constructs";
import { Retention, Schedule, ServiceEndpoint } from "../../lib";
import { measured, stackOf } from "./measured";

measured(process.argv[2] ?? "", (app) => {
  for (let number = 0; number < Number(process.argv[3]); number++) {
    const name = `service-${number}`;
    const stack = stackOf(app, name);
    const nfs = { server: "10.0.10.15", path: `/mnt/main/${name}-backup` };
    new SqliteBackup(stack, `${name}-backup`, {
      namespace: name,
      data: PodVolume.fromClaim(`${name}-data`),
      database: "app.db",
      colocateWith: { labels: { app: name } },
      schedule: Schedule.cron(`${number % 60} 2 * * *`),
      retention: Retention.keepDays(30),
      pushgateway: ServiceEndpoint.of("pushgateway.monitoring:9091"),
      volume: new NfsBackupVolume(stack, "volume", { name: `${name}-backup`, namespace: name, ...nfs }),
    });
  }
});
