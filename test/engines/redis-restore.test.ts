import { addForged, cut, decompressed, forge, refused, restored, runRestore, type RestoreResult } from "../helpers/drill";
import { generationsOn, type FoundGeneration } from "../helpers/pod/target";
import type { Redis } from "../helpers/servers/redis";
import { backUp, fill, POD, start, succeeded, synthesise } from "./redis-setup";

const ADDRESS = "redis.redis:6379";
const json = synthesise();
let server: Redis;
let generation: FoundGeneration;
let before: string;

/** Of all keys with their values, in all databases. */
const digest = (): string => server.pipe(["DEBUG DIGEST"]).trim();
const restore = (target: string, env: { readonly [name: string]: string }): Promise<RestoreResult> =>
  runRestore(json, target, { ...POD, env: { GENERATION: "newest", ...env } });
const target = (): string => forge(json, generation).target;

describe.each([["no"], ["yes"]])("a server with appendonly %s", (appendonly) => {
  beforeAll(async () => {
    server = await start({ "repl-diskless-sync-delay": "0", appendonly });
    fill(server, 300);
    await new Promise((resolve) => setTimeout(resolve, 50));
    server.pipe(["GET soon"]); // expired by now, and looked at, so gone
    generation = succeeded(await backUp({ json }));
    before = digest();
  });
  afterAll(() => server?.stop("SIGKILL"));

  test("is told what would happen by a dry run, and stays as it is", async () => {
    server.pipe(["SET extra v", "DEL h"]);
    const changed = digest();
    const result = await restore(target(), { DRY_RUN: "true" });
    expect(result.plan.join("\n")).toMatch(/back up what is there first/);
    expect(restored(result)).toContain(`without DRY_RUN it needs CONFIRM="${ADDRESS}"`);
    expect(digest()).toBe(changed);
  });

  test.each([["nothing", {}], ["another server", { CONFIRM: "redis.other:6379" }]])("is not replaced where %s is confirmed", async (_, env) => {
    const changed = digest();
    const on = target();
    expect(refused(await restore(on, env as { readonly [name: string]: string }))).toContain(ADDRESS);
    expect(digest()).toBe(changed);
    expect(generationsOn(json, on)).toHaveLength(1);
  });

  test("has every key, value and function again, after a backup of what it had, and keeps them when it is started again", async () => {
    const on = target();
    restored(await restore(on, { CONFIRM: ADDRESS }));
    expect(digest()).toBe(before);
    expect(server.pipe(["FCALL f 0"]).trim()).toBe("1");
    expect(server.pipe(["EXISTS extra"]).trim()).toBe("0");
    expect(generationsOn(json, on).map(({ manifest }) => manifest.purpose ?? "backup").sort()).toEqual(["backup", "safety"]);
    if (appendonly === "yes") {
      // All of it from the append-only file alone.
      server.pipe(["DEBUG LOADAOF"]);
      expect(digest()).toBe(before);
    }
  });

  test("takes it without a confirmation where it has nothing", async () => {
    server.pipe(["FLUSHALL", "FUNCTION FLUSH"]);
    restored(await restore(target(), {}));
    expect(digest()).toBe(before);
  });

  test("is left alone where the snapshot is damaged so that its hashes agree", async () => {
    const { target: on } = forge(json, generation, { hoursOlder: 1 });
    addForged(json, on, generation, { change: { "dump.rdb.zst": decompressed(cut(0.9)) } });
    expect(refused(await restore(on, { CONFIRM: ADDRESS }))).not.toBe("");
    expect(digest()).toBe(before);
  });
});
