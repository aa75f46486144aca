import type { Construct } from "constructs";
import type { ServiceEndpoint } from "../../lib/service-endpoint";
import type { BackupProps } from "./backup";
import { Backup } from "./backup";
import { checkDatabases, checkUser } from "./databases";
import { MYSQL_USER } from "../runner/defaults";
import type { EngineContainerProps } from "../runner/engine-container-props";
import type { SecretRef } from "../runner/secret-ref";

/** Options of {@link MySqlDumpBackup}. */
export interface MySqlDumpBackupProps extends BackupProps, EngineContainerProps {
  /** The server: a Service that leads to the primary. */
  readonly endpoint: ServiceEndpoint;
  /** User that the backup logs in as. */
  readonly user: string;
  /** The user's password. */
  readonly password: SecretRef;
  /** Databases that must exist: one that is missing fails the run, as its last good copy would age out unseen. @default - none named */
  readonly expectDatabases?: readonly string[];
  /** Databases that are left out. @default - none: every database but the server's own is dumped */
  readonly excludeDatabases?: readonly string[];
}

/**
 * Backs up a MySQL or MariaDB server: one dump per database, each of one moment, with routines, events and triggers.
 *
 * Creates what {@link RunnerCronJob} creates. The pod runs as user 999 unless told otherwise, that of the `mysql` and `mariadb` images.
 */
export class MySqlDumpBackup extends Backup {
  public readonly endpoint: ServiceEndpoint;
  public readonly expectDatabases: readonly string[];
  public readonly excludeDatabases: readonly string[];

  /** @throws ValidationError */
  public constructor(scope: Construct, id: string, props: MySqlDumpBackupProps) {
    const { endpoint, user, password, expectDatabases = [], excludeDatabases = [] } = props;
    super(scope, id, props, (problems) => {
      checkDatabases(problems, expectDatabases, excludeDatabases);
      checkUser(problems, user);
      return {
        application: "mysql",
        engine: { kind: "mysql", expectDatabases, excludeDatabases },
        defaultRunAs: MYSQL_USER,
        endpoints: [endpoint],
        container: {
          image: props.image,
          script: "mysql.sh",
          environment: { MYSQL_HOST: endpoint.host, MYSQL_TCP_PORT: String(endpoint.port), MYSQL_USER: user, MYSQL_PWD: password },
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
