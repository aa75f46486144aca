import type { CronJobOptions, PodResult, RunningPod } from "../helpers/pod";
import type { Manifest } from "../../lib/runtime/manifest";
import type { Pushgateway } from "../helpers/servers/pushgateway";
import type { FoundGeneration } from "../helpers/pod/target";
import type { Subject } from "../helpers/subjects/subject";
import { createHash } from "node:crypto";
import { chmodSync, cpSync, existsSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { METRICS } from "../../lib/runtime/metrics";
import { manifestHash, VERDICT, writeVerdict } from "../../lib/runtime/verdict";
import { runCronJob, startCronJob } from "../helpers/pod";
import {
  generationsDirectory,
  generationsOn,
  makeTarget,
  mountTmpfs,
  runOnExport,
  settingsOf,
  unmount,
  withSettings,
} from "../helpers/pod/target";
import { chownTree, temporaryDirectory, waitFor } from "../helpers/process";
import { seeded } from "../helpers/random";
import { startPushgateway, startRefusingPushgateway } from "../helpers/servers/pushgateway";
import { SUBJECTS } from "../helpers/subjects";
import { doubleOf, TARGET_CLAIM } from "../helpers/subjects/subject";

/** How often things are tried; the defaults are what a release is held to. */
const KILLS = count("FAULT_KILLS", 100);
const STARTS = count("FAULT_STARTS", 50);
const FAILING_DAYS = count("FAULT_FAILING_DAYS", 40);
const EXIT_CODES = count("FAULT_EXIT_CODES", 255);
/** Pods that run at the same time: most of a run is waiting. */
const LANES = count("FAULT_LANES", 4);
/** Milliseconds that a test with many rounds may take. */
const LONG = 900_000;
/** Printed, so that a failure can be repeated. */
const SEED = count("FAULT_SEED", Math.floor(Math.random() * 2 ** 31));

function count(name: string, otherwise: number): number {
  const value = process.env[name];
  return value === undefined ? otherwise : Number(value);
}

/** Does `work` for 0 to `rounds` - 1, some at the same time. */
async function inLanes(rounds: number, work: (round: number) => Promise<void>): Promise<void> {
  let next = 0;
  const lane = async (): Promise<void> => {
    while (next < rounds) {
      await work(next++).catch((error: unknown) => {
        next = rounds;
        throw error;
      });
    }
  };
  const lanes = await Promise.allSettled(Array.from({ length: Math.min(LANES, rounds) }, lane));
  const failed = lanes.find((outcome) => outcome.status === "rejected");
  if (failed !== undefined) throw failed.reason;
}

const names = Object.keys(SUBJECTS).filter((name) => (process.env.FAULT_SUBJECTS ?? name).split(",").includes(name));
process.stderr.write(`faults: FAULT_SEED=${SEED} FAULT_SUBJECTS=${names.join(",")}\n`);

describe.each(names)("%s", (name) => {
  let subject: Subject;
  let started: Subject | undefined;
  let gateway: Pushgateway | undefined;
  const restored = new Set<string>();

  beforeAll(async () => {
    gateway = await startPushgateway();
    subject = started = await (SUBJECTS[name] as () => Promise<Subject>)();
  });
  beforeEach(() => gateway?.wipe());
  afterAll(async () => {
    await started?.stop();
    await gateway?.stop();
  });

  const optionsFor = (target: string, more: CronJobOptions = {}): CronJobOptions => ({
    ...subject.options,
    ...more,
    volumes: { ...subject.options.volumes, [TARGET_CLAIM]: target, ...more.volumes },
  });
  const backup = (target: string, more: CronJobOptions = {}, synthesised = subject.synthesised): Promise<PodResult> =>
    runCronJob(synthesised, optionsFor(target, more));
  /** In memory: what a disk takes for an fsync, with other work on it, would blur every moment that matters here. */
  const newTarget = (): string => makeTarget(subject.synthesised, { bytes: 64 << 20 });
  const published = (target: string): readonly FoundGeneration[] => generationsOn(subject.synthesised, target);
  const directoryOf = (target: string): string => generationsDirectory(subject.synthesised, target);
  const dumping = (target: string): boolean => {
    const directory = directoryOf(target);
    return existsSync(directory) && readdirSync(directory).some((entry) => entry.startsWith(".partial-"));
  };
  const metric = (which: keyof typeof METRICS): Promise<number | undefined> | undefined => gateway?.value(METRICS[which].name);

  /** Everything on a target but locks, with a hash of each file. */
  const contentOf = (target: string): Record<string, string> => {
    const directory = directoryOf(target);
    if (!existsSync(directory)) return {};
    const files = readdirSync(directory, { recursive: true, withFileTypes: true }).filter((entry) => !entry.name.startsWith(".lock"));
    return Object.fromEntries(
      files.map((entry) => {
        const path = join(entry.parentPath, entry.name);
        return [path.slice(directory.length), entry.isFile() ? createHash("sha256").update(readFileSync(path)).digest("hex") : "directory"];
      }),
    );
  };

  /** A run that failed as it should: one line of reason, nothing published, nothing left, and the failure reported. */
  const expectFailure = async (result: PodResult, reason: RegExp, target: string, before: Record<string, string> = {}): Promise<void> => {
    const lines = (result.logs.runner ?? "").trim().split("\n");
    const reasons = lines.filter((line) => line.includes("backup failed: "));
    expect({ code: result.exitCodes.runner, reasons }).toEqual({ code: 1, reasons: [expect.stringMatching(reason)] });
    expect(result.logs.runner).not.toMatch(/^\s+at /m);
    expect(contentOf(target)).toEqual(before);
    expect(await metric("lastExitCode")).toBe(1);
    if (Object.keys(before).length === 0) expect(await metric("lastSuccess")).toBeUndefined();
  };

  /** What is published is whole, and restores to what the source holds. */
  const expectWhole = async (generation: FoundGeneration): Promise<void> => {
    const { path, manifest } = generation;
    expect(manifest).toMatchObject({ formatVersion: 1, generation: generation.name });
    for (const file of manifest.files) {
      const content = readFileSync(join(path, file.path));
      expect([content.length, createHash("sha256").update(content).digest("hex")]).toEqual([file.bytes, file.sha256]);
    }
    // What was restored once need not be again: the same bytes restore to the same.
    const bytes = manifest.files.map(({ sha256 }) => sha256).join();
    if (restored.has(bytes)) return;
    await subject.restoreEqual(generation);
    restored.add(bytes);
  };

  /** A run that publishes one generation more. */
  const expectSuccess = async (target: string, more: CronJobOptions = {}): Promise<PodResult> => {
    const before = published(target).length;
    const result = await backup(target, more);
    expect({ ...result, published: published(target).length }).toEqual({ ...result, ok: true, published: before + 1 });
    return result;
  };

  /** How long a whole run takes, and how long it is from the dump's beginning to the publication. */
  const paceOf = async (): Promise<{ readonly runMs: number; readonly dumpMs: number }> => {
    const target = newTarget();
    const begun = Date.now();
    let dump = 0;
    let publication = 0;
    const when = (): boolean => {
      if (dump === 0 && dumping(target)) dump = Date.now();
      if (dump !== 0 && publication === 0 && published(target).length > 0) publication = Date.now();
      return false;
    };
    const { ok } = await backup(target, { kill: { when } });
    expect(ok).toBe(true);
    return { runMs: Date.now() - begun, dumpMs: publication - dump };
  };

  /** A run that publishes, and removes a quarter of what there is, the oldest first; before anything is proven, nothing. */
  const expectPruned = async (target: string): Promise<void> => {
    if (settingsOf(subject.synthesised).retention?.proof === "drill") {
      const before = published(target).length;
      await expectSuccess(target);
      expect(published(target)).toHaveLength(before + 1);
      for (const { name } of published(target)) await judge(directoryOf(target), name);
    }
    const before = published(target).map(({ name }) => name);
    const { logs } = await backup(target);
    const oldest = before.slice(0, Math.floor((before.length + 1) / 4));
    const left = readdirSync(directoryOf(target));
    expect({ logs, left: left.filter((entry) => oldest.some((name) => entry.startsWith(name))) }).toEqual({ logs, left: [] });
    expect(published(target).slice(0, -1).map(({ name }) => name)).toEqual(before.slice(oldest.length));
  };

  /** An engine that has no program to end: the runner does all of it. */
  const expectRunnerAlone = async (): Promise<void> => {
    const { exitCodes } = await backup(newTarget());
    expect(exitCodes).toEqual({ runner: 0 });
  };

  test("a run publishes one generation that restores, and reports it", async () => {
    const target = newTarget();
    const result = await expectSuccess(target);
    expect(result.logs.runner).toMatch(/published \S+: /);
    for (const generation of published(target)) await expectWhole(generation);
    expect(await metric("lastExitCode")).toBe(0);
    const finished = Date.parse(published(target)[0]?.manifest.finishedAt ?? "") / 1000;
    expect(Math.abs(((await metric("lastSuccess")) ?? 0) - finished)).toBeLessThan(2);
  });

  test("the engine's script does the same under dash, busybox and bash", async () => {
    if (subject.producer === undefined) return expectRunnerAlone();
    for (const shell of ["dash", "busybox", "bash"] as const) await expectSuccess(newTarget(), { shell });
  });

  test(`killed -9 at ${KILLS} random moments, nothing is published that is not whole`, async () => {
    await paceOf(); // the first reads everything from the disk, the others do not
    const { runMs, dumpMs } = await paceOf();
    const chance = seeded(SEED);
    const rounds = Array.from({ length: KILLS }, () => ({
      victim: [undefined, "runner", "engine"][Math.floor(chance() * (subject.producer === undefined ? 2 : 3))],
      // From the beginning of a dump to its end is a small part of a run, and the part that matters.
      fromDump: chance() < 0.7,
      pauseMs: chance() < 0.3 ? 0 : 200,
      share: chance(),
    }));
    const outcome = { published: 0, nothing: 0 };
    await inLanes(KILLS, async (round) => {
      const { victim, fromDump, pauseMs, share } = rounds[round] as (typeof rounds)[number];
      const target = newTarget();
      const pod = startCronJob(subject.synthesised, optionsFor(target, { pauseMs }));
      let over = false;
      void pod.done.then(() => (over = true));
      if (fromDump) await waitFor(() => dumping(target) || over, "the dump to begin", 60, 2);
      await new Promise((resolve) => setTimeout(resolve, share * (fromDump ? dumpMs : 1.1 * runMs)));
      pod.kill(victim === undefined ? {} : { container: victim });
      // Whichever container is left may wait minutes for the other one; it gets enough time to do wrong.
      const patience = setTimeout(() => pod.kill(), 3000);
      await pod.done;
      clearTimeout(patience);
      const found = published(target);
      outcome[found.length === 0 ? "nothing" : "published"] += 1;
      expect(found.length).toBeLessThanOrEqual(1);
      for (const generation of found) await expectWhole(generation);
      unmount(target);
    });
    process.stderr.write(`${name}: ${KILLS} kills, ${outcome.published} after publication\n`);
    // Kills that all come too late, or all too early, would prove nothing.
    if (KILLS >= 50) expect(Math.min(outcome.published, outcome.nothing)).toBeGreaterThan(0);
  }, LONG);

  test("a run after one that was killed takes the lock over and removes what was left", async () => {
    const target = newTarget();
    const killed = await backup(target, { kill: { when: () => dumping(target) } });
    expect({ killed: killed.killed > 0, dumping: dumping(target) }).toEqual({ killed: true, dumping: true });
    const impatient = withLease(subject.synthesised, 2);
    const result = await backup(target, {}, impatient);
    expect(result.logs.runner).toMatch(/removing \.partial-\S+, left by a run that did not end/);
    expect(dumping(target)).toBe(false);
    expect(published(target)).toHaveLength(1);
  });

  test("fails when the target gets full", async () => {
    const target = makeTarget(subject.synthesised, { bytes: 32 << 10 });
    const result = await backup(target);
    await expectFailure(result, /backup failed: .*no space left \(ENOSPC\); on the file server run: /, target);
    unmount(target);
  });

  test("fails when there is no room for twice the last backup, before the source is touched", async () => {
    const first = newTarget();
    await expectSuccess(first);
    const size = published(first)[0]?.manifest.files.reduce((sum, { bytes }) => sum + bytes, 0) ?? 0;
    const target = temporaryDirectory("small");
    mountTmpfs(target, Math.floor(size * 2.5));
    runOnExport(settingsOf(subject.synthesised).target?.prepare ?? "", settingsOf(subject.synthesised).target?.directory ?? "", target);
    cpSync(directoryOf(first), directoryOf(target), { recursive: true });
    chownTree(directoryOf(target), ownerOf(directoryOf(first)));
    const before = contentOf(target);
    await expectFailure(await backup(target), /backup failed: only .* free on \/backup, but twice the last backup/, target, before);
    unmount(target);
  });

  test.each<[string, (path: string) => CronJobOptions, RegExp]>([
    ["nothing is mounted", (path) => ({ volumes: { [TARGET_CLAIM]: { path, mounted: false } } }), /\/backup is not a mount point/],
    [
      "the node's own disk is mounted instead",
      () => ({ volumes: { [TARGET_CLAIM]: temporaryDirectory("node") } }),
      /\.cdktf-backup-target is missing/,
    ],
    ["the target is read-only", (path) => ({ volumes: { [TARGET_CLAIM]: { path, readOnly: true } } }), /read-only \(EROFS\)/],
  ])("fails when %s", async (_, options, reason) => {
    const target = newTarget();
    await expectFailure(await backup(target, options(target)), reason, target);
  });

  test("fails when another backup's export is mounted", async () => {
    const target = newTarget();
    chmodSync(join(target, ".cdktf-backup-target"), 0o644);
    writeFileSync(join(target, ".cdktf-backup-target"), "photos");
    await expectFailure(await backup(target), /says "photos" instead of "backup-target": this export belongs to another backup/, target);
  });

  test("an export that is root's fails with the command that mends it, and the command does", async () => {
    const target = makeTarget(subject.synthesised, { prepared: false });
    const { directory = "" } = settingsOf(subject.synthesised).target ?? {};
    const unprepared = await backup(target);
    await expectFailure(unprepared, /on the file server run: /, target);
    // The sentinel alone, as a person makes it who is in a hurry.
    writeFileSync(join(target, ".cdktf-backup-target"), "backup-target");
    const result = await backup(target);
    if (result.ok) return expect(ownerOf(directoryOf(target))).toBe(0); // a backup that runs as root needs no more
    await expectFailure(result, /backup failed: .*permission denied \(EACCES\); on the file server run: /, target);
    const command = /on the file server run: (.*)$/m.exec(result.logs.runner ?? "")?.[1] ?? "";
    runOnExport(command, directory, target);
    await expectSuccess(target);
  });

  test(`of two that start at once, ${STARTS} times, one publishes and the other finds it busy`, async () => {
    // Whoever finds the lock taken looks again after a twentieth of the lease, and its holder shows life six times in it.
    const impatient = withLease(subject.synthesised, 12);
    const held = (target: string, pod?: RunningPod): boolean =>
      lockFiles(directoryOf(target), /^\.lock\.\d+$/).some((content) => content.startsWith("held") && content.includes(pod?.name ?? ""));

    /** Both at the same moment. They may miss each other all the same, where a dump takes less time than a start. */
    const atOnce = async (): Promise<void> => {
      const target = newTarget();
      const results = await Promise.all([1, 2].map(() => backup(target, {}, impatient)));
      const found = await foundOn(target);
      const logs = results.map((result) => result.logs.runner);
      const codes = results.map(({ exitCodes }) => exitCodes.runner).sort();
      const [first, second] = found.map(({ startedAt, finishedAt }) => ({ from: Date.parse(startedAt), to: Date.parse(finishedAt) }));
      const inTurn = first !== undefined && second !== undefined && second.from >= first.to;
      expect({ logs, codes, found: found.length }).toEqual({ logs, codes: inTurn ? [0, 0] : [0, 75], found: inTurn ? 2 : 1 });
    };

    /** One while the other works, which stands still until it was found alive. False where it was done too early for that. */
    const whileWorking = async (): Promise<boolean> => {
      const target = newTarget();
      const first = startCronJob(impatient, optionsFor(target));
      let over = false;
      void first.done.then(() => (over = true));
      await waitFor(() => over || dumping(target), "the dump to begin", 60, 1);
      first.kill({ container: "runner", signal: "SIGSTOP" });
      await pause(20); // what it was about to do is done
      const second = startCronJob(impatient, optionsFor(target));
      let ended = false;
      void second.done.then(() => (ended = true));
      const wants = (): boolean => lockFiles(directoryOf(target), /^\.lock-/).some((content) => content.includes(second.name));
      await waitFor(() => ended || wants(), "the other to want it", 15, 1);
      // Overdue by now, its sign of life is the first that it does, as soon as it gets a processor.
      await pause(2500);
      const seen = lifeSign(directoryOf(target));
      first.kill({ container: "runner", signal: "SIGCONT" });
      await waitFor(() => ended || lifeSign(directoryOf(target)) !== seen, "its sign of life", 15, 1);
      first.kill({ container: "runner", signal: "SIGSTOP" });
      const working = held(target, first) && dumping(target);
      if (working) await waitFor(() => ended, "the other to end", 15, 10);
      first.kill({ container: "runner", signal: "SIGCONT" });
      const [one, other] = await Promise.all([first.done, second.done]);
      const found = await foundOn(target);
      if (!working) return false;
      const logs = [one.logs.runner, other.logs.runner];
      const codes = [one.exitCodes.runner, other.exitCodes.runner];
      expect({ logs, codes, found: found.length }).toEqual({ logs, codes: [0, 75], found: 1 });
      expect(other.logs.runner).toMatch(/another run holds the lock/);
      return true;
    };

    /** What was published, earliest first; all of it whole. */
    const foundOn = async (target: string): Promise<readonly Manifest[]> => {
      const found = published(target);
      for (const generation of found) await expectWhole(generation);
      unmount(target);
      return found.map(({ manifest }) => manifest).sort((a, b) => Date.parse(a.startedAt) - Date.parse(b.startedAt));
    };

    await inLanes(STARTS, async (round) => {
      if (round % 5 !== 0) return atOnce();
      for (let attempt = 0; !(await whileWorking()); attempt++) expect(attempt).toBeLessThan(10);
    });
  }, LONG);

  test("publishes when the Pushgateway is down or refuses, and says so", async () => {
    await gateway?.stop();
    gateway = undefined;
    try {
      const down = newTarget();
      const { ok, logs } = await backup(down);
      expect({ ok, log: logs.runner }).toEqual({ ok: true, log: expect.stringMatching(/metrics not pushed: .*ECONNREFUSED/) as string });
      expect(published(down)).toHaveLength(1);
      const refusing = await startRefusingPushgateway(400);
      const refused = newTarget();
      const result = await backup(refused).finally(() => refusing.stop());
      expect(result).toMatchObject({ ok: true, logs: { runner: expect.stringMatching(/metrics not pushed: HTTP 400/) as string } });
      expect(published(refused)).toHaveLength(1);
      expect(refusing.requests()).toBe(1);
    } finally {
      gateway = await startPushgateway();
    }
  });

  test("at its deadline a run ends within seconds, publishes nothing and reports the failure", async () => {
    const target = newTarget();
    const stall = await subject.stall?.();
    const term: CronJobOptions =
      stall === undefined ? { kill: { signal: "SIGTERM", when: () => dumping(target) } } : { ...stall.options, deadlineSeconds: 4 };
    const result = await backup(target, { ...term, timeoutSeconds: 30 });
    await stall?.undo();
    expect({ code: result.exitCodes.runner, published: published(target) }).toEqual({ code: 143, published: [] });
    expect(result.durationMs).toBeLessThan(15_000);
    expect(result.logs.runner).toMatch(/backup failed: stopped by SIGTERM\n/);
    expect(await metric("lastExitCode")).toBe(143);
    expect(await metric("lastSuccess")).toBeUndefined();
  });

  test("fails when its source is unfit, each way with its own reason, and works again afterwards", async () => {
    for (const fault of subject.sourceFaults) {
      const target = newTarget();
      const undo = await fault.inject();
      const result = await backup(target).finally(undo);
      await expectFailure(result, fault.reason, target);
    }
    expect(subject.sourceFaults.length).toBeGreaterThan(0);
    await expectSuccess(newTarget());
  });

  test("fails whatever status the producer ends with but 0, also after whole output", async () => {
    const { producer } = subject;
    if (producer === undefined) return expectRunnerAlone();
    const statuses = name === "command" ? Array.from({ length: EXIT_CODES }, (_, index) => index + 1) : [1, 2, 126, 137, 255];
    await inLanes(statuses.length, async (index) => {
      const target = newTarget();
      const status = statuses[index] as number;
      const double = doubleOf(producer, `${producer.program}.real "$@"\nexit ${status}`);
      const result = await backup(target, double);
      expect({ status, runner: result.exitCodes.runner, found: published(target) }).toEqual({ status, runner: 1, found: [] });
      expect(result.logs.runner).toMatch(new RegExp(`backup failed: .*exit status ${status}\\b`));
      unmount(target);
    });
  }, LONG);

  test("fails when the producer is killed in the middle, or the engine's container is", async () => {
    const { producer } = subject;
    if (producer === undefined) return expectRunnerAlone();
    const double = doubleOf(producer, `${producer.program}.real "$@"\nexec sleep 100`);
    for (const kill of [
      { container: "engine", process: "sleep" },
      { container: "engine" },
    ]) {
      const target = newTarget();
      const result = await backup(target, { ...double, kill: { ...kill, when: () => dumping(target) } });
      expect(result.killed).toBeGreaterThan(0);
      await expectFailure(result, kill.process === undefined ? /the engine's container died/ : /exit status 137/, target);
    }
  });

  test(`${FAILING_DAYS} failing days prune nothing; the next good one does`, async () => {
    const target = makeTarget(subject.synthesised, { bytes: 512 << 20 });
    await expectSuccess(target);
    for (let days = 16; days < 26; days++) age(published(target)[0] as FoundGeneration, days);
    const before = contentOf(target);
    const days = subject.producer === undefined || name === "command" ? FAILING_DAYS : Math.min(FAILING_DAYS, 5);
    const faults = subject.sourceFaults.filter(({ slow }) => slow !== true);
    for (let day = 0; day < days; day++) {
      const fault = faults[day % faults.length] as (typeof faults)[number];
      const undo = await fault.inject();
      const { exitCodes } = await backup(target).finally(undo);
      expect([day, exitCodes.runner]).toEqual([day, 1]);
    }
    expect(contentOf(target)).toEqual(before);
    await expectPruned(target);
  }, LONG);
});

/** What a drill writes that finds a generation equal to what was backed up. */
async function judge(directory: string, generation: string): Promise<void> {
  const manifestSha256 = await manifestHash(directory, generation);
  const startedAt = new Date().toISOString();
  await writeVerdict(directory, { formatVersion: 1, generation, manifestSha256, green: true, startedAt, bytes: 0, checks: [] });
  chownTree(join(directory, generation + VERDICT), ownerOf(directory));
}

function withLease(synthesised: string, lockLeaseSeconds: number): string {
  return withSettings(synthesised, (settings) => {
    const { target } = settings;
    return target === undefined ? settings : { ...settings, target: { ...target, lockLeaseSeconds } };
  });
}

/** What is in a backup's lock files of that name. */
function lockFiles(directory: string, name: RegExp): readonly string[] {
  if (!existsSync(directory)) return [];
  return readdirSync(directory).flatMap((file) => {
    try {
      return name.test(file) ? [readFileSync(join(directory, file), "utf8")] : [];
    } catch {
      return []; // it was removed in the meantime
    }
  });
}

/** When the lock that counts was last written to. */
function lifeSign(directory: string): number {
  const numbers = readdirSync(directory).flatMap((file) => /^\.lock\.(\d+)$/.exec(file)?.[1] ?? []);
  return statSync(join(directory, `.lock.${Math.max(...numbers.map(Number))}`), { throwIfNoEntry: false })?.mtimeMs ?? 0;
}

const pause = (milliseconds: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, milliseconds));

function ownerOf(path: string): number {
  return statSync(path).uid;
}

/** Copies a generation under the name and the dates it would have had some days ago. */
function age({ path, manifest }: FoundGeneration, days: number): void {
  const time = new Date(Date.now() - days * 86_400_000).toISOString();
  const generation = `${time.replace(/[-:]/g, "").replace(/\.\d+/, "")}-${days.toString(16).padStart(8, "0")}`;
  const copy = join(dirname(path), generation);
  cpSync(path, copy, { recursive: true });
  writeFileSync(join(copy, "manifest.json"), JSON.stringify({ ...manifest, generation, startedAt: time, finishedAt: time }));
  chownTree(copy, ownerOf(path));
}
