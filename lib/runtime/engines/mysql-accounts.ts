import type { Agent } from "../agent";
import { list, type MysqlFingerprint, SYSTEM_DATABASES } from "./mysql-facts";
import { query, quoteName, quoteText } from "./mysql-sql";

/** Accounts that every server has and that belong to the server. */
const RESERVED = ["mariadb.sys", "mysql.infoschema", "mysql.session", "mysql.sys", "PUBLIC"];
/** An account by host name on a server that does not resolve names: in the table, but unknown to the server. */
const NO_SUCH_ACCOUNT = /ERROR (1141|1133) /;
const CREATE = "CREATE USER ";
const HEADER = `-- Accounts, roles and grants. Apply it after the databases: a grant on a table needs the table.
-- An account that exists keeps its password: CREATE USER IF NOT EXISTS leaves it alone, and no other statement here sets one.
-- An account that does not exist comes back with the password of the day of the backup.
`;

/** A statement of {@link accountsSql}. */
export interface AccountStatement {
  /** The account or role that it makes or gives something to, as SQL has it. */
  readonly account: string;
  readonly statement: string;
  /** What it gives rights on: `*` stands for all. Undefined where it gives a role, or makes an account. */
  readonly on: { readonly database: string; readonly name: string } | undefined;
}

/** What is asked and told on the way. */
interface Server {
  readonly agent: Agent;
  readonly log: (message: string) => void;
}

/** Names of all accounts and roles of a server, as SQL has them. */
export async function accountNames(agent: Agent, isMariaDb: boolean): Promise<ReadonlySet<string>> {
  const rows = await accountRows(agent, isMariaDb);
  const nameOf = ([isRole, user = "", host = ""]: readonly string[]): string =>
    isRole === "Y" ? quoteName(user) : `${quoteName(user)}@${quoteName(host)}`;
  return new Set(rows.map(nameOf));
}

/** Statements that make the server's accounts, roles and grants anew, without touching an account that exists. */
export async function accountsSql(run: Server, isMariaDb: boolean): Promise<string> {
  const rows = await accountRows(run.agent, isMariaDb);
  const roles: string[] = [];
  const users: string[] = [];
  const grants: string[] = [];
  for (const [isRole = "", user = "", host = ""] of rows) {
    if (RESERVED.includes(user)) continue;
    const name = isRole === "Y" ? quoteText(user) : `${quoteText(user)}@${quoteText(host)}`;
    if (isRole === "Y") roles.push(`CREATE ROLE IF NOT EXISTS ${quoteName(user)}`);
    try {
      const create = isRole === "Y" ? [] : [`SHOW CREATE USER ${name}`];
      for (const [statement = ""] of await query(run.agent, [...create, `SHOW GRANTS FOR ${name}`])) {
        if (statement.startsWith(CREATE)) users.push(statement.replace(CREATE, `${CREATE}IF NOT EXISTS `));
        else grants.push(withoutPassword(statement));
      }
    } catch (error) {
      if (!NO_SUCH_ACCOUNT.test((error as Error).message)) throw error;
      run.log(`warning: the account ${name} is not in effect on the server, so it is not in the backup`);
    }
  }
  // MySQL's roles are users, and must be there before another user has them for its default.
  users.sort((a, b) => Number(a.includes(" DEFAULT ROLE ")) - Number(b.includes(" DEFAULT ROLE ")));
  return HEADER + [...roles, ...users, ...grants].map((statement) => `${statement};\n`).join("");
}

/** The statements of {@link accountsSql}, in their order. @throws Error on anything else */
export function accountStatements(text: string): readonly AccountStatement[] {
  const statements = text.replace(/^(?:--.*\n)*/, "").split(/;\n/);
  if (statements.pop() !== "") throw new Error("the accounts end in the middle of a statement");
  return statements.map((statement) => {
    const account = MADE.exec(statement)?.[1] ?? GIVEN.exec(statement)?.[1];
    if (account === undefined) throw new Error("the accounts have a statement of a form that is not known");
    const [, database, name] = ON.exec(statement) ?? [];
    const on = database === undefined || name === undefined ? undefined : { database: bare(database), name: bare(name) };
    return { account, statement, on };
  });
}

/** The accounts of statements, each once. */
export function accountsOf(statements: readonly AccountStatement[]): readonly string[] {
  return [...new Set(statements.map(({ account }) => account))];
}

/**
 * The statements that a server takes which holds the backup and nothing else: a grant on a table outlasts the table, and cannot be made
 * without it.
 *
 * @param tell told of what is left out
 */
export function withObjects(
  statements: readonly AccountStatement[],
  { databases }: MysqlFingerprint,
  tell: (what: string) => void,
): readonly AccountStatement[] {
  const lost = new Set<string>();
  const found = statements.filter(({ on }) => {
    if (on === undefined || on.name === "*" || SYSTEM_DATABASES.includes(on.database)) return true;
    const facts = Object.hasOwn(databases, on.database) ? databases[on.database] : undefined;
    const { tables = {}, sequences = {}, views = {}, routines = {} } = facts ?? {};
    const there = [tables, sequences, views].some((named) => Object.hasOwn(named, on.name));
    // Names of routines are of any case.
    if (there || Object.keys(routines).some((name) => name.toLowerCase().endsWith(` ${on.name.toLowerCase()}`))) return true;
    lost.add(`${on.database}.${on.name}`);
    return false;
  });
  if (lost.size > 0) tell(`grants on what is not in the backup are left out: ${list([...lost])}`);
  return found;
}

function bare(name: string): string {
  return name === "*" ? name : name.slice(1, -1).replaceAll("``", "`");
}

/** Plugins by which accounts log in. */
export function pluginsOf(accounts: string): readonly string[] {
  return [...new Set([...accounts.matchAll(/^CREATE USER .* IDENTIFIED (?:VIA|WITH) '?(\w+)/gm)].map(([, name = ""]) => name))];
}

/** The statement that loads such a plugin, where it is not part of the server. */
export function installPlugin(plugin: string, isMariaDb: boolean): string {
  return isMariaDb ? `INSTALL SONAME 'auth_${plugin}'` : `INSTALL PLUGIN ${plugin} SONAME '${plugin}.so'`;
}

function accountRows(agent: Agent, isMariaDb: boolean): Promise<readonly (readonly string[])[]> {
  return query(agent, [`SELECT ${isMariaDb ? "is_role" : "'N'"}, User, Host, '.' FROM mysql.user ORDER BY 1, 2, 3`]);
}

const NAME = "`(?:[^`]|``)*`";
const MADE = new RegExp(`^CREATE (?:ROLE|USER) IF NOT EXISTS (${NAME}(?:@${NAME})?)`);
const ON = new RegExp(`^(?:GRANT|REVOKE) .*? ON (?:[A-Z ]+ )?(\\*|${NAME})\\.(\\*|${NAME}) (?:TO|FROM) `, "s");
const GIVEN = new RegExp(`^(?:GRANT|REVOKE|SET) .* (?:TO|FROM|FOR) (${NAME}(?:@${NAME})?)(?: WITH (?:ADMIN|GRANT) OPTION)?$`, "s");
const GRANT = new RegExp(`^(GRANT (?:[^\`]|${NAME})*? TO ${NAME}(?:@${NAME})?)(.*)$`, "s");

/** MariaDB's GRANT USAGE repeats how the account logs in, and would set the password of an account that exists. */
function withoutPassword(statement: string): string {
  if (!statement.startsWith("GRANT ")) return statement;
  const [, head, tail = ""] = GRANT.exec(statement) ?? [];
  if (head === undefined) throw new Error("the server describes a grant in a form that is not known, so it may hold a password");
  return head + (/ WITH (?:ADMIN|GRANT) OPTION/.exec(tail.replace(/'(?:[^']|'')*'/g, "''"))?.[0] ?? "");
}
