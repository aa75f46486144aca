import { existsSync, mkdirSync, readFileSync, readdirSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { Testing } from "cdktf";
import { literal } from "../../lib";
import { CHECKSUM_ANNOTATION } from "../../constructs/backup";
import { removedWithoutTombstone, type SynthesisedStack } from "../../constructs/storage";
import { addStacks } from "../../stacks";

/**
 * What each stack synthesises, compared with the files in test/golden. `UPDATE_GOLDEN=1 npm test` writes them anew; read the
 * difference before committing it. An address that goes away is a resource that Terraform destroys.
 */
const root = resolve(__dirname, "../..");
const golden = join(root, "test/golden");
const update = process.env["UPDATE_GOLDEN"] === "1";

/** Code is tested elsewhere; here its name stands for it, so that a golden file changes only with what a stack declares. */
const code = new Map(
  ["dist/runner", "lib/scripts"]
    .flatMap((directory) => readdirSync(join(root, directory), { withFileTypes: true }))
    .filter((entry) => entry.isFile())
    .map((entry) => [literal(readFileSync(join(entry.parentPath, entry.name), "utf8")), `<${entry.name}>`]),
);

const stacks = addStacks(Testing.app()).map((stack) => ({ id: stack.node.id, json: JSON.parse(Testing.synth(stack, true)) as Json }));

type Json = { readonly [key: string]: unknown };

describe.each(stacks)("stack $id", ({ id, json }) => {
  test("synthesises what it did", () => {
    const path = join(golden, `${id}.json`);
    const before = existsSync(path) ? (JSON.parse(readFileSync(path, "utf8")) as SynthesisedStack) : {};
    // Refused also where the files are written anew.
    expect(removedWithoutTombstone(before, json)).toEqual([]);
    expectGolden(`${id}.json`, `${JSON.stringify(shortened(json), undefined, 2)}\n`);
  });

  test("has the resource addresses it had", () => {
    const resources = json["resource"] as { readonly [type: string]: Json };
    const addresses = Object.entries(resources).flatMap(([type, byId]) => Object.keys(byId).map((name) => `${type}.${name}`));
    expectGolden(`${id}.addresses.txt`, `${addresses.sort().join("\n")}\n`);
  });
});

test("every golden file belongs to a stack", () => {
  const ids = new Set(stacks.map(({ id }) => id));
  expect(readdirSync(golden).filter((file) => !ids.has(file.split(".")[0] ?? ""))).toEqual([]);
});

test("two syntheses of all stacks are identical to the byte", () => {
  const once = (): readonly string[] => addStacks(Testing.app()).map((stack) => JSON.stringify(stack.toTerraform()));
  expect(once()).toEqual(once());
});

function expectGolden(file: string, actual: string): void {
  const path = join(golden, file);
  if (update) {
    mkdirSync(golden, { recursive: true });
    writeFileSync(path, actual);
  }
  expect(existsSync(path)).toBe(true);
  expect(actual).toBe(readFileSync(path, "utf8"));
}

function shortened(value: unknown): unknown {
  if (typeof value === "string") return code.get(value) ?? value;
  if (Array.isArray(value)) return value.map(shortened);
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(
    Object.entries(value).map(([key, inner]) => [key, key === CHECKSUM_ANNOTATION ? "<hash of code and settings>" : shortened(inner)]),
  );
}
