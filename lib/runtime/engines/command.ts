import { createReadStream } from "node:fs";
import { lstat, mkdir, readdir } from "node:fs/promises";
import { join, relative } from "node:path";
import type { Readable } from "node:stream";
import { isDeepStrictEqual } from "node:util";
import type { Dump, Engine, Run } from "../engine";
import type { Fact, ManifestFile } from "../manifest";
import { EXCHANGE_DIRECTORY } from "../settings";
import { type CommandArtefact, Content, readArtefacts } from "./command-artefacts";

/**
 * A backup by the owner's own program, in the owner's own image.
 *
 * The program is a POSIX shell script. It is mounted as `script.sh` beside `command.sh`, which is the container's
 * `ENGINE_SCRIPT`, and runs **once for each artefact**, in the order of {@link artefacts}, as
 *
 *     sh -eu script.sh <name of the artefact>
 *
 * with `-o pipefail` where the image's shell knows it. A program for one artefact can ignore `$1`; one for several
 * begins with `case $1 in`. What it yields depends on the artefact's `from`:
 *
 * - `stream`: its standard output;
 * - `file`: the file `$OUT`, which it makes;
 * - `directory`: what it puts into the directory `$OUT`, which exists and is empty.
 *
 * It says what is wrong on standard error, the reason in the last line, and exits non-zero. The image needs `sh` and `sleep`
 * and whatever the program itself calls; nothing is on its standard input. A command line without a shell script is the
 * script `exec` followed by its words, each in single quotes.
 */
export interface CommandSettings {
  readonly kind: "command";
  /** What the program yields. At least one; names are unique. */
  readonly artefacts: readonly CommandArtefact[];
  /** Whether the drill has a program of the owner's too. */
  readonly drilled: boolean;
}

/** Whatever a command of the owner's yields, with the guarantees of every other backup. */
export class CommandEngine implements Engine {
  /** @param out where the program leaves files and directories, shared with its container */
  public constructor(
    private readonly settings: CommandSettings,
    private readonly out: string = join(EXCHANGE_DIRECTORY, "out"),
  ) {}

  public async preflight(run: Run): Promise<{ readonly versions: { readonly [tool: string]: string } }> {
    await run.agent.text("check");
    return { versions: {} };
  }

  /** Runs every artefact, also after one failed, so that one run names all that is wrong. */
  public async dump(run: Run): Promise<Dump> {
    const files: ManifestFile[] = [];
    const fingerprint: Record<string, Fact> = {};
    const failures: string[] = [];
    let first: unknown;
    for (const artefact of this.settings.artefacts) {
      try {
        const content = new Content(artefact);
        files.push(...(await this.store(run, artefact, content)));
        fingerprint[artefact.name] = content.facts();
      } catch (error) {
        run.signal.throwIfAborted();
        first ??= error;
        failures.push(`${artefact.name} (${(error as Error).message})`);
      }
    }
    const total = this.settings.artefacts.length;
    if (failures.length > 0) throw new Error(`${failures.length} of ${total} artefacts failed: ${failures.join(", ")}`, { cause: first });
    return { files, fingerprint };
  }

  public async verify(run: Run, dump: Dump): Promise<readonly string[]> {
    const found = await readArtefacts(this.settings.artefacts, dump.files, (file) => run.open(file));
    if (!isDeepStrictEqual(found, dump.fingerprint)) throw new Error("what is on the target differs from what the program gave");
    return [`read back from the target and equal to what the program gave: ${dump.files.length} files`];
  }

  private async store(run: Run, artefact: CommandArtefact, content: Content): Promise<readonly ManifestFile[]> {
    const { name, from, compress } = artefact;
    const path = join(this.out, name);
    const save = (target: string, source: Readable): Promise<ManifestFile> => {
      content.begin(target);
      return run.store(target, source, { compress, inspect: (chunk) => content.add(chunk) });
    };
    if (from === "stream") {
      const answer = run.agent.request("dump", name);
      const file = await save(name, answer.output);
      // Not before: a program whose output nobody takes any more fails as well, and that would not be the reason.
      await answer.done;
      return [file];
    }
    if (from === "directory") await mkdir(path, { recursive: true });
    const output = await run.agent.text("dump", name);
    if (output !== "") run.log(`${name}: ${output}`);
    const files: ManifestFile[] = [];
    for (const below of from === "file" ? [await single(path)] : await tree(path)) {
      files.push(await save(join(name, below), createReadStream(join(path, below))));
    }
    return files;
  }
}

/** Path below itself of the one file that a program left. */
async function single(path: string): Promise<""> {
  const found = await lstat(path).catch(() => undefined);
  if (found?.isFile() !== true) throw new Error(`the program left ${found === undefined ? "nothing" : "no regular file"} at $OUT`);
  return "";
}

/** Paths of all files below a directory, in an order that does not depend on the file system. */
async function tree(path: string): Promise<readonly string[]> {
  const entries = await readdir(path, { recursive: true, withFileTypes: true });
  const files: string[] = [];
  const refused: string[] = [];
  const parents = new Set(entries.map(({ parentPath }) => parentPath));
  for (const entry of entries) {
    const full = join(entry.parentPath, entry.name);
    if (entry.isFile()) files.push(relative(path, full));
    else if (!entry.isDirectory() || !parents.has(full)) refused.push(relative(path, full));
  }
  if (refused.length > 0) throw new Error(`neither a regular file nor a directory with files: ${refused.sort().join(", ")}`);
  return files.sort();
}
