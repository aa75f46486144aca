import { Problems } from "../errors";
import { PRIVILEGES, quoteText } from "../runtime/engines/mysql-sql";

/** The account of a backup or a restore of MySQL or MariaDB. */
export interface MysqlBackupUser {
  /** Name, at most 32 characters (MySQL's limit; MariaDB's is higher). */
  readonly user: string;
  /** Hosts it may come from, `%` and `_` as wildcards. Pods have no fixed address; their network is narrower than any host. @default "%" */
  readonly host?: string;
}

/**
 * SQL that makes the account a backup logs in as, on MySQL 8 and on MariaDB from 10.4, with what a whole dump needs and no more:
 * it reads everything, including the accounts' password hashes, which are part of the backup, and changes nothing.
 *
 * The account is made locked and without a password, because SQL that is kept in files must not hold one; the first line of the
 * text says how to give it one. An account that exists keeps its password. Running the text again changes nothing.
 *
 * A view that calls a stored function can only be dumped by an account that may call it: `GRANT EXECUTE ON FUNCTION db.name`, for
 * that function alone, since a procedure may change data with its owner's rights. The run fails with the function's name until then.
 *
 * @throws ValidationError
 */
export function mysqlBackupUserSql(user: MysqlBackupUser): string {
  return userSql("mysqlBackupUserSql", user, (account) => `GRANT ${PRIVILEGES.join(", ")} ON *.* TO ${account};`);
}

/**
 * SQL that makes the account a restore logs in as. It may do everything: a restore drops and makes databases, makes what runs in the name
 * of any account, and makes accounts with any rights, and whoever may do that may do the rest.
 *
 * The account is made locked and without a password; the first line of the text says how to give it one. Between restores,
 * `ALTER USER ... ACCOUNT LOCK` keeps everybody out. MariaDB has rights that only a role's maker can give: for accounts to come back with
 * a role that is still there, grant it to this account WITH ADMIN OPTION.
 *
 * @throws ValidationError
 */
export function mysqlRestoreUserSql(user: MysqlBackupUser): string {
  return userSql("mysqlRestoreUserSql", user, (account) => `GRANT ALL PRIVILEGES ON *.* TO ${account} WITH GRANT OPTION;`);
}

function userSql(caller: string, { user, host = "%" }: MysqlBackupUser, grant: (account: string) => string): string {
  const problems = new Problems(caller);
  problems.check(/^[^\p{Cc}]{1,32}$/u.test(user), "user", user, "1 to 32 characters, none of them a control character");
  problems.check(/^[^\p{Cc}@]{1,255}$/u.test(host), "host", host, "a host name, address or pattern of at most 255 characters, without '@'");
  problems.throwIfAny();
  const account = `${quoteText(user)}@${quoteText(host)}`;
  return [
    `-- Then give it a password: ALTER USER ${account} IDENTIFIED BY '<password>' ACCOUNT UNLOCK;`,
    `CREATE USER IF NOT EXISTS ${account} ACCOUNT LOCK;`,
    grant(account),
    "",
  ].join("\n");
}
