import type { Engine } from "../engine";
import type { Settings } from "../settings";
import type { CommandSettings } from "./command";
import type { EtcdSettings } from "./etcd";
import type { FilesSettings } from "./files";
import type { MysqlSettings } from "./mysql";
import type { PostgresSettings } from "./postgres";
import type { PrometheusSettings } from "./prometheus";
import type { RedisSettings } from "./redis";
import type { SqliteSettings } from "./sqlite";
import type { VaultSettings } from "./vault";
import { CommandEngine } from "./command";
import { EtcdEngine } from "./etcd";
import { FilesEngine } from "./files";
import { MysqlEngine } from "./mysql";
import { PostgresEngine } from "./postgres";
import { PrometheusEngine } from "./prometheus";
import { RedisEngine } from "./redis";
import { SqliteEngine } from "./sqlite";
import { VaultEngine } from "./vault";

/** The settings of each engine, told apart by `kind`. */
export type EngineSettings =
  | CommandSettings
  | EtcdSettings
  | FilesSettings
  | MysqlSettings
  | PostgresSettings
  | PrometheusSettings
  | RedisSettings
  | SqliteSettings
  | VaultSettings;

/** The engine that a backup's settings name. */
export function engineFor({ engine }: Settings): Engine {
  switch (engine.kind) {
    case "command":
      return new CommandEngine(engine);
    case "etcd":
      return new EtcdEngine(engine);
    case "files":
      return new FilesEngine(engine);
    case "mysql":
      return new MysqlEngine(engine);
    case "postgres":
      return new PostgresEngine(engine);
    case "prometheus":
      return new PrometheusEngine(engine);
    case "redis":
      return new RedisEngine(engine);
    case "sqlite":
      return new SqliteEngine(engine);
    case "vault":
      return new VaultEngine(engine);
  }
}
