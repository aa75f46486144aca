import type { Subject } from "./subject";
import { randomBytes } from "node:crypto";
import { chmodSync } from "node:fs";
import { join } from "node:path";
import { RedisBackup, SecretRef } from "../../../constructs/backup";
import { ImageReference } from "../../../lib/image-reference";
import { ServiceEndpoint } from "../../../lib/service-endpoint";
import { run } from "../process";
import { Redis } from "../servers/redis";
import { COMMON_SERVICES, hanging, synthesise } from "./subject";

const PRODUCER = { program: "redis-cli", dumps: "*--rdb*" };
const PASSWORD = "backup-password";

/** A Redis server with keys of several kinds. */
export async function startRedis(): Promise<Subject> {
  const server = await Redis.start({ password: PASSWORD, settings: { "repl-diskless-sync-delay": "0" } });
  const keys = Array.from({ length: 4000 }, (_, key) => [
    `SET key:${key} ${randomBytes(150).toString("base64")}`,
    `HSET hash:${key % 50} ${key} ${key}`,
    `LPUSH list ${key}`,
  ]);
  server.pipe(keys.flat());
  const wanted = server.call("DEBUG", "DIGEST");
  let port = 16_379;
  return {
    name: "redis",
    synthesised: synthesise((stack, common) => {
      new RedisBackup(stack, "redis", {
        ...common,
        image: ImageReference.parse("docker.io/library/redis:7.4.1-bookworm"),
        endpoint: ServiceEndpoint.of("redis.redis:6379"),
        password: SecretRef.of("redis", "password"),
      });
    }),
    options: { secrets: { redis: { password: PASSWORD } }, services: [...COMMON_SERVICES, "redis.redis"] },
    producer: PRODUCER,
    stall: hanging(PRODUCER),
    sourceFaults: [
      {
        name: "missing",
        reason: /Could not connect to Redis/,
        inject: async () => {
          await server.stop();
          return async () => {
            await server.up();
            server.pipe(keys.flat());
          };
        },
      },
      {
        name: "refusing",
        reason: /WRONGPASS|NOAUTH|AUTH failed/,
        inject: () => {
          server.call("CONFIG", "SET", "requirepass", "another");
          return Promise.resolve(async () => {
            await run("redis-cli", ["CONFIG", "SET", "requirepass", PASSWORD], { env: { REDISCLI_AUTH: "another" } });
          });
        },
      },
    ],
    load: {
      write: (round) => Promise.resolve(void server.call("SET", `load:${round % 500}`, String(round))),
      undo: async () => {
        for (let key = 0; key < 500; key += 100) {
          server.call("DEL", ...Array.from({ length: 100 }, (_, index) => `load:${key + index}`));
        }
        return Promise.resolve();
      },
    },
    restoreEqual: async ({ path }) => {
      const directory = Redis.directory();
      await run("zstd", ["-d", "-q", join(path, "dump.rdb.zst"), "-o", join(directory, "dump.rdb")]);
      chmodSync(join(directory, "dump.rdb"), 0o644);
      const restored = await Redis.start({ port: port++, directory });
      const found = restored.call("DEBUG", "DIGEST");
      await restored.stop("SIGKILL");
      if (found !== wanted) throw new Error("the keys that were restored differ from the source");
    },
    stop: () => server.stop(),
  };
}
