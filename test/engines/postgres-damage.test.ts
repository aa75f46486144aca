import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Readable } from "node:stream";
import type { Dump } from "../../lib/runtime/engine";
import { withAgent } from "../helpers/agent-run";
import { hostProgram } from "../helpers/pod";
import { temporaryDirectory } from "../helpers/process";
import { Postgres } from "../helpers/servers/postgres";
import { addRole, environment, withEngine } from "./postgres-setup";

let server: Postgres;

beforeAll(async () => {
  server = await Postgres.start();
  server.sql("CREATE DATABASE app; CREATE DATABASE other; CREATE DATABASE hollow");
  server.sql("CREATE TABLE big (id serial PRIMARY KEY, t text)", "app");
  server.sql("INSERT INTO big (t) SELECT md5(i::text) FROM generate_series(1, 60000) i", "app");
  server.sql("CREATE TABLE small (id int PRIMARY KEY, t text); INSERT INTO small SELECT i, 'x' FROM generate_series(1, 5000) i", "app");
  server.sql("CREATE TABLE big (id serial PRIMARY KEY, t text); INSERT INTO big (t) VALUES ('of the other')", "other");
  addRole(server, ["app", "other", "hollow", "postgres"]);
});

afterAll(() => server?.stop());

test.each([
  ["pg_dump", "dump", "1 hollow", "SELECT 1"],
  ["pg_dumpall", "globals", "", ""],
  ["psql", "query", "hollow", "SELECT 1"],
  ["pg_restore", "decode", "", ""],
])("fails when %s ends with any status but 0", async (program, verb, argument, input) => {
  const path = temporaryDirectory("stub");
  const code = join(path, "code");
  writeFileSync(join(path, program), `#!/bin/sh\nread -r code < ${code}\nexit "$code"\n`, { mode: 0o755 });
  await withAgent({ env: environment(path) }, async ({ run, directory }) => {
    const store = (): Promise<unknown> => run.store("x", run.agent.request(verb, argument, Readable.from([input])).output);
    for (let status = 1; status <= 255; status++) {
      writeFileSync(code, `${status}\n`);
      await expect(store()).rejects.toThrow(`${verb} failed (exit status ${status})`);
      rmSync(join(directory, "x.zst"));
    }
    writeFileSync(code, "0\n");
    await store();
  });
});

describe("a dump on the target that is", () => {
  let made: { readonly dump: Dump; readonly files: ReadonlyMap<string, Buffer> };

  beforeAll(async () => {
    made = await withEngine(async (engine, run, { directory }) => {
      const dump = await engine.dump(run);
      return { dump, files: new Map(dump.files.map(({ path }) => [path, readFileSync(join(directory, path))])) };
    });
  });

  const APP = "databases/app.dump.zst";

  /** Verifies what was dumped after `damage`, with the hash of what is there now if `rehashed`. */
  function verify(damage: (files: Map<string, Buffer>) => void, rehashed = false): Promise<readonly string[]> {
    return withEngine(async (engine, run, { directory }) => {
      const files = new Map(made.files);
      damage(files);
      for (const [path, content] of files) {
        mkdirSync(join(directory, path, ".."), { recursive: true });
        writeFileSync(join(directory, path), content);
      }
      const described = made.dump.files.map((file) => {
        const content = files.get(file.path);
        if (content === undefined || !rehashed) return file;
        const whole = spawnSync("zstd", ["-dcq"], { input: content, maxBuffer: 2 ** 30 }).stdout.length;
        const sha256 = createHash("sha256").update(content).digest("hex");
        return { ...file, bytes: content.length, sha256, ...(file.uncompressedBytes === undefined ? {} : { uncompressedBytes: whole }) };
      });
      return engine.verify(run, { ...made.dump, files: described });
    });
  }

  const changed = (path: string, change: (content: Buffer) => Buffer) => (files: Map<string, Buffer>): void => {
    files.set(path, change(Buffer.from(files.get(path) ?? "")));
  };
  const archived = (change: (archive: Buffer) => Buffer): ((files: Map<string, Buffer>) => void) =>
    changed(APP, (content) => {
      const { stdout } = spawnSync("zstd", ["-dc"], { input: content, maxBuffer: 2 ** 30 });
      return spawnSync("zstd", ["-c"], { input: change(stdout), maxBuffer: 2 ** 30 }).stdout;
    });

  test("whole passes", async () => {
    expect(await verify(() => undefined)).toHaveLength(5);
    expect(await verify(archived((archive) => archive), true)).toHaveLength(5);
  });

  test.each<[string, (files: Map<string, Buffer>) => void]>([
    ["cut in half", changed(APP, (content) => content.subarray(0, content.length >> 1))],
    ["one byte short", changed(APP, (content) => content.subarray(0, -1))],
    ["one byte longer", changed(APP, (content) => Buffer.concat([content, Buffer.from("x")]))],
    ["changed in one bit", changed(APP, (content) => Buffer.from(content.map((byte, at) => (at === 10_000 ? byte ^ 1 : byte))))],
    ["changed in one digit and compressed again", archived((archive) => (archive.write("9", archive.indexOf("\t4") + 1), archive))],
    ["empty", changed(APP, () => Buffer.alloc(0))],
    ["missing", (files) => void files.delete(APP)],
    ["that of another database", (files) => void files.set(APP, files.get("databases/other.dump.zst") ?? Buffer.alloc(0))],
  ])("%s is refused", async (_, damage) => {
    await expect(verify(damage)).rejects.toThrow(/databases\/app\.dump\.zst/);
  });

  test.each<[string, (files: Map<string, Buffer>) => void, RegExp]>([
    ["cut in half", archived((archive) => archive.subarray(0, archive.length >> 1)), /^decode failed: .*end of file$/],
    ["one byte short", archived((archive) => archive.subarray(0, -1)), /^decode failed/],
    ["empty", archived(() => Buffer.alloc(0)), /^decode failed/],
    [
      "that of another database", (files) => void files.set(APP, files.get("databases/other.dump.zst") ?? Buffer.alloc(0)),
      /public.big has 1 rows instead of 60000/,
    ],
    ["without one table", archived(() => archiveWithout("small")), /table public.small is missing$/],
    [
      "without globals' end", changed("globals.sql", (content) => content.subarray(0, content.length >> 1)),
      /^globals.sql does not end with its last line/,
    ],
  ])("%s is refused, even where its hash was made to fit", async (_, damage, reason) => {
    await expect(verify(damage, true)).rejects.toThrow(reason);
  });

  function archiveWithout(table: string): Buffer {
    const args = ["-Fc", "-Z0", "--quote-all-identifiers", `--exclude-table=${table}`];
    return spawnSync(hostProgram("pg_dump"), args, { env: { ...server.env, PGDATABASE: "app" }, maxBuffer: 2 ** 30 }).stdout;
  }
});
