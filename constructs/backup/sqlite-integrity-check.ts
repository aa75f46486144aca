import type { Construct } from "constructs";
import type { ServiceEndpoint } from "../../lib/service-endpoint";
import { NODE_USER } from "../runner/defaults";
import type { JobProps } from "../runner/job-props";
import { RunnerCronJob } from "../runner/runner-cron-job";
import type { SqliteDatabaseProps } from "./sqlite-database";
import { checkDatabase, inRunner, mountOf } from "./sqlite-database";

/** Options of {@link SqliteIntegrityCheck}. */
export interface SqliteIntegrityCheckProps extends JobProps, SqliteDatabaseProps {
  /** Name of the gauge that is 1 for a sound database and 0 for a damaged one, such as `vaultwarden_sqlite_integrity_ok`. */
  readonly metric: string;
  /** Pushgateway that the gauge goes to. */
  readonly pushgateway: ServiceEndpoint;
}

/**
 * Checks a SQLite database on a schedule and says as a metric whether it is sound. Writes no backup.
 *
 * Creates what {@link RunnerCronJob} creates. The pod runs as user 1000 unless told otherwise, and must be able to read the data.
 */
export class SqliteIntegrityCheck extends RunnerCronJob {
  public readonly database: string;
  public readonly metric: string;

  /** @throws ValidationError */
  public constructor(scope: Construct, id: string, props: SqliteIntegrityCheckProps) {
    const { database, metric, minTables = 1 } = props;
    super(scope, id, props, (problems) => {
      checkDatabase(problems, props);
      const named = /^[a-zA-Z_:][a-zA-Z0-9_:]*$/.test(metric) && !metric.startsWith("backup_");
      problems.check(named, "metric", metric, "letters, digits, '_' and ':', not beginning with a digit or with backup_");
      return {
        command: "check-integrity",
        application: "sqlite",
        engine: { kind: "sqlite", database: inRunner(database), minTables, files: [], integrityMetric: metric },
        defaultRunAs: NODE_USER,
        mounts: [mountOf(props)],
      };
    });
    this.database = database;
    this.metric = metric;
  }
}
