import { text } from "node:stream/consumers";
import type { Restore, RestorePlan } from "../restore";
import { accountNames, type AccountStatement, accountsOf, accountStatements, withObjects } from "./mysql-accounts";
import { ACCOUNTS, type DatabaseFacts, storedIn, fingerprintOf, list, rowsOf, sameRelease, SETTINGS, SYSTEM_DATABASES } from "./mysql-facts";
import { query, quoteText, RESTORE_PRIVILEGES } from "./mysql-sql";

/** Longest name that a server takes, in characters. */
const LONGEST_NAME = 64;
/** What a restore calls a database that is not finished, by the moment. */
const RESTORING = "_restoring_";
/** What it calls one that holds a single table. */
const RESTORED = "_restored_";

/** A database that is to be restored. */
export interface Item {
  /** Its name in the backup. */
  readonly name: string;
  readonly facts: DatabaseFacts;
  /** The name that it gets at last. */
  readonly into: string;
  /** The name of the database in which its tables are made ready. */
  readonly staged: string;
}

/** What a restore is going to do. */
export interface MysqlPlan extends RestorePlan {
  readonly items: readonly Item[];
  /** The only table that is wanted; it stays where it is made ready. */
  readonly table?: string;
  /** What makes the accounts that are missing. */
  readonly accounts: readonly AccountStatement[];
  /** Whether the server words definitions as the one did that was backed up. */
  readonly definitions: boolean;
}

/** What a person can choose, and what it means. */
export const CHOICES = {
  DATABASE: "one database of the backup; by default all of them",
  INTO: "another name for that database; by default its own",
  TABLE: "one table of that database, which comes back in a database of its own, beside what there is",
  ACCOUNTS: "'missing' makes the accounts that are not there, 'skip' makes none; by default 'missing' with all databases, else 'skip'",
} as const;

/** The server, before anything is done to it. */
interface Server {
  readonly version: string;
  readonly isMariaDb: boolean;
  /** The account of the restore, as SQL has it. */
  readonly account: string;
  readonly privileges: readonly string[];
  /** Whether triggers and functions are for those alone who have SUPER. */
  readonly guarded: boolean;
  readonly settings: { readonly [name: string]: string };
  /** How many things each of its databases holds. */
  readonly databases: ReadonlyMap<string, number>;
}

/** Looks at the choices, the backup and the server. @throws Error where this cannot be restored */
export async function makePlan(restore: Restore): Promise<MysqlPlan> {
  const { manifest } = restore;
  const table = restore.option("TABLE");
  const items = choose(restore);
  const server = await lookAt(restore);
  const steps = notes(restore, server);
  const definitions = sameRelease(manifest.versions.server ?? "", server.version);
  if (table !== undefined) {
    checkPrivileges(server, [], []);
    const [{ name, staged }] = items as [Item];
    if (server.databases.has(staged)) throw new Error(`there is a database ${staged}, and a TABLE comes back in a new one: change INTO`);
    steps.push(`restore table ${table} of ${name} into the new database ${staged}, and compare it with the backup`);
    return { items, table, accounts: [], definitions, steps };
  }
  const accounts = await missingAccounts(restore, server, items, steps);
  checkPrivileges(server, items, accounts);
  for (const { name, staged, facts } of items) {
    const size = `${Object.keys(facts.tables).length} tables of ${name}, ${rowsOf(facts)} rows`;
    steps.push(`restore the ${size}, into the new database ${staged}, and compare them with the backup`);
  }
  if (accounts.length > 0) steps.push(`make the accounts that are missing, with their grants: ${list(accountsOf(accounts))}`);
  const full = items.map(({ into }) => into).filter((name) => (server.databases.get(name) ?? 0) > 0);
  const plan = { items, accounts, definitions, steps };
  if (full.length > 0) {
    steps.push(`then drop what is there now, with all that is in it: ${list(full)}`);
    const users = await usersOf(restore, full);
    if (users.length > 0) steps.push(`note: it is in use, by ${list(users)}; what they change until then is lost, so stop them first`);
  }
  steps.push(`move the tables to ${list(items.map(({ into }) => into))}, and make views, routines, triggers and events`);
  if (full.length === 0) return plan;
  return { ...plan, replaces: restore.option("DATABASE") === undefined ? await restore.agent.text("address") : full.join() };
}

async function lookAt({ agent }: Restore): Promise<Server> {
  const [[version = "", user = "", logged, trusted] = [], ...settings] = await query(agent, [
    "SELECT VERSION(), CURRENT_USER(), @@log_bin, @@log_bin_trust_function_creators",
    SETTINGS,
  ]);
  const at = user.lastIndexOf("@");
  const account = `'${user.slice(0, at)}'@'${user.slice(at + 1)}'`;
  const privileges = await query(agent, [
    `SELECT PRIVILEGE_TYPE FROM information_schema.USER_PRIVILEGES WHERE GRANTEE = ${quoteText(account)}`,
  ]);
  const databases = new Map<string, number>();
  const counts = await query(agent, [
    "SELECT SCHEMA_NAME, 0 FROM information_schema.SCHEMATA",
    "SELECT TABLE_SCHEMA, COUNT(*) FROM information_schema.TABLES GROUP BY 1",
    "SELECT ROUTINE_SCHEMA, COUNT(*) FROM information_schema.ROUTINES GROUP BY 1",
    "SELECT EVENT_SCHEMA, COUNT(*) FROM information_schema.EVENTS GROUP BY 1",
  ]);
  for (const [name = "", count] of counts) databases.set(name, (databases.get(name) ?? 0) + Number(count));
  return {
    version,
    isMariaDb: version.includes("MariaDB"),
    account,
    privileges: privileges.map(([privilege = ""]) => privilege),
    guarded: logged === "1" && trusted === "0",
    settings: Object.fromEntries(settings.map(([name = "", value = ""]) => [name, value])),
    databases,
  };
}

/** What is to be restored, in the backup's order. */
function choose(restore: Restore): readonly Item[] {
  const { databases } = fingerprintOf(restore.manifest);
  const [name, into, table] = ["DATABASE", "INTO", "TABLE"].map((option) => restore.option(option));
  const names = Object.keys(databases);
  const stamp = new Date().toISOString().replace(/\D/g, "").slice(0, 14);
  if (name === undefined) {
    if ((into ?? table) !== undefined) throw new Error(`INTO and TABLE need a DATABASE, one of ${list(names)}`);
    return Object.entries(databases).map(([of, facts], index) => {
      return { name: of, facts, into: of, staged: fitted(of, RESTORING + stamp, index) };
    });
  }
  const facts = Object.hasOwn(databases, name) ? databases[name] : undefined;
  if (facts === undefined) throw new Error(`the backup has no database ${name}; it has ${list(names)}`);
  if (into !== undefined && (SYSTEM_DATABASES.includes(into.toLowerCase()) || [...into].length > LONGEST_NAME || /\p{Cc}/u.test(into))) {
    throw new Error(`INTO must be a name of 1 to ${LONGEST_NAME} characters, none of the server's own, but is ${JSON.stringify(into)}`);
  }
  if (table === undefined) return [{ name, facts, into: into ?? name, staged: fitted(into ?? name, RESTORING + stamp, 0) }];
  if (!Object.hasOwn(facts.tables, table)) {
    throw new Error(`the backup has no table ${table} in ${name}; it has ${list(Object.keys(facts.tables)) || "none"}`);
  }
  const place = into ?? fitted(name, RESTORED + stamp, 0);
  return [{ name, facts, into: place, staged: place }];
}

/** A name that the server takes; where the base must be cut, the index keeps it apart from others. */
function fitted(base: string, end: string, index: number): string {
  const characters = [...base];
  if (characters.length + end.length <= LONGEST_NAME) return base + end;
  const whole = `${end}_${index}`;
  return characters.slice(0, LONGEST_NAME - whole.length).join("") + whole;
}

/** What a person should know before it is restored. */
function notes({ manifest, option }: Restore, { version, settings, databases }: Server): string[] {
  const found: string[] = [];
  const { settings: made, databases: backedUp } = fingerprintOf(manifest);
  if (!sameRelease(manifest.versions.server ?? "", version)) {
    found.push(`note: the backup is of ${manifest.versions.server}, and the server is ${version}: rows are compared, definitions are not`);
  }
  for (const [name, value] of Object.entries(made)) {
    if (settings[name] !== value) found.push(`note: ${name} was ${value}, and is ${settings[name] ?? "unknown"} here`);
  }
  const names = [...databases.keys()];
  const left = names.filter((name) => new RegExp(`${RESTORING}\\d{14}(_\\d+)?$`).test(name));
  for (const name of left) found.push(`note: a restore that did not end left the database ${name}, which can be dropped`);
  const kept = names.filter((name) => !SYSTEM_DATABASES.includes(name) && !left.includes(name) && !Object.hasOwn(backedUp, name));
  const all = option("DATABASE") === undefined;
  if (kept.length > 0 && all) found.push(`note: databases that are not in the backup stay as they are: ${list(kept)}`);
  return found;
}

/** @throws Error with the statement that gives what is missing */
function checkPrivileges({ account, privileges, guarded }: Server, items: readonly Item[], accounts: readonly AccountStatement[]): void {
  const missing: string[] = RESTORE_PRIVILEGES.filter((privilege) => !privileges.includes(privilege));
  const asAnyone = ["SUPER", "SET_ANY_DEFINER", "SET USER"].some((privilege) => privileges.includes(privilege));
  const needed = items.some(({ facts: { definers, triggers, routines } }) => {
    const isGuarded = triggers.length > 0 || Object.keys(routines).some((name) => name.startsWith("FUNCTION "));
    return (!asAnyone && definers.length > 0) || (guarded && isGuarded);
  });
  if (needed && !privileges.includes("SUPER")) missing.push("SUPER");
  if (accounts.length > 0 && !privileges.includes("CREATE USER")) missing.push("CREATE USER");
  if (missing.length === 0) return;
  throw new Error(`${account} may not do what this restore does: GRANT ${missing.join(", ")} ON *.* TO ${account} WITH GRANT OPTION`);
}

/** What makes the accounts that are not there, where they are wanted. @throws Error where programs would be left without theirs */
async function missingAccounts(
  restore: Restore,
  { isMariaDb }: Server,
  items: readonly Item[],
  steps: string[],
): Promise<readonly AccountStatement[]> {
  const { agent, manifest } = restore;
  const wanted = restore.option("ACCOUNTS") ?? (restore.option("DATABASE") === undefined ? "missing" : "skip");
  if (wanted !== "missing" && wanted !== "skip") throw new Error(`ACCOUNTS must be 'missing' or 'skip', but is ${JSON.stringify(wanted)}`);
  const there = await accountNames(agent, isMariaDb);
  const statements = accountStatements(await text(restore.open(storedIn(manifest, ACCOUNTS))));
  const missing = statements.filter(({ account }) => !there.has(account));
  const definers = [...new Set(items.flatMap(({ facts }) => facts.definers))].filter((definer) => !there.has(definer));
  const [known, unknown] = [true, false].map((is) => definers.filter((definer) => accountsOf(missing).includes(definer) === is));
  if (unknown !== undefined && unknown.length > 0) {
    steps.push(`note: some views, routines, triggers or events run as accounts that the backup does not have either: ${list(unknown)}`);
  }
  if (wanted === "missing") return withObjects(missing, fingerprintOf(manifest), (lost) => steps.push(`note: ${lost}`));
  if (known === undefined || known.length === 0) return [];
  const who = `views, routines, triggers or events run as accounts that are not there: ${list(known)}`;
  throw new Error(`${who}; to make the accounts, set ACCOUNTS to 'missing'`);
}

/** Who is connected to databases. */
async function usersOf({ agent }: Restore, databases: readonly string[]): Promise<readonly string[]> {
  const sessions = await query(agent, ["SHOW PROCESSLIST"]);
  const using = sessions.filter(([, , , database = ""]) => databases.includes(database));
  return [...new Set(using.map(([, user = "", host = "", database = ""]) => `${user} from ${host.replace(/:\d+$/, "")} in ${database}`))];
}
