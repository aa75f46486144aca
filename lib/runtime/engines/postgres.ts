import { Readable } from "node:stream";
import { AgentError } from "../agent";
import type { Dump, Engine, Run } from "../engine";
import { fileName } from "../file-name";
import type { Fact, ManifestFile } from "../manifest";
import { COMPRESSED } from "../store";
import { ArchiveReader, qualified, type ArchiveContent, type LastValue } from "./postgres-archive";
import { ACCESS, FACTS, FILES, SERVER } from "./postgres-sql";

/** Which databases of a PostgreSQL server are backed up, and how exactly they are counted. */
export interface PostgresSettings {
  readonly kind: "postgres";
  /** Databases that must exist; one missing fails the run. */
  readonly expectDatabases: readonly string[];
  /** Databases that are not dumped. */
  readonly excludeDatabases: readonly string[];
  /** Tables larger than this are counted by estimate, and the manifest says so; absent: every table exactly. */
  readonly exactCountMaxBytes?: number;
}

/** What a database holds. Equal for a restored copy, but for the sequences. */
export interface DatabaseFacts {
  readonly [fact: string]: Fact;
  readonly encoding: string;
  readonly collation: string;
  /** Rows by table; an estimate where a table was too large to count, or was truncated or rewritten before it was dumped. */
  readonly tables: { readonly [table: string]: number | { readonly estimate: number } };
  /**
   * The last value of each sequence and whether values rise (1), fall (-1) or come round again (0).
   * Sequences belong to no snapshot: a dump may hold later values than the fingerprint.
   */
  readonly sequences: { readonly [sequence: string]: { readonly last: LastValue; readonly direction: number } };
  readonly largeObjects: number;
  /** Versions by name. */
  readonly extensions: { readonly [extension: string]: string };
  /** SHA-256 of the schema as the server describes it; comparable between servers of one major version. */
  readonly schema: string;
}

const GLOBALS = "globals.sql";
const GLOBALS_TRAILER = "-- PostgreSQL database cluster dump complete";
const TRAILER_BYTES = 1024;
const MOST_NAMED = 5;
const OBJECT = "{".charCodeAt(0);
/** Largest number of PostgreSQL's bigint: no table is larger. */
const EVERY_TABLE = "9223372036854775807";

interface Database {
  readonly name: string;
  readonly encoding: string;
  readonly collation: string;
  /** Whether it allows connections at all. */
  readonly open: boolean;
  /** Whether the role may connect. */
  readonly granted: boolean;
}

interface Server {
  readonly version: string;
  readonly major: number;
  readonly role: string;
  readonly databases: readonly Database[];
}

interface Access {
  readonly unreadable: readonly string[];
  readonly hidden: readonly string[];
  readonly largeObjects: number;
}

/** A list that the script {@link FACTS} begins with. */
type Counts = readonly (readonly [schema: string, name: string, rows: number, file: number])[];

/** What the script {@link FACTS} ends with. */
interface Description {
  readonly estimates: readonly (readonly [schema: string, name: string, rows: number])[];
  readonly sequences: readonly (readonly [schema: string, name: string, last: LastValue, direction: number])[];
  readonly largeObjects: number;
  readonly extensions: { readonly [extension: string]: string };
  readonly schema: string;
}

/**
 * PostgreSQL 14 and later: a custom-format dump of each database, each in one snapshot with its fingerprint, and the globals.
 *
 * Two databases are two snapshots. Passwords of roles are not dumped. A dump is checked by decoding it to SQL and comparing
 * the rows of each table with the fingerprint.
 */
export class PostgresEngine implements Engine {
  public constructor(private readonly settings: PostgresSettings) {}

  public async preflight(run: Run): Promise<{ readonly versions: { readonly [tool: string]: string } }> {
    const client = (await run.agent.text("version").catch(explain)).split(" ")[2] ?? "";
    const server = await this.server(run);
    if (Number.parseInt(client, 10) < server.major) {
      const needed = `the image must have version ${server.major} or later`;
      throw new Error(`pg_dump ${client} cannot dump a server of version ${server.version}: ${needed}`);
    }
    const problems: string[] = [];
    for (const database of this.chosen(server, run.log)) problems.push(...(await this.accessProblems(run, server.role, database)));
    if (problems.length > 0) throw new Error(problems.join("; "));
    return { versions: { postgresql: server.version, pg_dump: client } };
  }

  public async dump(run: Run): Promise<Dump> {
    const server = await this.server(run);
    const files = [await run.store(GLOBALS, run.agent.request("globals").output, { compress: false }).catch(explain)];
    const databases: (readonly [name: string, facts: DatabaseFacts])[] = [];
    const largest = this.settings.exactCountMaxBytes ?? EVERY_TABLE;
    for (const database of this.chosen(server)) {
      const { name } = database;
      const { output } = run.agent.request("dump", `${largest} ${name}`, Readable.from([FACTS]));
      const lines: string[] = [];
      const archive = afterFacts(output, (line) => lines.push(line.toString(encodingOf(database))));
      files.push(await run.store(artefact(name), Readable.from(archive, { objectMode: false })).catch(explain));
      const now = new Set(JSON.parse(await ask(run, FILES, name)) as readonly number[]);
      databases.push([name, toFacts(run, database, lines.map((line) => JSON.parse(line) as unknown), now)]);
    }
    return { files, fingerprint: { server: server.version, databases: Object.fromEntries(databases) } };
  }

  public async verify(run: Run, { files, fingerprint }: Dump): Promise<readonly string[]> {
    const file = (name: string): ManifestFile => {
      const found = files.find(({ path }) => path === name);
      if (found === undefined) throw new Error(`the backup has no ${name}`);
      return found;
    };
    await checkGlobals(run.open(file(GLOBALS)));
    const checks = [`${GLOBALS}: read back to its last line`];
    for (const [name, facts] of Object.entries(fingerprint["databases"] as { readonly [name: string]: DatabaseFacts })) {
      const content = await decode(run, file(artefact(name) + COMPRESSED), encodingOf(facts)).catch(explain);
      const wrong = differences(facts, content);
      if (wrong.length > 0) throw new Error(`the dump of database ${quoted(name)} is not what the database held: ${some(wrong)}`);
      const rows = [...content.rows.values()].reduce((sum, count) => sum + count, 0);
      const counts = `${rows} rows in ${content.rows.size} tables`;
      checks.push(`database ${quoted(name)}: decoded by pg_restore to the last byte, ${counts} as in its snapshot`);
    }
    return checks;
  }

  private async server(run: Run): Promise<Server> {
    return JSON.parse(await ask(run, SERVER)) as Server;
  }

  /** The databases to dump. @throws Error if an expected one is not among them, or there are none */
  private chosen({ databases }: Server, log?: (message: string) => void): readonly Database[] {
    const { expectDatabases, excludeDatabases } = this.settings;
    const wanted = databases.filter(({ name }) => !excludeDatabases.includes(name));
    const chosen = wanted.filter(({ open }) => open);
    const names = chosen.map(({ name }) => name);
    const missing = expectDatabases.filter((name) => !names.includes(name));
    if (missing.length > 0) {
      throw new Error(`expected databases are missing: ${list(missing)}; those that can be dumped are ${list(names)}`);
    }
    if (names.length === 0) throw new Error("the server has no database to dump");
    for (const { name, open } of wanted) if (!open) log?.(`database ${quoted(name)} allows no connections and is not dumped`);
    return chosen;
  }

  /** What keeps the role from reading all of a database, with the SQL that mends it. */
  private async accessProblems(run: Run, role: string, { name, granted }: Database): Promise<readonly string[]> {
    const [who, where] = [quoted(role), quoted(name)];
    if (!granted) return [`role ${who} may not connect to database ${where}: GRANT CONNECT ON DATABASE ${where} TO ${who}`];
    const { unreadable, hidden, largeObjects } = JSON.parse(await ask(run, ACCESS, name)) as Access;
    const problems: string[] = [];
    if (unreadable.length > 0) {
      problems.push(`role ${who} may not read ${some(unreadable)} of database ${where}: GRANT pg_read_all_data TO ${who}`);
    }
    if (hidden.length > 0) {
      problems.push(`row security hides rows of ${some(hidden)} of database ${where} from role ${who}: ALTER ROLE ${who} BYPASSRLS`);
    }
    if (largeObjects > 0) {
      const mending = `ALTER ROLE ${who} SET lo_compat_privileges = on`;
      problems.push(`role ${who} may not read ${largeObjects} large objects of database ${where}: ${mending}`);
    }
    return problems;
  }
}

/** Answer of one statement. No search path: in a database that is not ours, functions could go by the names of the server's own. */
function ask(run: Run, sql: string, database = ""): Promise<string> {
  return run.agent.text("query", database, Readable.from(["SET search_path = '';\n", sql])).catch(explain);
}

async function decode(run: Run, file: ManifestFile, encoding: "utf8" | "latin1"): Promise<ArchiveContent> {
  const reader = new ArchiveReader(encoding);
  const { output } = run.agent.request("decode", "", run.open(file));
  for await (const chunk of output as AsyncIterable<Buffer>) reader.push(chunk);
  return reader.end();
}

/** What is wrong stands first in what PostgreSQL's programs say; statements, hints and places follow. */
function explain(error: unknown): never {
  if (!(error instanceof AgentError)) throw error;
  const reason = /^.*(?:error|ERROR|FATAL): .*$/m.exec(error.stderr)?.[0];
  const server = /^.*detail: (Error message from server: .*)$/m.exec(error.stderr)?.[1];
  if (reason === undefined) throw error;
  throw new Error(`${error.verb} failed: ${server === undefined ? reason : `${reason} ${server}`}`, { cause: error });
}

function artefact(database: string): string {
  return `databases/${fileName(database)}.dump`;
}

/** What the server sends of another encoding is not converted, so that no character can stop a dump. */
function encodingOf({ encoding }: { readonly encoding: string }): "utf8" | "latin1" {
  return encoding === "UTF8" ? "utf8" : "latin1";
}

/** @param files those of the tables after the dump: a count stands only where the table still is in its own */
function toFacts(run: Run, { name, encoding, collation }: Database, answer: readonly unknown[], files: ReadonlySet<number>): DatabaseFacts {
  const { estimates, sequences, largeObjects, extensions, schema } = answer.at(-1) as Description;
  const counts = (answer.slice(0, -1) as Counts[]).flat();
  const moved = counts.filter(([, , , file]) => !files.has(file)).map(([space, table]) => qualified(space, table));
  if (moved.length > 0) {
    run.log(`warning: database ${quoted(name)}: truncated or rewritten during the dump, and so not compared: ${some(moved)}`);
  }
  const rows = counts.map(
    ([space, table, count, file]) => [qualified(space, table), files.has(file) ? count : { estimate: count }] as const,
  );
  const guesses = estimates.map(([space, table, estimate]) => [qualified(space, table), { estimate }] as const);
  return {
    encoding,
    collation,
    tables: Object.fromEntries([...rows, ...guesses]),
    sequences: Object.fromEntries(sequences.map(([space, sequence, last, direction]) => [qualified(space, sequence), { last, direction }])),
    largeObjects,
    extensions,
    schema,
  };
}

/** What a dump holds that its database did not hold in the snapshot, and the other way round. */
function differences({ tables, sequences, largeObjects, extensions }: DatabaseFacts, content: ArchiveContent): readonly string[] {
  const found: string[] = [];
  for (const [table, rows] of Object.entries(tables)) {
    const dumped = content.rows.get(table);
    if (dumped === undefined) found.push(`table ${table} is missing`);
    else if (typeof rows === "number" && rows !== dumped) found.push(`table ${table} has ${dumped} rows instead of ${rows}`);
  }
  // Extensions may have their own tables dumped.
  if (Object.keys(extensions).every((name) => name === "plpgsql")) {
    for (const table of content.rows.keys()) if (!(table in tables)) found.push(`table ${table} is not of this database`);
  }
  for (const [sequence, { last, direction }] of Object.entries(sequences)) {
    const dumped = content.sequences.get(sequence);
    if (dumped === undefined) found.push(`sequence ${sequence} is missing`);
    else if (last !== null && direction !== 0 && (dumped === null || (BigInt(dumped) - BigInt(last)) * BigInt(direction) < 0n)) {
      found.push(`sequence ${sequence} is at ${dumped ?? "its start"}, which is before ${last}`);
    }
  }
  if (content.largeObjects !== largeObjects) found.push(`${content.largeObjects} large objects instead of ${largeObjects}`);
  return found;
}

async function checkGlobals(globals: Readable): Promise<void> {
  let tail = "";
  for await (const chunk of globals as AsyncIterable<Buffer>) tail = (tail + chunk.toString("latin1")).slice(-TRAILER_BYTES);
  if (!tail.includes(GLOBALS_TRAILER)) throw new Error(`${GLOBALS} does not end with its last line, ${quoted(GLOBALS_TRAILER)}`);
}

/** The archive: everything after the lines of {@link FACTS}, which are handed to `onLine`. @throws Error if they do not end */
async function* afterFacts(source: Readable, onLine: (line: Buffer) => void): AsyncGenerator<Buffer> {
  let head: Buffer | undefined = Buffer.alloc(0);
  for await (const chunk of source as AsyncIterable<Buffer>) {
    if (head === undefined) {
      yield chunk;
      continue;
    }
    head = Buffer.concat([head, chunk]);
    for (let end = head.indexOf("\n"); end !== -1; end = head.indexOf("\n")) {
      const line: Buffer = head.subarray(0, end);
      onLine(line);
      head = head.subarray(end + 1);
      if (line[0] !== OBJECT) continue;
      yield head;
      head = undefined;
      break;
    }
  }
  if (head !== undefined) throw new Error("the dump does not begin with what the database holds");
}

function quoted(name: string): string {
  return `"${name.replaceAll('"', '""')}"`;
}

function list(names: readonly string[]): string {
  return names.map(quoted).join(", ");
}

/** The first few of many. */
function some(items: readonly string[]): string {
  const rest = items.length - MOST_NAMED;
  return items.slice(0, MOST_NAMED).join(", ") + (rest > 0 ? ` and ${rest} more` : "");
}
