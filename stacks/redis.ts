import type { Construct } from "constructs";
import { RedisBackup } from "../constructs/backup";
import { Retention } from "../lib";
import { ServiceStack } from "./service-stack";
import { site } from "./site";

/** The shared Redis, every week. */
export class RedisStack extends ServiceStack {
  public constructor(scope: Construct, id: string) {
    super(scope, id);
    const { redis, pushgateway } = site;

    new RedisBackup(this, "redis-backup", {
      namespace: redis.namespace,
      schedule: redis.schedule,
      endpoint: redis.endpoint,
      image: redis.image,
      // Nobody is asked for a password.
      restore: {},
      volume: this.backupVolume("redis-volume", redis.namespace, redis.volume),
      retention: Retention.keepDays(30),
      pushgateway,
    });
  }
}
