import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import { METRICS } from "../../lib/runtime/metrics";
import { push } from "../../lib/runtime/pushgateway";
import type { Settings } from "../../lib/runtime/settings";
import { prepared, program } from "../runtime/support";

const URL = "http://127.0.0.1:9091";
const GROUP = `backup="postgres",instance="",job="backup",namespace="dbaas"`;

let runner: string;
let server: ChildProcess;
beforeAll(() => {
  runner = program("runner.ts");
});
beforeEach(start);
afterEach(stop);

/** The real one, with an empty memory. */
async function start(): Promise<void> {
  server = spawn("prometheus-pushgateway", ["--web.listen-address=127.0.0.1:9091", "--persistence.file="], { stdio: "ignore" });
  for (let attempt = 0; attempt < 200; attempt++) {
    if (await fetch(`${URL}/-/ready`).then(({ ok }) => ok, () => false)) return;
    await sleep(25);
  }
  throw new Error("the Pushgateway did not start");
}

async function stop(): Promise<void> {
  server.kill();
  await once(server, "exit");
}

async function held(): Promise<string[]> {
  const text = await (await fetch(`${URL}/metrics`)).text();
  return text.split("\n").filter((line) => /^(# TYPE )?(backup_|db_ok)/.test(line));
}

function settings(changes: Partial<Settings> = {}): Settings {
  return prepared({ pushgateway: URL, ...changes }).settings;
}

test("what is pushed is held as it was meant: gauges, in the backup's own group, under the names that alerts use", async () => {
  await push(settings(), Object.values(METRICS).map((metric, index) => [metric, 1764000000 + index] as const));
  const lines = await held();
  Object.values(METRICS).forEach(({ name }, index) => {
    expect(lines).toContain(`# TYPE ${name} gauge`);
    expect(lines.some((line) => line.startsWith(`${name}{${GROUP}} `) && Number(line.split(" ")[1]) === 1764000000 + index)).toBe(true);
  });
});

test("a later push keeps what it does not name, and other backups' groups", async () => {
  await push(settings(), [[METRICS.lastSuccess, 1], [METRICS.lastExitCode, 0]]);
  await push(settings({ backup: "mysql" }), [[METRICS.lastExitCode, 0]]);
  await push(settings(), [[METRICS.lastExitCode, 1]]);
  const lines = await held();
  expect(lines).toContain(`backup_last_success_timestamp{${GROUP}} 1`);
  expect(lines).toContain(`backup_last_exit_code{${GROUP}} 1`);
  expect(lines).toContain(`backup_last_exit_code{${GROUP.replace("postgres", "mysql")}} 0`);
});

test("fails when the gateway refuses, with its own words", async () => {
  await expect(push(settings(), [[{ name: "not a name", help: "x" }, 1]])).rejects.toThrow(/^HTTP 400: .*text format parsing error/);
});

/** A whole run in a process of its own; returns its exit code. */
async function run({ root }: { readonly root: string }, behaviour = "well"): Promise<number> {
  const child = spawn(process.execPath, [runner, root, behaviour], { stdio: "ignore" });
  return ((await once(child, "exit")) as [number])[0];
}

test("a gateway that lost its memory has everything back after the next run, also one that fails", async () => {
  const place = prepared({ pushgateway: URL });
  expect(await run(place)).toBe(0);
  const before = (await held()).filter((line) => /^backup_(last_success|size|generations|snapshot)/.test(line));
  expect(before).toHaveLength(4);
  await stop();
  await start();
  expect(await held()).toEqual([]);
  expect(await run(place, "fails")).toBe(1);
  const after = await held();
  for (const line of before) expect(after).toContain(line);
  expect(after).toContain(`backup_last_exit_code{${GROUP}} 1`);
});

test("a gateway that is down does not change a run that succeeded", async () => {
  await stop();
  expect(await run(prepared({ pushgateway: URL }))).toBe(0);
  await start();
});
