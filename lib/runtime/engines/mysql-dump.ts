import { createHash, type Hash } from "node:crypto";
import { Readable } from "node:stream";

/** What a dump of one database holds. Each kind by name; a definition is the SHA-256 of the statement that makes it. */
export type DumpFacts = {
  readonly tables: { readonly [name: string]: TableFacts };
  /** MariaDB's sequences: definition and next value that is not reserved yet. */
  readonly sequences: { readonly [name: string]: { readonly definition: string; readonly next: string } };
  readonly views: { readonly [name: string]: string };
  /** By `PROCEDURE name` and `FUNCTION name`. */
  readonly routines: { readonly [name: string]: string };
  readonly events: { readonly [name: string]: string };
  /** Definitions alone: a trigger is written as its author wrote it, in which its name is not always to be found. */
  readonly triggers: readonly string[];
  /** Accounts in whose name views, routines, events and triggers work, as SQL has them. */
  readonly definers: readonly string[];
};

export type TableFacts = {
  readonly rows: number;
  readonly definition: string;
  /** SHA-256 of the rows as the dump writes them. */
  readonly content: string;
  readonly autoIncrement?: string;
};

/**
 * What some bytes of a dump are for. Tables are with their rows; a placeholder stands for a view until all that it could be made of is
 * there; `session` are the settings that all else needs, `end` takes them back.
 */
export type Section = "session" | "table" | "trigger" | "placeholder" | "event" | "routine" | "view" | "end";

/** Takes the bytes of a dump in their order, by section; `of` is the name of the section's table or view. */
export type Pass = (section: Section, of: string, bytes: Buffer) => void;

/** Without this last line a dump was cut, whatever the program's exit status says. */
const TRAILER = "-- Dump completed";
const SANDBOX = "/*M!999999";
const NAME = "`((?:[^`]|``)*)`";
const TABLE = new RegExp(`^CREATE TABLE ${NAME}`);
const ROWS = new RegExp(`^INSERT INTO ${NAME}`);
const SEQUENCE = new RegExp(`^CREATE SEQUENCE ${NAME}`);
const SEQUENCE_VALUE = new RegExp(`^(?:DO|SELECT) SETVAL\\(${NAME}, *(-?\\d+)`);
const VIEW = new RegExp(`^/\\*!50001 CREATE ALGORITHM=[^]*/\\*!50001 VIEW ${NAME}`);
const PROGRAM = new RegExp(`^/\\*!\\d+ DROP (PROCEDURE|FUNCTION|PACKAGE BODY|PACKAGE|EVENT) IF EXISTS ${NAME}`);
/** All events of a database are one block. */
const NEXT_EVENT = new RegExp(`/\\*!\\d+ DROP EVENT IF EXISTS ${NAME} \\*/;;\nDELIMITER ;;\n`);
const AUTO_INCREMENT = /^(\) .*?ENGINE=\w+) AUTO_INCREMENT=(\d+)/m;
const DEFINER = new RegExp(`DEFINER=(${NAME}(?:@${NAME})?)`);
/** The programs of MySQL and MariaDB write these before each part, in nearly the same words. */
const HEADING = new RegExp(
  `^-- (Table|Sequence|Temporary|Dumping|Final)(?: table| view)? (data|structure|events|routines) for [a-z]* ?(?:${NAME})?`,
);
/** In the part of a table: what is done for its triggers alone. */
const FOR_TRIGGER = "/*!50003 ";
const TAKING_BACK = "/*!40103 SET TIME_ZONE=@OLD";
/** Statements that make a restore refuse, or not replicate. */
const REPLICATION = /^(?:\/\*!\d+ )?SET\b.*\b(GTID_PURGED|SQL_LOG_BIN)\b/is;
const EVENT = "EVENT ";
const BLOCK_BEGIN = "DELIMITER ";
const BLOCK_END = ";;\nDELIMITER ;\n";

const NEWLINE = 10;
const DOUBLE_QUOTE = 34;
const QUOTE = 39;
const OPEN = 40;
const DASH = 45;
const SEMICOLON = 59;
const I = 73;
const V = 86;
const BACKSLASH = 92;
const BACKTICK = 96;

const enum At {
  /** Between statements. */
  Gap,
  Comment,
  /** In a statement, collected to be looked at. */
  Statement,
  /** In the tuples of an INSERT, which are counted and hashed only: nearly all of a dump. */
  Rows,
  /** Between `DELIMITER ;;` and `DELIMITER ;`: stored programs, whose text has rules of its own. */
  Block,
}

interface Table {
  rows: number;
  readonly definition: string;
  readonly content: Hash;
  readonly autoIncrement: string | undefined;
}

/**
 * Reads the output of `mysqldump` or `mariadb-dump` for one database as it passes, in chunks of any size, and keeps what a
 * restored copy can be compared with: the dump's snapshot cannot be shared, so its rows are counted where they are written.
 *
 * A dump of a restored copy gives equal facts. The rows of a table come in the order of its clustered index, and text survives
 * a round trip through any column type.
 */
export class DumpReader {
  private at = At.Gap;
  /** The quote character that the reader is inside of; 0 outside. */
  private quote = 0;
  /** The byte before was a backslash inside a string. */
  private escaped = false;
  private inserting = false;
  private parts: Buffer[] = [];
  private lastLine = "";
  /** Kind and name of the program that was just dropped, and will be made next. */
  private program: string | undefined;
  private table: Table | undefined;
  private section: Section = "session";
  /** What the section is about. */
  private of = "";
  /** Bytes whose section is not known yet. */
  private pending: Buffer[] = [];
  private readonly tables = new Map<string, Table>();
  private readonly sequences = new Map<string, { readonly definition: string; readonly next: string }>();
  private readonly views = new Map<string, string>();
  private readonly routines = new Map<string, string>();
  private readonly events = new Map<string, string>();
  private readonly triggers: string[] = [];
  private readonly definers = new Set<string>();

  /** @param pass given the whole dump again, in parts @default - nobody */
  public constructor(private readonly pass?: Pass) {}

  /** @throws Error on a statement that must not be in a backup */
  public write(chunk: Buffer): void {
    let i = 0;
    while (i < chunk.length) {
      const start = i;
      switch (this.at) {
        case At.Gap:
          i = this.gap(chunk, i);
          break;
        case At.Comment:
          i = this.comment(chunk, i);
          break;
        case At.Statement:
          i = this.statement(chunk, i);
          break;
        case At.Rows:
          i = this.rows(chunk, i);
          break;
        case At.Block:
          i = this.block(chunk, i);
          break;
      }
      if (this.pass !== undefined) this.handOn(this.pass, chunk.subarray(start, i));
    }
  }

  /** @throws Error unless the dump is whole */
  public end(): DumpFacts {
    if (this.at !== At.Gap || !this.lastLine.startsWith(TRAILER)) throw new Error(`the dump does not end with '${TRAILER}'`);
    return {
      tables: Object.fromEntries(
        [...this.tables].map(([name, { rows, definition, content, autoIncrement }]) => [
          name,
          { rows, definition, content: content.digest("hex"), ...(autoIncrement === undefined ? {} : { autoIncrement }) },
        ]),
      ),
      sequences: Object.fromEntries(this.sequences),
      views: Object.fromEntries(this.views),
      routines: Object.fromEntries(this.routines),
      events: Object.fromEntries(this.events),
      triggers: [...this.triggers].sort(),
      definers: [...this.definers].sort(),
    };
  }

  private handOn(pass: Pass, bytes: Buffer): void {
    this.pending.push(bytes);
    if (this.at !== At.Gap && this.at !== At.Rows) return;
    for (const part of this.pending) pass(this.section, this.of, part);
    this.pending = [];
  }

  private gap(chunk: Buffer, start: number): number {
    let i = start;
    while (i < chunk.length && (chunk[i] ?? 0) <= 32) i++;
    if (i === chunk.length) return i;
    const first = chunk[i];
    // Statements begin with neither: INSERT, CREATE, DROP, DO, LOCK, SET, UNLOCK and comments that are executed.
    this.at = first === DASH ? At.Comment : At.Statement;
    this.inserting = first === I;
    this.lastLine = "";
    return i;
  }

  private comment(chunk: Buffer, start: number): number {
    const end = chunk.indexOf(NEWLINE, start);
    this.parts.push(chunk.subarray(start, end === -1 ? chunk.length : end));
    if (end === -1) return chunk.length;
    this.lastLine = this.collected().toString();
    this.heading(this.lastLine);
    this.at = At.Gap;
    return end + 1;
  }

  private heading(line: string): void {
    const [, how, what, name] = HEADING.exec(line) ?? [];
    if (what === undefined) return;
    if (what === "events" || what === "routines") this.section = what === "events" ? "event" : "routine";
    else this.section = how === "Temporary" ? "placeholder" : how === "Final" ? "view" : "table";
    this.of = unquoted(name);
  }

  private statement(chunk: Buffer, start: number): number {
    let { quote, escaped } = this;
    let i = start;
    for (; i < chunk.length; i++) {
      const byte = chunk[i];
      if (escaped) escaped = false;
      else if (quote !== 0) {
        if (byte === quote) quote = 0;
        else if (byte === BACKSLASH && quote !== BACKTICK) escaped = true;
      } else if (byte === QUOTE || byte === BACKTICK || byte === DOUBLE_QUOTE) quote = byte;
      else if (byte === SEMICOLON || (byte === V && this.inserting)) break;
    }
    this.quote = quote;
    this.escaped = escaped;
    this.parts.push(chunk.subarray(start, i));
    if (i === chunk.length) return i;
    const text = this.collected();
    if (chunk[i] === V) {
      // Outside of names an INSERT has this letter in VALUES alone.
      this.table = this.tables.get(nameIn(ROWS, text.toString()) ?? "");
      if (this.table === undefined) throw new Error("the dump has rows of a table that it does not make");
      this.at = At.Rows;
    } else {
      this.at = this.statementEnd(text);
    }
    return i + 1;
  }

  private rows(chunk: Buffer, start: number): number {
    const { length } = chunk;
    let { quote, escaped } = this;
    let rows = 0;
    let i = start;
    scan: while (i < length) {
      if (escaped) {
        escaped = false;
        i++;
      } else if (quote === 0) {
        for (; i < length; i++) {
          const byte = chunk[i];
          if (byte === OPEN) rows++;
          else if (byte === SEMICOLON) break scan;
          else if (byte === QUOTE) {
            quote = QUOTE;
            i++;
            break;
          }
        }
      } else {
        for (; i < length; i++) {
          const byte = chunk[i];
          if (byte === BACKSLASH || byte === QUOTE) {
            escaped = byte === BACKSLASH;
            if (!escaped) quote = 0;
            i++;
            break;
          }
        }
      }
    }
    this.quote = quote;
    this.escaped = escaped;
    if (this.table !== undefined) {
      this.table.rows += rows;
      this.table.content.update(chunk.subarray(start, i));
    }
    if (i === length) return i;
    this.at = At.Gap;
    return i + 1;
  }

  private block(chunk: Buffer, start: number): number {
    this.parts.push(chunk.subarray(start));
    const text = this.collected();
    const end = text.indexOf(BLOCK_END);
    if (end === -1) {
      this.parts.push(text);
      return chunk.length;
    }
    this.blockEnd(text.subarray(0, end));
    this.at = At.Gap;
    return chunk.length - (text.length - end - BLOCK_END.length);
  }

  private blockEnd(block: Buffer): void {
    // Bytes as characters: a program is written in the character set of whoever made it.
    const [first = "", ...events] = block.toString("latin1").split(NEXT_EVENT);
    // The end of a program can gain white space with every restore.
    const hash = (text: string): string => {
      this.defined(Buffer.from(text, "latin1").toString());
      return sha256(Buffer.from(text.replace(/\s+(?=\*\/)/g, ""), "latin1"));
    };
    const { program } = this;
    this.program = undefined;
    if (program === undefined) this.triggers.push(hash(first));
    else if (program.startsWith(EVENT)) this.events.set(program.slice(EVENT.length), hash(first));
    else this.routines.set(program, hash(first));
    for (let i = 0; i + 1 < events.length; i += 2) {
      this.events.set(unquoted(Buffer.from(events[i] ?? "", "latin1").toString()), hash(events[i + 1] ?? ""));
    }
  }

  private statementEnd(statement: Buffer): At {
    const text = statement.toString();
    const table = nameIn(TABLE, text);
    const sequence = nameIn(SEQUENCE, text);
    const view = nameIn(VIEW, text);
    const value = SEQUENCE_VALUE.exec(text);
    const program = PROGRAM.exec(text);
    if (table !== undefined) {
      const [whole = "", before = "", autoIncrement] = AUTO_INCREMENT.exec(text) ?? [];
      const definition = sha256(text.replace(whole, () => before));
      this.tables.set(table, { rows: 0, definition, content: createHash("sha256"), autoIncrement });
    } else if (sequence !== undefined) this.sequences.set(sequence, { definition: sha256(statement), next: "" });
    else if (view !== undefined) {
      this.views.set(view, sha256(statement));
      this.defined(text);
    } else if (value !== null) {
      const name = unquoted(value[1]);
      this.sequences.set(name, { definition: this.sequences.get(name)?.definition ?? "", next: value[2] ?? "" });
    } else if (program !== null) this.program = `${program[1]} ${unquoted(program[2])}`;
    if (this.section === "table" && text.startsWith(FOR_TRIGGER)) this.section = "trigger";
    if (text.startsWith(TAKING_BACK)) this.section = "end";
    const variable = REPLICATION.exec(text)?.[1];
    if (variable !== undefined) throw new Error(`the dump sets ${variable}, which a restore must not`);
    return text === BLOCK_BEGIN ? At.Block : At.Gap;
  }

  private defined(program: string): void {
    const definer = DEFINER.exec(program)?.[1];
    if (definer !== undefined) this.definers.add(definer);
  }

  private collected(): Buffer {
    const all = this.parts.length === 1 ? (this.parts[0] as Buffer) : Buffer.concat(this.parts);
    this.parts = [];
    return all;
  }
}

/** The dump without the first line by which `mariadb-dump` locks its own client down: older clients and MySQL's refuse it. */
export function withoutSandboxLine(dump: Readable): Readable {
  return Readable.from(skipSandboxLine(dump), { objectMode: false });
}

async function* skipSandboxLine(dump: Readable): AsyncGenerator<Buffer> {
  let head: Buffer | undefined = Buffer.alloc(0);
  for await (const chunk of dump as AsyncIterable<Buffer>) {
    if (head === undefined) {
      yield chunk;
      continue;
    }
    head = Buffer.concat([head, chunk]);
    const end = head.indexOf(NEWLINE);
    if (end === -1) continue;
    yield head.subarray(head.indexOf(SANDBOX) === 0 ? end + 1 : 0);
    head = undefined;
  }
  if (head !== undefined) yield head;
}

function nameIn(pattern: RegExp, text: string): string | undefined {
  const match = pattern.exec(text);
  return match === null ? undefined : unquoted(match[1]);
}

function unquoted(name = ""): string {
  return name.replaceAll("``", "`");
}

function sha256(data: Buffer | string): string {
  return createHash("sha256").update(data).digest("hex");
}
