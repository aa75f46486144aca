/** The last value that a sequence gave out, as text because it may exceed 2^53; null before the first. */
export type LastValue = string | null;

/** What a decoded archive holds, by name (see {@link qualified}). */
export interface ArchiveContent {
  readonly rows: ReadonlyMap<string, number>;
  readonly sequences: ReadonlyMap<string, LastValue>;
  readonly largeObjects: number;
}

/** How a table or sequence is called in a fingerprint: quoted only where it must be, keywords never. */
export function qualified(schema: string, name: string): string {
  return [schema, name].map((part) => (/^[a-z_][a-z0-9_]*$/.test(part) ? part : `"${part.replaceAll('"', '""')}"`)).join(".");
}

const NEWLINE = 10;
const END_OF_ROWS = "\\.";
const NAME = String.raw`"((?:[^"]|"")+)"\."((?:[^"]|"")+)"`;
const ROWS = new RegExp(`^COPY ${NAME} .*FROM stdin;$`, "s");
const VALUE = new RegExp(String.raw`^SELECT pg_catalog\.setval\('${NAME}', (-?\d+), (true|false)\);$`, "s");
const LARGE_OBJECT = "SELECT pg_catalog.lo_open(";

/**
 * Reads the SQL that `pg_restore --data-only` prints of an archive whose identifiers are all quoted, and counts.
 * Rows are skipped over, not kept: a row may have a gigabyte.
 */
export class ArchiveReader {
  private readonly rows = new Map<string, number>();
  private readonly sequences = new Map<string, LastValue>();
  private largeObjects = 0;
  private table: string | undefined;
  /** Beginning of the line that the next chunk continues; of a row no more than its end could have. */
  private pending = "";

  /** @param encoding what names are read as; bytes that are no UTF-8 need "latin1", which loses none */
  public constructor(private readonly encoding: "utf8" | "latin1") {}

  public push(chunk: Buffer): void {
    let start = 0;
    for (let end = chunk.indexOf(NEWLINE); end !== -1; end = chunk.indexOf(NEWLINE, start)) {
      if (this.table === undefined) this.statement(chunk.subarray(start, end));
      else this.row(chunk, start, end);
      start = end + 1;
    }
    if (this.table === undefined) this.pending += chunk.toString("latin1", start);
    else this.pending += chunk.toString("latin1", start, Math.min(chunk.length, start + END_OF_ROWS.length + 1));
  }

  /** @throws Error if rows have no end */
  public end(): ArchiveContent {
    if (this.table !== undefined) throw new Error(`the dump breaks off in the rows of ${this.table}`);
    return { rows: this.rows, sequences: this.sequences, largeObjects: this.largeObjects };
  }

  private row(chunk: Buffer, start: number, end: number): void {
    const length = this.pending.length + end - start;
    const table = this.table as string;
    if (length === END_OF_ROWS.length && this.pending + chunk.toString("latin1", start, end) === END_OF_ROWS) this.table = undefined;
    else this.rows.set(table, (this.rows.get(table) ?? 0) + 1);
    this.pending = "";
  }

  private statement(rest: Buffer): void {
    const line = this.pending + rest.toString("latin1");
    this.pending = "";
    const wanted = line.startsWith("COPY ") || line.startsWith("SELECT pg_catalog.setval(");
    if (wanted && !line.endsWith(";")) {
      // A line break in a name.
      this.pending = `${line}\n`;
    } else if (wanted) {
      this.wanted(Buffer.from(line, "latin1").toString(this.encoding));
    } else if (line.startsWith(LARGE_OBJECT)) this.largeObjects++;
  }

  private wanted(statement: string): void {
    const rows = ROWS.exec(statement);
    const value = VALUE.exec(statement);
    if (rows !== null) {
      this.table = nameOf(rows);
      this.rows.set(this.table, this.rows.get(this.table) ?? 0);
    } else if (value !== null) {
      const [, , , last = "", called] = value;
      this.sequences.set(nameOf(value.map((part) => part.replaceAll("''", "'"))), called === "true" ? last : null);
    } else throw new Error(`the dump has a statement that is not understood: ${statement.slice(0, 200)}`);
  }
}

function nameOf([, schema = "", name = ""]: readonly string[]): string {
  return qualified(schema.replaceAll('""', '"'), name.replaceAll('""', '"'));
}
