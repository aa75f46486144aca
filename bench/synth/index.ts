import type { Figure, Report } from "../result";
import type { BareStacks } from "./bare";
import type { Measure } from "./measured";
import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { isDeepStrictEqual } from "node:util";
import { join, resolve } from "node:path";
import { transformSync } from "esbuild";
import { median } from "../result";

const PROJECT = resolve(__dirname, "../..");
/** Beside the compiled library, whose modules the children import by the same relative paths as in the source. */
const COMPILED = join(PROJECT, "dist", "bench", "synth");
const CHILDREN = ["bare", "homelab", "services", "measured"];
const ROUNDS = 7;
const SIZES = [100, 300, 1000] as const;

/** Synthesis: the homelab against the same resources written as bare provider classes, and how it grows to 1,000 services. */
export function benchSynth(): Promise<Report> {
  const scratch = mkdtempSync(join(tmpdir(), "bench-synth-"));
  mkdirSync(COMPILED, { recursive: true });
  try {
    CHILDREN.forEach(compile);
    return Promise.resolve(measure(scratch));
  } finally {
    rmSync(scratch, { recursive: true });
    rmSync(join(COMPILED, ".."), { recursive: true });
  }
}

function compile(name: string): void {
  const source = readFileSync(join(__dirname, `${name}.ts`), "utf8");
  const { code } = transformSync(source, { loader: "ts", format: "cjs", platform: "node", target: "node20" });
  writeFileSync(join(COMPILED, `${name}.js`), code);
}

function measure(scratch: string): Report {
  const homelab = join(scratch, "homelab");
  const bare = join(scratch, "bare");
  const resources = join(scratch, "resources.json");
  child("homelab", homelab);
  writeFileSync(resources, JSON.stringify(bareStacks(homelab)));
  child("bare", bare, resources);
  const count = assertSame(homelab, bare);

  const measured = { homelab: [] as Measure[], bare: [] as Measure[] };
  // In turns, so that whatever else the machine does falls on both.
  for (let round = 0; round < ROUNDS; round++) {
    measured.homelab.push(child("homelab", homelab));
    measured.bare.push(child("bare", bare, resources));
  }
  const sizes = SIZES.map((size) => ({ size, ...child("services", join(scratch, `services-${size}`), String(size)) }));
  writeFileSync(resources, JSON.stringify(bareStacks(join(scratch, `services-${SIZES[2]}`))));
  const largestBare = child("bare", bare, resources);
  const seconds = (of: readonly Measure[]): number => median(of.map((one) => one.seconds));
  const [small, middle, large] = sizes as [Size, Size, Size];
  type Size = (typeof sizes)[number];
  const each = (from: Size, to: Size): number => (to.seconds - from.seconds) / (to.size - from.size);
  const ratio = seconds(measured.homelab) / seconds(measured.bare);
  const figures: Figure[] = [
    { name: "homelab, time against bare provider classes", value: ratio, unit: "x", goal: 1.25 },
    { name: "growth: a service from 300 to 1,000 against 100 to 300", value: each(middle, large) / each(small, middle), unit: "x" },
    { name: "1,000 services, time", value: large.seconds, unit: "s", goal: 6 },
    { name: "1,000 services, memory", value: large.megabytes, unit: "MB", goal: 350 },
    { name: "1,000 services as bare provider classes, time", value: largestBare.seconds, unit: "s" },
    { name: "homelab, time", value: seconds(measured.homelab), unit: "s" },
    { name: "homelab as bare provider classes, time", value: seconds(measured.bare), unit: "s" },
    ...[small, middle].flatMap(({ size, ...one }) => [
      { name: `${size} services, time`, value: one.seconds, unit: "s" },
      { name: `${size} services, memory`, value: one.megabytes, unit: "MB" },
    ]),
  ];
  return {
    title: "synth",
    about: [
      `Compiled code in a process of its own, with starting Node and loading the provider. Homelab: ${count} resources, median of`,
      `${ROUNDS} rounds in turns; the bare form's JSON was found equal. A service is a stack with a SQLite backup and its volume.`,
    ],
    figures,
  };
}

function child(name: string, out: string, ...args: readonly string[]): Measure {
  rmSync(out, { recursive: true, force: true });
  const command = [join(COMPILED, `${name}.js`), out, ...args];
  const { stdout, stderr, status } = spawnSync(process.execPath, command, { cwd: PROJECT, encoding: "utf8" });
  if (status !== 0) throw new Error(`${name} ended with ${status}: ${stderr}`);
  return JSON.parse(stdout) as Measure;
}

type Json = null | boolean | number | string | readonly Json[] | { readonly [key: string]: Json };

/** The resources of synthesised stacks without cdktf's own comments, by stack. */
function resourcesIn(out: string): { readonly [stack: string]: readonly { readonly type: string; readonly attributes: Json }[] } {
  const directory = join(out, "stacks");
  return Object.fromEntries(
    readdirSync(directory).map((stack) => {
      const text = readFileSync(join(directory, stack, "cdk.tf.json"), "utf8");
      const { resource } = JSON.parse(text, (key, value: unknown) => (key === "//" ? undefined : value)) as {
        readonly resource: { readonly [type: string]: { readonly [id: string]: Json } };
      };
      const all = Object.entries(resource).flatMap(([type, ids]) => Object.values(ids).map((attributes) => ({ type, attributes })));
      return [stack, all];
    }),
  );
}

/** The attributes of synthesised resources as a person writes them for the provider's classes. */
function bareStacks(out: string): BareStacks {
  const runners: string[] = [];
  const stacks = Object.fromEntries(
    Object.entries(resourcesIn(out)).map(([stack, resources]) => [
      stack,
      resources.map(({ type, attributes }) => {
        const config = camelCase(attributes) as { readonly [key: string]: Json };
        const data = config.data as { readonly [key: string]: string } | undefined;
        if (data?.["runner.js"] === undefined) return { type, config };
        if (!runners.includes(data["runner.js"])) runners.push(data["runner.js"]);
        return { type, config: { ...config, data: { ...data, "runner.js": runners.indexOf(data["runner.js"]) } } };
      }),
    ]),
  );
  return { runners, stacks };
}

/** Maps whose keys are the owner's and not the provider's. */
const MAPS = ["annotations", "capacity", "data", "labels", "limits", "match_labels", "node_selector", "requests", "volume_attributes"];

function camelCase(value: Json, key = ""): Json {
  if (Array.isArray(value)) return value.map((item: Json) => camelCase(item));
  if (typeof value !== "object" || value === null || MAPS.includes(key)) return value;
  return Object.fromEntries(
    Object.entries(value).map(([name, item]) => {
      const camel = name.replace(/_(\w)/g, (_, letter: string) => letter.toUpperCase());
      return [camel, camelCase(item, name)];
    }),
  );
}

/** @returns how many resources there are @throws Error where the two forms did not give the same ones */
function assertSame(one: string, other: string): number {
  const sorted = (out: string): readonly string[] =>
    Object.entries(resourcesIn(out))
      .flatMap(([stack, all]) => all.map(({ type, attributes }) => JSON.stringify([stack, type, sortKeys(attributes)])))
      .sort();
  const [left, right] = [sorted(one), sorted(other)];
  const different = left.find((resource, index) => resource !== right[index]);
  if (!isDeepStrictEqual(left, right)) throw new Error(`the bare form is not the same: ${different?.slice(0, 300)}`);
  return left.length;
}

function sortKeys(value: Json): Json {
  if (Array.isArray(value)) return value.map((item: Json) => sortKeys(item));
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1)).map(([key, item]) => [key, sortKeys(item)]));
}
