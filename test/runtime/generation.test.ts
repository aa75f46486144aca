import { mkdirSync, readdirSync, readFileSync, utimesSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { bytesOf, listGenerations, newName, parseManifest, PARTIAL, publish, removeLeftovers, timeOf } from "../../lib/runtime/generation";
import { MANIFEST, type Manifest } from "../../lib/runtime/manifest";
import { plant, temporary } from "./support";

const owner = { backup: "postgres", namespace: "dbaas" };
const NAME = "20261123T190000Z-1f2e3d4c";

describe("names", () => {
  test("sort by time and differ within a second", () => {
    const names = Array.from({ length: 100 }, (_, second) => newName(new Date(Date.UTC(2026, 10, 23, 19, 0, second))));
    expect([...names].sort()).toEqual(names);
    const time = new Date("2026-11-23T19:00:00.999Z");
    expect(newName(time)).toMatch(/^20261123T190000Z-[0-9a-f]{8}$/);
    expect(new Set(Array.from({ length: 50 }, () => newName(time))).size).toBe(50);
  });

  test("give their time back", () => {
    expect(timeOf(NAME)).toBe(Date.parse("2026-11-23T19:00:00Z"));
  });

  test.each([
    "20261123T190000Z",
    "20261123T190000Z-1F2E3D4C",
    "20261123T190000Z-1f2e3d4",
    "20261123T190000Z-1f2e3d4c5",
    "20261123T190000Z-1f2e3d4c-old",
    "x20261123T190000Z-1f2e3d4c",
    "20261323T190000Z-1f2e3d4c",
    "20261123T250000Z-1f2e3d4c",
    ".partial-20261123T190000Z-1f2e3d4c",
    ".deleting-20261123T190000Z-1f2e3d4c",
    "20261123T190000Z-1f2e3d4c\n",
    "2026-11-23T19:00:00Z-1f2e3d4c",
  ])("refuses %j", (name) => {
    expect(timeOf(name)).toBeUndefined();
  });
});

describe("the list", () => {
  test("is ordered by name, whatever the files' times are", async () => {
    const directory = temporary();
    const names = ["20261101T000000Z-00000000", "20261102T000000Z-00000000", "20261103T000000Z-00000000"];
    for (const [index, name] of names.entries()) {
      plant(directory, name);
      utimesSync(join(directory, name), 1e9 - index, 1e9 - index);
    }
    expect((await listGenerations(directory, owner, () => undefined)).map(({ name }) => name)).toEqual(names);
  });

  test.each<[string, (directory: string) => void, string]>([
    ["no manifest", (d) => mkdirSync(join(d, NAME)), "ENOENT"],
    ["a cut manifest", (d) => (plant(d, NAME), writeFileSync(join(d, NAME, MANIFEST), '{"formatVersion": 1,')), "JSON"],
    ["an empty manifest", (d) => (plant(d, NAME), writeFileSync(join(d, NAME, MANIFEST), "")), "JSON"],
    ["a manifest that is no object", (d) => (plant(d, NAME), writeFileSync(join(d, NAME, MANIFEST), "null")), "not of format 1"],
    ["another format", (d) => plant(d, NAME, { formatVersion: 2 as 1 }), "not of format 1"],
    ["no files", (d) => plant(d, NAME, { files: [] }), "incomplete"],
    ["a file outside", (d) => plant(d, NAME, { files: [{ path: "../x", bytes: 1, sha256: "0".repeat(64) }] }), "incomplete"],
    ["a file without a hash", (d) => plant(d, NAME, { files: [{ path: "data", bytes: 4, sha256: "" }] }), "incomplete"],
    ["a time that is none", (d) => plant(d, NAME, { finishedAt: "yesterday" }), "incomplete"],
    ["a missing file", (d) => plant(d, NAME, { files: [{ path: "gone", bytes: 4, sha256: "0".repeat(64) }] }), "ENOENT"],
    ["a cut file", (d) => (plant(d, NAME), writeFileSync(join(d, NAME, "data"), "dat")), "data has 3 bytes instead of 4"],
    ["another backup's manifest", (d) => plant(d, NAME, { backup: "mysql" }), "belongs to dbaas/mysql"],
    ["another namespace's manifest", (d) => plant(d, NAME, { namespace: "x" }), "belongs to x/postgres"],
    ["another generation's manifest", (d) => plant(d, NAME, { generation: "20200101T000000Z-00000000" }), "that of 20200101"],
  ])("leaves out a directory with %s, and says so", async (_, make, reason) => {
    const directory = temporary();
    make(directory);
    const said: string[] = [];
    expect(await listGenerations(directory, owner, (message) => said.push(message))).toEqual([]);
    expect(said).toHaveLength(1);
    expect(said[0]).toContain(`${NAME} is not counted and left alone: `);
    expect(said[0]).toContain(reason);
  });

  test("says nothing of what is not named like a generation", async () => {
    const directory = temporary();
    mkdirSync(join(directory, PARTIAL + NAME));
    writeFileSync(join(directory, "dump_2026_03_03.sql.gz"), "");
    const said: string[] = [];
    expect(await listGenerations(directory, owner, (message) => said.push(message))).toEqual([]);
    expect(said).toEqual([]);
  });
});

describe("publication", () => {
  const manifest = (): Manifest => parseManifest(readFileSync(join(planted(), NAME, MANIFEST), "utf8"));
  function planted(): string {
    const directory = temporary();
    plant(directory, NAME);
    return directory;
  }
  function partial(): string {
    const directory = temporary();
    mkdirSync(join(directory, PARTIAL + NAME));
    writeFileSync(join(directory, PARTIAL + NAME, "data"), "data");
    return directory;
  }

  test("gives the partial its name, with a manifest that reads back equal", async () => {
    const directory = partial();
    await publish(directory, manifest(), async () => undefined);
    expect(readdirSync(directory)).toEqual([NAME]);
    const [generation] = await listGenerations(directory, owner, () => undefined);
    expect(generation).toEqual({ name: NAME, time: Date.parse("2026-11-23T19:00:00Z"), manifest: manifest() });
    expect(bytesOf(manifest())).toBe(4);
  });

  test("fails when the last check does: no name appears", async () => {
    const directory = partial();
    const lost = publish(directory, manifest(), () => Promise.reject(new Error("lost the lock")));
    await expect(lost).rejects.toThrow("lost the lock");
    expect(readdirSync(directory)).toEqual([PARTIAL + NAME]);
  });

  test.each<[string, Partial<Manifest>, string]>([
    ["a file is missing", { files: [{ path: "gone", bytes: 1, sha256: "0".repeat(64) }] }, "ENOENT"],
    ["a file has another size", { files: [{ path: "data", bytes: 3, sha256: "0".repeat(64) }] }, "data has 4 bytes instead of 3"],
    ["there is no file", { files: [] }, "incomplete"],
  ])("fails when %s", async (_, changes, reason) => {
    const directory = partial();
    await expect(publish(directory, { ...manifest(), ...changes }, async () => undefined)).rejects.toThrow(reason);
    expect(readdirSync(directory)).toEqual([PARTIAL + NAME]);
  });
});

test("what killed runs left is removed, what others use is not", async () => {
  const directory = temporary();
  plant(directory, NAME);
  for (const name of [PARTIAL + NAME, `.deleting-${NAME}`]) plant(directory, name);
  const files = [".probe-old", ".lock-old", ".probe-new", ".lock-new", ".lock.7", "dump.sql.gz"];
  for (const name of files) writeFileSync(join(directory, name), "");
  const now = Date.now();
  for (const name of [".probe-old", ".lock-old", ".lock.7"]) utimesSync(join(directory, name), now / 1000 - 3700, now / 1000 - 3700);
  const said: string[] = [];
  await removeLeftovers(directory, now, (message) => said.push(message));
  expect(readdirSync(directory).sort()).toEqual([".lock-new", ".lock.7", ".probe-new", NAME, "dump.sql.gz"].sort());
  expect(said).toHaveLength(2);
});
