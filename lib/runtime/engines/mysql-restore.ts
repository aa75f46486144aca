import type { Restore, RestoreEngine } from "../restore";
import type { DumpFacts, Section } from "./mysql-dump";
import { assertEqual, dumpName, storedIn, list, named } from "./mysql-facts";
import { execute, factsOf, loadPrograms, loadTables, type Programs } from "./mysql-load";
import { CHOICES, type Item, makePlan, type MysqlPlan } from "./mysql-restore-plan";
import { createDatabase, failedStatement, query, quoteName, quoteText } from "./mysql-sql";

/** Attempts to replace a database, in each of which the server waits for those who are using it. */
const ATTEMPTS = 3;
const LOCKED = /ERROR 1205 /;
const NAME = "`(?:[^`]|``)*`";
/** Events that end by themselves: a server makes none whose day has passed. */
const ENDING = new RegExp(`EVENT (${NAME}) ON SCHEDULE (?:AT '|EVERY (?:'[^']*'|\\S+) \\S+ (?:STARTS '[^']*' )?ENDS ')`, "g");

/**
 * Restores databases: the tables of all of them beside the old ones, where they are compared with what was backed up; only then are the
 * old databases dropped, the tables moved to their place, and views, triggers, events and routines made anew.
 *
 * MySQL moves tables from one database to another, in no time and with their foreign keys, but nothing else.
 */
export class MysqlRestore implements RestoreEngine<MysqlPlan> {
  public readonly options = CHOICES;
  private readonly checks: string[] = [];
  /** What each dump has besides tables, by the item's last name. */
  private readonly programs = new Map<string, Programs>();

  public plan(restore: Restore): Promise<MysqlPlan> {
    return makePlan(restore);
  }

  public async apply(restore: Restore, { items, table, accounts, definitions }: MysqlPlan): Promise<void> {
    await making(restore, items, async () => {
      for (const item of items) {
        const began = performance.now();
        this.programs.set(item.into, await named(item.name, () => stage(restore, item, definitions, table)));
        const seconds = ((performance.now() - began) / 1000).toFixed(1);
        restore.log(`${item.name} is in ${item.staged} and equal to what was backed up, after ${seconds} s`);
      }
      await named("accounts", () => execute(restore.agent, accounts.filter(({ on }) => on === undefined)));
    });
    if (table !== undefined) {
      const [{ staged, facts }] = items as [Item];
      this.checks.push(`table ${table} is in ${staged}: ${facts.tables[table]?.rows} rows, equal to what was backed up, but no triggers`);
      return;
    }
    restore.log("from here on the old data are replaced");
    for (const item of items) await replace(restore, item);
    for (const { into } of items) await this.load(restore, into, ["routine", "placeholder"]);
    await named("accounts", () => execute(restore.agent, accounts.filter(({ on }) => on !== undefined)));
    // Views last: they can be of tables, functions and views of any database, with the rights of any account.
    for (const { into } of items) await this.load(restore, into, ["trigger", "view", "event"]);
  }

  public async verify(restore: Restore, { items, table, definitions }: MysqlPlan): Promise<readonly string[]> {
    for (const { into, facts } of table === undefined ? items : []) {
      const found = await named(into, () => factsOf(restore.agent, into, "structure"));
      const ended = this.ended(into, facts.events, found.events);
      if (ended.length > 0) restore.log(`warning: ${into}: events that have ended since the backup are gone or disabled: ${list(ended)}`);
      const going = (of: DumpFacts): DumpFacts => ({
        ...of,
        events: Object.fromEntries(Object.entries(of.events).filter(([name]) => !ended.includes(name))),
      });
      await named(into, () => assertEqual(going(facts), going(found), { contents: false, definitions }));
      const { tables, views, routines, triggers, events } = found;
      const counts = Object.entries({ tables, views, routines, triggers, events }).map(([kind, of]) => `${Object.keys(of).length} ${kind}`);
      this.checks.push(`${into}: ${counts.join(", ")}, equal to what was backed up`);
    }
    return this.checks;
  }

  private load(restore: Restore, into: string, sections: readonly Section[]): Promise<void> {
    const programs = this.programs.get(into);
    if (programs === undefined) throw new Error(`${into} was not restored`);
    return named(`${into} has its tables and rows, but not all else`, () => loadPrograms(restore.agent, into, programs, sections));
  }

  /** Events that the server did not make as they were, as their day has passed. */
  private ended(into: string, wanted: DumpFacts["events"], found: DumpFacts["events"]): readonly string[] {
    const dump = this.programs.get(into)?.text("event").toString() ?? "";
    const ending = [...dump.matchAll(ENDING)].map(([, name = ""]) => name.slice(1, -1).replaceAll("``", "`"));
    return ending.filter((name) => found[name] !== wanted[name]);
  }
}

/** Does work that makes databases, and drops them where it fails. */
async function making(restore: Restore, items: readonly Item[], work: () => Promise<void>): Promise<void> {
  try {
    await work();
  } catch (error) {
    if (!restore.signal.aborted) {
      const drop = items.map(({ staged }) => `DROP DATABASE IF EXISTS ${quoteName(staged)}`);
      await query(restore.agent, drop).catch((failure: Error) => restore.log(`not dropped: ${failure.message}`));
    }
    throw error;
  }
}

/** Makes the tables of a database ready under another name. @throws Error where they are not what was backed up */
async function stage(restore: Restore, { name, facts, staged }: Item, definitions: boolean, table?: string): Promise<Programs> {
  const { agent, manifest } = restore;
  await query(agent, [createDatabase({ ...facts, name: staged })]);
  const { facts: read, programs } = await loadTables(restore, storedIn(manifest, dumpName(name)), staged, table);
  assertEqual(facts, read, { contents: true, definitions: true });
  for (const zone of programs.timeZones()) await query(agent, [`SET SESSION time_zone = ${quoteText(zone)}`]);
  // What the server may refuse is tried here, where nothing is lost yet. Routines alone are the same in any database.
  await loadPrograms(agent, staged, programs, ["routine"]);
  const wanted = table === undefined ? facts : { ...facts, tables: only(facts.tables, table) };
  const kinds = table === undefined ? (["tables", "sequences", "routines"] as const) : (["tables"] as const);
  assertEqual(wanted, await factsOf(agent, staged), { kinds, contents: true, definitions });
  return programs;
}

function only<T>(named: { readonly [name: string]: T }, name: string): { readonly [name: string]: T } {
  return Object.fromEntries(Object.entries(named).filter(([found]) => found === name));
}

/** Moves the tables of a database to their place, from which all else is removed. */
async function replace(restore: Restore, { facts, into, staged }: Item): Promise<void> {
  const moves = [...Object.keys(facts.tables), ...Object.keys(facts.sequences)].map(
    (name) => `${quoteName(staged)}.${quoteName(name)} TO ${quoteName(into)}.${quoteName(name)}`,
  );
  const statements = [
    // Foreign keys of other databases are by name: they are without their table for a moment, and then have it again.
    "SET SESSION foreign_key_checks = 0",
    `DROP DATABASE IF EXISTS ${quoteName(into)}`,
    createDatabase({ ...facts, name: into }),
    ...(moves.length === 0 ? [] : [`RENAME TABLE ${moves.join(", ")}`]),
    `DROP DATABASE ${quoteName(staged)}`,
  ];
  for (let attempt = 1; ; attempt++) {
    try {
      await query(restore.agent, statements);
      return;
    } catch (error) {
      const { message } = error as Error;
      if (attempt < ATTEMPTS && LOCKED.test(message) && failedStatement(message) === 1) continue;
      throw new Error(`${into} is restored and compared as ${staged}, but has not got its place: ${message}`, { cause: error });
    }
  }
}
