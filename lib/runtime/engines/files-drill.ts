import { chmodSync, existsSync, truncateSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import type { Drill, DrillEngine } from "../drill";
import { assertRoom, roomOf } from "../drill-room";
import { assertSame } from "../facts";
import { humanBytes } from "../progress";
import { readBack, treeMembers } from "../stored-tree";
import type { TreeFacts } from "../tree";
import { TreeWriter } from "../tree-writer";
import { type FilesSettings, hashOf } from "./files";

/** What a file or a directory takes of a file system besides its content, about. */
const ENTRY_BYTES = 4096;

/** A tree that was restored. */
interface Restored {
  readonly name: string;
  readonly path: string;
  readonly writer: TreeWriter;
  /** All of it is there; otherwise each file was emptied once it had been read back. */
  readonly whole: boolean;
}

/**
 * Restores trees of files into scratch space, and reads them back.
 *
 * A tree for which there is no room is restored all the same, file by file: each is written, read back and emptied before the next.
 */
export class FilesDrill implements DrillEngine {
  private readonly restored: Restored[] = [];

  public constructor(private readonly settings: FilesSettings) {}

  public async restore(drill: Drill): Promise<void> {
    const { manifest, scratch, name: instance, log } = drill;
    for (const { name, path } of this.settings.sources) {
      // The mount that a backup reads from must not be there.
      if (existsSync(path)) throw new Error(`${path} exists: a drill must not reach the data that is backed up`);
      if (manifest.fingerprint[name] === undefined) throw new Error(`the generation has no source ${name}`);
    }
    await mkdir(join(scratch, instance), { mode: 0o700 });
    for (const [name, found] of Object.entries(manifest.fingerprint)) {
      const { files, directories, symlinks, bytes } = found as TreeFacts;
      if (files === 0) throw new Error(`the source ${name} is empty in the generation`);
      const room = await roomOf(drill);
      const whole = bytes + (files + directories + symlinks) * ENTRY_BYTES <= room;
      if (!whole) log(`${name} has ${humanBytes(bytes)}, more than the scratch space: each file is restored, read back and emptied`);
      await this.write(drill, { name, path: join(scratch, instance, name), whole });
    }
  }

  public async compare({ manifest, signal }: Drill): Promise<readonly string[]> {
    const checks: string[] = [];
    for (const { name, path, writer, whole } of this.restored) {
      const facts = whole ? await readBack(writer, [{ path }], signal) : writer.facts();
      assertSame(`${name}:`, manifest.fingerprint[name], facts);
      const { files, directories, symlinks, bytes } = facts;
      const how = whole ? "restored as a whole and read back" : "restored and read back file by file, as the scratch space is smaller";
      checks.push(`${name}: ${files} files, ${directories} directories, ${symlinks} symbolic links, ${bytes} bytes ${how}`);
      checks.push(`${name}: equal to the fingerprint in paths, modes, times, links and contents`);
      checks.push(...(writer.owners.length === 0 ? ["owners as they were"] : writer.owners).map((line) => `${name}: ${line}`));
    }
    return checks;
  }

  private async write(drill: Drill, { name, path, whole }: Omit<Restored, "writer">): Promise<void> {
    await mkdir(path, { mode: 0o700 });
    const writer = new TreeWriter(path, drill.signal);
    for await (const member of treeMembers(drill, name)) {
      if (!whole && member.type === "file") await assertRoom(drill, member.size);
      const { type, size, sha256 } = await writer.add(member);
      if (whole || type !== "file") continue;
      const file = join(path, member.path);
      if ((member.mode & 0o600) !== 0o600) chmodSync(file, 0o600);
      if ((await hashOf(file, size)) !== sha256) throw new Error(`${name}/${member.path} is not what was written to it`);
      truncateSync(file);
    }
    writer.finish();
    this.restored.push({ name, path, writer, whole });
  }
}
