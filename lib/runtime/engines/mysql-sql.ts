import { Readable } from "node:stream";
import type { Agent } from "../agent";

/**
 * What the account needs on `*.*`. Without SELECT a table or a whole database is invisible, without TRIGGER and EVENT triggers and
 * events are: a dump then leaves them out and succeeds.
 */
export const PRIVILEGES = ["SELECT", "SHOW VIEW", "TRIGGER", "EVENT"] as const;
/** What a restore needs on `*.*`, whatever it restores: the databases that it makes have names of their own. */
export const RESTORE_PRIVILEGES = [
  ...PRIVILEGES,
  ...["ALTER", "ALTER ROUTINE", "CREATE", "CREATE ROUTINE", "CREATE VIEW", "DROP", "EXECUTE", "INDEX", "INSERT", "LOCK TABLES"],
  "REFERENCES",
];
/** Seconds that a statement waits for a table that someone else has locked. */
export const LOCK_WAIT_SECONDS = 30;
/** The first line of everything that is asked, so that no default of the server changes what the rest means. */
const SESSION =
  `SET SESSION sql_mode = '', sql_quote_show_create = 1, lock_wait_timeout = ${LOCK_WAIT_SECONDS}` +
  " /*!80000 , information_schema_stats_expiry = 0 */ /*!80017 , print_identified_with_as_hex = ON */;\n";
const ESCAPES: { readonly [character: string]: string } = { n: "\n", t: "\t", 0: "\0" };

/** Rows of one or more statements, one statement a line. NULL is the text `NULL`. The first and the last column must not be empty. */
export async function query(agent: Agent, statements: readonly string[]): Promise<readonly (readonly string[])[]> {
  const answer = await agent.text("query", "", Readable.from([SESSION + statements.map((statement) => `${statement};\n`).join("")]));
  return answer === "" ? [] : answer.split("\n").map((row) => row.split("\t").map(unescape));
}

/** Index of the statement that an error message of the client is about; undefined where it does not say. */
export function failedStatement(message: string): number | undefined {
  const line = / at line (\d+)/.exec(message)?.[1];
  return line === undefined ? undefined : Number(line) - 2;
}

/** A database without what is in it. */
export interface Database {
  readonly name: string;
  readonly characterSet: string;
  readonly collation: string;
}

/** The statement that makes a database where there is none. */
export function createDatabase({ name, characterSet, collation }: Database): string {
  return `CREATE DATABASE IF NOT EXISTS ${quoteName(name)} CHARACTER SET ${characterSet} COLLATE ${collation}`;
}

/** A name as SQL's text has it, in backquotes. */
export function quoteName(name: string): string {
  return `\`${name.replaceAll("`", "``")}\``;
}

/** Text as SQL has it, in quotes. */
export function quoteText(text: string): string {
  return `'${text.replace(/['\\]/g, (character) => character + character)}'`;
}

function unescape(field: string): string {
  return field.replace(/\\(.)/g, (_, character: string) => ESCAPES[character] ?? character);
}
