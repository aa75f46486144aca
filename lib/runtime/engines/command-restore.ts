import { join } from "node:path";
import { assertSame } from "../facts";
import type { Restore, RestoreEngine, RestorePlan } from "../restore";
import { EXCHANGE_DIRECTORY } from "../settings";
import type { CommandSettings } from "./command";
import { readArtefacts } from "./command-artefacts";
import { checksIn } from "./command-checks";

/** Hands what was backed up to a program of the owner's, which alone knows what is there, puts it back, and looks at it. */
export class CommandRestore implements RestoreEngine {
  public readonly options = {};

  /** @param into where the program finds the artefacts, shared with its container */
  public constructor(
    private readonly settings: CommandSettings,
    private readonly into: string = join(EXCHANGE_DIRECTORY, "in"),
  ) {}

  public async plan({ agent }: Restore): Promise<RestorePlan> {
    const target = (await agent.text("target")).trim();
    if (target.includes("\n")) throw new Error(`the restore's script names more than one target: ${JSON.stringify(target)}`);
    const names = this.settings.artefacts.map(({ name }) => name).join(", ");
    return {
      replaces: target === "" ? undefined : target,
      steps: [target === "" ? "nothing is there yet" : `${target} is there, and is replaced`, `give ${names} to the restore's script, and have it look at what it made`],
    };
  }

  public async apply({ agent, manifest, open, log }: Restore): Promise<void> {
    const found = await readArtefacts(this.settings.artefacts, manifest.files, open, this.into);
    assertSame("the artefacts:", manifest.fingerprint, found);
    const output = await agent.text("restore");
    if (output !== "") for (const line of output.split("\n")) log(`restore: ${line}`);
  }

  public async verify({ agent }: Restore): Promise<readonly string[]> {
    return checksIn(await agent.text("check_restored"), "the restore's script, when it was called with 'check',");
  }
}
