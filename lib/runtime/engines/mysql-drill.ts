import { text } from "node:stream/consumers";
import type { Drill, DrillEngine } from "../drill";
import type { Assertion } from "../settings";
import type { MysqlSettings } from "./mysql";
import {
  accountNames,
  type AccountStatement,
  accountsOf,
  accountsSql,
  accountStatements,
  installPlugin,
  pluginsOf,
  withObjects,
} from "./mysql-accounts";
import {
  ACCOUNTS,
  assertEqual,
  DATABASES,
  dumpName,
  storedIn,
  fingerprintOf,
  list,
  named,
  rowsOf,
  sameRelease,
  SYSTEM_DATABASES,
} from "./mysql-facts";
import { execute, factsOf, loadPrograms, loadTables, type Programs } from "./mysql-load";
import { query, quoteName } from "./mysql-sql";

/** A server makes no event whose day has passed; to this session, none has. */
const BEFORE_ALL_EVENTS = "SET SESSION timestamp = 1;\n";

/**
 * Restores all databases and accounts into a server of its own, by the programs of the backup's image, and dumps each database anew:
 * what that dump holds must be what the first one did.
 */
export class MysqlDrill implements DrillEngine {
  private version = "";
  /** Accounts that a new server has, which the backup does not make. */
  private ownAccounts: ReadonlySet<string> = new Set();

  private accounts: readonly AccountStatement[] = [];

  public constructor(private readonly settings: MysqlSettings) {}

  public async restore(drill: Drill): Promise<void> {
    const { agent, manifest } = drill;
    const { databases } = fingerprintOf(manifest);
    const missing = this.settings.expectDatabases.filter((name) => !Object.hasOwn(databases, name));
    if (missing.length > 0) throw new Error(`expected databases are not in the backup: ${list(missing)}`);
    await this.start(drill);
    await agent.text("load", "", drill.open(storedIn(manifest, DATABASES)));
    const programs = new Map<string, Programs>();
    for (const [database, facts] of Object.entries(databases)) {
      await named(database, async () => {
        const loaded = await loadTables(drill, storedIn(manifest, dumpName(database)), database);
        assertEqual(facts, loaded.facts, { contents: true, definitions: true });
        await loadPrograms(agent, database, loaded.programs, ["routine", "placeholder", "trigger"]);
        programs.set(database, loaded.programs);
      });
    }
    await this.loadAccounts(drill);
    // Views last: they can be of tables, functions and views of any database, with the rights of any account.
    for (const [database, loaded] of programs) {
      await named(database, async () => {
        for (const zone of loaded.timeZones()) await agent.text("time_zone", zone);
        await loadPrograms(agent, database, loaded, ["view", "event"], BEFORE_ALL_EVENTS);
      });
    }
  }

  public async compare(drill: Drill): Promise<readonly string[]> {
    const { agent, manifest } = drill;
    const { databases } = fingerprintOf(manifest);
    const made = manifest.versions.server ?? "";
    const definitions = sameRelease(made, this.version);
    const checks = [`databases and accounts restored by ${this.version} without an error`];
    for (const [name, { characterSet, collation }] of await this.databases(drill)) {
      const expected = databases[name];
      if (expected === undefined) throw new Error(`the database ${name} was restored, but not backed up`);
      if (expected.characterSet !== characterSet || expected.collation !== collation) {
        throw new Error(`${name}: it has ${characterSet}, ${collation} instead of ${expected.characterSet}, ${expected.collation}`);
      }
    }
    for (const [name, expected] of Object.entries(databases)) {
      const facts = await named(name, () => factsOf(agent, name));
      await named(name, () => assertEqual(expected, facts, { contents: true, definitions }));
      checks.push(`${name}: ${Object.keys(facts.tables).length} tables with ${rowsOf(facts)} rows, equal to what was backed up`);
    }
    if (!definitions) checks.push(`definitions were compared in the backup alone: ${this.version} words them differently from ${made}`);
    checks.push(await this.compareAccounts(drill));
    for (const assertion of drill.assertions) checks.push(await assert(drill, assertion));
    return checks;
  }

  /** Starts a server and makes sure that it is the one of that name, and empty. */
  private async start(drill: Drill): Promise<void> {
    const { agent, name, manifest } = drill;
    const settings = Object.entries(fingerprintOf(manifest).settings).map(([setting, value]) => `${setting}=${value}`);
    const odd = settings.filter((setting) => !/^\w+=[\w-]*$/.test(setting));
    if (odd.length > 0) throw new Error(`the manifest has a setting that no server has: ${list(odd)}`);
    await agent.text("start", [name, ...settings].join(" "));
    const [[directory = "", alone = "", version = ""] = []] = await query(agent, ["SELECT @@datadir, @@skip_networking, VERSION()"]);
    if (!directory.endsWith(`/${name}/`) || alone !== "1") {
      throw new Error(`the server that answers has its data in ${directory}, and is not the scratch instance ${name}`);
    }
    const there = [...(await this.databases(drill)).keys()];
    if (there.length > 0) throw new Error(`the scratch instance is not empty: ${list(there)}`);
    this.version = version;
    drill.log(`started ${name}, ${version}`);
  }

  private async databases({ agent }: Drill): Promise<ReadonlyMap<string, { readonly characterSet: string; readonly collation: string }>> {
    const rows = await query(agent, [
      "SELECT SCHEMA_NAME, DEFAULT_CHARACTER_SET_NAME, DEFAULT_COLLATION_NAME FROM information_schema.SCHEMATA",
    ]);
    const own = rows.filter(([name = ""]) => !SYSTEM_DATABASES.includes(name));
    return new Map(own.map(([name = "", characterSet = "", collation = ""]) => [name, { characterSet, collation }]));
  }

  private get isMariaDb(): boolean {
    return this.version.includes("MariaDB");
  }

  private async loadAccounts(drill: Drill): Promise<void> {
    const { agent, log, manifest } = drill;
    const accounts = await text(drill.open(storedIn(manifest, ACCOUNTS)));
    this.ownAccounts = await accountNames(agent, this.isMariaDb);
    this.accounts = withObjects(accountStatements(accounts), fingerprintOf(manifest), (lost) => log(`warning: ${lost}`));
    await named("accounts", async () => {
      const known = (await query(agent, ["SELECT PLUGIN_NAME FROM information_schema.PLUGINS"])).map(([name]) => name);
      const needed = pluginsOf(accounts).filter((plugin) => !known.includes(plugin));
      for (const plugin of needed) await query(agent, [installPlugin(plugin, this.isMariaDb)]);
      await execute(agent, this.accounts);
    });
  }

  private async compareAccounts(drill: Drill): Promise<string> {
    const found = new Set(accountStatements(await accountsSql(drill, this.isMariaDb)).map(({ statement }) => statement));
    const made = this.accounts.filter(({ account }) => !this.ownAccounts.has(account));
    const wrong = made.filter(({ statement }) => !found.has(statement));
    if (wrong.length > 0) throw new Error(`accounts are not what was backed up: ${list(accountsOf(wrong))}`);
    return `${accountsOf(made).length} accounts and roles with their grants, equal to what was backed up`;
  }
}

async function assert({ agent, manifest }: Drill, { database, query: statement, expect }: Assertion): Promise<string> {
  const names = Object.keys(fingerprintOf(manifest).databases);
  const [name = names.length === 1 ? names[0] : undefined] = [database];
  if (name === undefined || !names.includes(name)) {
    throw new Error(`the assertion ${JSON.stringify(statement)} needs its 'database', one of ${list(names)}`);
  }
  // Between two rows that are known: an answer may be empty.
  const rows = await query(agent, [`USE ${quoteName(name)}`, "SELECT 'begin'", statement.replace(/[;\s]+$/, ""), "SELECT 'end'"]);
  const answer = rows.slice(1, -1);
  const [[value] = []] = answer;
  if (answer.length !== 1 || answer[0]?.length !== 1 || value !== expect) {
    const [got, wanted] = [answer.map((row) => row.join("\t")).join("\n"), expect].map((told) => JSON.stringify(told.slice(0, 200)));
    throw new Error(`${name}: answers ${got} instead of ${wanted} to ${JSON.stringify(statement)}`);
  }
  return `${name}: answers ${JSON.stringify(expect)} to ${JSON.stringify(statement)}`;
}
