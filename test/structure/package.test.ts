import { readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import * as library from "../../constructs";

const root = resolve(__dirname, "../..");
const text = (file: string): string => readFileSync(join(root, file), "utf8");

type Versions = { readonly [name: string]: string };
interface Package {
  readonly main: string;
  readonly scripts: Versions;
  readonly dependencies?: Versions;
  readonly devDependencies: Versions;
  readonly peerDependencies: Versions;
}
const project = JSON.parse(text("package.json")) as Package;
const dependencies = { ...project.dependencies, ...project.devDependencies, ...project.peerDependencies };

/** The names in the first column of the table that begins with this cell. */
function column(file: string, first: string): readonly string[] {
  const rows = text(file).split(`\n| ${first} |`)[1]?.split("\n\n")[0]?.split("\n").slice(2) ?? [];
  return rows.flatMap((row) => [...(row.split("|")[1] ?? "").matchAll(/`([^`]+)`/g)].map(([, name = ""]) => name));
}

/** The scripts that a text tells its reader to run. */
const named = (file: string): readonly string[] =>
  [...text(file).matchAll(/npm (?:run (?:--silent )?([a-z:]+)|(test))\b/g)].map(([, script = "", test = ""]) => script || test);

test("CONTRIBUTING says of every dependency why it is there, and of no other", () => {
  const names = Object.keys(dependencies).map((name) => (name.startsWith("@types/") ? "@types/*" : name));
  expect([...column("CONTRIBUTING.md", "package")].sort()).toEqual([...new Set(names)].sort());
});

test("every version is exact", () => {
  expect(Object.entries(dependencies).filter(([, version]) => !/^\d+\.\d+\.\d+$/.test(version))).toEqual([]);
});

test.each(["README.md", "CONTRIBUTING.md", ".ci/run"])("every script that %s names exists", (file) => {
  expect(named(file).length).toBeGreaterThan(2);
  expect(named(file).filter((script) => !(script in project.scripts))).toEqual([]);
});

test("the README says of every tier of tests what it proves and needs, and CONTRIBUTING when to run it", () => {
  const tiers = Object.keys(project.scripts).filter((script) => /^(test(:.*)?|lint|bench)$/.test(script));
  const commands = tiers.map((script) => (script === "test" ? "npm test" : `npm run ${script}`)).sort();
  for (const file of ["README.md", "CONTRIBUTING.md"]) expect([...column(file, "command")].sort()).toEqual(commands);
});

test("the README's table has every backup and check that there is", () => {
  const exported = Object.keys(library).filter((name) => /.(Backup|Check)$/.test(name));
  expect([...column("README.md", "construct")].sort()).toEqual(exported.sort());
});

test("what a user imports is what the examples import", () => {
  expect(project.main.replace(/^dist\/(.*)\.js$/, "$1.ts")).toBe("constructs/index.ts");
});

test("the proof on cdktn is of what users install: the same versions, all on cdktn", () => {
  const compat = JSON.parse(text("test/compat/cdktn/package.json")) as { readonly dependencies: Versions; readonly overrides: Versions };
  expect({ ...compat.dependencies, cdktf: project.peerDependencies["cdktf"] }).toEqual(project.peerDependencies);
  expect(compat.dependencies["cdktf"]).toMatch(/^npm:cdktn@\d+\.\d+\.\d+$/);
  expect(compat.overrides).toEqual({ cdktf: "$cdktf" });
});
