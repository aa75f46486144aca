import fc from "fast-check";
import { existsSync, mkdirSync, readdirSync, rmSync, utimesSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { temporary, plant } from ".";
import { DELETING, listGenerations, timeOf } from "../../../lib/runtime/generation";
import type { Manifest } from "../../../lib/runtime/manifest";
import type * as prune from "../../../lib/runtime/prune";
import type * as retention from "../../../lib/runtime/retention";
import type { Candidate, RetentionPlan } from "../../../lib/runtime/retention";
import type { RetentionSettings } from "../../../lib/runtime/settings";
import { manifestHash, VERDICT } from "../../../lib/runtime/verdict";

/**
 * What the retention promises, each promise as a function that throws where it is broken: the tests hold the code to them, and the
 * mutations show that they notice.
 */
export type Subject = Pick<typeof retention, "planRetention" | "usualSize"> &
  Pick<typeof prune, "candidatesOf" | "removeGenerations" | "removeStrayVerdicts">;

const DAY = 86_400_000;
const HOUR = 3_600_000;
const NOW = Date.parse("2026-11-23T00:00:30Z");
const USUAL_SIZE = 1_000_000;
const signal = new AbortController().signal;
const silent = (): void => undefined;

type Changes = Partial<Omit<Candidate, "verdict">> & { readonly verdict?: "green" | "red" | "none" };

/** A generation of the usual size that was drilled and found well, unless told otherwise. */
function made(time: number, changes: Changes = {}, id = "00000000"): Candidate {
  const seconds = Math.floor(time / 1000) * 1000;
  const name = `${new Date(seconds).toISOString().replace(/[-:]|\.\d+/g, "")}-${id}`;
  const { verdict = "green", ...others } = changes;
  const judged = verdict === "none" ? {} : { verdict: verdict === "green" ? { green: true } : { green: false, reason: "it differs" } };
  const sizes = { size: USUAL_SIZE, usual: USUAL_SIZE };
  return { name, time: seconds, ...sizes, safety: false, pinned: false, accepted: false, ...judged, ...others };
}

const settingsWith = (changes: Partial<RetentionSettings> = {}): RetentionSettings => ({
  keepLast: 3,
  proof: "drill",
  removeAtMost: 1,
  freezeBelow: 0.5,
  ...changes,
});

/** One a day, the last one at `last`. */
const daily = (count: number, last = NOW, changes: Changes = {}): Candidate[] =>
  Array.from({ length: count }, (_, day) => made(last - day * DAY, changes)).reverse();
const names = (generations: readonly { readonly name: string }[]): string[] => generations.map(({ name }) => name);
const removed = ({ decisions }: RetentionPlan): string[] => decisions.filter(({ remove }) => remove).map(({ name }) => name);
const whyOf = ({ decisions }: RetentionPlan, { name }: Candidate): string => decisions.find((decision) => decision.name === name)?.why ?? "";

/** The one of which as many are smaller as are larger, or one fewer. */
function medianOf(sizes: readonly number[]): number | undefined {
  const rank = Math.ceil(sizes.length / 2);
  return sizes.find((one) => {
    const below = sizes.filter((other) => other < one).length;
    return below < rank && rank <= below + sizes.filter((other) => other === one).length;
  });
}

/** Every promise, by what it says. */
export function promises(histories: number): { readonly [promise: string]: (subject: Subject) => void | Promise<void> } {
  return {
    "removes what is older than the days, and nothing younger": ({ planRetention }) => {
      const generations = daily(30, NOW - 10_000);
      const plan = planRetention(generations, settingsWith({ keepDays: 14 }), NOW);
      expect(planRetention([...generations].reverse(), settingsWith({ keepDays: 14 }), NOW)).toEqual(plan);
      expect(removed(plan)).toEqual(names(generations.slice(0, 16)));
      expect(plan.decisions.map(({ name }) => name)).toEqual(names(generations));
      expect(plan.frozen).toBeUndefined();
      expect(whyOf(plan, generations[15] as Candidate)).toBe("older than 14 d, and 3 proven generations are newer");
      expect(whyOf(plan, generations[16] as Candidate)).toBe("younger than 14 d");
    },

    "keeps a generation on its last second and removes it on the next": ({ planRetention }) => {
      const old = made(NOW - 14 * DAY);
      const all = [old, made(NOW - 3 * DAY), made(NOW - 2 * DAY), made(NOW - DAY)];
      const at = (now: number): string[] => removed(planRetention(all, settingsWith({ keepDays: 14 }), now));
      expect(at(old.time + 14 * DAY)).toEqual([]);
      expect(at(old.time + 14 * DAY + 1)).toEqual([old.name]);
    },

    "keeps the last proven ones however old they are": ({ planRetention }) => {
      const ancient = daily(10, NOW - 400 * DAY);
      const plan = planRetention(ancient, settingsWith({ keepDays: 14 }), NOW);
      expect(removed(plan)).toEqual(names(ancient.slice(0, 7)));
      expect(whyOf(plan, ancient[7] as Candidate)).toBe("only 2 of 3 proven generations are newer");
    },

    "by count alone leaves the last proven ones, and what is newer than the first of them": ({ planRetention }) => {
      const generations = daily(5);
      const plan = planRetention(generations, settingsWith({ keepLast: 2 }), NOW);
      expect(removed(plan)).toEqual(names(generations.slice(0, 3)));
      expect(whyOf(plan, generations[0] as Candidate)).toBe("2 proven generations are newer");
      const undrilled = [...daily(4, NOW - 3 * DAY), ...daily(3, NOW, { verdict: "none" })];
      expect(removed(planRetention(undrilled, settingsWith({ keepLast: 2 }), NOW))).toEqual(names(undrilled.slice(0, 2)));
    },

    "removes nothing while there are fewer proven ones than are kept": ({ planRetention }) => {
      const settings = settingsWith({ keepDays: 1 });
      const undrilled = daily(40, NOW, { verdict: "none" });
      expect(removed(planRetention(undrilled, settings, NOW))).toEqual([]);
      const three = (index: number): Changes => ({ verdict: index === 20 || index === 25 || index === 30 ? "green" : "none" });
      const some = undrilled.map(({ time }, index) => made(time, three(index)));
      expect(removed(planRetention(some, settings, NOW))).toEqual(names(some.slice(0, 20)));
      expect(removed(planRetention(some.slice(0, 30), settings, NOW))).toEqual([]);
    },

    "counts what was verified where there is no drill, and asks no verdict": ({ planRetention }) => {
      const settings = settingsWith({ keepDays: 1, proof: "verification" });
      const undrilled = daily(10, NOW, { verdict: "none" });
      expect(removed(planRetention(undrilled, settings, NOW))).toEqual(names(undrilled.slice(0, 7)));
      // A verdict from the time when there still was one.
      const old = [made(NOW - 11 * DAY, { verdict: "red" }), ...undrilled];
      expect(removed(planRetention(old, settings, NOW))).toEqual(names(old.slice(0, 8)));
      expect(planRetention(old, settings, NOW).frozen).toBeUndefined();
    },

    "never counts a generation from the future among the last, nor removes it": ({ planRetention }) => {
      for (const proof of ["drill", "verification"] as const) {
        const future = [made(NOW + 300 * DAY), made(NOW + 301 * DAY), made(NOW + 302 * DAY), made(NOW + 303 * DAY)];
        const past = daily(4);
        const plan = planRetention([...past, ...future], settingsWith({ proof }), NOW);
        expect(removed(plan)).toEqual([past[0]?.name]);
        expect(whyOf(plan, future[0] as Candidate)).toBe("dated in the future");
      }
    },

    "never measures by a generation from the future, nor measures one": ({ planRetention, usualSize }) => {
      const past = daily(5);
      const shrunk = made(NOW + DAY, { size: 1 });
      expect(planRetention([...past, shrunk], settingsWith(), NOW).frozen).toBeUndefined();
      expect(planRetention([...past, shrunk], settingsWith(), NOW + DAY).frozen).toContain(shrunk.name);
      const ahead = [made(NOW + HOUR, { size: 7, usual: 7 })];
      expect([usualSize(ahead, settingsWith(), NOW), usualSize(ahead, settingsWith(), NOW - 1)]).toEqual([7, undefined]);
      const hidden = [...past, made(NOW + HOUR, { size: 1 }), made(NOW + DAY)];
      expect(planRetention(hidden, settingsWith(), NOW).frozen).toContain((hidden[5] as Candidate).name);
      expect(planRetention(hidden, settingsWith(), NOW - 1).frozen).toBeUndefined();
    },

    "measures by the last seven": ({ usualSize }) => {
      const sizes = [10, 10, 100, 110, 120, 130, 140, 150, 160];
      const generations = sizes.map((size, day) => made(NOW - (sizes.length - day) * DAY, { size, usual: undefined }));
      expect(usualSize(generations, settingsWith(), NOW)).toBe(130);
    },

    "counts a generation whose maker's clock was a little ahead": ({ planRetention }) => {
      const generations = [made(NOW - 2 * DAY), made(NOW - DAY), made(NOW + HOUR)];
      const at = (now: number): string[] => removed(planRetention(generations, settingsWith({ keepLast: 2 }), now));
      const [, , ahead] = generations as [Candidate, Candidate, Candidate];
      expect(at(ahead.time - HOUR)).toEqual([generations[0]?.name]);
      expect(at(ahead.time - HOUR - 1)).toEqual([]);
      const burst = ["1", "2", "3", "4"].map((id) => made(NOW, {}, `0000000${id}`));
      for (const [now, count] of [[NOW - HOUR - 1, 0], [NOW - HOUR, 2], [NOW, 2], [NOW + HOUR / 2, 2]] as const) {
        expect(removed(planRetention(burst, settingsWith({ keepLast: 2 }), now))).toEqual(names(burst.slice(0, count)));
      }
    },

    "removes nothing under a clock that is late": ({ planRetention }) => {
      expect(removed(planRetention(daily(30), settingsWith({ keepDays: 14 }), NOW - 20 * DAY))).toEqual([]);
    },

    "keeps the newest whatever it is told": ({ planRetention }) => {
      for (const keepLast of [0, -1, Number.NaN]) {
        const generations = daily(3, NOW - 9 * DAY);
        const gone = removed(planRetention(generations, settingsWith({ keepDays: 0, keepLast }), NOW));
        expect(gone).toEqual(Number.isNaN(keepLast) ? [] : names(generations.slice(0, 2)));
      }
      expect(removed(planRetention(daily(9), settingsWith({ removeAtMost: Number.NaN }), NOW))).toEqual([]);
    },

    "keeps what is pinned, and removes around it": ({ planRetention }) => {
      const generations = daily(10).map((generation, index) => ({ ...generation, pinned: index === 2 }));
      const plan = planRetention(generations, settingsWith(), NOW);
      expect(removed(plan)).toEqual(names(generations.filter((_, index) => index < 7 && index !== 2)));
      expect(whyOf(plan, generations[2] as Candidate)).toBe("pinned");
    },

    "never counts a safety dump as proven, and removes it by its age like any other": ({ planRetention }) => {
      for (const proof of ["drill", "verification"] as const) {
        const own = daily(4, NOW - 20 * DAY);
        const safety = daily(3, NOW - 15 * DAY, { safety: true });
        const settings = settingsWith({ keepDays: 5, proof });
        expect(removed(planRetention([...own, ...safety], settings, NOW))).toEqual([own[0]?.name]);
        const later = [...own, ...safety, ...daily(3, NOW - 10 * DAY)];
        expect(removed(planRetention(later, settings, NOW))).toEqual(names(later.slice(0, 7)));
      }
      // It may be as small as it likes, and says nothing about the next one.
      const small = [...daily(5, NOW - DAY), made(NOW, { safety: true, size: 1, verdict: "none" })];
      expect(planRetention(small, settingsWith(), NOW).frozen).toBeUndefined();
    },

    "removes no more than a share of all at once, but always one, the oldest first": ({ planRetention }) => {
      const of = (count: number, removeAtMost: number): RetentionPlan => planRetention(daily(count), settingsWith({ removeAtMost }), NOW);
      const counts = [[40, 10], [41, 10], [43, 10], [44, 11], [9, 2], [8, 2], [7, 1], [4, 1], [3, 0]];
      expect(counts.map(([count = 0]) => [count, removed(of(count, 0.25)).length])).toEqual(counts);
      expect(removed(of(40, 0.25))).toEqual(names(daily(40).slice(0, 10)));
      expect(removed(of(40, 0.001))).toEqual(names(daily(40).slice(0, 1)));
      expect(whyOf(of(40, 0.25), daily(40)[10] as Candidate)).toBe("others go first, so that no run removes too many");
      const pinned = daily(40).map((generation, index) => ({ ...generation, pinned: index < 5 }));
      expect(removed(planRetention(pinned, settingsWith({ removeAtMost: 0.25 }), NOW))).toEqual(names(pinned.slice(5, 15)));
    },

    "freezes while the newest verdict is red, and says whose and why": ({ planRetention }) => {
      const generations = daily(10);
      const red = (index: number): RetentionPlan =>
        planRetention(generations.map((old, at) => (at === index ? made(old.time, { verdict: "red" }) : old)), settingsWith(), NOW);
      expect(red(9)).toMatchObject({ frozen: `the drill of ${generations[9]?.name} failed: it differs` });
      expect(removed(red(9))).toEqual([]);
      expect(whyOf(red(9), generations[0] as Candidate)).toBe("nothing is removed now");
      expect(whyOf(red(9), generations[7] as Candidate)).toBe("only 1 of 3 proven generations are newer");
      expect(red(8).frozen).toBeUndefined();
      // The newest has none yet: its drill comes later in the day.
      const waiting = [...daily(8, NOW - 2 * DAY), made(NOW - DAY, { verdict: "red" }), made(NOW, { verdict: "none" })];
      expect(removed(planRetention(waiting, settingsWith(), NOW))).toEqual([]);
      const silent = { ...made(NOW), verdict: { green: false } };
      expect(planRetention([silent], settingsWith(), NOW).frozen).toBe(`the drill of ${silent.name} failed: it did not say why`);
    },

    "freezes when the newest shrank, and says how far, and what ends that": ({ planRetention }) => {
      const last = (size: number, changes: Changes = {}): RetentionPlan =>
        planRetention([...daily(9, NOW - DAY), made(NOW, { size, ...changes })], settingsWith(), NOW);
      const { name } = made(NOW);
      expect(last(USUAL_SIZE / 2).frozen).toBeUndefined();
      expect(last(USUAL_SIZE / 2 - 1)).toMatchObject({
        frozen: `${name} has 488.3 KiB, and 976.6 KiB were usual; if that is right, make the file ${name}.accepted beside it`,
      });
      expect(removed(last(USUAL_SIZE / 2 - 1))).toEqual([]);
      expect(last(1, { accepted: true }).frozen).toBeUndefined();
      expect(last(1, { usual: undefined }).frozen).toBeUndefined();
      const tiny = daily(9, NOW, { size: 0 });
      expect(removed(planRetention(tiny, settingsWith({ freezeBelow: 0 }), NOW))).toHaveLength(6);
      expect(removed(planRetention(tiny, settingsWith({ freezeBelow: 0.01 }), NOW))).toHaveLength(0);
    },

    "measures by the median of the last seven of the schedule's own that did not shrink themselves": ({ usualSize }) => {
      const small = (size: number): Candidate => made(NOW, { size, usual: size * 2 + 1 });
      const of = (...all: readonly (number | Candidate)[]): number | undefined => {
        const series = all.map((one, index) => {
          const { name, time } = made(NOW - (all.length - index) * DAY);
          return typeof one === "number" ? made(time, { size: one, usual: one }) : { ...one, name, time };
        });
        expect(usualSize([...series].reverse(), settingsWith(), NOW)).toBe(usualSize(series, settingsWith(), NOW));
        return usualSize(series, settingsWith(), NOW);
      };
      expect(of()).toBeUndefined();
      expect(of(5)).toBe(5);
      // The eighth from the end is not asked any more.
      expect(of(9, 3, 3, 3, 9, 9, 9, 9)).toBe(9);
      expect(of(9, 9, 3, 3, 3, 9, 9, 9)).toBe(9);
      expect(of(9, 9, 3, 3, 3, 3, 9, 9)).toBe(3);
      expect(of(9, 9, 9, 9, 3, 3, 3, 3)).toBe(3);
      expect(of(9, 9, 9, 9, small(3), small(3), small(3), small(3), small(3))).toBe(9);
      // One that was far too large is none to be measured by. Of two in the middle, the smaller one.
      expect(of(9, 9, 9, 9000)).toBe(9);
      expect(of(5, 9)).toBe(5);
      expect(of(10, 9, 11, 100, 2, 8)).toBe(9);
      expect(of(9, 9, 9, made(NOW, { size: 3, safety: true }), made(NOW, { size: 3, safety: true }), made(NOW, { size: 3, safety: true }))).toBe(9);
      // From where a person says that a size is right, what was before counts no more.
      expect(of(9, 9, 9, { ...small(4), accepted: true }, 5, small(1))).toBe(4);
      expect(of({ ...small(4), accepted: true }, 9, 9, 9, { ...small(3), accepted: true })).toBe(3);
      expect(of(9, 9, small(4))).toBe(9);
    },

    "keeps every good one through thirty schema-only ones, though each of them is proven": ({ planRetention, usualSize }) => {
      for (const proof of ["drill", "verification"] as const) {
        const settings = settingsWith({ keepDays: 14, proof, removeAtMost: 0.25 });
        const good = daily(14);
        let kept = good;
        for (let day = 1; day <= 30; day++) {
          const usual = usualSize(kept, settings, NOW + day * DAY);
          kept = [...kept, made(NOW + day * DAY, { size: USUAL_SIZE / 100, usual })];
          const plan = planRetention(kept, settings, NOW + day * DAY);
          expect(plan.frozen).toContain("9.8 KiB, and 976.6 KiB were usual");
          const gone = new Set(removed(plan));
          kept = kept.filter(({ name }) => !gone.has(name));
        }
        expect(names(kept).slice(0, 14)).toEqual(names(good));
      }
    },

    "knows of a generation what lies beside it, and what its manifest says": async ({ planRetention, candidatesOf }) => {
      const directory = temporary();
      const all = daily(6);
      const size = (index: number): Partial<Manifest> => ({
        usualBytes: 104,
        files: [
          { path: "data", bytes: 4, sha256: "0".repeat(64), uncompressedBytes: index === 5 ? 10 : 100 },
          { path: "data", bytes: 4, sha256: "0".repeat(64) },
        ],
      });
      all.forEach(({ name }, index) => plant(directory, name, { ...size(index), ...(index === 4 ? { purpose: "safety" as const } : {}) }));
      for (const index of [1, 2, 3]) await judge(directory, (all[index] as Candidate).name, true);
      const plan = async (changes: Partial<RetentionSettings> = {}): Promise<RetentionPlan> => {
        const candidates = await candidatesOf(directory, await listGenerations(directory, owner, silent));
        return planRetention(candidates, settingsWith({ keepLast: 2, ...changes }), NOW);
      };
      const [first, second, third, , , newest] = all as [Candidate, Candidate, Candidate, Candidate, Candidate, Candidate];
      const { frozen } = await plan();
      expect(frozen).toBe(`${newest.name} has 14 B, and 104 B were usual; if that is right, make the file ${newest.name}.accepted beside it`);
      writeFileSync(join(directory, `${newest.name}.accepted`), "");
      expect(removed(await plan())).toEqual([first.name, second.name]);
      expect(whyOf(await plan(), third)).toBe("only 1 of 2 proven generations are newer");
      expect(removed(await plan({ proof: "verification" }))).toEqual([first.name, second.name, third.name]);
      writeFileSync(join(directory, `${first.name}.pin`), "");
      expect(removed(await plan())).toEqual([second.name]);
      await judge(directory, newest.name, false);
      expect((await plan()).frozen).toBe(`the drill of ${newest.name} failed: it differs`);
      // A verdict on what is not there any more says nothing.
      plant(directory, newest.name, { ...size(0), startedAt: "2026-11-02T00:00:00.000Z" });
      expect((await plan()).frozen).toBeUndefined();
      rmSync(join(directory, newest.name + VERDICT));
      mkdirSync(join(directory, newest.name + VERDICT));
      expect((await plan()).frozen).toMatch(/^the drill of \S+ failed: EISDIR/);
    },

    "says what it removes, oldest first, and stops when told to": async ({ removeGenerations }) => {
      const directory = temporary();
      const all = names(daily(3));
      for (const name of all) plant(directory, name);
      const control = new AbortController();
      const said: string[] = [];
      const log = (message: string): void => {
        said.push(message);
        control.abort(new Error("stop"));
      };
      await expect(removeGenerations(directory, all, control.signal, log)).rejects.toThrow("stop");
      expect(said).toEqual([`removing generation ${all[0]}`]);
      expect(readdirSync(directory)).toEqual(all.slice(1));
    },

    "takes a generation's name away before its files, and its verdict after them": async ({ removeGenerations }) => {
      const directory = temporary();
      const [name = ""] = names(daily(1));
      plant(directory, name);
      await judge(directory, name, true);
      // The removal meets a name that is taken, as if an earlier one had died on the way.
      mkdirSync(join(directory, DELETING + name));
      writeFileSync(join(directory, DELETING + name, "in the way"), "");
      await expect(removeGenerations(directory, [name], signal, silent)).rejects.toThrow("ENOTEMPTY");
      expect(readdirSync(join(directory, name)).sort()).toEqual(["data", "manifest.json"]);
      expect(readdirSync(directory)).toContain(name + VERDICT);
      expect(timeOf(DELETING + name)).toBeUndefined();
      rmSync(join(directory, DELETING + name), { recursive: true });
      await removeGenerations(directory, [name], signal, silent);
      expect(readdirSync(directory)).toEqual([]);
    },

    "removes the verdicts on what is gone, and what is left of unwritten ones, and no other file": async ({ removeStrayVerdicts }) => {
      const directory = temporary();
      const [kept = "", gone = "", invalid = ""] = names(daily(3));
      plant(directory, kept);
      mkdirSync(join(directory, invalid));
      const stay = [kept, invalid].map((name) => name + VERDICT);
      const others = [`${gone}.pin`, `${gone}.accepted`, `x${gone}${VERDICT}`, `${gone}-old${VERDICT}`, `..${gone}${VERDICT}`, VERDICT, `${gone}.json`, `${gone}.drill.back`];
      const halves = [`.${gone}${VERDICT}`, `.${kept}${VERDICT}`];
      for (const name of [...stay, `${gone}${VERDICT}`, ...others, ...halves]) writeFileSync(join(directory, name), "{}");
      const now = NOW / 1000;
      utimesSync(join(directory, halves[0] as string), now - 3600, now - 3600);
      utimesSync(join(directory, halves[1] as string), now - 3600.001, now - 3600.001);
      await removeStrayVerdicts(directory, NOW);
      expect(readdirSync(directory).sort()).toEqual([kept, invalid, ...stay, ...others, halves[0]].sort());
    },

    "on a disk, touches nothing that is not its own": async (subject) => {
      const { planRetention, candidatesOf, removeGenerations, removeStrayVerdicts } = subject;
      await fc.assert(
        fc.asyncProperty(fc.array(entry, { maxLength: 14 }), async (entries) => {
          const directory = temporary();
          const { own, others } = await furnish(directory, entries);
          const generations = await listGenerations(directory, owner, silent);
          expect(generations.map(({ name }) => name)).toEqual([...own].sort());
          const candidates = await candidatesOf(directory, generations);
          const plan = planRetention(candidates, settingsWith({ keepDays: 1, keepLast: 2 }), NOW);
          await removeGenerations(directory, removed(plan), signal, silent);
          await removeStrayVerdicts(directory, NOW);
          const left = new Set(readdirSync(directory));
          for (const name of others) expect(left).toContain(name);
          const green = [...own].filter((name) => existsSync(join(directory, name)) && left.has(name + VERDICT)).sort();
          expect(green.length).toBeGreaterThanOrEqual(Math.min(2, entries.filter(([, kind]) => kind === "green").length));
          for (const name of removed(plan)) for (const suffix of ["", VERDICT]) expect(left).not.toContain(name + suffix);
          for (const name of left) expect(own.has(name) || others.has(name) || own.has(name.replace(VERDICT, ""))).toBe(true);
          rmSync(directory, { recursive: true });
        }),
        { numRuns: Math.min(histories, 100) },
      );
    },

    [`over ${histories} histories keeps the last proven ones, freezes where it must, and ends where the rule says`]: (subject) => {
      let months = 0;
      const property = fc.property(history, (input) => {
        if (live(subject, input)) months++;
      });
      fc.assert(property, { numRuns: histories, endOnFailure: histories < 1000 });
      expect(months).toBeGreaterThan(histories / 20);
    },
  };
}

/** What happens on the days of a history. */
const history = fc.record({
  days: fc.array(
    fc.record({
      event: fc.constantFrom("run", "run", "run", "run", "run", "run", "failed", "failed", "safety", "accepted"),
      /** Minutes until the next. */
      after: fc.integer({ min: 1, max: 3 * 24 * 60 }),
      jump: fc.constantFrom(0, 0, 0, 0, 0, 0, 0, 0, 400 * DAY, -400 * DAY, -3 * HOUR),
      verdict: fc.constantFrom<"green" | "red" | "none">("green", "green", "green", "green", "green", "none", "none", "red"),
      pinned: fc.constantFrom(false, false, false, false, false, true),
      size: fc.integer({ min: 100, max: 190 }),
      tiny: fc.constantFrom(false, false, false, false, false, false, true),
    }),
    { maxLength: 24 },
  ),
  ids: fc.infiniteStream(fc.integer({ min: 0, max: 0xffffffff })),
  settings: fc.record({
    keepDays: fc.option(fc.integer({ min: 1, max: 20 }), { nil: undefined }),
    keepLast: fc.integer({ min: 2, max: 6 }),
    proof: fc.constantFrom<"drill" | "verification">("drill", "drill", "verification"),
    removeAtMost: fc.constantFrom(0.01, 0.25, 0.5, 1),
    freezeBelow: fc.constantFrom(0.1, 0.3, 0.5),
  }),
  /** A month in which every dump is empty of rows, and proven to be. */
  month: fc.constantFrom(false, false, false, true),
});

/**
 * Plays a history, with a plan carried out after every run, as the runner does; each plan is held against the rule.
 * @returns whether there were good ones for a month of empty ones to follow
 */
function live({ planRetention, usualSize }: Subject, input: typeof history extends fc.Arbitrary<infer T> ? T : never): boolean {
  const { days, ids, settings, month } = input;
  const { keepDays, keepLast, proof, removeAtMost, freezeBelow } = settings;
  let now = Date.parse("2026-01-01T00:00:00Z");
  let there: Candidate[] = [];
  const proven = ({ time, safety, verdict }: Candidate): boolean =>
    !safety && time <= now + HOUR && (proof === "verification" || verdict?.green === true);
  const publish = (changes: Changes): RetentionPlan => {
    const id = (ids.next().value as number).toString(16).padStart(8, "0");
    // Its verdict comes later: nothing is judged before it is there.
    const usual = changes.safety === true ? undefined : usualSize(there, settings, now);
    same("usual", [String(usual)], [String(changes.safety === true ? undefined : median())]);
    const generation = made(now, { ...changes, verdict: "none", usual }, id);
    there = [...there.filter(({ name }) => name !== generation.name), generation];
    const plan = planRetention(there, settings, now);
    hold(plan);
    const gone = new Set(removed(plan));
    there = there.filter(({ name }) => !gone.has(name));
    const { verdict } = made(now, changes);
    there = there.map((other) => (other === generation ? { ...generation, verdict } : other));
    return plan;
  };

  /** What the next one is measured by, from the definition. */
  const median = (): number | undefined => {
    const own = there.filter(({ time, safety }) => !safety && time <= now + HOUR).sort(byName);
    const since = own.map(({ accepted }) => accepted).lastIndexOf(true);
    const fit = own.filter((other, index) => index >= since && !small(other)).map(({ size }) => size);
    return medianOf(fit.slice(Math.max(0, fit.length - 7)));
  };
  const small = ({ size, usual, accepted }: Candidate): boolean => !accepted && usual !== undefined && size < freezeBelow * usual;

  // By strings: the millions of comparisons that this makes would take Jest's own minutes.
  const hold = (plan: RetentionPlan): void => {
    const gone = removed(plan);
    const sorted = [...there].sort(byName);
    same("all", names(plan.decisions), names(sorted));
    const last = new Set(names(sorted.filter(proven).slice(-keepLast)));
    same("of the last proven ones", gone.filter((name) => last.has(name)), []);
    const due = sorted.filter(({ time, pinned }, index) => {
      if (pinned || time > now + HOUR || (keepDays !== undefined && now - time <= keepDays * DAY)) return false;
      return sorted.slice(index + 1).filter(proven).length >= keepLast;
    });
    const own = sorted.filter(({ safety }) => !safety);
    const red = proof === "drill" && own.filter(({ verdict }) => verdict !== undefined).at(-1)?.verdict?.green === false;
    const dated = own.filter(({ time }) => time <= now + HOUR);
    const newest = dated.at(-1);
    const frozen = red || (newest !== undefined && small(newest));
    same("frozen", [String(plan.frozen !== undefined)], [String(frozen)]);
    // What is past its time goes, the oldest first, no more than the share at once, and sooner or later all of it.
    same("removed", gone, frozen ? [] : names(due).slice(0, Math.max(1, Math.floor(there.length * removeAtMost))));
  };

  for (const { event, after, jump, verdict, pinned, size, tiny } of days) {
    now += after * 60_000 + jump;
    if (event === "failed") continue;
    publish({ verdict, pinned, size: tiny ? 1 : size, safety: event === "safety", accepted: event === "accepted" });
  }
  if (!month) return false;
  const good = there.filter(proven).sort(byName).slice(-keepLast).filter(({ size }) => size >= 100);
  // Where small ones were usual before, one more is nothing to see.
  let seen = false;
  for (let day = 0; day < 30; day++) {
    now += DAY;
    const { frozen } = publish({ verdict: "green", size: 1 });
    if (day === 0) seen = frozen?.includes("were usual") ?? false;
  }
  const left = new Set(names(there));
  if (seen) expect(good.filter(({ name }) => !left.has(name))).toEqual([]);
  return seen && good.length > 0;
}

function same(what: string, found: readonly string[], wanted: readonly string[]): void {
  if (found.join() !== wanted.join()) throw new Error(`${what}: ${found.join()} instead of ${wanted.join()}`);
}

function byName(a: Candidate, b: Candidate): number {
  return a.name < b.name ? -1 : 1;
}

const owner = { backup: "postgres", namespace: "dbaas" };

/** What a directory may hold that is no valid generation of this backup. */
const foreign: { readonly [kind: string]: (directory: string, name: string) => void } = {
  "another backup's": (directory, name) => plant(directory, name, { backup: "mysql" }),
  "another namespace's": (directory, name) => plant(directory, name, { namespace: "other" }),
  "a copy under another name": (directory, name) => plant(directory, name, { generation: "20200101T000000Z-00000000" }),
  "cut": (directory, name) => plant(directory, name, { files: [{ path: "data", bytes: 5, sha256: "0".repeat(64) }] }),
  "a longer name": (directory, name) => plant(directory, `${name}-old`),
  "a shorter name": (directory, name) => plant(directory, name.slice(0, -1)),
  "a name within": (directory, name) => plant(directory, `x${name}`),
  "an empty directory": (directory, name) => mkdirSync(join(directory, name)),
  "a file": (directory, name) => writeFileSync(join(directory, name), "a file"),
  "made by hand": (directory, name) => writeFileSync(join(directory, `dump_${name}.sql.gz`), "hand-made"),
  "a pin": (directory, name) => writeFileSync(join(directory, `${name}.pin`), ""),
};

const entry = fc.tuple(fc.integer({ min: 0, max: 60 }), fc.constantFrom("green", "green", "red", "none", ...Object.keys(foreign)));

/** Puts what the entries say into a directory; returns whose it is. */
async function furnish(directory: string, entries: readonly (readonly [number, string])[]): Promise<Record<"own" | "others", Set<string>>> {
  const own = new Set<string>();
  const others = new Set<string>();
  for (const [index, [age, kind]] of entries.entries()) {
    const { name } = made(NOW - age * DAY, {}, index.toString(16).padStart(8, "0"));
    const before = new Set(readdirSync(directory));
    const make = foreign[kind];
    if (make !== undefined) {
      make(directory, name);
      for (const found of readdirSync(directory)) if (!before.has(found)) others.add(found);
    } else {
      plant(directory, name);
      own.add(name);
      if (kind !== "none") await judge(directory, name, kind === "green");
    }
  }
  return { own, others };
}

/** Writes what a drill would have. */
async function judge(directory: string, generation: string, green: boolean): Promise<void> {
  const manifestSha256 = await manifestHash(directory, generation);
  const verdict = { formatVersion: 1, generation, manifestSha256, green, reason: green ? undefined : "it differs", bytes: 4, checks: [] };
  writeFileSync(join(directory, generation + VERDICT), JSON.stringify(verdict));
}
