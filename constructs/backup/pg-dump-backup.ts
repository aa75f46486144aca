import type { Construct } from "constructs";
import type { Problems } from "../../lib/errors";
import type { ImageReference } from "../../lib/image-reference";
import type { ServiceEndpoint } from "../../lib/service-endpoint";
import type { BackupProps } from "./backup";
import { Backup } from "./backup";
import { checkDatabases, checkUser } from "./databases";
import type { DrillProps, NoDrill } from "../restore/restore-drill";
import { POSTGRES_USER } from "../runner/defaults";
import type { EngineContainerProps } from "../runner/engine-container-props";
import type { Environment } from "../runner/env";
import type { EngineContainer } from "../runner/job-parts";
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
  /** The scheduled proof that the backup restores. @default - one with the defaults of {@link PgDrillProps} */
  readonly drill?: PgDrillProps | NoDrill;
  /** Who may put the backup back. @default - no restore job is made */
  readonly restore?: PgRestoreProps;
}

/** Options of the drill of {@link PgDumpBackup}. Each assertion must name its database. */
export interface PgDrillProps extends DrillProps {
  /** Image that the scratch server comes from, with the extensions that the databases use. @default - the backup's own image */
  readonly image?: ImageReference;
  /** Libraries that extensions need in `shared_preload_libraries`, such as `vchord`. @default - none */
  readonly preloadLibraries?: readonly string[];
}

/** The role that a restore logs in as: a superuser, see `postgresRestoreRoleSql`. */
export interface PgRestoreProps {
  /** Name of the role. */
  readonly user: string;
  /** The role's password. */
  readonly password: SecretRef;
}

/** Name of a library in PostgreSQL's library directory. */
const LIBRARY = /^[A-Za-z0-9_][A-Za-z0-9_.-]*$/;
/** Where a restore is connected while databases are replaced: the one database that every server has and no backup holds. */
const MAINTENANCE_DATABASE = "template1";

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
    const { endpoint, user, password, expectDatabases = [], excludeDatabases = [], exactCountMaxBytes, restore } = props;
    const drill: PgDrillProps = props.drill === undefined || "none" in props.drill ? {} : props.drill;
    super(scope, id, props, (problems) => {
      checkDatabases(problems, expectDatabases, excludeDatabases);
      checkUser(problems, user);
      const isSize = exactCountMaxBytes === undefined || (Number.isSafeInteger(exactCountMaxBytes) && exactCountMaxBytes >= 0);
      problems.check(isSize, "exactCountMaxBytes", exactCountMaxBytes, "a whole number of bytes, 0 or more");
      checkDrill(problems, drill);
      if (restore !== undefined) checkUser(problems, restore.user, "restore.user");
      const common = { image: props.image, resources: props.engineResources, exchangeSize: props.exchangeSize };
      const address = { PGHOST: endpoint.host, PGPORT: String(endpoint.port) };
      const login = restore && { PGUSER: restore.user, PGPASSWORD: restore.password, PGDATABASE: MAINTENANCE_DATABASE };
      return {
        application: "postgresql",
        engine: { kind: "postgres", expectDatabases, excludeDatabases, exactCountMaxBytes },
        defaultRunAs: POSTGRES_USER,
        endpoints: [endpoint],
        container: { ...common, script: "postgres.sh", environment: { ...address, PGUSER: user, PGPASSWORD: password } },
        drill: { container: drillContainer(common, drill), assertions: true },
        restore: login && {
          container: { ...common, script: "postgres-restore.sh", libraries: ["postgres.sh"], environment: { ...address, ...login } },
        },
      };
    });
    this.endpoint = endpoint;
    this.expectDatabases = expectDatabases;
    this.excludeDatabases = excludeDatabases;
  }
}

/** The scratch server's container, which knows neither the server's address nor its passwords. */
function drillContainer(common: Pick<EngineContainer, "image" | "resources" | "exchangeSize">, drill: PgDrillProps): EngineContainer {
  const { image = common.image, preloadLibraries = [] } = drill;
  const environment: Environment = preloadLibraries.length === 0 ? {} : { PRELOAD_LIBRARIES: preloadLibraries.join(", ") };
  return { ...common, image, script: "postgres-drill.sh", libraries: ["postgres.sh"], environment };
}

function checkDrill(problems: Problems, { preloadLibraries = [], assertions = [] }: PgDrillProps): void {
  const known = preloadLibraries.every((name) => LIBRARY.test(name));
  problems.check(known, "drill.preloadLibraries", preloadLibraries, "names of libraries: letters, digits, '_', '.' and '-'");
  const unplaced = assertions.filter(({ database }) => database === undefined).map(({ query }) => query);
  problems.check(unplaced.length === 0, "drill.assertions", unplaced, "assertions that name their 'database'");
}
