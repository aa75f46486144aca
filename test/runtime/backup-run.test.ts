import { readdirSync, readFileSync, rmSync, utimesSync, writeFileSync } from "node:fs";
import { hostname } from "node:os";
import { join } from "node:path";
import { Readable } from "node:stream";
import { backup, explainRetention, targetSamples, type BackupContext } from "../../lib/runtime/backup-run";
import type { Engine, Run } from "../../lib/runtime/engine";
import { Lock } from "../../lib/runtime/lock";
import { MANIFEST, type Manifest } from "../../lib/runtime/manifest";
import type { PodAgent } from "../../lib/runtime/pod-agent";
import { SENTINEL, type Settings } from "../../lib/runtime/settings";
import { manifestHash, writeVerdict, type Verdict } from "../../lib/runtime/verdict";
import { AT_ONCE, fakeEngine, plant, prepared } from "./support";

const DAY = 86_400_000;
const mounted = (): Promise<boolean> => Promise.resolve(true);
const GENERATION = /^\d{8}T\d{6}Z-[0-9a-f]{8}$/;

interface Stage {
  readonly context: BackupContext;
  readonly directory: string;
  readonly log: string[];
  readonly generations: () => string[];
  readonly files: () => string[];
}

function stage(engine: Partial<Engine> = {}, changes: Partial<Settings> = {}, context: Partial<BackupContext> = {}): Stage {
  const { root, directory, settings } = prepared(changes);
  const log: string[] = [];
  const files = (): string[] => readdirSync(directory).sort();
  const base = { settings, engine: fakeEngine(engine), scratch: join(root, "scratch"), control: new AbortController(), mounted };
  return {
    context: { ...base, log: (message) => log.push(message), ...context },
    directory,
    log,
    files,
    generations: () => files().filter((name) => GENERATION.test(name)),
  };
}

/** Generations of the last days, one a day, the newest yesterday. */
function plantDays(directory: string, count: number): string[] {
  return Array.from({ length: count }, (_, index) => {
    const name = `${new Date(Date.now() - (count - index) * DAY).toISOString().replace(/[-:]|\.\d+/g, "")}-00000000`;
    plant(directory, name);
    return name;
  });
}

async function verdictOn(directory: string, generation: string, green: boolean): Promise<Verdict> {
  const manifestSha256 = await manifestHash(directory, generation);
  const reason = green ? undefined : "table t lacks 3 rows";
  return { formatVersion: 1, generation, manifestSha256, green, reason, startedAt: "2026-11-01T01:00:00Z", bytes: 4, checks: [] };
}

describe("a run that succeeds", () => {
  test("publishes one generation whose manifest says what there is", async () => {
    const { context, directory, files, log } = stage();
    await expect(backup(context)).resolves.toBe("done");
    const [lock, name = ""] = files();
    expect(lock).toBe(".lock.1");
    expect(files()).toHaveLength(2);
    const manifest = JSON.parse(readFileSync(join(directory, name, MANIFEST), "utf8")) as Manifest;
    expect(manifest).toMatchObject({
      formatVersion: 1,
      backup: "postgres",
      namespace: "dbaas",
      generation: name,
      engine: "postgres",
      versions: { fake: "1" },
      fingerprint: { rows: 3 },
      checks: ["decoded"],
    });
    expect(manifest.files.map(({ path }) => path)).toEqual(["rows.zst", "sub/raw.bin"]);
    expect(Date.parse(manifest.finishedAt)).toBeGreaterThanOrEqual(Date.parse(manifest.startedAt));
    expect(readdirSync(join(directory, name)).sort()).toEqual([MANIFEST, "rows.zst", "sub"]);
    expect(readFileSync(join(directory, ".lock.1"), "utf8")).toMatch(new RegExp(`^free\n${hostname()} since`));
    expect(log.at(-1)).toMatch(/^published .* in 2 files$/);
    expect(readdirSync(context.scratch)).toEqual([]);
  });

  test("removes what is past the retention, and nothing else", async () => {
    const { context, directory, generations } = stage();
    const old = plantDays(directory, 20);
    writeFileSync(join(directory, "dump_2026_03_03.sql.gz"), "made by hand");
    await backup(context);
    // Fourteen days reach from now to the thirteenth whole day before; the one of exactly fourteen days is older by now.
    expect(generations().slice(0, -1)).toEqual(old.slice(-13));
    expect(readdirSync(directory)).toContain("dump_2026_03_03.sql.gz");
  });

  test("leaves exactly the number that is kept by count, its own among them", async () => {
    const { context, directory, generations } = stage({}, { retention: { keepLast: 2, ...AT_ONCE } });
    const old = plantDays(directory, 5);
    await backup(context);
    expect(generations()).toHaveLength(2);
    expect(generations()[0]).toBe(old.at(-1));
    await backup({ ...context, now: () => new Date(Date.now() + 60_000) });
    expect(generations()).toHaveLength(2);
  });

  test("removes no more than a share of what there is, and the rest in later runs", async () => {
    const { context, directory, generations } = stage({}, { retention: { keepLast: 2, ...AT_ONCE, removeAtMost: 0.25 } });
    plantDays(directory, 11);
    const left: number[] = [];
    for (let run = 0; run < 4; run++) {
      await backup({ ...context, now: () => new Date(Date.now() + run * 60_000) });
      left.push(generations().length);
    }
    // Of 12 three go, of 10 two, of 9 two, of 8 two.
    expect(left).toEqual([9, 8, 7, 6]);
  });

  test("counts what a drill has proven where there is one, and removes nothing before", async () => {
    const { context, directory, generations } = stage({}, { retention: { keepLast: 2, ...AT_ONCE, proof: "drill" } });
    const old = plantDays(directory, 6);
    await backup(context);
    expect(generations()).toHaveLength(7);
    for (const name of [old[2], old[4]] as string[]) await writeVerdict(directory, await verdictOn(directory, name, true));
    await backup({ ...context, now: () => new Date(Date.now() + 60_000) });
    expect(generations().slice(0, 4)).toEqual(old.slice(2));
    expect(readdirSync(directory)).toContain(`${old[2]}.drill.json`);
  });

  test("takes the verdict with the generation, and what else is left of verdicts", async () => {
    const { context, directory, generations } = stage({}, { retention: { keepLast: 2, ...AT_ONCE } });
    const old = plantDays(directory, 3);
    for (const name of old) await writeVerdict(directory, await verdictOn(directory, name, true));
    writeFileSync(join(directory, "20200101T000000Z-00000000.drill.json"), "{}");
    await backup(context);
    expect(generations()[0]).toBe(old[2]);
    expect(readdirSync(directory).filter((name) => name.endsWith(".drill.json"))).toEqual([`${old[2]}.drill.json`]);
  });

  test("removes nothing where a drill failed, and says so", async () => {
    const { context, directory, generations, log } = stage({}, { retention: { keepLast: 2, ...AT_ONCE, proof: "drill" } });
    const old = plantDays(directory, 6);
    for (const [index, name] of old.entries()) await writeVerdict(directory, await verdictOn(directory, name, index < 5));
    await backup(context);
    expect(generations()).toHaveLength(7);
    expect(log.at(-1)).toBe(`warning: no generation is removed: the drill of ${old[5]} failed: table t lacks 3 rows`);
  });

  test("keeps by its manifest what size was usual, and removes nothing while its own is much smaller", async () => {
    const rows = (size: number): Partial<Engine> => ({
      dump: async (run) => ({ files: [await run.store("rows", Readable.from([Buffer.alloc(size, "row")]))], fingerprint: {} }),
    });
    const retention = { keepLast: 2, ...AT_ONCE };
    const { context, directory, generations, log } = stage({}, { retention });
    const run = async (size: number, minutes: number): Promise<number | undefined> => {
      await backup({ ...context, engine: fakeEngine(rows(size)), now: () => new Date(Date.now() + minutes * 60_000) });
      const newest = JSON.parse(readFileSync(join(directory, generations().at(-1) ?? "", MANIFEST), "utf8")) as Manifest;
      return newest.usualBytes;
    };
    const usual = [await run(4000, 0), await run(5000, 1), await run(4100, 2), await run(100, 3), await run(90, 4), await run(100, 5)];
    expect(usual).toEqual([undefined, 4000, 4000, 4100, 4100, 4100]);
    expect(generations()).toHaveLength(5);
    const name = generations().at(-1) ?? "";
    const accepted = `${name}.accepted`;
    expect(log.at(-1)).toBe(
      `warning: no generation is removed: ${name} has 100 B, and 4.0 KiB were usual; if that is right, make the file ${accepted} beside it`,
    );
    const { settings } = context;
    const frozen = async (): Promise<unknown> =>
      (await targetSamples(settings, Date.now() + 9 * 60_000, mounted)).find(([{ name: metric }]) => metric === "backup_retention_frozen")?.[1];
    expect(await frozen()).toBe(1);
    writeFileSync(join(directory, accepted), "");
    expect(await frozen()).toBe(0);
    expect(await run(90, 6)).toBe(100);
    expect(generations()).toHaveLength(2);
  });

  test("keeps what is pinned", async () => {
    const { context, directory, generations } = stage({}, { retention: { keepLast: 2, ...AT_ONCE } });
    const old = plantDays(directory, 5);
    writeFileSync(join(directory, `${old[1]}.pin`), "");
    await backup(context);
    expect(generations().slice(0, 2)).toEqual([old[1], old[4]]);
  });

  test("sorts after one that began in the same second", async () => {
    const { context, generations } = stage();
    for (let round = 0; round < 3; round++) await backup(context);
    const seconds = generations().map((name) => name.slice(0, 16));
    expect(new Set(seconds).size).toBe(3);
  });

  test("reads back what the engine did not look at", async () => {
    const engine = fakeEngine();
    const dump = async (run: Run): ReturnType<Engine["dump"]> => {
      const result = await engine.dump(run);
      writeFileSync(join(run.directory, "sub/raw.bin"), "war");
      return result;
    };
    const { context, generations } = stage({ dump, verify: async () => [] });
    await expect(backup(context)).rejects.toThrow("sub/raw.bin is damaged: its SHA-256 is not the one that was written");
    expect(generations()).toEqual([]);
  });

  test("removes what killed runs left before it counts the space", async () => {
    const { context, directory, files, log } = stage();
    plant(directory, ".partial-20260101T000000Z-00000000");
    plant(directory, ".deleting-20260101T000000Z-00000000");
    await backup(context);
    expect(files().filter((name) => /^\.(partial|deleting)/.test(name))).toEqual([]);
    expect(log[0]).toBe("removing .deleting-20260101T000000Z-00000000, left by a run that did not end");
  });

  test("gives the engine the newest valid generation", async () => {
    let previous: Run["previous"];
    const { context, directory } = stage({
      preflight: async (run) => {
        ({ previous } = run);
        return { versions: {} };
      },
    });
    const names = plantDays(directory, 3);
    rmSync(join(directory, names[2] as string, "data"));
    await backup(context);
    expect(previous).toMatchObject({ directory: join(directory, names[1] as string), manifest: { generation: names[1] } });
  });

  test("removes nothing while the clocks are apart", async () => {
    const { context, directory, generations, log } = stage({}, {}, { now: () => new Date(Date.now() + 100 * DAY) });
    const old = plantDays(directory, 20);
    await expect(backup(context)).resolves.toBe("done");
    expect(generations().slice(0, -1)).toEqual(old);
    expect(log[0]).toMatch(/^warning: the pod's clock \(.*\) and the file server's \(.*\) are 2400 h apart, so no generation is removed$/);
  });
});

describe("a look at the retention", () => {
  test("says of every generation what becomes of it, and why, and changes nothing", async () => {
    const { context, directory, log } = stage({}, { retention: { keepDays: 3, keepLast: 2, ...AT_ONCE } });
    const old = plantDays(directory, 6);
    writeFileSync(join(directory, `${old[1]}.pin`), "");
    plant(directory, ".partial-20260101T000000Z-00000000");
    const before = readdirSync(directory, { recursive: true });
    await explainRetention(context);
    expect(log).toEqual([
      `${old[0]}: removed: older than 3 d, and 2 proven generations are newer`,
      `${old[1]}: kept: pinned`,
      `${old[2]}: removed: older than 3 d, and 2 proven generations are newer`,
      `${old[3]}: removed: older than 3 d, and 2 proven generations are newer`,
      `${old[4]}: kept: younger than 3 d`,
      `${old[5]}: kept: younger than 3 d`,
      "dry run: nothing was backed up, and nothing removed",
    ]);
    expect(readdirSync(directory, { recursive: true })).toEqual(before);
  });

  test("says why nothing is removed", async () => {
    const { context, directory, log } = stage({}, { retention: { keepLast: 2, ...AT_ONCE, proof: "drill" } });
    const old = plantDays(directory, 4);
    for (const [index, name] of old.entries()) await writeVerdict(directory, await verdictOn(directory, name, index < 3));
    await explainRetention(context);
    expect(log[0]).toBe(`${old[0]}: kept: nothing is removed now`);
    expect(log.at(-2)).toBe(`no generation is removed: the drill of ${old[3]} failed: table t lacks 3 rows`);
  });

  test("fails where the target is another", async () => {
    const { context, directory } = stage();
    rmSync(join(directory, "..", SENTINEL));
    await expect(explainRetention(context)).rejects.toThrow("is missing: this is another export");
  });
});

describe("a run that is not due", () => {
  const firstWeek = { lastDayOfMonth: 7 };
  const jobName = `postgres-backup-${Date.parse("2026-11-22T04:00:00Z") / 60_000}`;

  test("does nothing and lets the engine's container go", async () => {
    let let_go = 0;
    const agent = { exit: async () => void let_go++ } as unknown as PodAgent;
    const { context, log, directory } = stage({}, firstWeek, { jobName, agent, mounted: async () => false });
    await expect(backup(context)).resolves.toBe("not due");
    expect(let_go).toBe(1);
    expect(log).toEqual(["not due: scheduled for day 22 of the month (Etc/UTC), runs on days 1 to 7"]);
    expect(() => readdirSync(directory)).toThrow("ENOENT");
  });

  test("is done by hand all the same", async () => {
    const { context, generations } = stage({}, firstWeek, { jobName: "by-hand" });
    await backup(context);
    expect(generations()).toHaveLength(1);
  });
});

describe("a run that fails", () => {
  const fail = (): never => {
    throw new Error("the source is broken");
  };
  const steps: readonly [string, Partial<Engine>][] = [
    ["preflight", { preflight: async () => fail() }],
    ["dump", { dump: async () => fail() }],
    ["dump, half-way", { dump: async (run) => (await run.store("half", Readable.from([Buffer.from("x")])), fail()) }],
    ["verify", { verify: async () => fail() }],
    ["dump, at once", { dump: fail }],
  ];

  test.each(steps)("in %s says why, leaves no partial, removes nothing", async (_, engine) => {
    const { context, directory, files } = stage(engine);
    const old = plantDays(directory, 40);
    await expect(backup(context)).rejects.toThrow("the source is broken");
    expect(files()).toEqual([".lock.1", ...old]);
    expect(readdirSync(context.scratch)).toEqual([]);
    // The lock is free for the next run.
    expect(readFileSync(join(directory, ".lock.1"), "utf8")).toMatch(/^free/);
  });

  test("on forty days in a row removes nothing", async () => {
    const { context, directory, generations } = stage({ dump: fail });
    const old = plantDays(directory, 20);
    for (let day = 1; day <= 40; day++) {
      await expect(backup({ ...context, now: () => new Date(Date.now() + day * DAY) })).rejects.toThrow("the source is broken");
    }
    expect(generations()).toEqual(old);
  });

  test.each<[string, (stage: Stage) => void, RegExp]>([
    ["not mounted", ({ context }) => Object.assign(context, { mounted: async () => false }), /is not a mount point.*run: prepare-it$/],
    ["another export", ({ directory }) => rmSync(join(directory, "..", SENTINEL)), /is missing: this is another export.*run: prepare-it$/],
  ])("because the target is %s does not look at the source", async (_, damage, reason) => {
    let looked = 0;
    const staged = stage({ preflight: async () => (looked++, { versions: {} }) });
    damage(staged);
    await expect(backup(staged.context)).rejects.toThrow(reason);
    expect(looked).toBe(0);
  });

  test("when the last generation would not fit twice", async () => {
    const { context, directory } = stage();
    plant(directory, "20260101T000000Z-00000000", {
      files: [{ path: "data", bytes: 4, sha256: "0".repeat(64), treeBytes: Number.MAX_SAFE_INTEGER - 4 }],
    });
    await expect(backup(context)).rejects.toThrow(/^only .* free on .*, but twice the last backup \(8192.0 TiB\) is needed/);
  });

  test("when the space ends while it writes says so with the mending command", async () => {
    const full = Object.assign(new Error("ENOSPC: no space left on device, write"), { code: "ENOSPC", syscall: "write" });
    const { context } = stage({ dump: async () => Promise.reject(new Error("cannot write x", { cause: full })) });
    await expect(backup(context)).rejects.toThrow("cannot write the backup: no space left (ENOSPC); on the file server run: prepare-it");
  });

  test("when the settings have no target", async () => {
    const { context } = stage({}, { target: undefined });
    await expect(backup(context)).rejects.toThrow("the settings have no 'target' or no 'retention'");
  });

  test("when an artefact that the engine names is not there", async () => {
    const ghost = { path: "ghost", bytes: 1, sha256: "0".repeat(64) };
    const { context, generations } = stage({ dump: async () => ({ files: [ghost], fingerprint: {} }), verify: async () => [] });
    await expect(backup(context)).rejects.toThrow("ENOENT");
    expect(generations()).toEqual([]);
  });

  test("when there is no artefact at all", async () => {
    const { context, generations } = stage({ dump: async () => ({ files: [], fingerprint: {} }), verify: async () => [] });
    await expect(backup(context)).rejects.toThrow("incomplete");
    expect(generations()).toEqual([]);
  });

  test("only in its retention keeps its generation, and says both", async () => {
    const { context, directory, generations } = stage();
    const [oldest = ""] = plantDays(directory, 20);
    plant(directory, `.deleting-${oldest}`);
    // Made after the leftovers were removed, so that the rename meets it.
    const { engine } = context;
    const late: Engine = { ...engine, verify: async (run, dump) => (plant(directory, `.deleting-${oldest}`), engine.verify(run, dump)) };
    const published = /^\S+ is published, but old generations were not removed: ENOTEMPTY/;
    await expect(backup({ ...context, engine: late })).rejects.toThrow(published);
    expect(generations()).toHaveLength(21);
  });
});

describe("a lock", () => {
  test("that another run holds means busy, and nothing happens", async () => {
    const { context, directory, log, generations } = stage({}, {});
    await backup(context);
    const options = { leaseSeconds: 2, owner: "other", signal: new AbortController().signal, onLost: () => undefined };
    const lock = await Lock.acquire(directory, options);
    await expect(backup(context)).resolves.toBe("busy");
    expect(log.at(-1)).toMatch(/^another run holds the lock: other since/);
    expect(generations()).toHaveLength(1);
    await lock.release();
  });

  test("that is lost during the dump ends the run before it publishes", async () => {
    const engine = fakeEngine();
    const staged = stage({
      verify: async (run, dump) => {
        writeFileSync(join(staged.directory, ".lock.9"), "held\nanother\n");
        return engine.verify(run, dump);
      },
    });
    await expect(backup(staged.context)).rejects.toThrow("lost the lock: another run took it over");
    expect(staged.generations()).toEqual([]);
    expect(staged.files().filter((name) => name.startsWith(".partial"))).toEqual([]);
  });

  test("that is lost is noticed by the heartbeat, and ends an engine that waits", async () => {
    const staged = stage({
      dump: async (run) => {
        writeFileSync(join(staged.directory, ".lock.9"), "held\nanother\n");
        return new Promise((_, reject) => run.signal.addEventListener("abort", () => reject(run.signal.reason as Error)));
      },
    });
    await expect(backup(staged.context)).rejects.toThrow("lost the lock: another run took it over");
  });
});

describe("a signal", () => {
  test("ends an engine that does not hear it, and removes the partial", async () => {
    const control = new AbortController();
    const dump = (): Promise<never> => new Promise(() => setTimeout(() => control.abort(new Error("stop")), 20));
    const { context, files } = stage({ dump }, {}, { control });
    await expect(backup(context)).rejects.toThrow("stop");
    expect(files()).toEqual([".lock.1"]);
  });

  test("that comes before the dump keeps it from beginning", async () => {
    const control = new AbortController();
    let dumped = 0;
    const preflight = async (): ReturnType<Engine["preflight"]> => (control.abort(new Error("stop")), { versions: {} });
    const { context } = stage({ preflight, dump: async () => (dumped++, { files: [], fingerprint: {} }) }, {}, { control });
    await expect(backup(context)).rejects.toThrow("stop");
    expect(dumped).toBe(0);
  });
});

describe("the target's own metrics", () => {
  const values = async (settings: Settings, now = Date.now()): Promise<{ [name: string]: number | undefined }> =>
    Object.fromEntries((await targetSamples(settings, now, mounted)).map(([{ name }, value]) => [name, value]));

  test("come from the newest whole generation, whatever run made it and when its files were touched", async () => {
    const { settings, directory } = prepared();
    plant(directory, "20261101T000000Z-00000000");
    plant(directory, "20261102T000000Z-00000000", { startedAt: "2026-11-02T00:00:00.000Z", finishedAt: "2026-11-02T00:05:00.900Z" });
    plant(directory, "20261103T000000Z-00000000");
    rmSync(join(directory, "20261103T000000Z-00000000", "data"));
    utimesSync(join(directory, "20261101T000000Z-00000000"), 2e9, 2e9);
    expect(await values(settings)).toEqual({
      backup_last_success_timestamp: Date.parse("2026-11-02T00:05:00Z") / 1000,
      backup_snapshot_timestamp: Date.parse("2026-11-02T00:00:00Z") / 1000,
      backup_size_bytes: 4,
      backup_generations: 2,
      backup_retention_frozen: 0,
      backup_target_free_bytes: expect.any(Number),
    });
  });

  test("take no success from the future", async () => {
    const { settings, directory } = prepared();
    plant(directory, "20261101T000000Z-00000000");
    plant(directory, "20361101T000000Z-00000000", { finishedAt: "2036-11-01T00:00:00.000Z" });
    expect((await values(settings, Date.parse("2026-11-02T00:00:00Z"))).backup_last_success_timestamp).toBe(
      Date.parse("2026-11-01T00:01:00Z") / 1000,
    );
  });

  test("of an empty target are no success", async () => {
    const { settings, directory } = prepared();
    plant(directory, "x");
    expect(await values(settings)).toMatchObject({ backup_last_success_timestamp: undefined, backup_generations: 0 });
  });

  test("fail when the target is another", async () => {
    const { settings, directory } = prepared();
    writeFileSync(join(directory, "..", SENTINEL), "another");
    await expect(targetSamples(settings, Date.now(), mounted)).rejects.toThrow("belongs to another backup");
  });
});
