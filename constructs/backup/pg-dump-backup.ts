import type { Construct } from "constructs";
import type { ServiceEndpoint } from "../../lib/service-endpoint";
import type { BackupProps } from "./backup";
import { Backup } from "./backup";
import { checkDatabases, checkUser } from "./databases";
import { POSTGRES_USER } from "../runner/defaults";
import type { EngineContainerProps } from "../runner/engine-container-props";
import type { SecretRef } from "../runner/secret-ref";

/** Options of {@link PgDumpBackup}. */
export interface PgDumpBackupProps extends BackupProps, EngineContainerProps {
  /** The server: a Service that leads to the primary. */
  readonly endpoint: ServiceEndpoint;
  /** Role that the backup logs in as. It needs to read everything and nothing more. */
  readonly user: string;
  /** The role's password. */
  readonly password: SecretRef;
  /** Databases that must exist: one that is missing fails the run, as its last good copy would age out unseen. @default - none named */
  readonly expectDatabases?: readonly string[];
  /** Databases that are left out. @default - none: every database that allows connections is dumped */
  readonly excludeDatabases?: readonly string[];
  /**
   * Size in bytes above which a table's rows are estimated in the fingerprint instead of counted.
   *
   * @default - every table is counted
   */
  readonly exactCountMaxBytes?: number;
}

/**
 * Backs up a PostgreSQL server: one compressed dump per database, and the roles and tablespaces of the server.
 *
 * Creates what {@link RunnerCronJob} creates. The pod runs as user 999 unless told otherwise, that of the Debian `postgres` image; the
 * Alpine image's is 70.
 */
export class PgDumpBackup extends Backup {
  public readonly endpoint: ServiceEndpoint;
  public readonly expectDatabases: readonly string[];
  public readonly excludeDatabases: readonly string[];

  /** @throws ValidationError */
  public constructor(scope: Construct, id: string, props: PgDumpBackupProps) {
    const { endpoint, user, password, expectDatabases = [], excludeDatabases = [], exactCountMaxBytes } = props;
    super(scope, id, props, (problems) => {
      checkDatabases(problems, expectDatabases, excludeDatabases);
      checkUser(problems, user);
      const isSize = exactCountMaxBytes === undefined || (Number.isSafeInteger(exactCountMaxBytes) && exactCountMaxBytes >= 0);
      problems.check(isSize, "exactCountMaxBytes", exactCountMaxBytes, "a whole number of bytes, 0 or more");
      return {
        application: "postgresql",
        engine: { kind: "postgres", expectDatabases, excludeDatabases, exactCountMaxBytes },
        defaultRunAs: POSTGRES_USER,
        endpoints: [endpoint],
        container: {
          image: props.image,
          script: "postgres.sh",
          environment: { PGHOST: endpoint.host, PGPORT: String(endpoint.port), PGUSER: user, PGPASSWORD: password },
          resources: props.engineResources,
          exchangeSize: props.exchangeSize,
        },
      };
    });
    this.endpoint = endpoint;
    this.expectDatabases = expectDatabases;
    this.excludeDatabases = excludeDatabases;
  }
}
