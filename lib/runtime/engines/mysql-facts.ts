import { isDeepStrictEqual } from "node:util";
import { fileName } from "../file-name";
import type { Manifest, ManifestFile } from "../manifest";
import { fileOf } from "../store";
import type { DumpFacts, TableFacts } from "./mysql-dump";

export const ACCOUNTS = "accounts.sql";
export const DATABASES = "databases.sql";
export const SYSTEM_DATABASES = ["information_schema", "mysql", "performance_schema", "sys"];
/**
 * Asks for the settings without which another server may refuse what a server holds, or take it for something else: the case of names,
 * what a TIMESTAMP without a default is, the longest row, and whether a grant can have exceptions.
 */
export const SETTINGS =
  "SHOW GLOBAL VARIABLES WHERE Variable_name IN " +
  "('explicit_defaults_for_timestamp', 'innodb_page_size', 'innodb_strict_mode', 'lower_case_table_names', 'partial_revokes')";
const MOST_NAMES = 20;

/** A database in the fingerprint: what its dump holds, and what is said of it outside of the dump. */
export type DatabaseFacts = DumpFacts & { readonly characterSet: string; readonly collation: string };

/** The fingerprint of a MySQL or MariaDB server. */
export type MysqlFingerprint = {
  /** Of {@link SETTINGS} those that the server knows. */
  readonly settings: { readonly [name: string]: string };
  readonly databases: { readonly [name: string]: DatabaseFacts };
};

/** What is compared of two databases. */
export interface Comparison {
  /** @default - every kind */
  readonly kinds?: readonly Kind[];
  /** Rows, contents and counters, all of which go on changing where a server is in use. */
  readonly contents: boolean;
  /** The statements that make things, which servers of different releases word differently. */
  readonly definitions: boolean;
}

type Kind = Exclude<keyof DumpFacts, "definers">;
type Named = { readonly [name: string]: TableFacts | DumpFacts["sequences"][string] | string };

const WORDS: { readonly [kind in Kind]: string } = {
  tables: "table ",
  sequences: "sequence ",
  views: "view ",
  routines: "",
  events: "event ",
  triggers: "triggers",
};

/** The fingerprint in a manifest of this engine. */
export function fingerprintOf({ fingerprint }: Manifest): MysqlFingerprint {
  return fingerprint as unknown as MysqlFingerprint;
}

/** Name of the artefact with a database's dump. */
export function dumpName(database: string): string {
  return `databases/${fileName(database)}.sql`;
}

/** The artefact of a name. @throws Error where the generation has none */
export function storedIn({ files }: Manifest, name: string): ManifestFile {
  return fileOf(files, name, "the generation");
}

/** Whether two servers word definitions alike: the same product, in the same release but for its patches. */
export function sameRelease(one: string, other: string): boolean {
  const release = (version: string): string => `${/^\d+\.\d+/.exec(version)?.[0]} ${version.includes("MariaDB")}`;
  return release(one) === release(other);
}

/** Names for a line of a log, not more than it can take. */
export function list(names: readonly string[]): string {
  const shown = [...names].sort().slice(0, MOST_NAMES).join(", ");
  return names.length > MOST_NAMES ? `${shown} and ${names.length - MOST_NAMES} more` : shown;
}

/** How many rows a database has. */
export function rowsOf({ tables }: DumpFacts): number {
  return Object.values(tables).reduce((sum, { rows }) => sum + rows, 0);
}

/** Puts the database's name before an error's message. */
export async function named<T>(database: string, work: () => T | Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    throw new Error(`${database}: ${(error as Error).message}`, { cause: error });
  }
}

/** @throws Error that says how `found` is not what was expected */
export function assertEqual(expected: DumpFacts, found: DumpFacts, comparison: Comparison): void {
  const wrong = differences(expected, found, comparison);
  if (wrong.length > 0) throw new Error(`it is not what was backed up: ${list(wrong)}`);
}

function differences(expected: DumpFacts, found: DumpFacts, comparison: Comparison): readonly string[] {
  const wrong: string[] = [];
  for (const kind of comparison.kinds ?? (Object.keys(WORDS) as Kind[])) {
    if (kind === "triggers") {
      const [wanted, got] = [expected.triggers, found.triggers];
      if (wanted.length !== got.length) wrong.push(`${got.length} of ${wanted.length} triggers`);
      else if (comparison.definitions && !isDeepStrictEqual(wanted, got)) wrong.push("another trigger");
      continue;
    }
    const wanted = new Map(Object.entries(expected[kind] as Named));
    const got = new Map(Object.entries(found[kind] as Named));
    for (const [name, one] of wanted) {
      const other = got.get(name);
      const how = other === undefined ? "is missing" : difference(one, other, comparison);
      if (how !== undefined) wrong.push(`${WORDS[kind]}${name} ${how}`);
    }
    for (const name of got.keys()) if (!wanted.has(name)) wrong.push(`${WORDS[kind]}${name} was not there`);
  }
  return wrong;
}

function difference(one: Named[string], other: Named[string], { contents, definitions }: Comparison): string | undefined {
  const definition = (of: Named[string]): string => (typeof of === "string" ? of : of.definition);
  if (definitions && definition(one) !== definition(other)) return "has another definition";
  if (!contents || typeof one === "string" || typeof other === "string") return undefined;
  if ("next" in one) return "next" in other && one.next === other.next ? undefined : "has another value";
  if ("next" in other) return "was no sequence";
  if (one.rows !== other.rows) return `has ${other.rows} of ${one.rows} rows`;
  if (one.content !== other.content) return `has other values in its ${one.rows} rows`;
  // The rows of a table without transactions are dumped later than its counter, and may be ahead of it.
  const counter = (of: TableFacts): bigint => BigInt(of.autoIncrement ?? 0);
  return counter(other) < counter(one) ? "counts on from another number" : undefined;
}
