import { execFileSync, spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { join, resolve } from "node:path";
import { text } from "node:stream/consumers";
import { setTimeout as sleep } from "node:timers/promises";
import { listGenerations } from "../../lib/runtime/generation";
import { openFile } from "../../lib/runtime/store";
import type { Settings } from "../../lib/runtime/settings";
import { plant, prepared, program } from "./support";

const LINE = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ \S.*$/;
const AGENT = resolve(__dirname, "../../lib/scripts/agent.sh");
const owner = { backup: "postgres", namespace: "dbaas" };

let runner: string;
let gateway: Server;
let bodies: string[] = [];
const children: ChildProcess[] = [];

beforeAll(async () => {
  runner = program("runner.ts");
  // It keeps what it is sent; what the real one makes of it is tested with the engines.
  gateway = createServer((request, response) => void text(request).then((body) => (bodies.push(body), response.end())));
  gateway.listen(0, "127.0.0.1");
  await once(gateway, "listening");
});
beforeEach(() => {
  bodies = [];
});
afterEach(() => {
  for (const child of children.splice(0)) child.kill("SIGKILL");
});
afterAll(() => {
  gateway.closeAllConnections();
  gateway.close();
});

interface Place {
  readonly root: string;
  readonly directory: string;
}

function place(changes: Partial<Settings> = {}): Place {
  return prepared({ pushgateway: `http://127.0.0.1:${(gateway.address() as AddressInfo).port}`, ...changes });
}

function start({ root }: Place, behaviour = "well", env: { readonly [name: string]: string } = {}, command = "backup"): ChildProcess {
  const options = { stdio: ["ignore", "pipe", "pipe"] as ["ignore", "pipe", "pipe"], env: { PATH: process.env.PATH, ...env } };
  const child = spawn(process.execPath, [runner, root, behaviour, command], options);
  children.push(child);
  return child;
}

async function ended(child: ChildProcess): Promise<{ code: number | null; lines: string[]; stderr: string }> {
  const said = [text(child.stdout as NodeJS.ReadableStream), text(child.stderr as NodeJS.ReadableStream)] as const;
  const [code] = (await once(child, "exit")) as [number | null];
  const [stdout, stderr] = await Promise.all(said);
  const lines = stdout.split("\n").filter((line) => line !== "");
  for (const line of lines) expect(line).toMatch(LINE);
  return { code, lines: lines.map((line) => line.slice(21)), stderr };
}

/** Ends the child with a signal once it says that it is at work. */
async function stopped(child: ChildProcess, signal: NodeJS.Signals): ReturnType<typeof ended> {
  const result = ended(child);
  await once(child.stdout as NodeJS.ReadableStream, "data");
  child.kill(signal);
  return result;
}

function generations({ directory }: Place): string[] {
  return readdirSync(directory).filter((name) => /^\d{8}T/.test(name));
}

function sample(name: string): number | undefined {
  const value = new RegExp(`^${name} (.*)$`, "m").exec(bodies.at(-1) ?? "")?.[1];
  return value === undefined ? undefined : Number(value);
}

describe("a run", () => {
  test("that succeeds ends with 0 and reports what there is", async () => {
    const at = place();
    const { code, lines } = await ended(start(at));
    expect(code).toBe(0);
    expect(lines).toEqual([expect.stringMatching(/^published \S+: .* in 2 files$/)]);
    expect(generations(at)).toHaveLength(1);
    expect(bodies).toHaveLength(1);
    expect(sample("backup_last_exit_code")).toBe(0);
    expect(sample("backup_generations")).toBe(1);
    const now = Date.now() / 1000;
    for (const name of ["last_success", "last_run", "snapshot"]) {
      expect(Math.abs((sample(`backup_${name}_timestamp`) ?? 0) - now)).toBeLessThan(60);
    }
    expect(sample("backup_duration_seconds")).toBeGreaterThan(0);
    expect(sample("backup_size_bytes")).toBeGreaterThan(150_000);
    expect(sample("backup_target_free_bytes")).toBeGreaterThan(0);
  });

  test("that fails ends with 1, says why in one line, and reports the last success that is on the target", async () => {
    const at = place();
    plant(at.directory, "20261101T000000Z-00000000");
    const { code, lines, stderr } = await ended(start(at, "fails"));
    expect(code).toBe(1);
    expect(lines).toEqual(["backup failed: the source is | broken"]);
    expect(stderr).toBe("");
    expect(sample("backup_last_exit_code")).toBe(1);
    expect(sample("backup_last_success_timestamp")).toBe(Date.parse("2026-11-01T00:01:00Z") / 1000);
    expect(generations(at)).toEqual(["20261101T000000Z-00000000"]);
  });

  test("that fails where nothing ever succeeded reports no success", async () => {
    await ended(start(place(), "fails"));
    expect(bodies).toHaveLength(1);
    expect(bodies[0]).not.toContain("backup_last_success_timestamp");
  });

  test("that fails because of its target reports the run and nothing of the target", async () => {
    const at = place();
    rmSync(join(at.root, "backup", ".cdktf-backup-target"));
    const { code, lines } = await ended(start(at));
    expect(code).toBe(1);
    expect(lines[0]).toMatch(/^backup failed: .* is missing: .*; on the file server run: prepare-it$/);
    expect(sample("backup_last_exit_code")).toBe(1);
    expect(bodies[0]).not.toContain("backup_target_free_bytes");
  });

  test("that is dry says what the retention would do, and neither makes nor reports anything", async () => {
    const at = place();
    plant(at.directory, "20261101T000000Z-00000000");
    const { code, lines } = await ended(start(at, "fails", { DRY_RUN: "true" }));
    expect(code).toBe(0);
    expect(lines).toEqual([
      expect.stringMatching(/^20261101T000000Z-00000000: kept: /),
      "dry run: nothing was backed up, and nothing removed",
    ]);
    expect(readdirSync(at.directory)).toEqual(["20261101T000000Z-00000000"]);
    expect(bodies).toEqual([]);
    rmSync(join(at.root, "backup", ".cdktf-backup-target"));
    const failed = await ended(start(at, "well", { DRY_RUN: "true" }));
    expect(failed).toMatchObject({ code: 1, lines: [expect.stringMatching(/^dry run failed: .* is missing: /)] });
    expect(bodies).toEqual([]);
  });

  test("refuses a word for dry that it does not know, and takes the known ones", async () => {
    const at = place();
    const { code, lines } = await ended(start(at, "well", { DRY_RUN: "yes" }));
    expect({ code, lines }).toEqual({ code: 1, lines: [`dry run failed: DRY_RUN must be 'true' or 'false', but is "yes"`] });
    expect(bodies).toEqual([]);
    for (const word of ["", "false"]) expect((await ended(start(at, "well", { DRY_RUN: word }))).code).toBe(0);
    expect(generations(at)).toHaveLength(2);
  });

  test("shows the stack to who asks for it", async () => {
    const { stderr } = await ended(start(place(), "fails", { DEBUG: "1" }));
    expect(stderr).toMatch(/^Error: the source is\n.*\n\s+at /);
  });

  test.each(["SIGTERM", "SIGINT"] as const)("that %s meets ends with 143, reports that, and publishes nothing", async (signal) => {
    const at = place();
    const started = performance.now();
    const { code, lines } = await stopped(start(at, "waits"), signal);
    expect(performance.now() - started).toBeLessThan(3000);
    expect(code).toBe(143);
    expect(lines).toEqual(["waiting", `backup failed: stopped by ${signal}`]);
    expect(sample("backup_last_exit_code")).toBe(143);
    expect(readdirSync(at.directory)).toEqual([".lock.1"]);
  });

  test("that TERM meets ends with 143 though its engine does not hear it, and a thread hangs in a system call", async () => {
    const at = place();
    execFileSync("mkfifo", [join(at.root, "pipe")]);
    const { code } = await stopped(start(at, "hangs"), "SIGTERM");
    expect(code).toBe(143);
    expect(sample("backup_last_exit_code")).toBe(143);
    expect(readdirSync(at.directory)).toEqual([".lock.1"]);
  });

  test("that TERM meets ends in time though the gateway does not answer", async () => {
    const silent = createServer(() => undefined);
    silent.listen(0, "127.0.0.1");
    await once(silent, "listening");
    const at = place({ pushgateway: `http://127.0.0.1:${(silent.address() as AddressInfo).port}` });
    const started = performance.now();
    const { code, lines } = await stopped(start(at, "waits"), "SIGTERM");
    expect(code).toBe(143);
    expect(performance.now() - started).toBeLessThan(6000);
    expect(lines.at(-1)).toMatch(/^metrics not pushed: .*timeout/);
    silent.closeAllConnections();
    silent.close();
  });

  test.each([
    ["throws", "thrown by nobody's call"],
    ["rejects", "rejected and not awaited"],
    ["forgets", "there is nothing left that could end what is waited for"],
  ])("that meets what nobody handles (%s) fails with it, in one line", async (behaviour, reason) => {
    const at = place();
    const { code, lines, stderr } = await ended(start(at, behaviour));
    expect(code).toBe(1);
    expect(lines).toEqual([`backup failed: ${reason}`]);
    expect(stderr).toBe("");
    expect(sample("backup_last_exit_code")).toBe(1);
    expect(generations(at)).toEqual([]);
  });

  test("that another run keeps from working ends with 75 and reports nothing", async () => {
    const at = place();
    const first = start(at, "waits");
    await once(first.stdout as NodeJS.ReadableStream, "data");
    const { code, lines } = await ended(start(at));
    expect(code).toBe(75);
    expect(lines).toEqual([expect.stringMatching(/^another run holds the lock: .* since /)]);
    expect(bodies).toEqual([]);
  });

  test("that is not due ends with 0 and reports nothing", async () => {
    const at = place({ lastDayOfMonth: 7 });
    const job = `postgres-backup-${Date.parse("2026-11-22T04:00:00Z") / 60_000}`;
    const { code, lines } = await ended(start(at, "well", { JOB_NAME: job }));
    expect(code).toBe(0);
    expect(lines).toEqual([expect.stringMatching(/^not due: /)]);
    expect(bodies).toEqual([]);
  });

  test("whose report does not get through has succeeded all the same, and says so", async () => {
    const closed = createServer().listen(0, "127.0.0.1");
    await once(closed, "listening");
    const pushgateway = `http://127.0.0.1:${(closed.address() as AddressInfo).port}`;
    closed.close();
    const { code, lines } = await ended(start(place({ pushgateway })));
    expect(code).toBe(0);
    expect(lines.at(-1)).toMatch(/^metrics not pushed: .*ECONNREFUSED/);
    expect(lines.at(-1)).toContain(`(${pushgateway}/metrics/job/backup/namespace/dbaas/backup/postgres)`);
  });

  test.each([
    ["none", undefined, "ENOENT"],
    ["cut", '{"formatVersion": 1,', "JSON"],
    ["of another format", '{"formatVersion": 2}', "must have the format version 1, but has 2"],
  ])("fails when its settings are %s", async (_, content, reason) => {
    const at = place();
    const path = join(at.root, "config", "settings.json");
    rmSync(path);
    if (content !== undefined) writeFileSync(path, content);
    const { code, lines } = await ended(start(at));
    expect(code).toBe(1);
    expect(lines).toEqual([expect.stringContaining(reason)]);
  });
});

describe("a run with an engine's container", () => {
  async function container({ root }: Place, script: string): Promise<number | null> {
    // Where it comes first it looks for its runner once a second, which a test need not wait for.
    while (!existsSync(join(root, "exchange", "alive"))) await sleep(5);
    writeFileSync(join(root, "engine.sh"), script);
    const env = { PATH: process.env.PATH, EXCHANGE: join(root, "exchange"), ENGINE_SCRIPT: join(root, "engine.sh") };
    const child = spawn("sh", [AGENT], { env, stdio: "ignore" });
    children.push(child);
    return ((await once(child, "exit")) as [number | null])[0];
  }

  function shared(changes: Partial<Settings> = {}): Place {
    const at = place(changes);
    mkdirSync(join(at.root, "exchange"));
    return at;
  }

  test("stores what it yields, and lets it go", async () => {
    const at = shared();
    const gone = container(at, `verb_dump() { printf 'dump of %s' "$1"; }`);
    const { code } = await ended(start(at, "asks"));
    expect(code).toBe(0);
    expect(await gone).toBe(0);
    const [generation] = await listGenerations(at.directory, owner, () => undefined);
    const [file] = generation?.manifest.files ?? [];
    if (generation === undefined || file === undefined) throw new Error("nothing was published");
    expect(await text(openFile(join(at.directory, generation.name), file))).toBe(`dump of it's "all"`);
  });

  test("that fails says the tool's last words", async () => {
    const at = shared();
    const gone = container(at, `verb_dump() { echo begun; echo 'FATAL: password authentication failed' >&2; exit 2; }`);
    const { code, lines } = await ended(start(at, "asks"));
    expect(code).toBe(1);
    expect(lines.at(-1)).toBe("backup failed: dump failed (exit status 2): FATAL: password authentication failed");
    expect(await gone).toBe(1);
    expect(generations(at)).toEqual([]);
  });

  test("that dies says so at once", async () => {
    const at = shared();
    const gone = container(at, `verb_dump() { echo begun; kill -9 $$; sleep 60; }`);
    const { code, lines } = await ended(start(at, "asks"));
    expect(code).toBe(1);
    expect(lines.at(-1)).toBe("backup failed: dump failed (the engine's container died)");
    expect(await gone).toBeNull();
    expect(generations(at)).toEqual([]);
  });

  test("that is not due lets it go with 0, that fails before it asks ends it", async () => {
    const idle = shared({ lastDayOfMonth: 7 });
    const gone = container(idle, "");
    const job = `postgres-backup-${Date.parse("2026-11-22T04:00:00Z") / 60_000}`;
    expect((await ended(start(idle, "asks", { JOB_NAME: job }))).code).toBe(0);
    expect(await gone).toBe(0);

    const look = shared();
    plant(look.directory, "20261101T000000Z-00000000");
    const let_go = container(look, "");
    expect((await ended(start(look, "asks", { DRY_RUN: "true" }))).code).toBe(0);
    expect(await let_go).toBe(0);

    const broken = shared();
    rmSync(join(broken.root, "backup", ".cdktf-backup-target"));
    const died = container(broken, "");
    expect((await ended(start(broken, "asks"))).code).toBe(1);
    expect(await died).toBe(1);
  });
});

describe("an integrity check", () => {
  const engine: Settings["engine"] = { kind: "sqlite", database: "/data/db.sqlite3", minTables: 1, files: [], integrityMetric: "db_ok" };
  const check = (behaviour: string, changes: Partial<Settings> = {}): ChildProcess =>
    start(place({ target: undefined, retention: undefined, engine, ...changes }), behaviour, {}, "check-integrity");

  test.each([
    ["ok", 0, 1, "/data/db.sqlite3: ok"],
    ["corrupt", 1, 0, "/data/db.sqlite3: corrupt, found corrupt"],
    ["unknown", 2, undefined, "/data/db.sqlite3: unknown, found unknown"],
  ])("that finds the database %s ends with %d, and its gauge is %p", async (state, code, gauge, line) => {
    const result = await ended(check(state));
    expect(result.code).toBe(code);
    expect(result.lines).toEqual([line]);
    expect(bodies).toHaveLength(1);
    expect(sample("backup_integrity_check_state")).toBe(code);
    expect(Math.abs((sample("backup_integrity_check_last_run_timestamp") ?? 0) - Date.now() / 1000)).toBeLessThan(60);
    expect(sample("db_ok")).toBe(gauge);
  });

  test("without a gauge of its own reports its state", async () => {
    await ended(check("ok", { engine: { kind: "sqlite", database: "/data/db.sqlite3", minTables: 1, files: [] } }));
    expect(bodies[0]?.match(/^[a-z]/gm)).toHaveLength(2);
  });

  test("that fails knows nothing: it ends with 2, and not as if the database were corrupt", async () => {
    const { code, lines } = await ended(check("fails"));
    expect(code).toBe(2);
    expect(lines).toEqual(["integrity check failed: the check is broken"]);
    expect(sample("backup_integrity_check_state")).toBe(2);
    expect(sample("db_ok")).toBeUndefined();
  });

  test("without its settings knows nothing", async () => {
    const at = place();
    rmSync(join(at.root, "config", "settings.json"));
    expect((await ended(start(at, "ok", {}, "check-integrity"))).code).toBe(2);
  });

  test("of what is no SQLite database fails", async () => {
    const { code, lines } = await ended(check("ok", { engine: { kind: "redis" } }));
    expect(code).toBe(2);
    expect(lines).toEqual(["integrity check failed: an integrity check needs the engine 'sqlite', but the settings have 'redis'"]);
  });

  test("that TERM meets ends with 143 and knows nothing", async () => {
    const { code } = await stopped(check("waits"), "SIGTERM");
    expect(code).toBe(143);
    expect(sample("backup_integrity_check_state")).toBe(2);
  });
});
