import { Readable } from "node:stream";
import { buffer } from "node:stream/consumers";
import type { Restore, RestoreEngine, RestorePlan } from "../restore";
import { fileOf } from "../store";
import {
  artefact,
  ask,
  compare,
  type Database,
  type DatabaseFacts,
  encodingOf,
  explain,
  factsIn,
  factsOf,
  GLOBALS,
  isEmpty,
  list,
  majorOf,
  quoted,
  type Server,
  serverOf,
  some,
} from "./postgres-facts";
import { missingRoles } from "./postgres-roles";
import { globalsOf, readGlobals, renamedDatabase, statementsOf } from "./postgres-statements";
import { foreignKeysOf, ofDatabase, ofTable } from "./postgres-toc";

/** Longest name that PostgreSQL keeps whole, in bytes. */
const LONGEST_NAME = 63;
/** What a restore calls what it makes and what it puts aside, by the moment. */
const RESTORING = "_restoring_";
const REPLACED = "_replaced_";
/** Attempts to swap names, in each of which the server waits 5 s for sessions to end. */
const SWAPS = 3;
/** A session that lasts longer than this will not be gone in a moment, as a probe's is. */
const LASTING_SECONDS = 5;

/** A database that is to be restored. */
interface Item {
  /** Its name in the backup. */
  readonly name: string;
  readonly facts: DatabaseFacts;
  /** The name that it gets at last. */
  readonly into: string;
  /** The name that it has until it is proven. */
  readonly staged: string;
  /** What the database becomes that has the name now, where there is one. */
  readonly aside?: string;
}

/** A table that is to be restored beside what there is. */
interface TableItem {
  readonly database: string;
  readonly facts: DatabaseFacts;
  readonly schema: string;
  readonly name: string;
  /** Its name in the fingerprint. */
  readonly key: string;
  /** The schema that is made for it. */
  readonly into: string;
  /** Database in which it is made ready. */
  readonly staged: string;
}

interface PostgresPlan extends RestorePlan {
  readonly server: Server;
  /** Statements that make the missing roles. */
  readonly roles: readonly string[];
  readonly items: readonly Item[];
  readonly table?: TableItem;
}

/**
 * Restores databases, each into a new one that takes its place once it equals what was backed up. The old one is never written to: it
 * keeps everything, under another name. A single table comes back in a schema of its own.
 */
export class PostgresRestore implements RestoreEngine<PostgresPlan> {
  public readonly options = {
    DATABASE: "one database of the backup; by default all of them",
    INTO: "another name for that database; by default its own",
    TABLE: "one table of that database, 'schema.table', which comes back in a schema of its own beside what there is",
  };
  private checks: readonly string[] = [];

  public async plan(restore: Restore): Promise<PostgresPlan> {
    const { manifest } = restore;
    const facts = factsIn(manifest);
    const server = await serverOf(restore);
    await checkVersions(restore, server);
    const stamp = new Date().toISOString().replace(/\D/g, "").slice(0, 14);
    const chosen = chooseDatabases(restore, Object.keys(facts.databases));
    const table = chooseTable(restore, facts.databases, server, stamp);
    const globals = globalsOf(await readGlobals(restore.open(fileOf(manifest.files, GLOBALS))));
    const existing = JSON.parse(await ask(restore, "SELECT jsonb_agg(rolname) FROM pg_roles;\n")) as readonly string[];
    // Of roles that own or may do something in what is restored, some may be gone; the first role of the source owns what nobody else does.
    const wanted = restore.option("DATABASE") === undefined ? undefined : [facts.superuser, ...chosen.flatMap(({ facts: of }) => of.roles)];
    const roles = missingRoles(globals, existing, wanted);
    const steps = [...(await notes(restore, server, globals.flatMap(({ tablespace }) => tablespace ?? [])))];
    if (roles.names.length > 0) {
      const superusers = roles.superusers.length === 0 ? "" : `, of which superusers: ${list(roles.superusers)}`;
      steps.push(`make the roles that are missing, without passwords: ${list(roles.names)}${superusers}`);
    }
    if (table !== undefined) {
      const place = `${quoted(table.into)}.${quoted(table.name)}`;
      steps.push(`restore table ${table.key} of database ${quoted(table.database)} as ${place}; no table that there is now is touched`);
      return { server, roles: roles.statements, items: [], table, steps };
    }
    const items: Item[] = [];
    const full: string[] = [];
    for (const [index, { name, facts: of }] of chosen.entries()) {
      const into = restore.option("INTO") ?? name;
      const there = server.databases.find((database) => database.name === into);
      const empty = there === undefined || (there.open && isEmpty(await factsOf(restore, there, "0")));
      if (there !== undefined && empty && isEmpty(of)) {
        steps.push(`database ${quoted(into)} is empty, here and in the backup: it stays as it is`);
        continue;
      }
      if (!empty) full.push(into);
      const named = (middle: string): string => fitted(into, `${middle}${stamp}`, index);
      const item = { name, facts: of, into, staged: named(RESTORING), ...(there === undefined ? {} : { aside: named(REPLACED) }) };
      items.push(item);
      steps.push(`restore database ${quoted(name)} as ${quoted(item.staged)}, compare it with the backup, then name it ${quoted(into)}`);
      if (item.aside !== undefined) steps.push(`the database that is ${quoted(into)} now stays as ${quoted(item.aside)}`);
    }
    const sessions = await lastingSessions(restore, items);
    // To see the plan, nobody needs to stop anything.
    if (sessions !== "" && restore.option("DRY_RUN") !== "true") throw new Error(`${sessions}: stop what they belong to first`);
    if (sessions !== "") steps.push(`before that, stop what these belong to: ${sessions}`);
    const aside = items.flatMap((item) => item.aside ?? []);
    return {
      server,
      roles: roles.statements,
      items,
      steps,
      ...(full.length === 0 ? {} : { replaces: restore.option("DATABASE") === undefined ? await addressOf(restore) : full.join() }),
      ...(aside.length === 0 ? {} : { aside: `${aside.length === 1 ? "database" : "databases"} ${list(aside)}` }),
    };
  }

  public async apply(restore: Restore, { server, roles, items, table }: PostgresPlan): Promise<void> {
    await restore.agent.text("query", "", Readable.from(["BEGIN;\n", roles.join("\n"), "\nCOMMIT;\n"])).catch(explain);
    if (table !== undefined) {
      this.checks = await putting(restore, [table.staged], () => putTable(restore, table));
      return;
    }
    const staged = items.map((item) => item.staged);
    this.checks = await putting(restore, staged, async () => {
      const checks: string[] = [];
      for (const item of items) {
        const began = performance.now();
        checks.push(...(await putDatabase(restore, item, server)));
        restore.log(`database ${quoted(item.name)} is restored and compared in ${((performance.now() - began) / 1000).toFixed(1)} s`);
      }
      return checks;
    });
    await swap(restore, items);
  }

  public async verify(restore: Restore, { items }: PostgresPlan): Promise<readonly string[]> {
    const names = new Set((await serverOf(restore)).databases.map(({ name }) => name));
    const lost = items.flatMap(({ into, aside = into }) => [into, aside]).filter((name) => !names.has(name));
    if (lost.length > 0) throw new Error(`databases are not there that should be: ${list(lost)}`);
    return this.checks;
  }
}

/** @throws Error where the server or the program is older than what was backed up */
async function checkVersions({ agent, manifest }: Restore, server: Server): Promise<void> {
  const source = factsIn(manifest).server;
  if (server.major < majorOf(source)) {
    throw new Error(`the backup is of PostgreSQL ${source}, which a server of version ${server.version} cannot be given`);
  }
  const program = (await agent.text("version").catch(explain)).split(" ")[2] ?? "";
  const made = manifest.versions.pg_dump ?? source;
  if (majorOf(program) < majorOf(made)) throw new Error(`pg_restore ${program} cannot read what pg_dump ${made} wrote: use a newer image`);
}

/** The databases to restore, in the backup's order. */
function chooseDatabases(restore: Restore, names: readonly string[]): readonly { readonly name: string; readonly facts: DatabaseFacts }[] {
  const { databases } = factsIn(restore.manifest);
  const wanted = restore.option("DATABASE");
  if (wanted === undefined && (restore.option("INTO") ?? restore.option("TABLE")) !== undefined) {
    throw new Error(`INTO and TABLE need a DATABASE, one of ${list(names)}`);
  }
  const facts = wanted === undefined ? undefined : databases[wanted];
  if (wanted !== undefined && facts === undefined) {
    throw new Error(`the backup has no database ${quoted(wanted)}; it has ${list(names)}`);
  }
  return wanted === undefined || facts === undefined
    ? Object.entries(databases).map(([name, of]) => ({ name, facts: of }))
    : [{ name: wanted, facts }];
}

function chooseTable(
  restore: Restore,
  databases: { readonly [name: string]: DatabaseFacts },
  server: Server,
  stamp: string,
): TableItem | undefined {
  const [key, database = ""] = [restore.option("TABLE"), restore.option("DATABASE")];
  if (key === undefined) return undefined;
  if (restore.option("INTO") !== undefined) throw new Error("INTO is the name of a database, and a TABLE comes back in its own");
  if (!server.databases.some(({ name, open }) => name === database && open)) {
    throw new Error(`there is no database ${quoted(database)} that a table could be put into; restore the database itself`);
  }
  const facts = databases[database];
  const [, schema, name] = /^("(?:[^"]|"")+"|[^".]+)\.("(?:[^"]|"")+"|[^".]+)$/s.exec(key) ?? [];
  if (facts === undefined || !(key in facts.tables) || schema === undefined || name === undefined) {
    const tables = some(Object.keys(facts?.tables ?? {}));
    throw new Error(`the backup has no table ${key} in database ${quoted(database)}; it has ${tables === "" ? "none" : tables}`);
  }
  const bare = (part: string): string => (part.startsWith('"') ? part.slice(1, -1).replaceAll('""', '"') : part);
  return { database, facts, key, schema: bare(schema), name: bare(name), into: `restored_${stamp}`, staged: `table${RESTORING}${stamp}` };
}

/** What a person should know of the server before it is restored into. */
async function notes(restore: Restore, { databases }: Server, tablespaces: readonly string[]): Promise<readonly string[]> {
  const found: string[] = [];
  const left = databases.map(({ name }) => name).filter((name) => new RegExp(`${RESTORING}\\d{14}(_\\d+)?$`).test(name));
  for (const name of left) found.push(`note: a restore that did not end left ${quoted(name)}: DROP DATABASE ${quoted(name)} removes it`);
  const there = JSON.parse(await ask(restore, "SELECT jsonb_agg(spcname) FROM pg_tablespace;\n")) as readonly string[];
  const missing = tablespaces.filter((name) => !there.includes(name));
  if (missing.length > 0) found.push(`note: make these tablespaces first, if what is restored lies in them: ${list(missing)}`);
  const kept = databases.map(({ name }) => name).filter((name) => !(name in factsIn(restore.manifest).databases) && !left.includes(name));
  if (kept.length > 0 && restore.option("DATABASE") === undefined) found.push(`note: databases that are not in the backup stay as they are: ${list(kept)}`);
  return found;
}

/** A name of at most 63 bytes; where the base must be cut, the index keeps it apart from others. */
function fitted(base: string, end: string, index: number): string {
  if (Buffer.byteLength(base + end) <= LONGEST_NAME) return base + end;
  const whole = `${end}_${index}`;
  let cut = base;
  while (Buffer.byteLength(cut + whole) > LONGEST_NAME) cut = [...cut].slice(0, -1).join("");
  return cut + whole;
}

/** Where psql is connected, `host:port`. */
async function addressOf({ agent }: Restore): Promise<string> {
  const address = await agent.text("query", "", Readable.from(["\\echo :HOST :PORT\n"])).catch(explain);
  return address.replace(" ", ":");
}

/** Sessions that would keep databases from being renamed, in words. */
async function lastingSessions(restore: Restore, items: readonly Item[]): Promise<string> {
  const names = items.filter(({ aside }) => aside !== undefined).map(({ into }) => text(into));
  if (names.length === 0) return "";
  const answer = await ask(
    restore,
    `SELECT coalesce(jsonb_agg(DISTINCT format('%s from %s in database %I', usename, coalesce(host(client_addr), 'the socket'), datname)), '[]')
     FROM pg_stat_activity WHERE datname IN (${names.join(", ")}) AND pid <> pg_backend_pid() AND backend_type <> 'autovacuum worker'
     AND backend_start < clock_timestamp() - interval '${LASTING_SECONDS} s';\n`,
  );
  const found = JSON.parse(answer) as readonly string[];
  return found.length === 0 ? "" : `there are sessions of ${some(found)}`;
}

/** Does work that makes databases, and removes them where it fails. What they are made from is in the backup. */
async function putting<T>(restore: Restore, staged: readonly string[], work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (!restore.signal.aborted) {
      for (const name of staged) {
        await drop(restore, name).catch((failure: Error) => restore.log(`${quoted(name)} is left: ${failure.message}`));
      }
    }
    throw error;
  }
}

/** Only of what this restore has made. */
async function drop(restore: Restore, name: string): Promise<void> {
  await ask(restore, `SET client_min_messages = warning;\nDROP DATABASE IF EXISTS ${quoted(name)} WITH (FORCE);\n`);
}

/** Restores a database under another name. @returns what was compared @throws Error where it is not what was backed up */
async function putDatabase(restore: Restore, { name, facts, staged }: Item, server: Server): Promise<readonly string[]> {
  await makeDatabase(restore, name, facts, staged);
  await restore.agent.text("restore", connection(staged), archiveOf(restore, name)).catch(explain);
  // Before version 18, a dump has no statistics, and queries are slow until the server has its own.
  await ask(restore, "ANALYZE;\n", staged);
  const of = (await serverOf(restore)).databases.find((database) => database.name === staged);
  if (of === undefined) throw new Error(`database ${quoted(staged)} has gone`);
  const { wrong, checks } = compare(name, facts, factsIn(restore.manifest), await factsOf(restore, of), server);
  if (wrong.length > 0) throw new Error(`database ${quoted(name)} does not come back as it was backed up: ${some(wrong)}`);
  return checks;
}

/** Makes an empty database with the properties of one in the backup. */
async function makeDatabase(restore: Restore, name: string, facts: Pick<Database, "encoding">, staged: string): Promise<void> {
  const encoding = encodingOf(facts);
  const script = await describe(restore, name, encoding, ofDatabase(await contents(restore, name)));
  const statements = renamedDatabase(script, name, staged).map((sql) => Buffer.from(`${sql}\n`, encoding));
  await restore.agent.text("query", "", Readable.from(statements)).catch(explain);
}

/** Restores a table into a schema of its own, by way of a database that has it alone. */
async function putTable(restore: Restore, { database, facts, schema, name, key, into, staged }: TableItem): Promise<readonly string[]> {
  const { agent, log } = restore;
  await makeDatabase(restore, database, facts, staged);
  const toc = await contents(restore, database);
  await choose(restore, ofTable(toc, schema, name));
  await agent.text("restore_chosen", connection(staged), archiveOf(restore, database)).catch(explain);
  const table = `${quoted(schema)}.${quoted(name)}`;
  await ask(
    restore,
    `SELECT CASE WHEN c.relispartition THEN format('ALTER TABLE %s DETACH PARTITION %s', i.inhparent::regclass, i.inhrelid::regclass)
       ELSE format('ALTER TABLE %s NO INHERIT %s', i.inhrelid::regclass, i.inhparent::regclass) END
     FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhrelid = ${text(table)}::regclass \\gexec
     CREATE SCHEMA ${quoted(into)};
     ALTER TABLE ${table} SET SCHEMA ${quoted(into)};\n`,
    staged,
  );
  await agent.text("copy", `${staged} ${into} ${database}`).catch(explain);
  await drop(restore, staged);
  const copy = `${quoted(into)}.${quoted(name)}`;
  const rows = Number(await ask(restore, `SELECT count(*) FROM ONLY ${copy};\n`, database));
  const wanted = facts.tables[key];
  if (typeof wanted === "number" && rows !== wanted) throw new Error(`${copy} has ${rows} rows instead of ${wanted}`);
  const keys = foreignKeysOf(toc, schema, name);
  if (keys !== "") {
    const script = await describe(restore, database, encodingOf(facts), keys);
    for (const sql of statementsOf(script).filter((statement) => statement.startsWith("ALTER TABLE "))) {
      log(`left out, as it binds the table to others: ${sql}`);
    }
  }
  log(`table ${key} is ${copy} in database ${quoted(database)}; to give it its old place: ALTER TABLE ${copy} SET SCHEMA ${quoted(schema)}`);
  return [`${copy} has ${rows} rows${typeof wanted === "number" ? " as backed up" : ", which the backup could only estimate"}`];
}

/** Gives the new databases their names, all of them or none. */
async function swap(restore: Restore, items: readonly Item[]): Promise<void> {
  if (items.length === 0) return;
  const renames = items.flatMap(({ into, staged, aside }) => [
    ...(aside === undefined ? [] : [`ALTER DATABASE ${quoted(into)} RENAME TO ${quoted(aside)};`]),
    `ALTER DATABASE ${quoted(staged)} RENAME TO ${quoted(into)};`,
  ]);
  const transaction = ["BEGIN;", ...renames, "COMMIT;"].join(" ");
  for (let attempt = 1; ; attempt++) {
    try {
      await ask(restore, `${transaction}\n`);
      return;
    } catch (error) {
      const { message } = error as Error;
      if (attempt < SWAPS && message.includes("being accessed by other users")) continue;
      const why = (await lastingSessions(restore, items)) || message;
      const all = list(items.map(({ staged }) => staged));
      throw new Error(`${all} restored and compared, but not given the names of the old: ${why}; end that and run: ${transaction}`, {
        cause: error,
      });
    }
  }
}

function archiveOf(restore: Restore, database: string): Readable {
  return restore.open(fileOf(restore.manifest.files, artefact(database)));
}

/** The table of contents of a database's archive; bytes as characters, as its encoding is the database's. */
async function contents(restore: Restore, database: string): Promise<string> {
  const { output } = restore.agent.request("list", "", archiveOf(restore, database));
  return (await buffer(output).catch(explain)).toString("latin1");
}

async function choose({ agent }: Restore, lines: string): Promise<void> {
  await agent.text("choose", "", Readable.from([Buffer.from(lines, "latin1")])).catch(explain);
}

/** What lines of an archive's contents are in SQL. */
async function describe(restore: Restore, database: string, encoding: "utf8" | "latin1", lines: string): Promise<string> {
  await choose(restore, lines);
  const { output } = restore.agent.request("describe", "", archiveOf(restore, database));
  return (await buffer(output).catch(explain)).toString(encoding);
}

/** A connection string with nothing but the name of a database. */
function connection(database: string): string {
  return `dbname='${database.replace(/[\\']/g, "\\$&")}'`;
}

/** A string in SQL. */
function text(value: string): string {
  return `'${value.replaceAll("'", "''")}'`;
}
