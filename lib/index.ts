export { withoutCreationStacks } from "./creation-stacks";
export { Duration } from "./duration";
export { Problems, ValidationError, type Problem } from "./errors";
export { ImageReference } from "./image-reference";
export {
  checkConstructId,
  checkCronJobName,
  checkDnsLabel,
  checkDnsSubdomain,
  checkLabelValue,
  checkServiceName,
  isDnsLabel,
  isDnsSubdomain,
  standardLabels,
  type StandardLabels,
} from "./names";
export { mysqlBackupUserSql, mysqlRestoreUserSql, type MysqlBackupUser } from "./privileges/mysql";
export { postgresBackupRoleSql, postgresRestoreRoleSql, type PostgresBackupRole } from "./privileges/postgres";
export { redisBackupUserCommand, redisRestoreUserCommand, type RedisBackupUser } from "./privileges/redis";
export { vaultBackupRoleCommands, vaultSnapshotPolicy, type VaultBackupRole } from "./privileges/vault";
export { Quantity } from "./quantity";
export { Retention, type KeepDaysOptions, type RetentionOptions } from "./retention";
export { runbooks, type Offsite, type ProtectedService, type Runbook } from "./runbooks";
export { Schedule, type FirstSundayOptions, type ScheduleOptions } from "./schedule";
export { ServiceEndpoint, type ServiceEndpointParts } from "./service-endpoint";
export { isToken, literal } from "./terraform-text";
