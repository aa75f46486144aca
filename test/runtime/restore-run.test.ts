import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Readable } from "node:stream";
import { text } from "node:stream/consumers";
import { backup } from "../../lib/runtime/backup-run";
import { drill } from "../../lib/runtime/drill-run";
import type { Engine } from "../../lib/runtime/engine";
import { Lock } from "../../lib/runtime/lock";
import { MANIFEST, type Manifest } from "../../lib/runtime/manifest";
import type { RestoreEngine, RestorePlan } from "../../lib/runtime/restore";
import { restore, type RestoreContext } from "../../lib/runtime/restore-run";
import type { Settings } from "../../lib/runtime/settings";
import { fakeEngine, prepared } from "./support";

const mounted = (): Promise<boolean> => Promise.resolve(true);

interface Stage {
  readonly run: (options?: RestoreContext["options"], changes?: Partial<RestoreContext>) => Promise<unknown>;
  readonly directory: string;
  readonly log: string[];
  /** What the target of the restore holds; a file, absent where it is empty. */
  readonly place: string;
  readonly back: () => Promise<string>;
  readonly prove: () => Promise<void>;
  readonly generations: () => string[];
  readonly manifest: (name: string) => Manifest;
}

/** An engine whose source, and whose target, is one file. */
function stage(changes: Partial<RestoreEngine> = {}): Stage {
  const { root, directory, settings: base } = prepared();
  const settings: Settings = { ...base, drill: { maxAgeSeconds: 3600, assertions: [] } };
  const log: string[] = [];
  const place = join(root, "place");
  const engine: Engine = fakeEngine({
    dump: async (run) => ({ files: [await run.store("content", Readable.from([readFileSync(place)]))], fingerprint: {} }),
  });
  const restorer: RestoreEngine = {
    options: { PART: "part of it" },
    plan: async (): Promise<RestorePlan> => ({ steps: ["write it"], replaces: existsSync(place) ? "the place" : undefined }),
    apply: async ({ manifest, open }) => {
      const [file] = manifest.files;
      if (file !== undefined) writeFileSync(place, await text(open(file)));
    },
    verify: async () => ["equal"],
    ...changes,
  };
  const own = { settings, scratch: join(root, "scratch"), mounted, log: (message: string) => void log.push(message) };
  writeFileSync(place, "first");
  const generations = (): string[] => readdirSync(directory).filter((name) => /^\d{8}T\d{6}Z-[0-9a-f]{8}$/.test(name)).sort();
  return {
    run: (options = {}, more = {}) => restore({ ...own, engine, restorer, options, control: new AbortController(), ...more }),
    directory,
    log,
    place,
    back: async () => {
      await backup({ ...own, engine, control: new AbortController() });
      return generations().at(-1) ?? "";
    },
    prove: () =>
      drill({
        ...own,
        work: join(root, "work"),
        signal: new AbortController().signal,
        engine: { restore: async () => undefined, compare: async () => [] },
      }),
    generations,
    manifest: (name) => JSON.parse(readFileSync(join(directory, name, MANIFEST), "utf8")) as Manifest,
  };
}

const content = (path: string): string => readFileSync(path, "utf8");

describe("the generation", () => {
  test("is the newest that a drill proved, not the newest", async () => {
    const { run, place, back, prove, log } = stage();
    const proven = await back();
    await prove();
    writeFileSync(place, "second");
    await back();
    rmSync(place);
    await expect(run()).resolves.toBe("done");
    expect(content(place)).toBe("first");
    expect(log.at(-1)).toMatch(new RegExp(`^restored ${proven} in \\d`));
  });

  test("must be chosen by a person where none is proven", async () => {
    const { run, place, back } = stage();
    const first = await back();
    const second = await back();
    rmSync(place);
    await expect(run()).rejects.toThrow(`no drill has proven any generation; set GENERATION to one of ${first}, ${second}, or to 'newest'`);
    expect(existsSync(place)).toBe(false);
    await run({ GENERATION: "newest" });
    expect(content(place)).toBe("first");
  });

  test("can be named, also one that is not proven", async () => {
    const { run, place, back, prove } = stage();
    const first = await back();
    writeFileSync(place, "second");
    await back();
    await prove();
    rmSync(place);
    await run({ GENERATION: first });
    expect(content(place)).toBe("first");
  });

  test("must exist; the message names those that do", async () => {
    const { run, back } = stage();
    const first = await back();
    await expect(run({ GENERATION: "20200101T000000Z-00000000" })).rejects.toThrow(
      `there is no whole generation "20200101T000000Z-00000000"; there is ${first}`,
    );
  });

  test("is never, unless it is named, what an earlier restore put aside", async () => {
    const { run, place, back, prove, generations, manifest } = stage();
    await back();
    await prove();
    writeFileSync(place, "broken");
    await run({ CONFIRM: "the place" });
    expect(content(place)).toBe("first");
    const [, safety = ""] = generations();
    expect(manifest(safety).purpose).toBe("safety");
    writeFileSync(place, "broken again");
    await run({ CONFIRM: "the place", GENERATION: "newest" });
    expect(content(place)).toBe("first");
    await run({ CONFIRM: "the place", GENERATION: safety });
    expect(content(place)).toBe("broken");
  });

  test("is read to its last byte before anything is touched", async () => {
    const { run, place, directory, back } = stage();
    const name = await back();
    const path = join(directory, name, "content.zst");
    const bytes = readFileSync(path);
    bytes[bytes.length - 1] = (bytes.at(-1) ?? 0) ^ 1;
    writeFileSync(path, bytes);
    writeFileSync(place, "live");
    await expect(run({ GENERATION: "newest", CONFIRM: "the place" })).rejects.toThrow("content.zst is damaged");
    expect(content(place)).toBe("live");
  });
});

describe("a target that is not empty", () => {
  test("is left alone until a person confirms its name", async () => {
    const { run, place, back, generations } = stage();
    await back();
    writeFileSync(place, "live");
    for (const options of [{}, { CONFIRM: "" }, { CONFIRM: "the  place" }, { CONFIRM: "yes" }]) {
      await expect(run({ GENERATION: "newest", ...options })).rejects.toThrow(
        'the target is not empty, and nothing was changed; to replace it, set CONFIRM to "the place"',
      );
    }
    expect(content(place)).toBe("live");
    expect(generations()).toHaveLength(1);
  });

  test("is backed up first, and the restore does not begin where that fails", async () => {
    const { run, place, back, generations, manifest } = stage();
    await back();
    writeFileSync(place, "live");
    const broken = fakeEngine({ dump: () => Promise.reject(new Error("the source is broken")) });
    await expect(run({ GENERATION: "newest", CONFIRM: "the place" }, { engine: broken })).rejects.toThrow("the source is broken");
    expect(content(place)).toBe("live");
    await run({ GENERATION: "newest", CONFIRM: "the place" });
    expect(content(place)).toBe("first");
    expect(generations().map((name) => manifest(name).purpose)).toEqual([undefined, "safety"]);
  });

  test("is not where a person says so", async () => {
    const { run, place, back, generations } = stage();
    await back();
    writeFileSync(place, "live");
    await run({ GENERATION: "newest", CONFIRM: "the place", SAFETY_DUMP: "skip" });
    expect(content(place)).toBe("first");
    expect(generations()).toHaveLength(1);
  });
});

test("a dry run prints the plan and changes nothing, whatever else is set", async () => {
  const { run, place, back, generations, log } = stage();
  await back();
  writeFileSync(place, "live");
  await run({ GENERATION: "newest", CONFIRM: "the place", DRY_RUN: "true" });
  expect(content(place)).toBe("live");
  expect(generations()).toHaveLength(1);
  expect(log).toEqual(expect.arrayContaining(["plan: write it", "plan: back up what is there first", "dry run: nothing was changed; without DRY_RUN it needs CONFIRM=\"the place\""]));
});

test.each([
  [{ DRY_RUN: "yes" }, "DRY_RUN must be 'true' or 'false', but is \"yes\""],
  [{ SAFETY_DUMP: "no" }, "SAFETY_DUMP must be 'skip', but is \"no\""],
])("a choice that means nothing is refused: %j", async (options, message) => {
  const { run, place, back } = stage();
  await back();
  writeFileSync(place, "live");
  await expect(run({ GENERATION: "newest", CONFIRM: "the place", ...options })).rejects.toThrow(message);
  expect(content(place)).toBe("live");
});

test("what the target holds afterwards is compared, and a difference fails the restore", async () => {
  const { run, place, back } = stage({ verify: () => Promise.reject(new Error("1 row is missing")) });
  await back();
  rmSync(place);
  await expect(run({ GENERATION: "newest" })).rejects.toThrow("1 row is missing");
});

test("nothing is done while a backup has the lock", async () => {
  const { run, place, directory, back, log } = stage();
  await back();
  writeFileSync(place, "live");
  const held = await Lock.acquire(directory, { leaseSeconds: 2, owner: "backup-1", signal: new AbortController().signal, onLost: () => undefined });
  await expect(run({ GENERATION: "newest", CONFIRM: "the place" })).resolves.toBe("busy");
  await held.release();
  expect(log.at(-1)).toMatch(/^another run holds the lock: backup-1/);
  expect(content(place)).toBe("live");
});
