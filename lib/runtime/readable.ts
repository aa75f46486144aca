import { access, constants, stat } from "node:fs/promises";
import { dirname } from "node:path";
import { type TreeNode, type TreeOptions, TreeReader } from "./tree";

/**
 * Makes sure that this process can read a file, or list and enter a directory.
 *
 * @returns false where there is no such path
 * @throws Error with the command that mends it where the path exists and cannot be read
 */
export async function readable(path: string): Promise<boolean> {
  try {
    const { R_OK, X_OK } = constants;
    await access(path, (await stat(path)).isDirectory() ? R_OK | X_OK : R_OK);
    return true;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "ENOENT" || code === "ENOTDIR") return false;
    throw await mending(error);
  }
}

/**
 * {@link readable}, for a directory with all that is in it.
 *
 * @param excluded what is none of our business
 * @param see told of everything else that can be read
 * @returns how many files there are; undefined where there is no such path
 */
export async function readableTree(
  path: string,
  signal: AbortSignal,
  excluded?: TreeOptions["excluded"],
  see?: (node: TreeNode) => void,
): Promise<number | undefined> {
  if (!(await readable(path))) return undefined;
  const unreadable: string[] = [];
  let files = 0;
  const reader = new TreeReader(path, { signal, excluded, live: true });
  for await (const node of reader.walk((source) => unreadable.push(source))) {
    if (node.type === "file") files++;
    see?.(node);
  }
  const [first] = unreadable;
  if (first !== undefined) throw await denied(first, path, unreadable.length - 1);
  return files;
}

/** Adds to an error about missing permissions the command that mends it; any other error is returned as it is. */
export async function mending(error: unknown): Promise<Error> {
  const { code, path } = error as NodeJS.ErrnoException;
  return code === "EACCES" && path !== undefined ? denied(path, path, 0) : (error as Error);
}

/**
 * The command gives access to the group, so that the application, which owns the path, keeps its own.
 *
 * @param tree what the command is for: the path, or a directory above it
 */
async function denied(path: string, tree: string, others: number): Promise<Error> {
  const [uid, gid] = [process.getuid?.(), process.getgid?.()];
  const found = await stat(path).catch(() => undefined);
  const owner = found === undefined ? "" : ` (owner ${found.uid}:${found.gid}, mode ${(found.mode & 0o7777).toString(8)})`;
  // What cannot even be looked at is in a directory that cannot be entered.
  const target = found === undefined && path === tree ? dirname(path) : tree;
  const recursive = (await stat(target).catch(() => undefined))?.isDirectory() === true ? "-R " : "";
  const quoted = `'${target.replaceAll("'", "'\\''")}'`;
  const more = others === 0 ? "" : `, and ${others} more paths below ${tree},`;
  return new Error(
    `${path}${owner}${more} cannot be read by uid ${uid}, gid ${gid}; where the volume is writable, run: ` +
      `chgrp ${recursive}${gid} ${quoted} && chmod ${recursive}g+rX ${quoted}`,
  );
}
