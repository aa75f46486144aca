import type { Subject } from "./subject";
import { startCommand } from "./command";
import { startEtcd } from "./etcd";
import { startFiles } from "./files";
import { startMysql } from "./mysql";
import { startPostgres } from "./postgres";
import { startPrometheus } from "./prometheus";
import { startRedis } from "./redis";
import { startSqlite } from "./sqlite";
import { startVault } from "./vault";

/** Every kind of backup, by name: starts its source and gives what the fault suite needs. */
export const SUBJECTS: { readonly [name: string]: () => Promise<Subject> } = {
  command: startCommand,
  etcd: startEtcd,
  files: startFiles,
  mysql: startMysql,
  postgres: startPostgres,
  prometheus: startPrometheus,
  redis: startRedis,
  sqlite: startSqlite,
  vault: startVault,
};
