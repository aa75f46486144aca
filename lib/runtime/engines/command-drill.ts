import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import type { Drill, DrillEngine } from "../drill";
import { assertSame } from "../facts";
import type { CommandSettings } from "./command";
import { readArtefacts } from "./command-artefacts";
import { checksIn } from "./command-checks";

/** Hands what was backed up to a program of the owner's, which restores it in its own way; without one, reads it to the last byte. */
export class CommandDrill implements DrillEngine {
  private checks: readonly string[] = [];

  public constructor(private readonly settings: CommandSettings) {}

  public async restore(drill: Drill): Promise<void> {
    const { manifest, name, work, open } = drill;
    const { artefacts, drilled } = this.settings;
    const own = join(work, name);
    if (drilled) await mkdir(join(own, "scratch"), { recursive: true });
    const found = await readArtefacts(artefacts, manifest.files, open, drilled ? join(own, "in") : undefined);
    assertSame("the artefacts:", manifest.fingerprint, found);
    if (drilled) this.checks = checksIn(await drill.agent.text("drill", name), "the drill's script");
  }

  public compare(): Promise<readonly string[]> {
    const count = this.settings.artefacts.length;
    const read = `every byte of ${count} artefacts is as the program gave it`;
    return Promise.resolve([read, ...(this.settings.drilled ? this.checks : ["nothing was restored from them, as the drill has no script"])]);
  }
}
