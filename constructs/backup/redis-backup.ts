import type { Construct } from "constructs";
import type { Problems } from "../../lib/errors";
import type { Quantity } from "../../lib/quantity";
import type { ServiceEndpoint } from "../../lib/service-endpoint";
import type { BackupProps } from "./backup";
import { Backup } from "./backup";
import { checkUser } from "./databases";
import { DRILL_SIZE, REDIS_USER } from "../runner/defaults";
import type { EngineContainerProps } from "../runner/engine-container-props";
import type { Environment } from "../runner/env";
import type { Resources } from "../runner/resources";
import type { SecretRef } from "../runner/secret-ref";

/** Options of {@link RedisBackup}. */
export interface RedisBackupProps extends BackupProps, EngineContainerProps {
  /** The server: a Service that leads to the primary. */
  readonly endpoint: ServiceEndpoint;
  /** Password of the server or of `user`. @default - the server asks for none */
  readonly password?: SecretRef;
  /** User of the access control list, with `password`. @default - the server's default user */
  readonly user?: string;
  /** Who may put the backup back; `{}` where the server asks nobody for a password. @default - no restore job is made */
  readonly restore?: RedisRestoreProps;
}

/** The user that a restore logs in as, see `redisRestoreUserCommand`, and what it needs to read a snapshot. */
export interface RedisRestoreProps {
  /** Password of the server or of `user`. @default - the server asks for none */
  readonly password?: SecretRef;
  /** User of the access control list, with `password`. @default - the server's default user */
  readonly user?: string;
  /** Largest size of the snapshot and the commands that make its data, together. @default Quantity.gibibytes(20) */
  readonly size?: Quantity;
  /** What the engine's container may use, in which a server holds all data. @default - as the backup's */
  readonly engineResources?: Resources;
}

/**
 * Backs up a Redis server: the snapshot that it sends a replica, checked.
 *
 * Its drill loads the snapshot into a server of the same image, which needs as much memory as the live one: see
 * `drill.engineResources`. Its restore feeds the running server the commands that make the data, so that it does not matter whether the
 * server keeps an append-only file.
 *
 * The server forks for it as for a replica, so it needs memory for what is written meanwhile. Creates what {@link RunnerCronJob}
 * creates. The pod runs as user 999 unless told otherwise, that of the `redis` image.
 */
export class RedisBackup extends Backup {
  public readonly endpoint: ServiceEndpoint;

  /** @throws ValidationError */
  public constructor(scope: Construct, id: string, props: RedisBackupProps) {
    const { endpoint, restore } = props;
    super(scope, id, props, (problems) => {
      const common = { image: props.image, resources: props.engineResources, exchangeSize: props.exchangeSize };
      return {
        application: "redis",
        engine: { kind: "redis" },
        defaultRunAs: REDIS_USER,
        endpoints: [endpoint],
        container: { ...common, script: "redis.sh", environment: login(problems, endpoint, props) },
        drill: { container: { ...common, script: "redis-drill.sh", libraries: ["server.sh"], environment: {} }, assertions: true },
        restore: restore && {
          container: {
            image: props.image,
            script: "redis-restore.sh",
            libraries: ["redis.sh", "redis-drill.sh", "server.sh"],
            environment: login(problems, endpoint, restore, "restore."),
            resources: restore.engineResources ?? props.engineResources,
            exchangeSize: restore.size ?? DRILL_SIZE,
          },
        },
      };
    });
    this.endpoint = endpoint;
  }
}

function login(
  problems: Problems,
  endpoint: ServiceEndpoint,
  { user, password }: Pick<RedisRestoreProps, "user" | "password">,
  property = "",
): Environment {
  const environment: { [name: string]: string | SecretRef } = { REDIS_HOST: endpoint.host, REDIS_PORT: String(endpoint.port) };
  if (user !== undefined) {
    checkUser(problems, user, `${property}user`);
    problems.check(password !== undefined, `${property}password`, undefined, "set where user is");
    environment["REDIS_USER"] = user;
  }
  if (password !== undefined) environment["REDISCLI_AUTH"] = password;
  return environment;
}
