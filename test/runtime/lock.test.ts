import { fork, type ChildProcess } from "node:child_process";
import { link, mkdir, open, readdir, rm } from "node:fs/promises";
import { once } from "node:events";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { Lock, LockBusy, type LockOptions } from "../../lib/runtime/lock";
import { program, temporary } from "./support";

const LEASE = 1;

let contender: string;
const children: ChildProcess[] = [];
beforeAll(() => {
  contender = program("contender.ts");
});
afterAll(() => {
  for (const child of children) child.kill("SIGKILL");
});

async function start(count: number): Promise<ChildProcess[]> {
  const started = Array.from({ length: count }, () => fork(contender, { execArgv: [], stdio: ["ignore", "inherit", "inherit", "ipc"] }));
  children.push(...started);
  await Promise.all(started.map((child) => once(child, "spawn")));
  return started;
}

async function ask(child: ChildProcess, command: string, directory = "", leaseSeconds = LEASE): Promise<string> {
  const answer = once(child, "message");
  child.send({ command, directory, leaseSeconds });
  return (await answer)[0] as string;
}

function acquire(directory: string, options: Partial<LockOptions> = {}): Promise<Lock> {
  const { signal } = new AbortController();
  return Lock.acquire(directory, { leaseSeconds: LEASE, owner: "me", signal, onLost: () => undefined, ...options });
}

const locks = async (directory: string): Promise<string[]> => (await readdir(directory)).filter((name) => name.startsWith(".lock")).sort();

test("taking it again and again leaves one small file", async () => {
  const directory = temporary();
  for (let round = 0; round < 5; round++) await (await acquire(directory)).release();
  expect(await locks(directory)).toEqual([".lock.5"]);
  expect(readFileSync(join(directory, ".lock.5"), "utf8")).toMatch(/^free\nme since \d{4}-/);
});

test("of 8 parallel processes exactly one wins, in each of 60 rounds, from nothing, from a free lock and from a dead one", async () => {
  const root = temporary();
  const processes = await start(8);
  const wins = new Map<number, number>();
  for (let round = 0; round < 60; round++) {
    const directory = join(root, String(round % 3 === 0 ? round : 1));
    await mkdir(directory, { recursive: true });
    if (round % 3 === 2) {
      // Somebody died: his lock has been silent for longer than a lease.
      const number = Math.max(0, ...(await locks(directory)).map((name) => Number(name.slice(6)))) + 1;
      writeFileSync(join(directory, `.lock.${number}`), "held\nthe dead\n");
      const { utimes } = await import("node:fs/promises");
      await utimes(join(directory, `.lock.${number}`), Date.now() / 1000 - 60, Date.now() / 1000 - 60);
    }
    const answers = await Promise.all(processes.map((child) => ask(child, "acquire", directory)));
    expect(answers.filter((answer) => answer === "won")).toHaveLength(1);
    expect(answers.filter((answer) => answer === "busy")).toHaveLength(7);
    const winner = answers.indexOf("won");
    wins.set(winner, (wins.get(winner) ?? 0) + 1);
    expect(await ask(processes[winner] as ChildProcess, "check")).toBe("held");
    expect(await ask(processes[winner] as ChildProcess, "release")).toBe("released");
    expect((await locks(directory)).filter((name) => name.startsWith(".lock-"))).toEqual([]);
  }
  expect(wins.size).toBeGreaterThan(1);
}, 30_000);

test("a holder that lives is known by its heartbeat, well before its lease is over", async () => {
  const directory = temporary();
  const lock = await acquire(directory);
  const started = performance.now();
  await expect(acquire(directory)).rejects.toThrow(/^another run holds the lock: me since /);
  expect(performance.now() - started).toBeLessThan(LEASE * 700);
  await lock.release();
});

test("a killed holder's lock is taken over after the lease, and never before", async () => {
  const directory = temporary();
  const [holder] = await start(1);
  expect(await ask(holder as ChildProcess, "acquire", directory)).toBe("won");
  await sleep(400);
  holder?.kill("SIGKILL");
  const killed = performance.now();
  const lock = await acquire(directory);
  const waited = performance.now() - killed;
  // The last sign of life was at most a sixth of the lease before the kill.
  expect(waited).toBeGreaterThan(LEASE * 1000 * (1 - 1 / 6) - 50);
  expect(waited).toBeLessThan(LEASE * 1500);
  await lock.assertHeld();
  await lock.release();
});

test("a stopped holder that wakes after a takeover learns that it lost, by itself and when it asks", async () => {
  const directory = temporary();
  const [holder] = await start(1);
  expect(await ask(holder as ChildProcess, "acquire", directory)).toBe("won");
  holder?.kill("SIGSTOP");
  const lock = await acquire(directory);
  holder?.kill("SIGCONT");
  expect(await ask(holder as ChildProcess, "check")).toBe("lost the lock: another run took it over");
  await sleep(LEASE * 400);
  expect(await ask(holder as ChildProcess, "lost")).toBe("lost the lock: another run took it over");
  await ask(holder as ChildProcess, "release");
  await lock.assertHeld();
  expect(readFileSync(join(directory, (await locks(directory)).at(-1) as string), "utf8")).toMatch(/^held/);
  await lock.release();
});

test("a contender that slept makes a number that was deleted, and loses", async () => {
  const directory = temporary();
  // It saw lock 1 free, then slept; locks 2 and 3 came and went, and 3 is held.
  await (await acquire(directory)).release();
  await (await acquire(directory)).release();
  const holder = await acquire(directory);
  expect(await locks(directory)).toEqual([".lock.3"]);
  const late = await open(join(directory, ".lock-late"), "wx");
  await late.writeFile("held\nlate\n");
  await late.close();
  await link(join(directory, ".lock-late"), join(directory, ".lock.2"));
  // The number can be made; but it is not the highest, so whoever looks sees the holder's.
  await holder.assertHeld();
  await expect(acquire(directory)).rejects.toThrow("another run holds the lock: me");
  await holder.release();
});

test("a contender whose number was overtaken while it made it backs off and removes it", async () => {
  const directory = temporary();
  const fs = await import("node:fs");
  const { promises } = fs;
  // A higher lock appears between the look and the making, as for a contender that slept in between.
  const real = promises.link;
  const spy = jest.spyOn(promises, "link").mockImplementation(async (from, to) => {
    writeFileSync(join(directory, ".lock.5"), "held\nanother\n");
    await real(from, to);
  });
  await expect(acquire(directory)).rejects.toThrow("another run took the lock at the same moment");
  spy.mockRestore();
  expect(await locks(directory)).toEqual([".lock.5"]);
});

test("a lock from the future, left by a clock that was set back, is taken over after a lease without a sign of life", async () => {
  const directory = temporary();
  const { utimes } = await import("node:fs/promises");
  writeFileSync(join(directory, ".lock.1"), "held\nfrom the future\n");
  await utimes(join(directory, ".lock.1"), Date.now() / 1000 + 9000, Date.now() / 1000 + 9000);
  const started = performance.now();
  const lock = await acquire(directory);
  expect(performance.now() - started).toBeGreaterThan(LEASE * 990);
  await lock.release();
});

test("waiting ends with the signal, and leaves nothing behind", async () => {
  const directory = temporary();
  writeFileSync(join(directory, ".lock.1"), "held\nthe dead\n");
  const control = new AbortController();
  setTimeout(() => control.abort(new Error("stop")), 50);
  await expect(acquire(directory, { signal: control.signal })).rejects.toThrow("aborted");
  expect(await locks(directory)).toEqual([".lock.1"]);
});

test("fails when the lock's file is gone: the target is not the one that was locked", async () => {
  const directory = temporary();
  const lock = await acquire(directory);
  await rm(join(directory, ".lock.1"));
  await expect(lock.assertHeld()).rejects.toThrow("lost the lock: its file is gone");
  await lock.release();
});

test("a directory that vanishes under the holder is a lost lock", async () => {
  const directory = join(temporary(), "gone");
  await mkdir(directory);
  let lost = (_: Error): void => undefined;
  const reason = new Promise<Error>((resolve) => (lost = resolve));
  const lock = await acquire(directory, { onLost: lost });
  await rm(directory, { recursive: true });
  expect((await reason).message).toContain("ENOENT");
  await lock.release();
});

test("an unreadable directory is an error and not a busy lock", async () => {
  await expect(acquire(join(temporary(), "none"))).rejects.not.toBeInstanceOf(LockBusy);
});
