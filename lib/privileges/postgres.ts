/** The role that a backup logs in as. */
export interface PostgresBackupRole {
  /** Name of the role. */
  readonly role: string;
  /** Every database that is backed up. */
  readonly databases: readonly string[];
}

/**
 * SQL for a superuser of PostgreSQL 14 or later that makes the role a backup logs in as. It may read everything, the hashes of
 * passwords included, and write nothing.
 *
 * - LOGIN: it has no password yet; `\password <role>` in psql sets one that no statement log sees.
 * - BYPASSRLS: row security must not hide rows from a backup. Without it the dump of such a table fails.
 * - pg_read_all_data: reads all tables, views and sequences of all databases, also of those that are made later.
 * - CONNECT: everybody has it until it is revoked from PUBLIC, as a hardened server does; a database that is made later needs it then.
 *
 * Large objects are not covered: a server that stores some needs `ALTER ROLE <role> SET lo_compat_privileges = on` as well,
 * which lets the role write them, too.
 */
export function postgresBackupRoleSql({ role, databases }: PostgresBackupRole): string {
  const statements = [
    `CREATE ROLE ${quote(role)} LOGIN BYPASSRLS;`,
    `GRANT pg_read_all_data TO ${quote(role)};`,
    ...databases.map((database) => `GRANT CONNECT ON DATABASE ${quote(database)} TO ${quote(role)};`),
  ];
  return `${statements.join("\n")}\n`;
}

/**
 * SQL for a superuser of PostgreSQL 14 or later that makes the role a restore logs in as. It is a superuser itself: a restore makes
 * databases, roles, extensions and event triggers, and gives what it makes to the owners that it had. Nothing less may do all of that.
 *
 * It has no password yet; `\password <role>` in psql sets one that no statement log sees. Between restores, `ALTER ROLE <role> NOLOGIN`
 * keeps everybody out.
 */
export function postgresRestoreRoleSql({ role }: Pick<PostgresBackupRole, "role">): string {
  return `CREATE ROLE ${quote(role)} LOGIN SUPERUSER;\n`;
}

function quote(name: string): string {
  return `"${name.replaceAll('"', '""')}"`;
}
