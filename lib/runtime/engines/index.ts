import type { CommandSettings } from "./command";
import type { EtcdSettings } from "./etcd";
import type { FilesSettings } from "./files";
import type { MysqlSettings } from "./mysql";
import type { PostgresSettings } from "./postgres";
import type { PrometheusSettings } from "./prometheus";
import type { RedisSettings } from "./redis";
import type { SqliteSettings } from "./sqlite";
import type { VaultSettings } from "./vault";

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
