import { buildSync } from "esbuild";
import { mkdirSync, mkdtempSync, realpathSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Readable } from "node:stream";
import { finished } from "node:stream/promises";
import type { Engine } from "../../../lib/runtime/engine";
import { MANIFEST, type Manifest } from "../../../lib/runtime/manifest";
import { SENTINEL, type Settings } from "../../../lib/runtime/settings";

/** A retention of a backup without a drill that removes all that is past its time at once. */
export const AT_ONCE = { proof: "verification", removeAtMost: 1, freezeBelow: 0.5 } as const;

const made: string[] = [];

/** A new empty directory, removed after the file's tests. */
export function temporary(): string {
  const path = realpathSync(mkdtempSync(join(tmpdir(), "runner-")));
  made.push(path);
  return path;
}

afterAll(() => {
  for (const path of made) rmSync(path, { recursive: true, force: true });
});

/** A {@link temporary} directory with these files. */
export function tree(files: { readonly [path: string]: string | Buffer }): string {
  const root = temporary();
  for (const [path, content] of Object.entries(files)) {
    mkdirSync(join(root, path, ".."), { recursive: true });
    writeFileSync(join(root, path), content);
  }
  return root;
}

/** Bundles a TypeScript file, so that it can run as a process of its own. */
export function program(name: string): string {
  const outfile = join(temporary(), "program.js");
  buildSync({ entryPoints: [join(__dirname, name)], outfile, bundle: true, platform: "node", target: "node24", logLevel: "warning" });
  return outfile;
}

export interface Prepared {
  /** Holds all of it: `backup` (the mount), `scratch`, `config/settings.json`. */
  readonly root: string;
  /** Where the generations go; not made yet. */
  readonly directory: string;
  readonly settings: Settings;
}

/** A prepared export, and the settings of a backup that goes to it. */
export function prepared(changes: Partial<Settings> = {}): Prepared {
  const root = temporary();
  const target = { mount: join(root, "backup"), directory: "pg", sentinel: "dbaas/postgres", prepare: "prepare-it", lockLeaseSeconds: 2 };
  for (const name of ["backup", "scratch", "config"]) mkdirSync(join(root, name));
  writeFileSync(join(target.mount, SENTINEL), `${target.sentinel}\n`);
  const settings: Settings = {
    formatVersion: 1,
    backup: "postgres",
    namespace: "dbaas",
    cronJob: "postgres-backup",
    engine: { kind: "postgres", expectDatabases: [], excludeDatabases: [] },
    target,
    retention: { keepDays: 14, keepLast: 3, ...AT_ONCE },
    timeZone: "Etc/UTC",
    deadlineSeconds: 600,
    compressionLevel: 1,
    ...changes,
  };
  writeFileSync(join(root, "config", "settings.json"), JSON.stringify(settings));
  return { root, directory: join(target.mount, target.directory), settings };
}

/** Stands for an engine: stores two artefacts. */
export function fakeEngine(changes: Partial<Engine> = {}): Engine {
  return {
    preflight: async () => ({ versions: { fake: "1" } }),
    dump: async (run) => ({
      files: [
        await run.store("rows", Readable.from([Buffer.alloc(200_000, "row")])),
        await run.store("sub/raw.bin", Readable.from([Buffer.from("raw")]), { compress: false }),
      ],
      fingerprint: { rows: 3 },
    }),
    verify: async (run, { files }) => {
      for (const file of files) await finished(run.open(file).resume());
      return ["decoded"];
    },
    ...changes,
  };
}

/** Puts a whole generation of a backup into a directory. */
export function plant(directory: string, name: string, changes: Partial<Manifest> = {}): void {
  const manifest: Manifest = {
    formatVersion: 1,
    backup: "postgres",
    namespace: "dbaas",
    generation: name,
    startedAt: "2026-11-01T00:00:00.000Z",
    finishedAt: "2026-11-01T00:01:00.000Z",
    engine: "postgres",
    versions: {},
    fingerprint: {},
    files: [{ path: "data", bytes: 4, sha256: "0".repeat(64) }],
    checks: [],
    ...changes,
  };
  mkdirSync(join(directory, name), { recursive: true });
  writeFileSync(join(directory, name, "data"), "data");
  writeFileSync(join(directory, name, MANIFEST), JSON.stringify(manifest));
}
