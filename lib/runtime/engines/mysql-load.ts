import { Readable } from "node:stream";
import type { Agent } from "../agent";
import type { ManifestFile } from "../manifest";
import type { AccountStatement } from "./mysql-accounts";
import { DumpReader, withoutSandboxLine, type DumpFacts, type Section } from "./mysql-dump";
import { LOCK_WAIT_SECONDS } from "./mysql-sql";

/** No dump says how long it waits for what someone else has locked, and a server may let it wait for a year. */
const PATIENCE = `SET SESSION lock_wait_timeout = ${LOCK_WAIT_SECONDS};\n`;
const ZONE = /\bSET time_zone\s*=\s*'([^']*)'/g;
/** A server's own zone, and those that are numbers, need no table of zones. */
const WITHOUT_TABLE = /^(SYSTEM|[+-]\d+:\d+)$/;

/** What a dump has besides its tables, kept until they are loaded: views and programs, which are text that people wrote. */
export class Programs {
  private readonly parts = new Map<Section, Buffer[]>();

  public add(section: Section, bytes: Buffer): void {
    const parts = this.parts.get(section);
    if (parts === undefined) this.parts.set(section, [bytes]);
    else parts.push(bytes);
  }

  /** One section. */
  public text(section: Section): Buffer {
    return Buffer.concat(this.parts.get(section) ?? []);
  }

  /** Names of the time zones that its events are in, but for those that every server knows. */
  public timeZones(): readonly string[] {
    const zones = [...this.text("event").toString().matchAll(ZONE)].map(([, zone = ""]) => zone);
    return [...new Set(zones)].filter((zone) => !WITHOUT_TABLE.test(zone));
  }
}

/** Where a restore or a drill loads from and to. */
interface Place {
  readonly agent: Agent;
  open(file: ManifestFile): Readable;
}

/** What passed while the tables of a dump were loaded. */
export interface Loaded {
  readonly facts: DumpFacts;
  readonly programs: Programs;
}

/**
 * Loads the tables of a dump with their rows, and nothing that could be missing something yet.
 *
 * @param only a table, whose triggers alone are then kept besides the settings @default - all
 * @throws Error at the server's first error
 */
export async function loadTables({ agent, open }: Place, file: ManifestFile, database: string, only?: string): Promise<Loaded> {
  const programs = new Programs();
  let ready: Buffer[] = [];
  const reader = new DumpReader((section, of, bytes) => {
    if (section === "session") programs.add(section, bytes);
    else if (only !== undefined && (of !== only || (section !== "table" && section !== "trigger"))) return;
    if (section === "session" || section === "table") ready.push(bytes);
    else programs.add(section, bytes);
  });
  let facts: DumpFacts | undefined;
  const tables = async function* (): AsyncGenerator<Buffer> {
    yield Buffer.from(PATIENCE);
    for await (const chunk of withoutSandboxLine(open(file))) {
      reader.write(chunk as Buffer);
      if (ready.length > 0) yield ready.length === 1 ? (ready[0] as Buffer) : Buffer.concat(ready);
      ready = [];
    }
    facts = reader.end();
  };
  await agent.text("load", database, Readable.from(tables(), { objectMode: false }));
  if (facts === undefined) throw new Error("the server did not take the whole dump");
  return { facts, programs };
}

/**
 * Loads some sections of a dump.
 *
 * @param first a statement that goes before them @default - none
 */
export async function loadPrograms(
  agent: Agent,
  database: string,
  programs: Programs,
  sections: readonly Section[],
  first = "",
): Promise<void> {
  const text = sections.map((section) => programs.text(section));
  if (text.every(({ length }) => length === 0)) return;
  await agent.text("load", database, Readable.from([Buffer.concat([Buffer.from(PATIENCE + first), programs.text("session"), ...text])]));
}

/** What a dump of a live database says it holds. @param verb the one that makes the dump @default "dump" */
export async function factsOf(agent: Agent, database: string, verb = "dump"): Promise<DumpFacts> {
  const reader = new DumpReader();
  const { output, done } = agent.request(verb, database);
  for await (const chunk of withoutSandboxLine(output)) reader.write(chunk as Buffer);
  await done;
  return reader.end();
}

/** Does what makes accounts. */
export async function execute(agent: Agent, statements: readonly AccountStatement[]): Promise<void> {
  if (statements.length === 0) return;
  await agent.text("load", "", Readable.from([Buffer.from(statements.map(({ statement }) => `${statement};\n`).join(""))]));
}
