import { Readable } from "node:stream";
import type { Dump, Engine, Run } from "../engine";
import type { ManifestFile } from "../manifest";
import { fileOf } from "../store";
import { type ArchiveContent, ArchiveReader } from "./postgres-archive";
import {
  artefact,
  ask,
  type Database,
  type DatabaseFacts,
  differences,
  encodingOf,
  EVERY_TABLE,
  explain,
  factsIn,
  GLOBALS,
  list,
  majorOf,
  quoted,
  readFacts,
  type Server,
  type ServerFacts,
  serverOf,
  some,
} from "./postgres-facts";
import { ACCESS, FACTS, FILES } from "./postgres-sql";
import { readGlobals } from "./postgres-statements";

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

const OBJECT = "{".charCodeAt(0);

interface Access {
  readonly unreadable: readonly string[];
  readonly hidden: readonly string[];
  readonly largeObjects: number;
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
    const server = await serverOf(run);
    if (majorOf(client) < server.major) {
      const needed = `the image must have version ${server.major} or later`;
      throw new Error(`pg_dump ${client} cannot dump a server of version ${server.version}: ${needed}`);
    }
    const problems: string[] = [];
    for (const database of this.chosen(server, run.log)) problems.push(...(await this.accessProblems(run, server.role, database)));
    if (problems.length > 0) throw new Error(problems.join("; "));
    return { versions: { postgresql: server.version, pg_dump: client } };
  }

  public async dump(run: Run): Promise<Dump> {
    const server = await serverOf(run);
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
      const { facts, moved } = readFacts(database, lines, now);
      if (moved.length > 0) {
        run.log(`warning: database ${quoted(name)}: truncated or rewritten during the dump, and so not compared: ${some(moved)}`);
      }
      databases.push([name, facts]);
    }
    const { version, superuser } = server;
    const fingerprint: ServerFacts = { server: version, superuser, databases: Object.fromEntries(databases) };
    return { files, fingerprint };
  }

  public async verify(run: Run, { files, fingerprint }: Dump): Promise<readonly string[]> {
    await readGlobals(run.open(fileOf(files, GLOBALS)));
    const checks = [`${GLOBALS}: read back to its last line`];
    for (const [name, facts] of Object.entries(factsIn({ fingerprint }).databases)) {
      const content = await decode(run, fileOf(files, artefact(name)), encodingOf(facts)).catch(explain);
      const wrong = [...differences(facts, content), ...strangers(facts, content)];
      if (wrong.length > 0) throw new Error(`the dump of database ${quoted(name)} is not what the database held: ${some(wrong)}`);
      const rows = [...content.rows.values()].reduce((sum, count) => sum + count, 0);
      const counts = `${rows} rows in ${content.rows.size} tables`;
      checks.push(`database ${quoted(name)}: decoded by pg_restore to the last byte, ${counts} as in its snapshot`);
    }
    return checks;
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

async function decode(run: Run, file: ManifestFile, encoding: "utf8" | "latin1"): Promise<ArchiveContent> {
  const reader = new ArchiveReader(encoding);
  const { output } = run.agent.request("decode", "", run.open(file));
  for await (const chunk of output as AsyncIterable<Buffer>) reader.push(chunk);
  return reader.end();
}

/** Tables that a dump has and its database had not. */
function strangers({ tables, extensions }: DatabaseFacts, { rows }: ArchiveContent): readonly string[] {
  // Extensions may have their own tables dumped.
  if (Object.keys(extensions).some((name) => name !== "plpgsql")) return [];
  return [...rows.keys()].filter((table) => !(table in tables)).map((table) => `table ${table} is not of this database`);
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
