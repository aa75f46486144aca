import { chmod, type FileHandle, lchown, link, lstat, lutimes, mkdir, open, rm, symlink } from "node:fs/promises";
import { fileTime, joined, plain, type TreeNode, type TreeReader, type TreeRecord, Twins } from "./tree";

/** Files that are copied at a time: most of it is waiting for the target to have them on its disk. */
const ABREAST = 8;
const ZEROS = Buffer.alloc(1_048_576);
/** Where a target cannot link a file, it has one more copy of it. */
const UNLINKABLE = ["ENOENT", "EMLINK", "EPERM", "ENOTSUP", "EOPNOTSUPP", "EXDEV"];

/** A member of a stored tree, and whether this generation has its own copy of it: a file that has not is a link to the one before. */
export type StoredRecord = TreeRecord & { readonly copied?: boolean };

/** The tree of the generation before. */
export interface PreviousTree {
  readonly directory: string;
  /** In the order of the walk. */
  readonly records: AsyncIterable<StoredRecord>;
}

/**
 * Copies a tree, file by file. A file with the size, time, mode and owner that it had in the generation before becomes a hard link to
 * that one; any other is copied, hashed on the way, and on the disk when its record is given. Blocks of a mebibyte of zeros stay holes.
 *
 * What is stored can always be read and removed by its owner and sets no user id: the true modes are in the records, as are owners,
 * which only root can give to a file, and the times of directories.
 */
export async function* storeTree(reader: TreeReader, directory: string, previous?: PreviousTree): AsyncGenerator<StoredRecord> {
  const store = async ({ record, node, old }: Placed): Promise<StoredRecord | undefined> =>
    record ?? storeFile(reader, node, directory, previous, old);
  for await (const record of abreast(place(reader, directory, previous, store), store)) if (record !== undefined) yield record;
}

/** Calls `work` for several items at a time; gives its results in the items' order. */
export async function* abreast<A, B>(items: AsyncIterable<A>, work: (item: A) => Promise<B>): AsyncGenerator<B> {
  const running: Promise<B>[] = [];
  for await (const item of items) {
    const next = work(item);
    // Its failure is noticed when its turn comes.
    next.catch(() => undefined);
    running.push(next);
    if (running.length >= ABREAST) yield running.shift() as Promise<B>;
  }
  for (const last of running) yield last;
}

/** A member of the tree; its record if it is stored already. */
interface Placed {
  readonly node: TreeNode;
  readonly old?: StoredRecord;
  readonly record?: StoredRecord;
}

/** Stores what others depend on, so one after the other: directories, links, and files that have further names. */
async function* place(
  reader: TreeReader,
  directory: string,
  previous: PreviousTree | undefined,
  store: (file: Placed) => Promise<StoredRecord | undefined>,
): AsyncGenerator<Placed> {
  const twins = new Twins();
  for await (const { left: node, right: old } of joined(reader.walk(), previous?.records ?? none())) {
    if (node === undefined) continue;
    const path = below(directory, node.path);
    const twin = twins.find(node, node.path);
    if (node.type === "directory") {
      await mkdir(path);
      await chmod(path, (node.mode & 0o777) | 0o700);
      await own(path, node);
      yield { node, record: plain(node) };
    } else if (node.type === "symlink") {
      await symlink(node.target ?? "", path);
      await lutimes(path, fileTime(node), fileTime(node));
      await own(path, node);
      yield { node, record: plain(node) };
    } else if (twin !== undefined) {
      await link(below(directory, twin.target ?? ""), path);
      yield { node, record: twin };
    } else if (node.names > 1) {
      const record = await store({ node, old });
      if (record === undefined) continue;
      twins.add(node, node.path);
      yield { node, record };
    } else {
      yield { node, old };
    }
  }
}

async function storeFile(
  reader: TreeReader,
  node: TreeNode,
  directory: string,
  previous: PreviousTree | undefined,
  old: StoredRecord | undefined,
): Promise<StoredRecord | undefined> {
  const path = below(directory, node.path);
  if (
    previous !== undefined &&
    old !== undefined &&
    unchanged(node, old) &&
    (await linked(below(previous.directory, node.path), path, old))
  ) {
    return { ...plain(node), sha256: old.sha256 };
  }
  return copy(reader, node, path);
}

function unchanged(node: TreeNode, old: StoredRecord): boolean {
  return old.type === "file" && (["size", "mtimeMs", "mode", "uid", "gid"] as const).every((key) => node[key] === old[key]);
}

/** Links to the file of the generation before, unless that is not what it was. */
async function linked(oldPath: string, path: string, old: StoredRecord): Promise<boolean> {
  try {
    const found = await lstat(oldPath);
    // The times of a stored file are as exact as a system call with a floating-point number makes them.
    if (!found.isFile() || found.size !== old.size || Math.abs(found.mtimeMs - old.mtimeMs) > 1) return false;
    await link(oldPath, path);
    return true;
  } catch (error) {
    if (UNLINKABLE.includes((error as NodeJS.ErrnoException).code ?? "")) return false;
    throw error;
  }
}

async function copy(reader: TreeReader, node: TreeNode, path: string): Promise<StoredRecord | undefined> {
  let file = reader.open(node);
  if (file === undefined) return undefined;
  const stored = await open(path, "wx", 0o600);
  try {
    for (let attempt = 1; file !== undefined; attempt++) {
      if (attempt > 1) await stored.truncate(0);
      let at = 0;
      let holes = false;
      let sha256: string | undefined;
      try {
        for await (const chunk of file.content()) {
          if (chunk.length === ZEROS.length && chunk.equals(ZEROS)) holes = true;
          else await write(stored, chunk, at);
          at += chunk.length;
        }
      } finally {
        sha256 = file.close();
      }
      const { node: seen } = file;
      if (sha256 !== undefined) {
        if (holes) await stored.truncate(seen.size);
        await stored.chmod((seen.mode & 0o777) | 0o400);
        await stored.utimes(fileTime(seen), fileTime(seen));
        await own(path, seen);
        await stored.sync();
        return { ...plain(seen), sha256, copied: true };
      }
      if (attempt >= reader.attempts) throw reader.changed(node);
      file = reader.reopen(node);
    }
  } finally {
    await stored.close();
  }
  await rm(path);
  return undefined;
}

async function write(file: FileHandle, chunk: Buffer, at: number): Promise<void> {
  for (let done = 0; done < chunk.length;) done += (await file.write(chunk, done, chunk.length - done, at + done)).bytesWritten;
}

/** Root may; root without its capabilities may not, and is as good as any other user then. */
async function own(path: string, { uid, gid }: TreeNode): Promise<void> {
  if (process.getuid?.() !== 0) return;
  await lchown(path, uid, gid).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== "EPERM") throw error;
  });
}

function below(directory: string, path: string): string {
  return path === "." ? directory : `${directory}/${path}`;
}

async function* none(): AsyncGenerator<never> {
  // Nothing was stored before.
}
