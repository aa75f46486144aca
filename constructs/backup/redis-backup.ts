import type { Construct } from "constructs";
import type { ServiceEndpoint } from "../../lib/service-endpoint";
import type { BackupProps } from "./backup";
import { Backup } from "./backup";
import { checkUser } from "./databases";
import { REDIS_USER } from "../runner/defaults";
import type { EngineContainerProps } from "../runner/engine-container-props";
import type { Environment } from "../runner/env";
import type { SecretRef } from "../runner/secret-ref";

/** Options of {@link RedisBackup}. */
export interface RedisBackupProps extends BackupProps, EngineContainerProps {
  /** The server: a Service that leads to the primary. */
  readonly endpoint: ServiceEndpoint;
  /** Password of the server or of `user`. @default - the server asks for none */
  readonly password?: SecretRef;
  /** User of the access control list, with `password`. @default - the server's default user */
  readonly user?: string;
}

/**
 * Backs up a Redis server: the snapshot that it sends a replica, checked.
 *
 * The server forks for it as for a replica, so it needs memory for what is written meanwhile. Creates what {@link RunnerCronJob}
 * creates. The pod runs as user 999 unless told otherwise, that of the `redis` image.
 */
export class RedisBackup extends Backup {
  public readonly endpoint: ServiceEndpoint;

  /** @throws ValidationError */
  public constructor(scope: Construct, id: string, props: RedisBackupProps) {
    const { endpoint, user, password } = props;
    super(scope, id, props, (problems) => {
      if (user !== undefined) {
        checkUser(problems, user);
        problems.check(password !== undefined, "password", undefined, "set where user is");
      }
      const environment: { -readonly [name in keyof Environment]: Environment[name] } = {
        REDIS_HOST: endpoint.host,
        REDIS_PORT: String(endpoint.port),
      };
      if (user !== undefined) environment["REDIS_USER"] = user;
      if (password !== undefined) environment["REDISCLI_AUTH"] = password;
      return {
        application: "redis",
        engine: { kind: "redis" },
        defaultRunAs: REDIS_USER,
        endpoints: [endpoint],
        container: {
          image: props.image,
          script: "redis.sh",
          environment,
          resources: props.engineResources,
          exchangeSize: props.exchangeSize,
        },
      };
    });
    this.endpoint = endpoint;
  }
}
