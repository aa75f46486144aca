import { createHash } from "node:crypto";
import { createWriteStream, existsSync, readdirSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import { basename, join } from "node:path";
import { relative } from "node:path/posix";
import { pipeline } from "node:stream/promises";
import type { Drill, DrillEngine } from "../drill";
import { assertRoom } from "../drill-room";
import { assertSame } from "../facts";
import type { Fact, ManifestFile } from "../manifest";
import { sqlite, SqliteError, type SqliteInspection } from "../sqlite-process";
import { archiveMembers, readBack } from "../stored-tree";
import { TreeWriter } from "../tree-writer";
import { commonDirectory, sqliteArtefacts, sqliteFingerprint, type SqliteFingerprint, type SqliteSettings } from "./sqlite";

/**
 * Restores a SQLite database and its side files into a directory of scratch space, and uses the database as an application would:
 * opened for writing in its own journal mode, checked in full, compared, asked, and written to.
 */
export class SqliteDrill implements DrillEngine {
  /** The database as it came out of the generation. */
  private readonly restored = { bytes: 0, sha256: "" };
  /** Of the side files: who wrote them. */
  private writer: TreeWriter | undefined;

  public constructor(private readonly settings: SqliteSettings) {}

  public async restore(drill: Drill): Promise<void> {
    const { scratch, name, manifest, signal } = drill;
    const live = this.settings.database;
    // The mount that a backup reads from must not be there.
    if (existsSync(live)) throw new Error(`${live} exists: a drill must not reach the data that is backed up`);
    const { database, side } = sqliteArtefacts(manifest, live);
    await assertRoom(drill, bytesOf(database) + (side === undefined ? 0 : bytesOf(side)));
    await mkdir(join(scratch, name), { mode: 0o700 });
    const hash = createHash("sha256");
    const { restored } = this;
    const see = async function* (chunks: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
      for await (const chunk of chunks) {
        hash.update(chunk);
        restored.bytes += chunk.length;
        yield chunk;
      }
    };
    await pipeline(drill.open(database), see, createWriteStream(this.database(drill), { flags: "wx", mode: 0o600 }), { signal });
    restored.sha256 = hash.digest("hex");
    if (side === undefined) return;
    const files = join(scratch, name, "files");
    await mkdir(files, { mode: 0o700 });
    const writer = new TreeWriter(files, signal);
    for await (const member of archiveMembers(drill.open(side))) await writer.add(member);
    writer.finish();
    this.writer = writer;
  }

  public async compare(drill: Drill): Promise<readonly string[]> {
    const { scratch, name, manifest, signal, assertions } = drill;
    const { minTables } = this.settings;
    const { inspection: wanted, sha256, files } = sqliteFingerprint(manifest);
    assertSame("the database:", { bytes: wanted.pages * wanted.pageSize, sha256 }, this.restored);
    const file = this.database(drill);
    const queries = assertions.map(({ query }) => query);
    const { inspection, journalMode, answers } = await sqlite({ task: "use", file, queries }, signal).catch(corrupt);
    assertSame("the database:", wanted as unknown as Fact, inspection as unknown as Fact);
    const { tableCount } = inspection;
    if (tableCount < minTables) throw new Error(`the database has ${tableCount} tables, at least ${minTables} expected`);
    for (const [index, { query, expect }] of assertions.entries()) {
      const answer = answers[index];
      const assertion = `assertion ${JSON.stringify(query)}`;
      if (answer === undefined || "problem" in answer) throw new Error(`${assertion} ${answer?.problem}`);
      if (answer.value === expect) continue;
      throw new Error(`${assertion} returned ${JSON.stringify(answer.value)} instead of ${JSON.stringify(expect)}`);
    }
    const left = readdirSync(join(scratch, name)).filter((entry) => entry.startsWith(`${basename(file)}-`));
    if (left.length > 0) throw new Error(`the database was closed, and left ${left.join(", ")}`);
    const checks = [
      `the database was opened for writing in journal mode ${journalMode}, and written to`,
      `integrity_check: ok; foreign_key_check as in the backup: ${inspection.foreignKeyViolations ?? "impossible"} violations`,
      `equal to the fingerprint: ${describe(inspection)}, and every byte`,
      ...(assertions.length === 0 ? [] : [`${assertions.length} assertions hold`]),
    ];
    return [...checks, ...(await this.compareFiles(drill, files))];
  }

  private async compareFiles({ scratch, name, signal }: Drill, wanted: SqliteFingerprint["files"]): Promise<readonly string[]> {
    const { database, files } = this.settings;
    const { writer } = this;
    const { roots = [], owners = [] } = writer ?? {};
    const root = commonDirectory([database, ...files.map(({ path }) => path)]);
    const missing = files.filter(({ path, required }) => required && !roots.includes(relative(root, path))).map(({ path }) => path);
    if (missing.length > 0) throw new Error(`the generation has no ${missing.join(", ")}, which the backup requires`);
    const sources = roots.map((path) => ({ path: join(scratch, name, "files", path), name: path }));
    const facts = writer === undefined || roots.length === 0 ? null : await readBack(writer, sources, signal);
    if (wanted !== undefined) assertSame("the side files:", { ...wanted, absent: [] }, { present: roots, absent: [], archive: facts });
    if (facts === null) return wanted === undefined ? [] : ["no side file was there when it was backed up, and none is required"];
    return [`side files equal to the fingerprint: ${facts.files} files, ${facts.bytes} bytes, modes, times and links`, ...owners];
  }

  private database({ scratch, name }: Drill): string {
    return join(scratch, name, basename(this.settings.database));
  }
}

function corrupt(error: unknown): never {
  throw error instanceof SqliteError ? new Error(`the database that came back is corrupt: ${error.message}`) : error;
}

function bytesOf({ bytes, uncompressedBytes = bytes }: ManifestFile): number {
  return uncompressedBytes;
}

function describe({ tables, tableCount, pages, pageSize }: SqliteInspection): string {
  const rows = Object.values(tables).reduce((sum, count) => sum + count, 0);
  return `${tableCount} tables, ${rows} rows, schema, ${pages * pageSize} bytes`;
}
