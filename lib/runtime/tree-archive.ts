import { createHash } from "node:crypto";
import { Readable } from "node:stream";
import { gather, readTar, tarEnd, tarHeader, tarPadding } from "./tar";
import { plain, TreeDigest, type TreeFacts, type TreeNode, type TreeOptions, TreeReader, Twins } from "./tree";

/** A path whose tree goes into an archive. */
export interface ArchiveSource {
  /** A directory or a file. */
  readonly path: string;
  /** What it is called in the archive; absent: the archive has its content as `./`. */
  readonly name?: string;
}

/**
 * Trees as one tar archive, to be read once by `run.store`. Each file's hash is that of the very bytes that went into the archive.
 *
 * Regular files, directories, symbolic and hard links with mode, owner and time; GNU tar extracts it. Sockets, pipes and devices are
 * skipped and counted. Extended attributes are not kept. A sparse file is stored as its zeros, which compression makes small.
 */
export class TreeArchive {
  private readonly digest = new TreeDigest();
  private readonly readers: readonly (TreeReader & { readonly name?: string })[];

  public constructor(sources: readonly ArchiveSource[], options: TreeOptions) {
    this.readers = sources.map(({ path, name }) => Object.assign(new TreeReader(path, options), { name }));
  }

  /** The archive. It fails rather than ends where anything could not be read as it was. */
  public stream(): Readable {
    return Readable.from(gather(this.members()), { objectMode: false });
  }

  /** What the archive holds, once the stream ended. */
  public facts(): TreeFacts {
    return this.digest.facts();
  }

  /** What was met and is not in the archive, once the stream ended. */
  public get leftOut(): TreeReader["leftOut"] {
    const total = { excluded: 0, special: 0, vanished: 0 };
    for (const { leftOut } of this.readers) for (const key of ["excluded", "special", "vanished"] as const) total[key] += leftOut[key];
    return total;
  }

  private async *members(): AsyncGenerator<Buffer> {
    const twins = new Twins();
    for (const reader of this.readers) {
      for await (const node of reader.walk()) {
        const { name } = reader;
        const path = name === undefined ? node.path : node.path === "." ? name : `${name}/${node.path}`;
        const twin = twins.find(node, path);
        if (twin === undefined && node.type === "file") {
          yield* this.file(reader, node, path, twins);
        } else {
          const entry = twin ?? { ...plain(node), path };
          this.digest.add(entry);
          yield tarHeader(entry);
        }
      }
    }
    yield tarEnd();
  }

  /** A large file that changed while it was read is written again: the last member of a name is the one that counts. */
  private async *file(reader: TreeReader, node: TreeNode, path: string, twins: Twins): AsyncGenerator<Buffer> {
    let written = false;
    let file = reader.open(node);
    for (let attempt = 1; file !== undefined; attempt++) {
      const entry = { ...plain(file.node), path };
      let sha256: string | undefined;
      try {
        if (!file.changed) {
          written = true;
          yield tarHeader(entry);
          let left = entry.size;
          for await (const chunk of file.content()) {
            left -= chunk.length;
            yield chunk;
          }
          while (left > 0) left -= yield* zeros(left);
          yield tarPadding(entry.size);
        }
      } finally {
        sha256 = file.close();
      }
      if (sha256 !== undefined) {
        this.digest.add({ ...entry, sha256 });
        twins.add(file.node, path);
        return;
      }
      if (attempt >= reader.attempts) throw reader.changed(node);
      file = reader.reopen(node);
    }
    // It vanished, and what was read of it before must not look like a member.
    if (written) throw reader.changed(node);
  }
}

/** Fills up what a file that shrank has less than its header says. */
function* zeros(most: number): Generator<Buffer, number> {
  const chunk = Buffer.alloc(Math.min(most, 65_536));
  yield chunk;
  return chunk.length;
}

/**
 * Reads an archive to its last byte.
 * @returns what it holds, as {@link TreeArchive.facts}
 * @throws Error where it is damaged
 */
export async function archiveFacts(archive: AsyncIterable<Buffer>): Promise<TreeFacts> {
  const digest = new TreeDigest();
  let last: Parameters<TreeDigest["add"]>[0] | undefined;
  for await (const member of readTar(archive)) {
    if (last !== undefined && last.path !== member.path) digest.add(last);
    const hash = createHash("sha256");
    for await (const chunk of member.content) hash.update(chunk);
    last = member.type === "file" ? { ...plain(member), sha256: hash.digest("hex") } : plain(member);
  }
  if (last !== undefined) digest.add(last);
  return digest.facts();
}
