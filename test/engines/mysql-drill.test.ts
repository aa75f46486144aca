import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import {
  addForged, cut, decompressed, DRILL_ROUNDS, flip, forge, overwrite, proven, red, redInPairs, runDrill, TWENTIETHS, withoutLastByte, type DrillResult, type Forgery,
} from "../helpers/drill";
import type { CronJobOptions } from "../helpers/pod";
import { generationsOn, settingsOf, type FoundGeneration } from "../helpers/pod/target";
import { temporaryDirectory } from "../helpers/process";
import { MariaDb, MARIADB_IMAGE } from "../helpers/servers/mariadb";
import { backUp, dumpOf, fill, succeeded, synthesise } from "./mysql-setup";

const APP = "databases/app.sql.zst";
const json = synthesise();
const images = { "docker.io/library/mariadb": MARIADB_IMAGE };
let server: MariaDb;
let generation: FoundGeneration;

beforeAll(async () => {
  server = await MariaDb.start({ args: ["--local-infile=0", "--event-scheduler=OFF"] });
  fill(server);
  generation = succeeded(await backUp({ json }));
});

afterAll(() => server?.stop("SIGKILL"));

const drill = (forgery: Forgery = {}, synthesised = json, options: CronJobOptions = {}): Promise<DrillResult> =>
  runDrill(synthesised, forge(synthesised, generation, forgery).target, { images, ...options });
const reason = async (forgery: Forgery, synthesised = json): Promise<string> => red(await drill(forgery, synthesised));

/** The dump of `app` with its text changed. @throws Error where nothing was */
const edited = (change: (dump: string) => string): Forgery => ({
  change: {
    [APP]: decompressed((content) => {
      const before = content.toString("latin1");
      const after = change(before);
      if (after === before) throw new Error("the dump has nothing that can be changed so");
      return Buffer.from(after, "latin1");
    }),
  },
});

/** A dump that lacks all of one table. */
function without(dump: string, table: string): string {
  const begin = dump.indexOf(`DROP TABLE IF EXISTS \`${table}\``);
  const end = dump.indexOf("DROP TABLE IF EXISTS", begin + 1);
  return dump.slice(0, begin) + dump.slice(end);
}

/** A program in another one's place. */
function stub(script: string): string {
  const path = join(temporaryDirectory("stub"), "program");
  writeFileSync(path, `#!/bin/sh\n${script}\n`, { mode: 0o755 });
  return path;
}

describe("a drill", () => {
  test.each(["dash", "busybox", "bash"] as const)("restores everything and finds it equal, by %s", async (shell) => {
    const checks = proven(await drill({}, json, { shell }));
    expect(checks[0]).toMatch(/^databases and accounts restored by .*MariaDB.* without an error$/);
    expect(checks).toContainEqual(expect.stringMatching(/^app: 1\d tables with 3\d{3} rows, equal to what was backed up$/));
    expect(checks).toContain("hollow: 0 tables with 0 rows, equal to what was backed up");
    expect(checks.at(-1)).toMatch(/accounts and roles with their grants, equal to what was backed up$/);
  });

  test("asks what it is told to", async () => {
    const asking = synthesise({ drill: { assertions: [{ database: "app", query: "SELECT COUNT(*) FROM child", expect: "50" }] } });
    expect(proven(await drill({}, asking)).at(-1)).toBe('app: answers "50" to "SELECT COUNT(*) FROM child"');
    const wrong = synthesise({ drill: { assertions: [{ database: "app", query: "SELECT COUNT(*) FROM child", expect: "51" }] } });
    expect(await reason({}, wrong)).toBe('app: answers "50" instead of "51" to "SELECT COUNT(*) FROM child"');
  });

  test("has neither the address of the live server nor its password", () => {
    const { resource } = JSON.parse(json) as { resource: Record<"kubernetes_cron_job_v1" | "kubernetes_network_policy_v1", Record<string, object>> };
    const own = [resource.kubernetes_cron_job_v1, resource.kubernetes_network_policy_v1].flatMap((all) => Object.entries(all));
    const text = JSON.stringify(own.filter(([id]) => id.includes("Drill")));
    expect(text).toContain("mysql-backup-drill");
    for (const secret of ["MYSQL_HOST", "MYSQL_PWD", "3306"]) expect(text).not.toContain(secret);
    expect(JSON.stringify(settingsOf(json, "mysql-backup-drill").engine)).not.toContain("mysql.dbaas");
  });
});

describe("is red where", () => {
  test("the generation is yesterday's, though it restores", async () => {
    expect(await reason({ hoursOlder: 30 })).toMatch(/^the newest generation is 30\.\d h old, but may be \d+\.\d h at most$/);
  });

  test("the newest generation is damaged, though an older one restores", async () => {
    const { target } = forge(json, generation, { hoursOlder: 1 });
    addForged(json, target, generation, { change: { [APP]: cut(0.5) } });
    expect(generationsOn(json, target)).toHaveLength(2);
    expect(red(await runDrill(json, target, { images }))).toMatch(/^app: databases\/app\.sql\.zst is damaged: /);
  });

  test("the dump is damaged at any twentieth, with the hashes that it should have", async () => {
    const damages = TWENTIETHS.flatMap((at) => [overwrite(at), flip(at)]);
    for (const found of await redInPairs(damages.map((damage) => ({ change: { [APP]: damage } })), drill)) {
      expect(found).toMatch(/^app: /);
    }
  });

  test("the dump was damaged at any twentieth before it was compressed", async () => {
    const damages = [...TWENTIETHS.map(overwrite), ...TWENTIETHS.map(cut), withoutLastByte, flip(0.5)].map(decompressed);
    for (const damage of damages) {
      // The server quotes what it does not understand, in bytes that are no text.
      const { exitCodes, verdict } = await drill({ change: { [APP]: damage } });
      expect({ code: exitCodes.runner, green: verdict?.green, reason: verdict?.reason }).toEqual({
        code: 1,
        green: false,
        reason: expect.stringMatching(/^app: /) as string,
      });
    }
  });

  test.each<[string, Forgery | (() => Forgery), RegExp]>([
    ["the dump is empty", { change: { [APP]: decompressed(() => Buffer.alloc(0)) } }, /^app: /],
    ["it is another database's", () => ({ change: { [APP]: () => readFileSync(join(generation.path, "databases/hollow.sql.zst")) } }), /^app: /],
    ["one table is missing", edited((dump) => without(dump, "no_key")), /^app: .*no_key/],
    ["one row is missing", edited((dump) => dump.replace("(1),\n(2)", "(1)").replace("),\n(50,50)", ")")), /^app: .*child/],
    ["one value is another", edited((dump) => dump.replace("(50,50)", "(50,49)")), /^app: .*child/],
    ["a view is missing", edited((dump) => dump.replaceAll("`above`", "`below`")), /^app: /],
    ["a trigger is missing", edited((dump) => dump.replace(/TRIGGER before_child/, "TRIGGER other_child")), /^app: /],
  ])("%s", async (_, forgery, expected) => {
    expect(await reason(typeof forgery === "function" ? forgery() : forgery)).toMatch(expected);
  });

  test("an account is another, or a database is missing", async () => {
    const accounts = (content: Buffer): Buffer => Buffer.from(content.toString().replaceAll("brien", "neill"));
    expect(await reason({ change: { "accounts.sql": accounts }, rehash: false })).toMatch(/accounts\.sql is damaged: /);
    const databases = (content: Buffer): Buffer => Buffer.from(content.toString().replace(/^.*`hollow`.*$/gm, ""));
    expect(await reason({ change: { "databases.sql": databases } })).toMatch(/hollow/);
    expect(await reason({}, synthesise({ expectDatabases: ["shop"] }))).toMatch(/shop/);
  });

  test("the scratch server ends, or is another one", async () => {
    const broken = (script: string): CronJobOptions => {
      const programs = { mariadbd: stub(script) };
      return { images: { "docker.io/library/mariadb": { ...MARIADB_IMAGE, programs } } };
    };
    expect(red(await drill({}, json, broken("exit 3")))).toMatch(/scratch server|start failed/);
    expect(red(await drill({}, json, broken("kill -9 $$")))).toMatch(/scratch server|start failed/);
  });
});

test(`is green ${DRILL_ROUNDS} of ${DRILL_ROUNDS} times while the source is written to`, async () => {
  server.sql("CREATE DATABASE busy; CREATE TABLE busy.log (id INT AUTO_INCREMENT PRIMARY KEY, a VARCHAR(200)) ENGINE = InnoDB");
  const only = synthesise({ excludeDatabases: ["unwanted", "app", "hollow"] });
  let writing = true;
  let written = 0;
  const writer = (async (): Promise<void> => {
    while (writing) {
      server.sql("INSERT INTO log (a) SELECT REPEAT('x', 1 + RAND() * 150) FROM seq_1_to_50; DELETE FROM log WHERE RAND() < 0.2", "busy");
      written++;
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  })();
  const sizes = new Set<number>();
  try {
    for (let round = 0; round < DRILL_ROUNDS; round++) {
      const found = succeeded(await backUp({ json: only, pauseMs: 0 }));
      sizes.add(dumpOf(found, "busy").length);
      proven(await runDrill(only, forge(only, found).target, { images }));
    }
  } finally {
    writing = false;
    await writer;
  }
  expect(written).toBeGreaterThan(DRILL_ROUNDS);
  expect(sizes.size).toBeGreaterThan(DRILL_ROUNDS / 2);
}, 600_000);
