import type { Readable } from "node:stream";
import { text } from "node:stream/consumers";
import { GLOBALS, quoted } from "./postgres-facts";

/** An identifier in quotes, as it stands in a dump that quotes them all. */
const NAME = String.raw`"(?:[^"]|"")+"`;
/** Backslashes in strings are doubled in dumps, and so end none. */
const TOKEN = new RegExp(String.raw`'(?:[^']|'')*'|${NAME}|--[^\n]*|\\[^\n]*|;|[^'"\\;-]+|.`, "gs");

/**
 * The statements of a script that `pg_dump` or `pg_dumpall` wrote, without comments and without commands to psql: nothing in it but SQL
 * reaches whoever runs it. Not for rows, nor for functions, whose bodies are quoted in another way.
 */
export function statementsOf(script: string): string[] {
  const statements: string[] = [];
  let statement = "";
  for (const [token] of script.matchAll(TOKEN)) {
    if (token === "'" || token === '"') throw new Error(`the script breaks off in ${statement.trim().slice(0, 100)}`);
    if (token === ";") {
      statements.push(`${statement.trim()};`);
      statement = "";
    } else if (!token.startsWith("--") && !token.startsWith("\\")) {
      statement += token;
    }
  }
  if (statement.trim() !== "") throw new Error(`the script breaks off in ${statement.trim().slice(0, 100)}`);
  return statements;
}

/** The last line that `pg_dumpall` writes. */
const TRAILER = "-- PostgreSQL database cluster dump complete";

/** The globals' text. @throws Error unless it is there to its last line */
export async function readGlobals(globals: Readable): Promise<string> {
  const script = await text(globals);
  if (!script.includes(`\n${TRAILER}\n`)) throw new Error(`${GLOBALS} does not end with its last line, ${quoted(TRAILER)}`);
  return script;
}

const MADE = new RegExp(`^(?:CREATE|ALTER|COMMENT ON|SECURITY LABEL .*ON) ROLE (${NAME})`, "s");
const MEMBER = new RegExp(`^GRANT (${NAME}) TO (${NAME})(?: WITH [A-Z, ]*?)?(?: GRANTED BY (${NAME}))?;$`, "s");
const PARAMETER = new RegExp(`^GRANT .*ON PARAMETER .* TO (${NAME})(?: WITH [A-Z ]*)?;$`, "s");

/** What a statement of the globals is about. */
export interface GlobalStatement {
  readonly sql: string;
  /** The role that it makes, changes or describes, or gives a parameter. */
  readonly role?: string;
  /** The membership that it makes. */
  readonly membership?: { readonly group: string; readonly member: string; readonly grantor?: string };
  /** The tablespace that it makes. */
  readonly tablespace?: string;
}

/** Reads the globals that `pg_dumpall --globals-only --quote-all-identifiers` wrote. */
export function globalsOf(script: string): GlobalStatement[] {
  return statementsOf(script).map((sql) => {
    const role = (MADE.exec(sql) ?? PARAMETER.exec(sql))?.[1];
    const [, group, member, grantor] = MEMBER.exec(sql) ?? [];
    const tablespace = new RegExp(`^CREATE TABLESPACE (${NAME})`).exec(sql)?.[1];
    return {
      sql,
      ...(role === undefined ? {} : { role: unquoted(role) }),
      ...(tablespace === undefined ? {} : { tablespace: unquoted(tablespace) }),
      ...(group === undefined || member === undefined
        ? {}
        : { membership: { group: unquoted(group), member: unquoted(member), ...(grantor === undefined ? {} : { grantor: unquoted(grantor) }) } }),
    };
  });
}

function unquoted(name: string): string {
  return name.slice(1, -1).replaceAll('""', '"');
}

/** What is about a database as a whole, up to its name. */
const ABOUT_DATABASE = [
  "(?:CREATE|ALTER|COMMENT ON) DATABASE ",
  `SECURITY LABEL FOR (?:${NAME}|\\w+) ON DATABASE `,
  "(?:GRANT|REVOKE) [A-Z, ]+ ON DATABASE ",
  `ALTER ROLE ${NAME} IN DATABASE `,
];
/** How strings are to be read, and who grants. What else a dump sets is for the rows. */
const KEPT = /^(?:SET client_encoding|SET standard_conforming_strings|SET SESSION AUTHORIZATION|RESET SESSION AUTHORIZATION)\b/;

/**
 * The statements of a dump that make its database and set its properties, for a database of another name.
 * @throws Error at a statement that is about something else
 */
export function renamedDatabase(script: string, from: string, to: string): string[] {
  // pg_dump quotes all names, but for the owner's statement, which pg_restore adds and quotes where it must.
  const names = /^[a-z_][a-z0-9_]*$/.test(from) ? `(?:${quoted(from)}|${from})` : quoted(from).replace(/[\\^$.*+?()[\]{}|]/g, "\\$&");
  const about = new RegExp(`^(${ABOUT_DATABASE.join("|")})${names}(?=[ ;])`, "s");
  return statementsOf(script).flatMap((sql) => {
    if (about.test(sql)) return [sql.replace(about, (_, start: string) => start + quoted(to))];
    if (KEPT.test(sql)) return [sql];
    if (/^(?:SET|SELECT pg_catalog\.set_config) ?/.test(sql)) return [];
    throw new Error(`the dump of database ${quoted(from)} has a statement that is not understood: ${sql.slice(0, 200)}`);
  });
}
