import fc from "fast-check";
import { mkdirSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { DELETING, listGenerations, timeOf } from "../../lib/runtime/generation";
import { planRetention, removeGenerations } from "../../lib/runtime/retention";
import type { RetentionSettings } from "../../lib/runtime/settings";
import { plant, temporary } from "./support";

const DAY = 86_400_000;
const HOUR = 3_600_000;
const NOW = Date.parse("2026-11-23T00:00:30Z");
const signal = new AbortController().signal;
const silent = (): void => undefined;

interface Dated {
  readonly name: string;
  readonly time: number;
}

function named(time: number, id = "00000000"): Dated {
  const seconds = Math.floor(time / 1000) * 1000;
  const name = `${new Date(seconds).toISOString().replace(/[-:]|\.\d+/g, "")}-${id}`;
  return { name, time: seconds };
}

const daily = (count: number, first = NOW): Dated[] => Array.from({ length: count }, (_, day) => named(first - day * DAY)).reverse();

describe("the plan", () => {
  test("removes what is older than the days, and nothing younger", () => {
    const plan = planRetention(daily(30, NOW - 10_000), { keepDays: 14, keepLast: 3 }, NOW);
    expect(plan).toEqual(daily(30, NOW - 10_000).slice(0, 16).map(({ name }) => name));
  });

  test("keeps a generation on its last second and removes it on the next", () => {
    const old = named(NOW - 14 * DAY);
    const rest = [named(NOW - 2 * DAY), named(NOW - DAY)];
    expect(planRetention([old, ...rest], { keepDays: 14, keepLast: 2 }, old.time + 14 * DAY)).toEqual([]);
    expect(planRetention([old, ...rest], { keepDays: 14, keepLast: 2 }, old.time + 14 * DAY + 1)).toEqual([old.name]);
  });

  test("keeps the last ones however old they are", () => {
    const ancient = daily(10, NOW - 400 * DAY);
    expect(planRetention(ancient, { keepDays: 14, keepLast: 3 }, NOW)).toEqual(ancient.slice(0, 7).map(({ name }) => name));
  });

  test("by count alone leaves the count", () => {
    const two = daily(5);
    expect(planRetention(two, { keepLast: 2 }, NOW)).toEqual(two.slice(0, 3).map(({ name }) => name));
  });

  test("never counts a generation from the future among the last, nor removes it", () => {
    const future = [named(NOW + 300 * DAY), named(NOW + 301 * DAY), named(NOW + 302 * DAY)];
    const past = daily(4);
    expect(planRetention([...past, ...future], { keepLast: 3 }, NOW)).toEqual([past[0]?.name]);
  });

  test("counts a generation whose maker's clock was a little ahead", () => {
    const generations = [named(NOW - 2 * DAY), named(NOW - DAY), named(NOW + 3_600_000)];
    expect(planRetention(generations, { keepLast: 2 }, NOW)).toEqual([generations[0]?.name]);
    expect(planRetention(generations, { keepLast: 2 }, NOW - 1000)).toEqual([]);
  });

  test("removes no more under a clock that is late", () => {
    const generations = daily(30);
    expect(planRetention(generations, { keepDays: 14, keepLast: 3 }, NOW - 20 * DAY)).toEqual([]);
  });

  test.each([0, -1, Number.NaN])("keeps the newest whatever it is told: keep last %p", (keepLast) => {
    const generations = daily(3);
    expect(planRetention(generations, { keepDays: 0, keepLast }, NOW)).not.toContain(generations.at(-1)?.name);
  });
});

/** A history: runs with gaps, failed days, bursts, and a clock that jumps, seen at a moment that may be wrong too. */
const history = fc.record({
  steps: fc.array(fc.tuple(fc.integer({ min: 0, max: 5 * 24 * 60 }), fc.constantFrom(0, 0, 0, 0, 0, 0, -400 * DAY, 400 * DAY, -3 * HOUR)), {
    maxLength: 60,
  }),
  ids: fc.infiniteStream(fc.integer({ min: 0, max: 0xffffffff })),
  nowOffset: fc.constantFrom(0, 0, 0, HOUR, 40 * DAY, -40 * DAY, 4000 * DAY, -4000 * DAY),
  keepDays: fc.option(fc.integer({ min: 1, max: 60 }), { nil: undefined }),
  keepLast: fc.integer({ min: 2, max: 12 }),
});

function play({ steps, ids, nowOffset, keepDays, keepLast }: typeof history extends fc.Arbitrary<infer T> ? T : never): {
  readonly generations: Dated[];
  readonly settings: RetentionSettings;
  readonly now: number;
} {
  let time = Date.parse("2026-01-01T00:00:00Z");
  const generations = new Map<string, Dated>();
  for (const [minutes, jump] of steps) {
    time += minutes * 60_000 + jump;
    const id = (ids.next().value as number).toString(16).padStart(8, "0");
    const generation = named(time, id);
    generations.set(generation.name, generation);
  }
  return { generations: [...generations.values()], settings: { keepDays, keepLast }, now: time + nowOffset };
}

test("over 5,000 histories: the last are kept, the newest is, the young are, and a second plan is empty", () => {
  fc.assert(
    fc.property(history, (input) => {
      const { generations, settings, now } = play(input);
      const plan = planRetention(generations, settings, now);
      const removed = new Set(plan);
      const byName = [...generations].sort((a, b) => (a.name < b.name ? -1 : 1));
      const kept = byName.filter(({ name }) => !removed.has(name));
      const dated = byName.filter(({ time }) => time <= now + HOUR);

      const names = new Set(byName.map(({ name }) => name));
      const young = (time: number): boolean => settings.keepDays !== undefined && now - time <= settings.keepDays * DAY;
      expect(removed.size).toBe(plan.length);
      expect(plan.filter((name) => !names.has(name))).toEqual([]);
      expect(dated.slice(-settings.keepLast).filter(({ name }) => removed.has(name))).toEqual([]);
      expect(removed.has(byName.at(-1)?.name ?? "")).toBe(false);
      expect(byName.filter(({ name, time }) => removed.has(name) && (time > now + HOUR || young(time)))).toEqual([]);
      // Nothing that is both old and beyond the last stays for ever.
      expect(dated.slice(0, -settings.keepLast).filter(({ name, time }) => !removed.has(name) && !young(time))).toEqual([]);
      expect(planRetention(kept, settings, now)).toEqual([]);
      // An earlier clock never removes what a later one keeps.
      const earlier = planRetention(generations, settings, now - 7 * DAY);
      expect(earlier.filter((name) => !removed.has(name))).toEqual([]);
      expect([...plan].sort()).toEqual(plan);
      expect(planRetention([...generations].reverse(), settings, now)).toEqual(plan);
    }),
    { numRuns: 5000 },
  );
});

describe("on a disk", () => {
  const settings: RetentionSettings = { keepDays: 1, keepLast: 2 };
  const owner = { backup: "postgres", namespace: "dbaas" };

  /** What a directory may hold that is no valid generation of this backup. */
  const foreign: readonly ((directory: string, name: string) => void)[] = [
    (directory, name): void => plant(directory, name, { backup: "mysql" }),
    (directory, name): void => plant(directory, name, { namespace: "other" }),
    (directory, name): void => plant(directory, name, { generation: "20200101T000000Z-00000000" }),
    (directory, name): void => plant(directory, name, { files: [{ path: "data", bytes: 5, sha256: "0".repeat(64) }] }),
    (directory, name): void => plant(directory, `${name}-old`),
    (directory, name): void => plant(directory, `x${name}`),
    (directory, name): void => mkdirSync(join(directory, name)),
    (directory, name): void => writeFileSync(join(directory, name), "a file"),
    (directory, name): void => writeFileSync(join(directory, `dump_${name}.sql.gz`), "hand-made"),
  ];

  test("over 100 histories: what is not its own stays, and the last valid generations do", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.tuple(fc.integer({ min: 0, max: 60 }), fc.option(fc.nat(foreign.length - 1), { nil: undefined })), { maxLength: 14 }),
        async (entries) => {
          const directory = temporary();
          const valid = new Set<string>();
          const others = new Set<string>();
          entries.forEach(([age, kind], index) => {
            const { name } = named(NOW - age * DAY, index.toString(16).padStart(8, "0"));
            const before = new Set(readdirSync(directory));
            const make = kind === undefined ? undefined : foreign[kind];
            if (make === undefined) plant(directory, name);
            else make(directory, name);
            for (const made of readdirSync(directory)) if (!before.has(made)) (make === undefined ? valid : others).add(made);
          });
          const generations = await listGenerations(directory, owner, silent);
          expect(new Set(generations.map(({ name }) => name))).toEqual(valid);
          await removeGenerations(directory, planRetention(generations, settings, NOW), signal, silent);
          const left = new Set(readdirSync(directory));
          for (const name of others) expect(left).toContain(name);
          for (const name of [...valid].sort().slice(-settings.keepLast)) expect(left).toContain(name);
          for (const name of left) expect(valid.has(name) || others.has(name)).toBe(true);
          for (const name of left) if (valid.has(name)) plant(directory, name);
          rmSync(directory, { recursive: true });
        },
      ),
      { numRuns: 100 },
    );
  });

  test("says what it removes, oldest first, and stops when told to", async () => {
    const directory = temporary();
    const names = daily(3).map(({ name }) => name);
    for (const name of names) plant(directory, name);
    const control = new AbortController();
    const said: string[] = [];
    const log = (message: string): void => {
      said.push(message);
      control.abort(new Error("stop"));
    };
    await expect(removeGenerations(directory, names, control.signal, log)).rejects.toThrow("stop");
    expect(said).toEqual([`removing generation ${names[0]}`]);
    expect(readdirSync(directory)).toEqual(names.slice(1));
  });

  test("takes a generation's name away before its files", async () => {
    const directory = temporary();
    const [name] = daily(1).map((generation) => generation.name);
    plant(directory, name as string);
    // The removal meets a name that is taken, as if an earlier one had died on the way.
    mkdirSync(join(directory, DELETING + name));
    writeFileSync(join(directory, DELETING + name, "in the way"), "");
    await expect(removeGenerations(directory, [name as string], signal, silent)).rejects.toThrow("ENOTEMPTY");
    expect(readdirSync(join(directory, name as string)).sort()).toEqual(["data", "manifest.json"]);
    expect(timeOf(DELETING + name)).toBeUndefined();
  });
});
