import { execFileSync, spawnSync, type SpawnSyncReturns } from "node:child_process";
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { DatabaseSync } from "node:sqlite";
import type { Settings } from "../../lib/runtime/settings";
import { prepared, temporary } from "./support";

const ROOT = resolve(__dirname, "../..");
/** A ConfigMap holds 1 MiB; this is what still can be read in one sitting. A restore holds the backup that goes before it, too. */
const MAX_BYTES = { backup: 110_000, restore: 150_000 };

let directory: string;
let programs: string[];

function build(): string {
  const out = temporary();
  execFileSync(process.execPath, [join(ROOT, "scripts", "build-runner.js"), out]);
  return out;
}

const read = (name: string): string => readFileSync(join(directory, name), "utf8");

beforeAll(() => {
  directory = build();
  programs = readdirSync(join(directory, "runner")).map((name) => join("runner", name));
});

test("there is one for each duty of each engine that has a module", () => {
  const duties: { readonly [type: string]: string } = { Engine: "backup", DrillEngine: "drill", RestoreEngine: "restore", Integrity: "check-integrity" };
  const expected = readdirSync(join(ROOT, "lib/runtime/engines")).flatMap((name) => {
    const text = readFileSync(join(ROOT, "lib/runtime/engines", name), "utf8");
    const type = /export class \w+ implements (\w+)/.exec(text)?.[1] ?? /export async function check(Integrity)/.exec(text)?.[1];
    const duty = duties[type ?? ""];
    return duty === undefined ? [] : [join("runner", `${name.replace(/(-drill|-restore|-integrity)?\.ts$/, "")}-${duty}.js`)];
  });
  expect(expected.length).toBeGreaterThan(9);
  expect([...programs].sort()).toEqual(expected.sort());
});

test("two builds are equal, byte for byte", () => {
  const other = build();
  for (const name of programs) expect(readFileSync(join(other, name)).equals(readFileSync(join(directory, name)))).toBe(true);
});

test("they are small enough, and can be read", () => {
  for (const name of programs) {
    const text = read(name);
    expect(Buffer.byteLength(text)).toBeLessThanOrEqual(name.endsWith("-restore.js") ? MAX_BYTES.restore : MAX_BYTES.backup);
    // Lines as a person writes them, on average; queries over several lines become one each.
    expect(text.length / text.split("\n").length).toBeLessThan(60);
  }
});

test("nothing in them reads as Terraform's own, and nothing comes from outside Node", () => {
  for (const name of programs) {
    expect(read(name).split("\n").filter((line) => /[$%]\{/.test(line))).toEqual([]);
    const modules = [...read(name).matchAll(/\brequire\("([^"]+)"\)/g)].map(([, module]) => module);
    expect(modules.length).toBeGreaterThan(10);
    expect(modules.filter((module) => !module?.startsWith("node:"))).toEqual([]);
  }
});

test("each runs by itself", () => {
  for (const name of programs) {
    const { stdout, status } = spawnSync(process.execPath, [join(directory, name), "--help"], { encoding: "utf8", env: {} });
    expect(status).toBe(0);
    const duty = /-(backup|drill|restore|check-integrity)\.js$/.exec(name)?.[1] ?? "none";
    for (const word of [`\n  ${duty} `, "75", "143", "64"]) expect(stdout).toContain(word);
  }
});

test.each([[[]], [["restore-everything"]]])("refuses the command %j with the usage", (args) => {
  const { stderr, status } = spawnSync(process.execPath, [join(directory, "runner/files-backup.js"), ...args], { encoding: "utf8" });
  expect(status).toBe(64);
  expect(stderr).toMatch(/^unknown command "(restore-everything)?"\n\nusage: /);
});

test("refuses what another program is for", () => {
  expect(spawnSync(process.execPath, [join(directory, "runner/vault-backup.js"), "check-integrity"]).status).toBe(64);
});

test("the shell scripts lie where the compiled library looks for them", () => {
  const scripts = (path: string): string[] => readdirSync(path).sort();
  expect(scripts(join(directory, "lib/scripts"))).toEqual(scripts(join(ROOT, "lib/scripts")));
});

describe("the text for the constructs", () => {
  /** A copy of the module in an otherwise empty package, so that what was built elsewhere does not matter. */
  function ask(place: "lib" | "dist/lib", built: readonly string[]): SpawnSyncReturns<string> {
    const root = temporary();
    const source = join(root, place, "runner-bundle.js");
    const { transformSync } = jest.requireActual<typeof import("esbuild")>("esbuild");
    mkdirSync(join(root, place), { recursive: true });
    const text = readFileSync(join(ROOT, "lib/runner-bundle.ts"), "utf8");
    writeFileSync(source, transformSync(text, { loader: "ts", format: "cjs" }).code);
    mkdirSync(join(root, "dist/runner"), { recursive: true });
    for (const name of built) writeFileSync(join(root, "dist", name), `built ${name}`);
    const code = `process.stdout.write(require(${JSON.stringify(source)}).runnerBundle("vault", "drill"))`;
    return spawnSync(process.execPath, ["-e", code], { encoding: "utf8" });
  }

  test.each(["lib", "dist/lib"] as const)("is what was built, seen from %s", (place) => {
    expect(ask(place, ["runner/files-drill.js", "runner/vault-drill.js"]).stdout).toBe("built runner/vault-drill.js");
  });

  test("fails when it was not built, and says what to do", () => {
    const { status, stderr } = ask("lib", []);
    expect(status).not.toBe(0);
    expect(stderr).toMatch(/the runner is not built, there is no file at .*runner\/vault-drill\.js or .*dist\/runner\/vault-drill\.js; run: npm run build/);
  });
});

describe("a check of a live database", () => {
  function check(damage: (file: string) => void): { code: number | null; lines: string[] } {
    const { root, settings } = prepared();
    const database = join(root, "db.sqlite3");
    const live = new DatabaseSync(database);
    live.exec("CREATE TABLE t (a); CREATE INDEX i ON t (a); BEGIN");
    for (let row = 0; row < 500; row++) live.exec(`INSERT INTO t VALUES ('${"x".repeat(50)}${row}')`);
    live.exec("COMMIT");
    live.close();
    damage(database);
    const engine: Settings["engine"] = { kind: "sqlite", database, minTables: 1, files: [], integrityMetric: "db_ok" };
    writeFileSync(join(root, "config/settings.json"), JSON.stringify({ ...settings, target: undefined, retention: undefined, engine }));
    // The program knows one place for its settings; told another one, it is the same.
    const own = join(root, "runner.js");
    const scratch = JSON.stringify(join(root, "scratch"));
    writeFileSync(own, read("runner/sqlite-check-integrity.js").replaceAll("/etc/cdktf-backup", join(root, "config")).replaceAll('"/scratch"', scratch));
    const { status, stdout } = spawnSync(process.execPath, [own, "check-integrity"], { encoding: "utf8" });
    return { code: status, lines: stdout.trim().split("\n").map((line) => line.slice(21)) };
  }

  test("that is sound ends with 0", () => {
    const { code, lines } = check(() => undefined);
    expect(code).toBe(0);
    expect(lines.at(-1)).toMatch(/db\.sqlite3: ok$/);
  });

  test("that is damaged ends with 1, and says how", () => {
    const { code, lines } = check((file) => {
      const bytes = readFileSync(file);
      bytes.fill(0xff, 4096, 4200);
      writeFileSync(file, bytes);
    });
    expect(code).toBe(1);
    expect(lines.at(-1)).toMatch(/db\.sqlite3: corrupt, ./);
  });

  test("that is not there ends with 2, which is neither", () => {
    const { code, lines } = check((file) => rmSync(file));
    expect(code).toBe(2);
    expect(lines.at(-1)).toMatch(/db\.sqlite3: unknown, ./);
  });
});
