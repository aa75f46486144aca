import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { chmodSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { SENTINEL, type Settings } from "../../lib/runtime/settings";
import { plant, prepared, program } from "../runtime/support";

const env = { ...process.env, MOUNTED: "ask" };
const OLD = "20261101T000000Z-00000000";
const MEND = "on the file server run: prepare-it";

let runner: string;
const mounts: string[] = [];
beforeAll(() => {
  runner = program("runner.ts");
  chmodSync(join(runner, ".."), 0o755);
});
afterEach(() => {
  for (const mount of mounts.splice(0)) execFileSync("umount", ["-l", mount]);
});

interface Export {
  readonly root: string;
  readonly mount: string;
  readonly directory: string;
}

/** A file system of its own, mounted where the backup volume goes, with a generation in it. */
function exported(options = "size=16m", changes: Partial<Settings> = {}): Export {
  const { root, directory, settings } = prepared(changes);
  const { mount = "", sentinel = "" } = settings.target ?? {};
  execFileSync("mount", ["-t", "tmpfs", "-o", options, "tmpfs", mount]);
  mounts.push(mount);
  chmodSync(root, 0o755);
  chmodSync(join(root, "scratch"), 0o777);
  chmodSync(join(root, "config"), 0o755);
  writeFileSync(join(mount, SENTINEL), sentinel);
  plant(directory, OLD);
  return { root, mount, directory };
}

interface Result {
  readonly code: number;
  readonly lines: readonly string[];
  readonly last: string;
}

async function run(root: string, behaviour = "well", as: { readonly uid?: number; readonly gid?: number } = {}): Promise<Result> {
  const child = spawn(process.execPath, [runner, root, behaviour], { ...as, env, stdio: ["ignore", "pipe", "inherit"] });
  const said = text(child.stdout);
  const [code] = (await once(child, "exit")) as [number];
  const lines = (await said).trim().split("\n").map((line) => line.slice(21));
  return { code, last: lines.at(-1) ?? "", lines };
}

const generations = (directory: string): string[] => readdirSync(directory).filter((name) => !name.startsWith(".lock"));

test("a target that is mounted is backed up to", async () => {
  const { root, directory } = exported();
  expect((await run(root)).code).toBe(0);
  expect(generations(directory)).toHaveLength(2);
});

test("fails when nothing is mounted, and writes nothing to what is there instead", async () => {
  const { root, mount } = exported();
  execFileSync("umount", [mount]);
  mounts.pop();
  const { code, last } = await run(root);
  expect(code).toBe(1);
  expect(last).toBe(`backup failed: ${mount} is not a mount point: the backup volume is not mounted; ${MEND}`);
  expect(readdirSync(mount)).toEqual([SENTINEL]);
});

test("fails when another export is mounted", async () => {
  const { root, mount } = exported();
  writeFileSync(join(mount, SENTINEL), "dbaas/mysql\n");
  const { code, last } = await run(root);
  expect(code).toBe(1);
  expect(last).toBe(
    `backup failed: ${join(mount, SENTINEL)} says "dbaas/mysql" instead of "dbaas/postgres": ` +
      `this export belongs to another backup; ${MEND}`,
  );
});

test("fails when the target is read-only", async () => {
  const { root, mount, directory } = exported();
  execFileSync("mount", ["-o", "remount,ro", mount]);
  const { code, last } = await run(root);
  expect(code).toBe(1);
  expect(last).toBe(`backup failed: cannot write to ${directory}: exported or mounted read-only (EROFS); ${MEND}`);
  expect(generations(directory)).toEqual([OLD]);
});

test("fails when the export belongs to root and the pod does not run as root", async () => {
  const { root, directory } = exported("size=16m,mode=755");
  const { code, last, lines } = await run(root, "well", { uid: 1000, gid: 1000 });
  expect(code).toBe(1);
  expect(lines).toHaveLength(1);
  expect(last).toBe(`backup failed: cannot write to ${directory} as uid 1000, gid 1000: permission denied (EACCES); ${MEND}`);
});

test("works for a pod that does not run as root once the directory is its own", async () => {
  const { root, directory } = exported();
  execFileSync("chown", ["-R", "1000:1000", directory]);
  expect((await run(root, "well", { uid: 1000, gid: 1000 })).code).toBe(0);
  expect(generations(directory)).toHaveLength(2);
});

test("fails when the space ends during the dump: the partial is gone, what was there is not", async () => {
  const { root, directory } = exported("size=16m");
  const { code, last } = await run(root, "large");
  expect(code).toBe(1);
  expect(last).toBe(`backup failed: cannot write the backup: no space left (ENOSPC); ${MEND}`);
  expect(generations(directory)).toEqual([OLD]);
  // And the next one, which is smaller, finds room.
  expect((await run(root)).code).toBe(0);
});

test("fails when there is no room even for the lock", async () => {
  const { root, mount, directory } = exported("size=1m");
  try {
    writeFileSync(join(mount, "filler"), Buffer.alloc(2_000_000));
  } catch {
    // Full, as it should be.
  }
  const { code, last } = await run(root);
  expect(code).toBe(1);
  expect(last).toBe(`backup failed: cannot write to ${directory}: no space left (ENOSPC); ${MEND}`);
  expect(generations(directory)).toEqual([OLD]);
});

test("fails when there are no inodes left", async () => {
  const { root, mount, directory } = exported("size=16m,nr_inodes=30");
  for (let index = 0; index < 30; index++) {
    try {
      writeFileSync(join(mount, `filler${index}`), "");
    } catch {
      break;
    }
  }
  const { code, last } = await run(root);
  expect(code).toBe(1);
  expect(last).toContain(`no space left (ENOSPC); ${MEND}`);
  expect(generations(directory)).toEqual([OLD]);
});

test("fails when there is no room for twice the last generation", async () => {
  const { root, directory } = exported("size=16m");
  writeFileSync(join(directory, OLD, "data"), Buffer.alloc(6_000_000));
  plantManifest(directory, 6_000_000);
  const { code, last } = await run(root);
  expect(code).toBe(1);
  expect(last).toMatch(/^backup failed: only 10\.\d MiB free on .*, but twice the last backup \(5\.7 MiB\) is needed: /);
  expect(generations(directory)).toEqual([OLD]);
});

function plantManifest(directory: string, bytes: number): void {
  const path = join(directory, OLD, "manifest.json");
  const manifest = JSON.parse(readFileSync(path, "utf8")) as { files: { bytes: number }[] };
  writeFileSync(path, JSON.stringify({ ...manifest, files: manifest.files.map((file) => ({ ...file, bytes })) }));
}

test("fails when the volume vanishes under the run: no generation in it, nor in what is there instead", async () => {
  const { root, mount, directory } = exported();
  const aside = join(root, "aside");
  mkdirSync(aside);
  execFileSync("mount", ["--bind", mount, aside]);
  mounts.push(aside);
  const child = spawn(process.execPath, [runner, root, "pauses"], { env, stdio: ["ignore", "pipe", "inherit"] });
  const said = text(child.stdout);
  await once(child.stdout, "data");
  execFileSync("umount", ["-l", mount]);
  mounts.splice(mounts.indexOf(mount), 1);
  writeFileSync(join(root, "go"), "");
  const [code] = (await once(child, "exit")) as [number];
  expect(code).toBe(1);
  expect(await said).toMatch(/backup failed: .*ENOENT/);
  expect(readdirSync(mount)).toEqual([SENTINEL]);
  expect(readdirSync(join(aside, directory.slice(mount.length))).filter((name) => /^\d/.test(name))).toEqual([OLD]);
});

test("everything is on the disk before the name is, and the name before the report", async () => {
  const gateway = createServer((_, response) => response.end());
  gateway.listen(0, "127.0.0.1");
  await once(gateway, "listening");
  const { port } = gateway.address() as AddressInfo;
  const { root, directory } = exported("size=16m", { pushgateway: `http://127.0.0.1:${port}` });
  const trace = join(root, "trace");
  const watched = "trace=fsync,fdatasync,rename,renameat,renameat2,link,linkat,connect,write,pwrite64,writev,pwritev";
  const command = ["-f", "-y", "-s", "8", "-e", watched, "-o", trace, process.execPath, runner, root];
  const child = spawn("strace", command, { env, stdio: "ignore" });
  expect(((await once(child, "exit")) as [number])[0]).toBe(0);
  gateway.close();

  const name = generations(directory).find((found) => found !== OLD) ?? "";
  const partial = join(directory, `.partial-${name}`);
  const calls = readFileSync(trace, "utf8").split("\n");
  /** Where in the order calls begin (a call that another thread interrupts has a second line, where it ends). */
  const begun = (call: RegExp): number[] => calls.flatMap((line, index) => (call.test(line) ? [index] : []));
  const last = (call: RegExp): number => begun(call).at(-1) ?? -1;
  const syncOf = (path: string): number => last(new RegExp(`(fsync|fdatasync)\\(\\d+<${path}>`));
  const writesOf = (path: string): number => last(new RegExp(`p?writev?(64)?\\(\\d+<${path}>`));

  const renames = begun(new RegExp(`rename(at2?)?\\(.*"${partial}".*"${join(directory, name)}"`));
  expect(renames).toHaveLength(1);
  const [renamed = 0] = renames;
  for (const file of ["a.zst", "b/c", "manifest.json"]) {
    const written = writesOf(join(partial, file));
    const synced = syncOf(join(partial, file));
    expect(written).toBeGreaterThan(-1);
    expect(synced).toBeGreaterThan(written);
    expect(synced).toBeLessThan(renamed);
  }
  // The manifest comes after the files it speaks of, the directories after the names in them.
  expect(writesOf(join(partial, "manifest.json"))).toBeGreaterThan(Math.max(syncOf(join(partial, "a.zst")), syncOf(join(partial, "b/c"))));
  expect(syncOf(join(partial, "b"))).toBeGreaterThan(-1);
  expect(syncOf(partial)).toBeGreaterThan(Math.max(syncOf(join(partial, "b")), syncOf(join(partial, "manifest.json"))));
  expect(syncOf(partial)).toBeLessThan(renamed);
  // The lock was looked at between the last sync and the name; looking is a write and a sync of its file.
  const looks = begun(/fsync\(\d+<[^>]*\/\.lock[^>]*>/);
  expect(looks.some((index) => index > syncOf(partial) && index < renamed)).toBe(true);
  // The name is made durable before anybody is told.
  const parent = syncOf(directory);
  expect(parent).toBeGreaterThan(renamed);
  expect(begun(new RegExp(`connect\\(.*htons\\(${port}\\)`))[0]).toBeGreaterThan(parent);
});
