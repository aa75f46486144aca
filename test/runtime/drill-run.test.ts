import { appendFileSync, readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { backup } from "../../lib/runtime/backup-run";
import type { DrillEngine } from "../../lib/runtime/drill";
import { drill, drillSamples, type DrillContext } from "../../lib/runtime/drill-run";
import { MANIFEST, type Manifest } from "../../lib/runtime/manifest";
import { METRICS } from "../../lib/runtime/metrics";
import { SENTINEL, type Settings } from "../../lib/runtime/settings";
import { readVerdict, VERDICT, type Verdict } from "../../lib/runtime/verdict";
import { fakeEngine, plant, prepared } from "./support";

const mounted = (): Promise<boolean> => Promise.resolve(true);
const HOUR = 3_600_000;

/** Reads one of the two artefacts, as an engine does that has no use for the other. */
function fakeDrill(changes: Partial<DrillEngine> = {}): DrillEngine {
  return {
    restore: async ({ manifest, open }) => {
      const [rows] = manifest.files;
      if (rows === undefined || (await text(open(rows))).length < 199_999) throw new Error("there are no rows");
    },
    compare: async ({ manifest: { fingerprint } }) => {
      if (fingerprint["rows"] !== 3) throw new Error(`3 rows instead of ${String(fingerprint["rows"])}`);
      return ["rows: 3"];
    },
    ...changes,
  };
}

interface Stage {
  readonly context: DrillContext;
  readonly directory: string;
  readonly log: string[];
  /** Makes a generation; returns its name. */
  readonly back: (changes?: Partial<Settings>) => Promise<string>;
  readonly verdict: (name: string) => Verdict;
}

function stage(engine: Partial<DrillEngine> = {}, changes: Partial<DrillContext> = {}): Stage {
  const { root, directory, settings: base } = prepared();
  const settings: Settings = { ...base, drill: { maxAgeSeconds: 26 * 3600, assertions: [] } };
  const log: string[] = [];
  const scratch = join(root, "scratch");
  const own = { settings, scratch, mounted, log: (message: string) => void log.push(message) };
  return {
    context: { ...own, engine: fakeDrill(engine), work: join(root, "work"), signal: new AbortController().signal, ...changes },
    directory,
    log,
    back: async (more = {}) => {
      await backup({ ...own, settings: { ...settings, ...more }, engine: fakeEngine(), control: new AbortController() });
      return readdirSync(directory).filter((name) => /^\d{8}T\d{6}Z-[0-9a-f]{8}$/.test(name)).sort().at(-1) ?? "";
    },
    verdict: (name) => JSON.parse(readFileSync(join(directory, name + VERDICT), "utf8")) as Verdict,
  };
}

test("a generation that restores and is equal is proven, and the verdict says how it went", async () => {
  const { context, directory, back, verdict, log } = stage();
  const name = await back();
  const before = readFileSync(join(directory, name, MANIFEST), "utf8");
  await drill(context);
  expect(verdict(name)).toMatchObject({ formatVersion: 1, generation: name, green: true, checks: ["rows: 3"] });
  expect(verdict(name).restoreSeconds).toBeGreaterThan(0);
  expect(verdict(name).bytes).toBeGreaterThan(0);
  expect(Date.parse(verdict(name).finishedAt ?? "")).toBeGreaterThanOrEqual(Date.parse(verdict(name).startedAt));
  expect(await readVerdict(directory, name)).toEqual(verdict(name));
  expect(log.at(-1)).toMatch(/is proven: restored in \d+\.\d s/);
  // Nothing else has changed, and nothing is left behind.
  expect(readFileSync(join(directory, name, MANIFEST), "utf8")).toBe(before);
  expect(readdirSync(directory).filter((entry) => !entry.startsWith(".lock")).sort()).toEqual([name, name + VERDICT]);
  expect(readdirSync(context.scratch)).toEqual([]);
});

test("the verdict is red from the first moment on, so that a drill that is killed proves nothing", async () => {
  const seen: Verdict[] = [];
  const holder: { verdict?: () => Verdict } = {};
  const { context, back, verdict } = stage({
    compare: async () => {
      seen.push(holder.verdict?.() as Verdict);
      return [];
    },
  });
  const name = await back();
  holder.verdict = () => verdict(name);
  await drill(context);
  expect(seen).toMatchObject([{ green: false, reason: "the drill did not end", checks: [] }]);
});

test.each<readonly [string, Partial<DrillEngine>, RegExp]>([
  ["cannot be restored", { restore: () => Promise.reject(new Error("no such\n  role")) }, /^no such \| role$/],
  ["differs", { compare: () => Promise.reject(new Error("table a has 2 rows instead of 3")) }, /^table a has 2 rows instead of 3$/],
])("one that %s is red, and says why", async (_, engine, reason) => {
  const { context, back, verdict } = stage(engine);
  const name = await back();
  await expect(drill(context)).rejects.toThrow();
  expect(verdict(name)).toMatchObject({ green: false });
  expect(verdict(name).reason).toMatch(reason);
});

test("a later verdict takes the place of an earlier one, both ways", async () => {
  const { context, back, verdict } = stage();
  const name = await back();
  await drill(context);
  await expect(drill({ ...context, engine: fakeDrill({ compare: () => Promise.reject(new Error("gone")) }) })).rejects.toThrow("gone");
  expect(verdict(name).green).toBe(false);
  await drill(context);
  expect(verdict(name).green).toBe(true);
});

describe("damage", () => {
  test("of an artefact that the engine has no use for is found all the same", async () => {
    const { context, directory, back, verdict } = stage();
    const name = await back();
    writeFileSync(join(directory, name, "sub/raw.bin"), "RAW");
    await expect(drill(context)).rejects.toThrow("sub/raw.bin is damaged: its SHA-256 is not the one that was written");
    expect(verdict(name).green).toBe(false);
  });

  test.each<readonly [string, (path: string) => void]>([
    ["whose last byte is missing", (path) => truncateSync(join(path, "rows.zst"), 20)],
    ["with a byte too many", (path) => appendFileSync(join(path, "sub/raw.bin"), "x")],
    ["without a manifest", (path) => rmSync(join(path, MANIFEST))],
    ["with half a manifest", (path) => truncateSync(join(path, MANIFEST), 100)],
    ["without an artefact", (path) => rmSync(join(path, "rows.zst"))],
  ])("that makes the newest generation none is red, although the one before is whole: one %s", async (_, damage) => {
    const { context, directory, back, verdict } = stage();
    const whole = await back();
    const broken = await back();
    damage(join(directory, broken));
    await expect(drill(context)).rejects.toThrow(`${broken} is not counted and left alone`);
    expect(await readVerdict(directory, whole)).toBeUndefined();
    expect(() => verdict(whole)).toThrow();
  });
});

describe("the newest generation", () => {
  test("is red where it is older than the objective, though it restores", async () => {
    const { context, back, verdict } = stage();
    const name = await back();
    const later = (hours: number) => (): Date => new Date(Date.now() + hours * HOUR);
    await expect(drill({ ...context, now: later(27) })).rejects.toThrow("the newest generation is 27.0 h old, but may be 26.0 h at most");
    expect(verdict(name)).toMatchObject({ green: false, checks: ["rows: 3"] });
    await drill({ ...context, now: later(25) });
    expect(verdict(name).green).toBe(true);
  });

  test("is not what a restore put aside", async () => {
    const { context, back, verdict } = stage();
    const own = await back();
    const safety = await back({ purpose: "safety" });
    await drill(context);
    expect(verdict(own).green).toBe(true);
    expect(() => verdict(safety)).toThrow();
  });

  test("must be there", async () => {
    const { context, directory, back } = stage();
    await back();
    for (const name of readdirSync(directory)) rmSync(join(directory, name), { recursive: true });
    await expect(drill(context)).rejects.toThrow("nothing was ever backed up there");
  });

  test("must be of this engine", async () => {
    const { context, directory, back, verdict } = stage();
    const name = await back();
    const path = join(directory, name, MANIFEST);
    writeFileSync(path, readFileSync(path, "utf8").replace('"engine": "postgres"', '"engine": "redis"'));
    await expect(drill(context)).rejects.toThrow("was made by redis, not postgres");
    expect(verdict(name).green).toBe(false);
  });
});

test("fails before anything where the target is another export, and writes nothing", async () => {
  const { context, directory, back } = stage();
  const name = await back();
  writeFileSync(join(directory, "..", SENTINEL), "another");
  await expect(drill(context)).rejects.toThrow("this export belongs to another backup");
  expect(readdirSync(directory)).not.toContain(name + VERDICT);
});

test("a drill that is told to stop is red", async () => {
  const control = new AbortController();
  const { context, back, verdict } = stage({ compare: () => new Promise(() => undefined) }, { signal: control.signal });
  const name = await back();
  setTimeout(() => control.abort(new Error("stopped by SIGTERM")), 50);
  await expect(drill(context)).rejects.toThrow("stopped by SIGTERM");
  expect(verdict(name)).toMatchObject({ green: false, reason: "stopped by SIGTERM" });
}, 10_000);

test("every drill has a name of its own for the scratch instance", async () => {
  const names = new Set<string>();
  const { context, back } = stage({ restore: async ({ name }) => void names.add(name) });
  await back();
  for (let round = 0; round < 3; round++) await drill(context);
  expect(names.size).toBe(3);
  for (const name of names) expect(name).toMatch(/^drill-[0-9a-f]{16}$/);
});

describe("a verdict", () => {
  test("says nothing about a manifest that was changed since", async () => {
    const { context, directory, back } = stage();
    const name = await back();
    await drill(context);
    const path = join(directory, name, MANIFEST);
    const manifest = JSON.parse(readFileSync(path, "utf8")) as Manifest;
    writeFileSync(path, JSON.stringify({ ...manifest, fingerprint: { rows: 0 } }));
    expect(await readVerdict(directory, name)).toBeUndefined();
  });

  test.each(["", "{", "null", "[]", '{"formatVersion":2,"green":true}'])("that is %j is none", async (content) => {
    const { directory } = stage();
    plant(directory, "20261101T000000Z-00000000");
    writeFileSync(join(directory, `20261101T000000Z-00000000${VERDICT}`), content);
    expect(await readVerdict(directory, "20261101T000000Z-00000000")).toBeUndefined();
  });
});

test("the metrics are those of the newest proven generation, also after a red drill", async () => {
  const { context, directory, back, verdict } = stage();
  const proven = await back();
  await drill(context);
  await back();
  await expect(drill({ ...context, engine: fakeDrill({ restore: () => Promise.reject(new Error("broken")) }) })).rejects.toThrow("broken");
  const manifest = JSON.parse(readFileSync(join(directory, proven, MANIFEST), "utf8")) as Manifest;
  const samples = new Map((await drillSamples(context.settings, mounted)).map(([{ name }, value]) => [name, value]));
  expect(samples.get(METRICS.drillSnapshot.name)).toBe(Math.floor(Date.parse(manifest.startedAt) / 1000));
  expect(samples.get(METRICS.drillLastSuccess.name)).toBe(Math.floor(Date.parse(verdict(proven).finishedAt ?? "") / 1000));
  expect(samples.get(METRICS.drillRestoreSeconds.name)).toBe(verdict(proven).restoreSeconds);
  expect(samples.get(METRICS.drillBytes.name)).toBe(verdict(proven).bytes);
});
