import { Readable } from "node:stream";
import { isDeepStrictEqual } from "node:util";
import { AgentError } from "../agent";
import type { Dump, Engine, Run } from "../engine";
import type { Fact, ManifestFile } from "../manifest";
import { artefactName } from "../store";
import { accountsSql } from "./mysql-accounts";
import { DumpReader, withoutSandboxLine, type DumpFacts } from "./mysql-dump";
import {
  ACCOUNTS,
  type DatabaseFacts,
  DATABASES,
  dumpName,
  list,
  type MysqlFingerprint,
  named,
  rowsOf,
  SETTINGS,
  SYSTEM_DATABASES,
} from "./mysql-facts";
import { createDatabase, type Database, failedStatement, LOCK_WAIT_SECONDS, PRIVILEGES, query, quoteName, quoteText } from "./mysql-sql";

/** Which databases of a MySQL or MariaDB server are backed up. */
export interface MysqlSettings {
  readonly kind: "mysql";
  /** Databases that must exist; one missing fails the run. */
  readonly expectDatabases: readonly string[];
  /** Databases that are not dumped, besides the server's own. */
  readonly excludeDatabases: readonly string[];
}

/** Storage engines whose tables only point at rows elsewhere; the dump has the pointer. */
const ROWS_ELSEWHERE = ["CONNECT", "FEDERATED", "MRG_MYISAM", "OQGRAPH", "SPIDER", "VP"];
const IN_SNAPSHOT = ["INNODB", "ROCKSDB", ...ROWS_ELSEWHERE];

/** What the server says a database holds, at one moment. */
interface Survey {
  /** Server's clock, Unix seconds. */
  readonly time: number;
  /** Kind and name of everything that a dump must hold. */
  readonly objects: ReadonlySet<string>;
  readonly triggers: readonly string[];
  readonly tables: ReadonlyMap<string, TableState>;
  /** Tables with columns of type FLOAT. */
  readonly floats: readonly string[];
}

interface TableState {
  readonly engine: string;
  readonly versioned: boolean;
  /** Unix seconds of the last committed change; NaN where the server does not know. */
  readonly updated: number;
  readonly rows: number;
}

/**
 * MySQL and MariaDB: a dump of each database by `mysqldump` or `mariadb-dump`, statements that make the databases, and accounts.
 *
 * Each database is one consistent snapshot of its transactional tables; two databases are two snapshots. The fingerprint is read
 * from the dump as it passes, and compared with the server's own counts from before and after.
 */
export class MysqlEngine implements Engine {
  private databases: readonly Database[] = [];
  private isMariaDb = false;
  private readonly checks: string[] = [];

  public constructor(private readonly settings: MysqlSettings) {}

  public async preflight(run: Run): Promise<{ readonly versions: { readonly [tool: string]: string } }> {
    const client = await run.agent.text("version");
    const [[server = "", user = ""] = []] = await query(run.agent, ["SELECT VERSION(), CURRENT_USER()"]);
    this.isMariaDb = server.includes("MariaDB");
    await this.checkPrivileges(run, user);
    const { expectDatabases, excludeDatabases } = this.settings;
    const left = new Set([...SYSTEM_DATABASES, ...excludeDatabases]);
    const rows = await query(run.agent, [
      "SELECT SCHEMA_NAME, DEFAULT_CHARACTER_SET_NAME, DEFAULT_COLLATION_NAME FROM information_schema.SCHEMATA ORDER BY 1",
    ]);
    this.databases = rows
      .map(([name = "", characterSet = "", collation = ""]) => ({ name, characterSet, collation }))
      .filter(({ name }) => !left.has(name));
    const names = this.databases.map(({ name }) => name);
    const missing = expectDatabases.filter((name) => !names.includes(name));
    if (missing.length > 0) throw new Error(`expected databases are missing: ${list(missing)}`);
    if (names.length === 0) throw new Error("the server has no database to back up");
    const odd = names.filter((name) => /\p{Cc}/u.test(name));
    if (odd.length > 0) throw new Error(`databases with control characters in their names cannot be backed up: ${JSON.stringify(odd)}`);
    return { versions: { client: client.replace(/\s+/g, " "), server } };
  }

  public async dump(run: Run): Promise<Dump> {
    const files: ManifestFile[] = [];
    const facts: Record<string, DatabaseFacts> = {};
    for (const database of this.databases) {
      const { name, characterSet, collation } = database;
      const before = await survey(run, name);
      const reader = new DumpReader();
      const answer = run.agent.request("dump", name);
      const source = withoutSandboxLine(answer.output);
      const file = await named(name, () => run.store(dumpName(name), source, { inspect: (chunk) => reader.write(chunk) }));
      // Not before: a program whose output nobody takes any more fails as well, and that would not be the reason.
      await named(name, () => answer.done);
      const found = await named(name, () => reader.end());
      files.push(file);
      facts[name] = { characterSet, collation, ...found };
      this.checks.push(compare(name, before, found, await survey(run, name)));
      warn(run, name, before);
    }
    const accounts = await accountsSql(run, this.isMariaDb);
    const plain = (name: string, text: string): Promise<ManifestFile> =>
      run.store(name, Readable.from([Buffer.from(text)]), { compress: false });
    files.push(await plain(DATABASES, this.databases.map((database) => `${createDatabase(database)};\n`).join("")));
    files.push(await plain(ACCOUNTS, accounts));
    const variables = await query(run.agent, [SETTINGS]);
    const settings = Object.fromEntries(variables.map(([name = "", value = ""]) => [name, value]));
    return { files, fingerprint: { settings, databases: facts } satisfies MysqlFingerprint };
  }

  public async verify(run: Run, { files, fingerprint }: Dump): Promise<readonly string[]> {
    const databases = fingerprint.databases as { readonly [name: string]: Fact };
    for (const { name, characterSet, collation } of this.databases) {
      const file = files.find((stored) => artefactName(stored) === dumpName(name));
      if (file === undefined) throw new Error(`${name}: no dump`);
      const reader = new DumpReader();
      for await (const chunk of run.open(file)) reader.write(chunk as Buffer);
      const found = await named(name, () => reader.end());
      if (!isDeepStrictEqual({ characterSet, collation, ...found }, databases[name])) {
        throw new Error(`${name}: the dump on the target differs from what the server gave`);
      }
    }
    return [...this.checks, `read back from the target and equal to what the server gave: ${this.databases.length} databases`];
  }

  private async checkPrivileges(run: Run, user: string): Promise<void> {
    const at = user.lastIndexOf("@");
    const account = `'${user.slice(0, at)}'@'${user.slice(at + 1)}'`;
    const rows = await query(run.agent, [
      `SELECT PRIVILEGE_TYPE FROM information_schema.USER_PRIVILEGES WHERE GRANTEE = ${quoteText(account)}`,
    ]);
    const granted = rows.map(([privilege]) => privilege);
    const missing = PRIVILEGES.filter((privilege) => !granted.includes(privilege)).join(", ");
    if (missing === "") return;
    throw new Error(`${account} lacks privileges and would leave things out unseen: GRANT ${missing} ON *.* TO ${account}`);
  }
}

async function survey(run: Run, database: string): Promise<Survey> {
  const schema = quoteText(database);
  const [[, time] = [], ...rows] = await query(run.agent, [
    "SELECT 'now', UNIX_TIMESTAMP()",
    `SELECT TABLE_TYPE, TABLE_NAME, ENGINE, UNIX_TIMESTAMP(UPDATE_TIME) FROM information_schema.TABLES WHERE TABLE_SCHEMA = ${schema}`,
    `SELECT ROUTINE_TYPE, ROUTINE_NAME, '' , 0 FROM information_schema.ROUTINES WHERE ROUTINE_SCHEMA = ${schema}`,
    `SELECT 'TRIGGER', TRIGGER_NAME, '', 0 FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = ${schema}`,
    `SELECT 'EVENT', EVENT_NAME, '', 0 FROM information_schema.EVENTS WHERE EVENT_SCHEMA = ${schema}`,
    `SELECT DISTINCT 'FLOAT', TABLE_NAME, '', 0 FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = ${schema} AND DATA_TYPE = 'float'`,
  ]);
  const objects = new Set<string>();
  const found: (Omit<TableState, "rows"> & { readonly name: string })[] = [];
  const floats: string[] = [];
  const triggers: string[] = [];
  for (const [type = "", name = "", engine = "", updated] of rows) {
    if (type === "FLOAT" || type === "TRIGGER") {
      (type === "FLOAT" ? floats : triggers).push(name);
      continue;
    }
    const versioned = type === "SYSTEM VERSIONED";
    const isTable = versioned || type === "BASE TABLE";
    objects.add(`${isTable ? "TABLE" : type} ${name}`);
    if (isTable) found.push({ name, engine: engine.toUpperCase(), versioned, updated: Number(updated) });
  }
  const counts = await countRows(run, database, found.map(({ name }) => name));
  const tables = new Map(found.map((table, index) => [table.name, { ...table, rows: counts[index] ?? NaN }]));
  return { time: Number(time), objects, triggers, tables, floats };
}

async function countRows(run: Run, database: string, tables: readonly string[]): Promise<readonly number[]> {
  try {
    const counts = await query(run.agent, tables.map((table) => `SELECT COUNT(*) FROM ${quoteName(database)}.${quoteName(table)}`));
    return counts.map(([count]) => Number(count));
  } catch (error) {
    const message = error instanceof AgentError ? error.stderr : "";
    const table = message.includes("ERROR 1205 ") ? tables[failedStatement(message) ?? -1] : undefined;
    if (table === undefined) throw error;
    throw new Error(`${database}: table ${table} is locked, for more than ${LOCK_WAIT_SECONDS} s`, { cause: error });
  }
}

/**
 * Compares a dump with what the server said before and after it.
 *
 * A table is at rest where both counts are equal and it was last changed before the first: counts alone would take a table that
 * gained a row and lost another for one that nobody touched. A table at rest must have been dumped row for row.
 */
function compare(database: string, before: Survey, dump: DumpFacts, after: Survey): string {
  const dumped = objectsOf(dump);
  const lost = [...before.objects].filter((object) => after.objects.has(object) && !dumped.has(object));
  if (lost.length > 0) throw new Error(`${database}: the dump lacks ${list(lost)}`);
  const triggers = before.triggers.filter((name) => after.triggers.includes(name)).length;
  if (dump.triggers.length < triggers) throw new Error(`${database}: the dump has ${dump.triggers.length} of ${triggers} triggers`);
  const moving: string[] = [];
  const wrong: string[] = [];
  for (const [name, { engine, updated, rows }] of before.tables) {
    const now = after.tables.get(name);
    const found = dump.tables[name]?.rows;
    if (now === undefined || ROWS_ELSEWHERE.includes(engine)) continue;
    // InnoDB knows no time of a table that was not changed since the server's start.
    const never = engine === "INNODB" && Number.isNaN(updated) && Number.isNaN(now.updated);
    const earlier = updated === now.updated && updated < before.time;
    if (!(never || earlier) || rows !== now.rows) moving.push(name);
    else if (found !== rows) wrong.push(`${name} (${found} of ${rows} rows)`);
  }
  if (wrong.length > 0) throw new Error(`${database}: the dump differs from the server: ${list(wrong)}`);
  const except = moving.length === 0 ? "" : `, but for tables that were being written to: ${list(moving)}`;
  return `${database}: ${before.tables.size} tables, ${rowsOf(dump)} rows, as the server counts them${except}`;
}

function objectsOf({ tables, sequences, views, routines, events }: DumpFacts): ReadonlySet<string> {
  const of = (kind: string, named: object): readonly string[] => Object.keys(named).map((name) => `${kind} ${name}`);
  return new Set([
    ...of("TABLE", tables),
    ...of("SEQUENCE", sequences),
    ...of("VIEW", views),
    ...of("EVENT", events),
    ...Object.keys(routines),
  ]);
}

function warn(run: Run, database: string, { tables, floats }: Survey): void {
  const tell = (what: string, names: readonly string[]): void => {
    if (names.length > 0) run.log(`warning: ${database}: ${what}: ${list(names)}`);
  };
  const having = (what: (table: TableState) => boolean): readonly string[] =>
    [...tables].filter(([, table]) => what(table)).map(([name]) => name);
  tell("tables without transactions are not part of the snapshot", having(({ engine }) => !IN_SNAPSHOT.includes(engine)));
  tell("of system-versioned tables only the current rows are dumped", having(({ versioned }) => versioned));
  tell("the server writes FLOAT with six digits, and the rest is not dumped (DOUBLE is exact)", floats);
}
