import { spawnSync } from "node:child_process";
import { chmodSync, mkdirSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { SENTINEL, type TargetSettings } from "../../lib/runtime/settings";
import { checkMount, checkSpace, clockSkew, errorCode, freeBytes, isMountPoint, probeTarget, targetError } from "../../lib/runtime/target";
import { prepared, program } from "./support";

const MEND = "on the file server run: prepare-it";
const mounted = (): Promise<boolean> => Promise.resolve(true);
const target = (): TargetSettings => prepared().settings.target as TargetSettings;

test("a target that is as it should be is written to, and nothing stays", async () => {
  const settings = target();
  const { directory, serverTime } = await probeTarget(settings, mounted);
  expect(directory).toBe(join(settings.mount, "pg"));
  expect(readdirSync(directory)).toEqual([]);
  expect(Math.abs(serverTime - Date.now())).toBeLessThan(5000);
});

test("generations may be in the mount itself", async () => {
  const settings = { ...target(), directory: "" };
  expect((await probeTarget(settings, mounted)).directory).toBe(join(settings.mount));
});

test("a mount point is told from a directory", async () => {
  await expect(isMountPoint("/proc")).resolves.toBe(true);
  await expect(isMountPoint(target().mount)).resolves.toBe(false);
});

test("fails when the volume is not mounted, and writes nothing", async () => {
  const settings = target();
  await expect(probeTarget(settings)).rejects.toThrow(
    `${settings.mount} is not a mount point: the backup volume is not mounted; on the file server run: prepare-it`,
  );
  expect(readdirSync(settings.mount)).toEqual([SENTINEL]);
});

test("fails when the sentinel is missing, and writes nothing", async () => {
  const settings = target();
  rmSync(join(settings.mount, SENTINEL));
  await expect(probeTarget(settings, mounted)).rejects.toThrow(
    `${join(settings.mount, SENTINEL)} is missing: this is another export, or one that was never prepared; ${MEND}`,
  );
  expect(readdirSync(settings.mount)).toEqual([]);
});

const others = ["dbaas/mysql", "", "dbaas/postgres2", "dbaas/postgres\nmore"];
test.each(others)("fails when the sentinel says %j, and writes nothing", async (content) => {
  const settings = target();
  writeFileSync(join(settings.mount, SENTINEL), content);
  await expect(checkMount(settings, mounted)).rejects.toThrow(
    `says ${JSON.stringify(content)} instead of "dbaas/postgres": this export belongs to another backup; ${MEND}`,
  );
  expect(readdirSync(settings.mount)).toEqual([SENTINEL]);
});

test("fails when the sentinel is no file", async () => {
  const settings = target();
  rmSync(join(settings.mount, SENTINEL));
  mkdirSync(join(settings.mount, SENTINEL));
  await expect(probeTarget(settings, mounted)).rejects.toThrow(/^cannot read .*EISDIR.*; on the file server run: prepare-it$/);
});

test("fails when something that is no directory is in the way", async () => {
  const settings = target();
  writeFileSync(join(settings.mount, "pg"), "");
  await expect(probeTarget(settings, mounted)).rejects.toThrow(/^cannot make .*EEXIST.*; on the file server run: prepare-it$/);
});

describe("an export that belongs to somebody else", () => {
  // Permissions mean nothing to root, so the probe runs as somebody.
  function probeAs(settings: TargetSettings): { stdout: string; status: number | null } {
    const file = program("probe.ts");
    chmodSync(join(file, ".."), 0o755);
    const as = process.getuid?.() === 0 ? { uid: 65534, gid: 65534 } : {};
    return spawnSync(process.execPath, [file, JSON.stringify(settings)], { ...as, encoding: "utf8" });
  }
  const who = process.getuid?.() === 0 ? "uid 65534, gid 65534" : `uid ${process.getuid?.()}, gid ${process.getgid?.()}`;

  test("fails when the directory cannot be written: one line with the uid and the command", () => {
    const { root, settings } = prepared();
    const { mount } = settings.target as TargetSettings;
    mkdirSync(join(mount, "pg"));
    for (const path of [root, mount]) chmodSync(path, 0o755);
    chmodSync(join(mount, "pg"), 0o555);
    const { stdout } = probeAs(settings.target as TargetSettings);
    expect(stdout).toBe(`cannot write to ${join(mount, "pg")} as ${who}: permission denied (EACCES); on the file server run: prepare-it\n`);
    chmodSync(join(mount, "pg"), 0o755);
  });

  test("fails when the directory cannot be made", () => {
    const { root, settings } = prepared();
    const { mount } = settings.target as TargetSettings;
    chmodSync(root, 0o755);
    chmodSync(mount, 0o555);
    const { stdout } = probeAs(settings.target as TargetSettings);
    expect(stdout).toBe(`cannot make ${join(mount, "pg")} as ${who}: permission denied (EACCES); on the file server run: prepare-it\n`);
    chmodSync(mount, 0o755);
  });

  test("fails when the sentinel cannot be read", () => {
    const { root, settings } = prepared();
    const { mount } = settings.target as TargetSettings;
    chmodSync(root, 0o755);
    chmodSync(join(mount, SENTINEL), 0);
    const { stdout } = probeAs(settings.target as TargetSettings);
    expect(stdout).toBe(`cannot read ${join(mount, SENTINEL)} as ${who}: permission denied (EACCES); on the file server run: prepare-it\n`);
  });
});

test("fails when there is not room for twice the last generation", async () => {
  const settings = target();
  const free = await freeBytes(settings.mount);
  await expect(checkSpace(settings.mount, free * 0.4, settings)).resolves.toBeUndefined();
  await expect(checkSpace(settings.mount, free, settings)).rejects.toThrow(
    /^only .*B free on .*, but twice the last backup \(.*B\) is needed: .*; on the file server run: prepare-it$/,
  );
});

test("an error's code is found below what was said about it, and only one of the system's", () => {
  const system = Object.assign(new Error("no space"), { code: "ENOSPC", syscall: "write" });
  expect(errorCode(new Error("cannot write x", { cause: system }))).toBe("ENOSPC");
  expect(errorCode(Object.assign(new Error("x"), { code: "ERR_INVALID_ARG" }))).toBeUndefined();
  expect(errorCode("x")).toBeUndefined();
});

test.each([
  ["ENOSPC", "no space left"],
  ["EDQUOT", "quota exceeded"],
  ["EROFS", "exported or mounted read-only"],
  ["ESTALE", "the export was replaced while it was mounted"],
  ["EIO", "input/output error"],
])("%s is said in words", (code, words) => {
  const error = targetError("cannot write", Object.assign(new Error("x"), { code, syscall: "write" }), target());
  expect(error.message).toBe(`cannot write: ${words} (${code}); on the file server run: prepare-it`);
});

test("clocks may be an hour apart, and no more", () => {
  const now = Date.parse("2026-11-23T19:00:00Z");
  expect(clockSkew(now, now + 3_600_000)).toBeUndefined();
  expect(clockSkew(now, now - 3_600_001)).toBe(
    "the pod's clock (2026-11-23T19:00:00.000Z) and the file server's (2026-11-23T17:59:59.999Z) are 1 h apart",
  );
});
