import { createHash } from "node:crypto";
import { lstatSync, readdirSync, readFileSync, readlinkSync } from "node:fs";
import { join } from "node:path";

/**
 * Everything in a tree, by path: kind, mode, owner, time in whole seconds as archives keep it, content or link, and the number of names.
 * Nothing of the root, whose time changes with what is put into it and taken out again.
 */
export function stateOf(root: string): { readonly [path: string]: string } {
  const found: Record<string, string> = {};
  const look = (path: string): void => {
    const stats = lstatSync(join(root, path));
    const directory = stats.isDirectory();
    const content = stats.isSymbolicLink() ? readlinkSync(join(root, path)) : directory ? "directory" : hashOf(join(root, path));
    const mode = stats.isSymbolicLink() ? "" : (stats.mode & 0o7777).toString(8);
    if (path !== "") found[path] = `${content} ${mode} ${stats.uid}:${stats.gid} ${Math.floor(stats.mtimeMs / 1000)} ${directory ? "" : stats.nlink}`;
    if (directory) for (const name of readdirSync(join(root, path))) look(join(path, name));
  };
  look("");
  return found;
}

/** A part of {@link stateOf}: what lies at and below these paths. */
export function partOf(state: ReturnType<typeof stateOf>, ...paths: readonly string[]): ReturnType<typeof stateOf> {
  return Object.fromEntries(Object.entries(state).filter(([path]) => paths.some((part) => path === part || path.startsWith(`${part}/`))));
}

/** The rest of {@link stateOf}. */
export function without(state: ReturnType<typeof stateOf>, ...paths: readonly string[]): ReturnType<typeof stateOf> {
  const part = partOf(state, ...paths);
  return Object.fromEntries(Object.entries(state).filter(([path]) => !(path in part)));
}

/** Name of the directory in a volume's root where what a restore replaced is; the only one of its kind. */
export function asideIn(volume: string): string {
  const [found, ...more] = readdirSync(volume).filter((name) => name.startsWith(".cdktf-backup-"));
  expect(found).toMatch(/^\.cdktf-backup-replaced-\d{8}T\d{6}Z$/);
  expect(more).toEqual([]);
  return found ?? "";
}

function hashOf(path: string): string {
  return createHash("sha256").update(readFileSync(path)).digest("hex");
}
