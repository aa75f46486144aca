import { SCRATCH_DIRECTORY } from "../settings";
import { CorruptError, checkSource } from "../sqlite-source";
import type { SqliteSettings } from "./sqlite";

/** What is known of a database. */
export interface Integrity {
  /** `unknown`: absent, locked or unreadable, so that neither can be said. */
  readonly state: "ok" | "corrupt" | "unknown";
  /** What is damaged, or why it could not be checked; empty for a sound database. */
  readonly detail: string;
}

/**
 * Checks a live database without touching it: its size, and SQLite's full integrity check.
 *
 * @param scratch directory for a private copy, which is made only where the application left the database in a state that
 *   cannot be opened read-only
 */
export async function checkIntegrity(
  { database, minTables }: SqliteSettings,
  log: (message: string) => void,
  scratch = SCRATCH_DIRECTORY,
): Promise<Integrity> {
  try {
    const { pages, pageSize, tableCount } = await checkSource(database, scratch);
    log(`${database}: ${pages} pages of ${pageSize} bytes, ${tableCount} tables`);
    if (tableCount >= minTables) return { state: "ok", detail: "" };
    return { state: "corrupt", detail: `${tableCount} tables, at least ${minTables} expected` };
  } catch (error) {
    return { state: error instanceof CorruptError ? "corrupt" : "unknown", detail: (error as Error).message };
  }
}
