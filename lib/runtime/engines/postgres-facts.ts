import { Readable } from "node:stream";
import { type Agent, AgentError } from "../agent";
import { fileName } from "../file-name";
import type { Fact, Fingerprint, Manifest } from "../manifest";
import { type LastValue, qualified } from "./postgres-archive";
import { FACTS, SERVER } from "./postgres-sql";

/** Roles and tablespaces of the server, as SQL. */
export const GLOBALS = "globals.sql";
/** Largest number of PostgreSQL's bigint: no table is larger. */
export const EVERY_TABLE = "9223372036854775807";

const MOST_NAMED = 5;
/** What the schema's hash is where there is no schema: that of nothing. */
const NO_SCHEMA = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

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
  /** Names of the roles that own something in it, or have privileges or settings there, but for the server's first role. */
  readonly roles: readonly string[];
  /** SHA-256 of the schema as the server describes it; comparable between servers of one major version. */
  readonly schema: string;
}

/** What a generation says of the server that it was made of. */
export interface ServerFacts extends Fingerprint {
  /** Version of the server. */
  readonly server: string;
  /** The role that the server was made with. Grants are recorded as made by it, so a copy must have one of its name. */
  readonly superuser: string;
  readonly databases: { readonly [name: string]: DatabaseFacts };
}

/** A database that is no template, and whether it can be dumped. */
export interface Database {
  readonly name: string;
  readonly encoding: string;
  readonly collation: string;
  /** Whether it allows connections at all. */
  readonly open: boolean;
  /** Whether the role may connect. */
  readonly granted: boolean;
}

/** A server as the role that asks sees it. */
export interface Server {
  readonly version: string;
  readonly major: number;
  readonly role: string;
  /** The role that the server was made with. */
  readonly superuser: string;
  readonly databases: readonly Database[];
}

/** A list that the script {@link FACTS} begins with. */
type Counts = readonly (readonly [schema: string, name: string, rows: number, file: number])[];

/** What the script {@link FACTS} ends with. */
interface Description {
  readonly estimates: readonly (readonly [schema: string, name: string, rows: number])[];
  readonly sequences: readonly (readonly [schema: string, name: string, last: LastValue, direction: number])[];
  readonly largeObjects: number;
  readonly extensions: { readonly [extension: string]: string };
  readonly roles: readonly string[];
  readonly schema: string;
}

/** Whoever talks to a server through the engine's container. */
export interface Client {
  readonly agent: Agent;
}

/** What there is, by a dump or by a server, to be compared with a fingerprint. */
export interface Content {
  readonly rows: ReadonlyMap<string, number>;
  readonly sequences: ReadonlyMap<string, LastValue>;
  readonly largeObjects: number;
}

/** Answer of one statement. No search path: in a database that is not ours, functions could go by the names of the server's own. */
export function ask({ agent }: Client, sql: string, database = ""): Promise<string> {
  return agent.text("query", database, Readable.from(["SET search_path = '';\n", sql])).catch(explain);
}

/** Asks a server what it is and which databases it has. */
export async function serverOf(client: Client): Promise<Server> {
  return JSON.parse(await ask(client, SERVER)) as Server;
}

/** What a generation's manifest says. */
export function factsIn({ fingerprint }: Pick<Manifest, "fingerprint">): ServerFacts {
  return fingerprint as ServerFacts;
}

/** What a database holds at this moment. @param largest tables that are larger, in bytes, are estimated @default - none is */
export async function factsOf({ agent }: Client, database: Database, largest = EVERY_TABLE): Promise<DatabaseFacts> {
  const { output } = agent.request("facts", `${largest} ${database.name}`, Readable.from([FACTS]));
  const chunks: Buffer[] = [];
  try {
    for await (const chunk of output as AsyncIterable<Buffer>) chunks.push(chunk);
  } catch (error) {
    explain(error);
  }
  const lines = Buffer.concat(chunks).toString(encodingOf(database)).trim().split("\n");
  return readFacts(database, lines).facts;
}

/**
 * Reads what the script {@link FACTS} prints.
 *
 * @param files those of the tables after the dump: a count stands only where the table still is in its own @default - all stand
 * @returns the facts, and the tables whose counts do not stand
 */
export function readFacts(
  { encoding, collation }: Database,
  lines: readonly string[],
  files?: ReadonlySet<number>,
): { readonly facts: DatabaseFacts; readonly moved: readonly string[] } {
  const answer = lines.map((line) => JSON.parse(line) as unknown);
  const { estimates, sequences, largeObjects, extensions, roles, schema } = answer.at(-1) as Description;
  const counts = (answer.slice(0, -1) as Counts[]).flat();
  const stands = (file: number): boolean => files?.has(file) ?? true;
  const rows = counts.map(([space, table, count, file]) => [qualified(space, table), stands(file) ? count : { estimate: count }] as const);
  const guesses = estimates.map(([space, table, estimate]) => [qualified(space, table), { estimate }] as const);
  const facts = {
    encoding,
    collation,
    tables: Object.fromEntries([...rows, ...guesses]),
    sequences: Object.fromEntries(sequences.map(([space, sequence, last, direction]) => [qualified(space, sequence), { last, direction }])),
    largeObjects,
    extensions,
    roles,
    schema,
  };
  return { facts, moved: counts.filter(([, , , file]) => !stands(file)).map(([space, table]) => qualified(space, table)) };
}

/** Whether a database has nothing of anyone's in it. */
export function isEmpty({ tables, sequences, largeObjects, schema }: DatabaseFacts): boolean {
  return Object.keys(tables).length === 0 && Object.keys(sequences).length === 0 && largeObjects === 0 && schema === NO_SCHEMA;
}

/** What a dump or a copy of a database holds that the database did not hold in its snapshot, and the other way round. */
export function differences({ tables, sequences, largeObjects }: DatabaseFacts, content: Content): readonly string[] {
  const found: string[] = [];
  for (const [table, rows] of Object.entries(tables)) {
    const there = content.rows.get(table);
    if (there === undefined) found.push(`table ${table} is missing`);
    else if (typeof rows === "number" && rows !== there) found.push(`table ${table} has ${there} rows instead of ${rows}`);
  }
  for (const [sequence, { last, direction }] of Object.entries(sequences)) {
    const there = content.sequences.get(sequence);
    if (there === undefined) found.push(`sequence ${sequence} is missing`);
    else if (last !== null && direction !== 0 && (there === null || (BigInt(there) - BigInt(last)) * BigInt(direction) < 0n)) {
      found.push(`sequence ${sequence} is at ${there ?? "its start"}, which is before ${last}`);
    }
  }
  if (content.largeObjects !== largeObjects) found.push(`${content.largeObjects} large objects instead of ${largeObjects}`);
  return found;
}

/** Two databases side by side. */
export interface Comparison {
  /** What is wrong with the copy. */
  readonly wrong: readonly string[];
  /** What was compared and is equal, and what could not be. */
  readonly checks: readonly string[];
}

/** Compares a restored database with what was backed up, of one server and of the other. */
export function compare(name: string, wanted: DatabaseFacts, from: ServerFacts, copy: DatabaseFacts, server: Server): Comparison {
  // Servers of different major versions describe one schema in different words.
  const sameMajor = majorOf(from.server) === server.major;
  const rows = new Map(Object.entries(copy.tables).map(([table, count]) => [table, typeof count === "number" ? count : NaN]));
  const sequences = new Map(Object.entries(copy.sequences).map(([sequence, { last }]) => [sequence, last]));
  const wrong = [...differences(wanted, { rows, sequences, largeObjects: copy.largeObjects })];
  // A standby does not count its unlogged tables, of which it has the names alone: so the copy may have one more, without rows.
  for (const [table, count] of rows) if (!(table in wanted.tables) && count !== 0) wrong.push(`table ${table} was not in the backup`);
  for (const sequence of sequences.keys()) if (!(sequence in wanted.sequences)) wrong.push(`sequence ${sequence} was not in the backup`);
  for (const property of ["encoding", "collation"] as const) {
    if (copy[property] !== wanted[property]) wrong.push(`the ${property} is ${copy[property]} instead of ${wanted[property]}`);
  }
  const newer: string[] = [];
  for (const [extension, version] of Object.entries(wanted.extensions)) {
    const there = copy.extensions[extension];
    if (there === undefined) wrong.push(`extension ${extension} is missing`);
    else if (isOlder(there, version)) wrong.push(`extension ${extension} has version ${there}, which is older than ${version}`);
    else if (there !== version) newer.push(`${extension} ${there} instead of ${version}`);
  }
  for (const extension of Object.keys(copy.extensions)) {
    if (!(extension in wanted.extensions)) wrong.push(`extension ${extension} was not in the backup`);
  }
  for (const role of wanted.roles) {
    if (role !== server.superuser && !copy.roles.includes(role)) wrong.push(`role ${quoted(role)} owns nothing and may do nothing there any more`);
  }
  if (sameMajor && copy.schema !== wanted.schema) wrong.push("the schema differs in something other than names of tables and sequences");
  const where = `database ${quoted(name)}`;
  const counted = Object.values(wanted.tables).filter((count) => typeof count === "number");
  const estimated = Object.entries(wanted.tables).flatMap(([table, count]) => (typeof count === "number" ? [] : [table]));
  const total = `${counted.reduce((sum, count) => sum + count, 0)} rows in ${counted.length} tables`;
  const more = `${sequences.size} sequences, ${copy.largeObjects} large objects, ${Object.keys(copy.extensions).length} extensions`;
  return {
    wrong,
    checks: [
      `${where}: ${total}, ${more}, ${sameMajor ? "the schema, " : ""}owners, encoding and collation are as backed up`,
      ...(sameMajor ? [] : [`${where}: the schema is not compared, as the servers have different major versions`]),
      ...(estimated.length === 0 ? [] : [`${where}: not compared, since the backup could only estimate their rows: ${some(estimated)}`]),
      ...(newer.length === 0 ? [] : [`${where}: newer versions of extensions: ${newer.join(", ")}`]),
    ],
  };
}

/** Whether a version precedes another, number by number; what has no numbers precedes nothing. */
function isOlder(version: string, than: string): boolean {
  const [one, other] = [version, than].map((text) => (text.match(/\d+/g) ?? []).map(Number)) as [number[], number[]];
  const at = other.findIndex((number, index) => number !== (one[index] ?? 0));
  return at !== -1 && (one[at] ?? 0) < (other[at] ?? 0);
}

/** The major version in a version such as `15.4` or `16beta1`. */
export function majorOf(version: string): number {
  return Number.parseInt(version, 10);
}

/** Name of the artefact with a database's dump. */
export function artefact(database: string): string {
  return `databases/${fileName(database)}.dump`;
}

/** What the server sends of another encoding is not converted, so that no character can stop a dump. */
export function encodingOf({ encoding }: { readonly encoding: string }): "utf8" | "latin1" {
  return encoding === "UTF8" ? "utf8" : "latin1";
}

/** What is wrong stands first in what PostgreSQL's programs say; statements, hints and places follow. */
export function explain(error: unknown): never {
  if (!(error instanceof AgentError)) throw error;
  const reason = /^.*(?:error|ERROR|FATAL): .*$/m.exec(error.stderr)?.[0];
  const server = /^.*detail: (Error message from server: .*)$/m.exec(error.stderr)?.[1];
  if (reason === undefined) throw error;
  throw new Error(`${error.verb} failed: ${server === undefined ? reason : `${reason} ${server}`}`, { cause: error });
}

/** A name as SQL quotes it. */
export function quoted(name: string): string {
  return `"${name.replaceAll('"', '""')}"`;
}

/** Names, quoted, in one line. */
export function list(names: readonly string[]): string {
  return names.map(quoted).join(", ");
}

/** The first few of many. */
export function some(items: readonly string[]): string {
  const rest = items.length - MOST_NAMED;
  return items.slice(0, MOST_NAMED).join(", ") + (rest > 0 ? ` and ${rest} more` : "");
}
