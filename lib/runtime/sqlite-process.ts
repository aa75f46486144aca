import { spawn } from "node:child_process";
import type { Fact } from "./manifest";

/** Seconds for which a locked database is waited for. */
export const BUSY_SECONDS = 20;
/** SQLite's result codes that decide something here (https://www.sqlite.org/rescode.html); the low byte of an extended code. */
export const SQLITE = { busy: 5, locked: 6, readOnly: 8, corrupt: 11, cannotOpen: 14, notADatabase: 26 } as const;

/** A piece of work for SQLite. */
export type SqliteTask =
  /** Full integrity check of a database that others may be using. */
  | { readonly task: "check"; readonly file: string }
  /** Online backup: all pages of one snapshot, while others go on using the database. */
  | { readonly task: "copy"; readonly file: string; readonly to: string }
  /** Opens a private copy for writing, so that its log or journal is applied to the file. */
  | { readonly task: "recover"; readonly file: string }
  /** Integrity check and content of a private file that nothing writes. */
  | { readonly task: "inspect"; readonly file: string }
  /** The same of a private copy that is opened as an application opens it, asked statements, and written to. */
  | { readonly task: "use"; readonly file: string; readonly queries: readonly string[] }
  /** Takes the lock that shuts out everybody else, and lets it go. */
  | { readonly task: "lock"; readonly file: string };

/** What SQLite's own checks say of a database. */
export interface SqliteCheck {
  readonly pageSize: number;
  readonly pages: number;
  /** How many tables there are besides SQLite's own. */
  readonly tableCount: number;
}

/** What a database holds. */
export interface SqliteInspection extends SqliteCheck {
  /** Rows that `foreign_key_check` objects to; null where the schema's own references make it impossible to tell. */
  readonly foreignKeyViolations: number | null;
  readonly userVersion: number;
  readonly applicationId: number;
  /** SHA-256 over the text of every table, index, view and trigger. */
  readonly schema: string;
  /** Rows by table; virtual tables are counted through the tables that hold their content. */
  readonly tables: { readonly [table: string]: number };
}

/** What a statement returned: one value as text, null where that is NULL; or why it is not an answer. */
export type SqliteAnswer = { readonly value: string | null } | { readonly problem: string };

/** What became of a database that was used. */
export interface SqliteUse {
  readonly inspection: SqliteInspection;
  /** How it keeps its transactions: `wal`, `delete`. */
  readonly journalMode: string;
  readonly answers: readonly SqliteAnswer[];
}

interface Results {
  readonly check: SqliteCheck;
  readonly copy: null;
  readonly recover: null;
  readonly inspect: SqliteInspection;
  readonly use: SqliteUse;
  readonly lock: null;
}

/**
 * SQLite refused, or found damage (`corrupt`, also where only the integrity check says so).
 * `code` is its (extended) result code, 0 where its process died instead.
 */
export class SqliteError extends Error {
  public constructor(
    public readonly code: number,
    message: string,
  ) {
    super(message);
    this.name = "SqliteError";
  }

  /** The result code without its extension. */
  public get primary(): number {
    return this.code & 0xff;
  }
}

/**
 * Runs one task in a process of its own. Not in this one, because SQLite's calls block (locks, long checks) where the runner
 * must answer a TERM; because a database truncated under it can kill the process that maps it; and because closing any
 * descriptor of a database drops all locks that the same process holds on it.
 *
 * @param seconds for which a lock is waited for
 * @throws SqliteError where SQLite refuses
 */
export function sqlite<T extends SqliteTask>(task: T, signal?: AbortSignal, seconds = BUSY_SECONDS): Promise<Results[T["task"]]> {
  signal?.throwIfAborted();
  return new Promise((resolve, reject) => {
    const request = JSON.stringify({ ...task, timeout: seconds * 1000 });
    const child = spawn(process.execPath, ["-e", `(${work.toString()})()`, request], { stdio: ["ignore", "pipe", "inherit"], env: {} });
    const output: Buffer[] = [];
    const kill = (): void => void child.kill("SIGKILL");
    signal?.addEventListener("abort", kill);
    process.on("exit", kill);
    child.stdout.on("data", (chunk: Buffer) => output.push(chunk));
    child.on("error", reject);
    child.on("close", (status, killed) => {
      signal?.removeEventListener("abort", kill);
      process.off("exit", kill);
      if (signal?.aborted === true) return reject(signal.reason as Error);
      if (status !== 0) return reject(new SqliteError(0, `SQLite's process ended with ${killed ?? `exit status ${status}`}`));
      const { error, result } = JSON.parse(Buffer.concat(output).toString()) as Answer<Results[T["task"]]>;
      if (error === undefined) resolve(result);
      else reject(new SqliteError(error.code, error.message));
    });
  });
}

interface Answer<R> {
  readonly error?: { readonly code: number; readonly message: string };
  readonly result: R;
}

/** Runs in the other process, as text: it must not refer to anything outside itself. */
async function work(): Promise<void> {
  const { DatabaseSync, backup } = process.getBuiltinModule("node:sqlite");
  const { createHash } = process.getBuiltinModule("node:crypto");
  const { pathToFileURL } = process.getBuiltinModule("node:url");
  const request = JSON.parse(process.argv[1] as string) as SqliteTask & { readonly timeout: number };

  const perform = async (): Promise<unknown> => {
    const url = pathToFileURL(request.file);
    if (request.task === "inspect") url.searchParams.set("immutable", "1");
    const readOnly = !["recover", "use", "lock"].includes(request.task);
    const database = new DatabaseSync(url, { readOnly, timeout: request.timeout, enableForeignKeyConstraints: false });
    const rows = (sql: string): Fact[][] => {
      const statement = database.prepare(sql);
      statement.setReturnArrays(true);
      return statement.all() as unknown as Fact[][];
    };
    const number = (sql: string): number => rows(sql)[0]?.[0] as number;
    if (request.task === "recover") {
      number("SELECT count(*) FROM sqlite_schema");
      rows("PRAGMA wal_checkpoint(TRUNCATE)");
      database.close();
      return null;
    }
    if (request.task === "lock") {
      // In this mode a log has no index that processes share, so that a connection which only has it open is in the way too.
      database.exec("PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE; ROLLBACK");
      database.close();
      return null;
    }
    // One read transaction for everything: the snapshot stays the same, and the copy never starts anew because of a commit.
    database.exec("BEGIN");
    number("SELECT count(*) FROM sqlite_schema");
    if (request.task === "copy") {
      await backup(database, request.to, { rate: 1000 });
      return null;
    }
    const verdict = rows("PRAGMA integrity_check(20)").flat().join(", ");
    if (verdict !== "ok") throw Object.assign(new Error(verdict), { errcode: 11 });
    const own = "type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'";
    const tableCount = number(`SELECT count(*) FROM sqlite_schema WHERE ${own}`);
    const check = { pageSize: number("PRAGMA page_size"), pages: number("PRAGMA page_count"), tableCount };
    if (request.task === "check") return check;

    const schema = rows("SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY type, name");
    const count = (name: string): number => number(`SELECT count(*) FROM "${name.replaceAll('"', '""')}"`);
    const names = rows(`SELECT name FROM sqlite_schema WHERE ${own} AND sql NOT LIKE 'CREATE VIRTUAL %' ORDER BY name`).flat();
    const tables = Object.fromEntries((names as string[]).map((name) => [name, count(name)]));
    let foreignKeyViolations: number | null = null;
    try {
      foreignKeyViolations = number("SELECT count(*) FROM pragma_foreign_key_check");
    } catch {
      // "foreign key mismatch": the schema refers to a column that is not unique, which SQLite tolerates until it is used.
    }
    const inspection = {
      ...check,
      foreignKeyViolations,
      userVersion: number("PRAGMA user_version"),
      applicationId: number("PRAGMA application_id"),
      schema: createHash("sha256").update(JSON.stringify(schema)).digest("hex"),
      tables,
    };
    if (request.task === "inspect") return inspection;

    database.exec("COMMIT; PRAGMA query_only = on");
    const answer = (query: string): unknown => {
      try {
        const statement = database.prepare(query);
        if (/[^\s;]/.test(query.slice(statement.sourceSQL.length))) return { problem: "is more than one statement" };
        statement.setReturnArrays(true);
        statement.setReadBigInts(true);
        const found = statement.all() as unknown as (bigint | number | string | Uint8Array | null)[][];
        const [value = null] = found[0] ?? [];
        if (found.length !== 1 || found[0]?.length !== 1) {
          return { problem: `returned ${found.length} rows of ${statement.columns().length} columns instead of one value` };
        }
        if (typeof value === "number") return { value: Number.isInteger(value) ? value.toFixed(1) : String(value) };
        return { value: value instanceof Uint8Array ? Buffer.from(value).toString("hex") : value === null ? null : String(value) };
      } catch (error) {
        return { problem: `failed: ${(error as Error).message}` };
      }
    };
    const answers = request.queries.map(answer);
    const journalMode = rows("PRAGMA journal_mode")[0]?.[0];
    // The same value again is a page that is written.
    database.exec(`PRAGMA query_only = off; BEGIN IMMEDIATE; PRAGMA user_version = ${inspection.userVersion}; COMMIT`);
    database.close();
    return { inspection, journalMode, answers };
  };

  const answer = await perform().then(
    (result) => ({ result }),
    (error: Error & { errcode?: number }) => ({ error: { code: error.errcode ?? 1, message: error.message } }),
  );
  process.stdout.write(JSON.stringify(answer));
}
