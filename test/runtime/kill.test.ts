import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { finished } from "node:stream/promises";
import { listGenerations } from "../../lib/runtime/generation";
import type { TargetSettings } from "../../lib/runtime/settings";
import { openFile } from "../../lib/runtime/store";
import { AT_ONCE, plant, prepared, program } from "./support";

const OLD = "20261101T000000Z-00000000";
const LANES = 4;

test("killed at 100 random moments, no run leaves a generation that is not whole, and the next one works", async () => {
  const runner = program("runner.ts");
  const { root, settings } = prepared({ retention: { keepLast: 2, ...AT_ONCE } });
  const { mount } = settings.target as TargetSettings;

  /** A place of its own for each round, so that no round waits for the lock that another left. */
  function place(round: string): string {
    for (const name of ["config", "scratch"]) mkdirSync(join(root, round, name), { recursive: true });
    const own = { ...settings, target: { ...settings.target, directory: round } };
    writeFileSync(join(root, round, "config", "settings.json"), JSON.stringify(own));
    plant(join(mount, round), OLD);
    return join(mount, round);
  }

  /** Runs to the end, or to the moment of the kill; returns how long that took. */
  async function run(round: string, killAfterMs?: number): Promise<number> {
    const started = performance.now();
    const child = spawn(process.execPath, [runner, join(root, round)], { stdio: "ignore" });
    const timer = killAfterMs === undefined ? undefined : setTimeout(() => child.kill("SIGKILL"), killAfterMs);
    const [code] = (await once(child, "exit")) as [number | null];
    clearTimeout(timer);
    if (killAfterMs === undefined && code !== 0) throw new Error(`a run that nothing killed ended with ${code}`);
    return performance.now() - started;
  }

  /** The new generations, each read to its last byte. */
  async function whole(directory: string): Promise<string[]> {
    const onInvalid = (message: string): never => {
      throw new Error(message);
    };
    const generations = await listGenerations(directory, settings, onInvalid);
    for (const { name, manifest } of generations.slice(1)) {
      for (const file of manifest.files) await finished(openFile(join(directory, name), file).resume());
    }
    return generations.map(({ name }) => name);
  }

  const count = { before: 0, within: 0, after: 0 };
  let longest = 0;
  let killed = "";
  for (let batch = 0; batch <= 100 / LANES; batch++) {
    const rounds = Array.from({ length: LANES }, (_, index) => `${batch}-${index}`);
    for (const round of rounds) place(round);
    // The first batch shows how long a run takes here and now; the others are killed somewhere in that time.
    const times = await Promise.all(rounds.map((round) => run(round, batch === 0 ? undefined : longest * (0.3 + 0.8 * Math.random()))));
    if (batch === 0) longest = Math.max(...times);
    for (const round of batch === 0 ? [] : rounds) {
      const directory = join(mount, round);
      const names = readdirSync(directory).filter((name) => /^\d{8}T/.test(name));
      expect(await whole(directory)).toEqual(names);
      expect(names[0]).toBe(OLD);
      const partial = readdirSync(directory).some((name) => name.startsWith(".partial"));
      if (partial) killed = round;
      count[names.length > 1 ? "after" : partial ? "within" : "before"]++;
    }
  }
  // The moments were spread: some before the dump, some in it, some after the publication.
  expect(Math.min(count.before, count.within, count.after)).toBeGreaterThan(0);

  await run(killed);
  expect(await whole(join(mount, killed))).toHaveLength(2);
  expect(readdirSync(join(mount, killed)).filter((name) => name.startsWith(".partial"))).toEqual([]);
}, 60_000);
