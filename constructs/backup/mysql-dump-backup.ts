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
  /** Who may put the backup back. @default - no restore job is made */
  readonly restore?: MySqlRestoreProps;
}

/** The account that a restore logs in as, see `mysqlRestoreUserSql`. */
export interface MySqlRestoreProps {
  /** Name of the user. */
  readonly user: string;
  /** The user's password. */
  readonly password: SecretRef;
}

/**
 * Backs up a MySQL or MariaDB server: one dump per database, each of one moment, with routines, events and triggers.
 *
 * Its drill starts a server in the pod, by the same image; a restore is made where `restore` says who may.
 *
 * Creates what {@link RunnerCronJob} creates. The pod runs as user 999 unless told otherwise, that of the `mysql` and `mariadb` images.
 */
export class MySqlDumpBackup extends Backup {
  public readonly endpoint: ServiceEndpoint;
  public readonly expectDatabases: readonly string[];
  public readonly excludeDatabases: readonly string[];

  /** @throws ValidationError */
  public constructor(scope: Construct, id: string, props: MySqlDumpBackupProps) {
    const { endpoint, user, password, expectDatabases = [], excludeDatabases = [], restore } = props;
    super(scope, id, props, (problems) => {
      checkDatabases(problems, expectDatabases, excludeDatabases);
      checkUser(problems, user);
      if (restore !== undefined) checkUser(problems, restore.user, "restore.user");
      const common = { image: props.image, resources: props.engineResources, exchangeSize: props.exchangeSize };
      const address = { MYSQL_HOST: endpoint.host, MYSQL_TCP_PORT: String(endpoint.port) };
      const login = restore && { MYSQL_USER: restore.user, MYSQL_PWD: restore.password };
      return {
        application: "mysql",
        engine: { kind: "mysql", expectDatabases, excludeDatabases },
        defaultRunAs: MYSQL_USER,
        endpoints: [endpoint],
        container: { ...common, script: "mysql.sh", environment: { ...address, MYSQL_USER: user, MYSQL_PWD: password } },
        drill: {
          container: { ...common, script: "mysql-drill.sh", libraries: ["mysql-restore.sh", "mysql.sh"], environment: {} },
          assertions: true,
        },
        restore: login && {
          // What is replaced is backed up first, whatever there still is of it.
          engine: { kind: "mysql", expectDatabases: [], excludeDatabases },
          container: { ...common, script: "mysql-restore.sh", libraries: ["mysql.sh"], environment: { ...address, ...login } },
        },
      };
    });
    this.endpoint = endpoint;
    this.expectDatabases = expectDatabases;
    this.excludeDatabases = excludeDatabases;
  }
}
