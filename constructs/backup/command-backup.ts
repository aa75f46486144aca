import type { Construct } from "constructs";
import { isAbsolutePath } from "../storage/nfs-export";
import type { CommandArtefact } from "../../lib/runtime/engines/command";
import { CONFIG_DIRECTORY, EXCHANGE_DIRECTORY } from "../../lib/runtime/settings";
import { isToken } from "../../lib/terraform-text";
import type { ServiceEndpoint } from "../../lib/service-endpoint";
import type { BackupProps } from "./backup";
import { Backup } from "./backup";
import type { EngineContainerProps } from "../runner/engine-container-props";
import type { Environment } from "../runner/env";
import { checkNoIdentity } from "../runner/encryption";
import { checkEnvironment } from "../runner/env";
import type { Mount } from "../runner/job-parts";
import type { RunAs } from "../runner/pod-security";

/** One thing that the program yields. */
export interface Artefact {
  /** Its file or directory in the generation: letters, digits, `.`, `_` and `-`, not beginning with `.` or `-`. */
  readonly name: string;
  /** The program's standard output, the file it makes at `$OUT`, or what it puts into the directory `$OUT`. @default "stream" */
  readonly from?: CommandArtefact["from"];
  /** Compresses it; false for what is compressed already. @default true */
  readonly compress?: boolean;
  /** Fewer bytes than this, uncompressed, are a failure. @default 1 */
  readonly minBytes?: number;
  /** What a whole stream or file ends with, white space at its end aside. @default - not checked */
  readonly trailer?: string;
}

/** Options of {@link CommandBackup}. */
export interface CommandBackupProps extends BackupProps, EngineContainerProps {
  /**
   * The program: a POSIX shell script, run once for each artefact with its name as the only argument, under `set -eu` (and `pipefail`
   * where the image's shell has it). The last line of its standard error is the reason of a failure. `$` may be used freely.
   */
  readonly script: string;
  /** What the program yields, at least one. */
  readonly artefacts: readonly Artefact[];
  /** User and group of the pod; which one the image is made for is not known here. */
  readonly runAs: RunAs;
  /** Environment of the program: text, or keys of Secrets. @default - none */
  readonly env?: Environment;
  /** Volumes of the program's container: data, or a ConfigMap with more scripts. @default - none */
  readonly mounts?: readonly Mount[];
  /** Services that the program connects to. @default - none */
  readonly endpoints?: readonly ServiceEndpoint[];
}

/** Names that the agent, the shell and the program's contract have given a meaning. */
const RESERVED = ["ENGINE_SCRIPT", "EXCHANGE", "OUT", "TMPDIR", "PATH"];
/** Directories of the container that belong to the pod's own working. */
const TAKEN = [CONFIG_DIRECTORY, EXCHANGE_DIRECTORY];

/**
 * Backs up anything else, by a program of the owner's in an image of the owner's, with the guarantees of all other backups.
 *
 * The image needs `sh`, `sleep` and what the program calls. Creates what {@link RunnerCronJob} creates.
 */
export class CommandBackup extends Backup {
  public readonly artefacts: readonly CommandArtefact[];

  /** @throws ValidationError */
  public constructor(scope: Construct, id: string, props: CommandBackupProps) {
    const { script, env = {}, mounts = [], endpoints = [] } = props;
    const artefacts = props.artefacts.map(
      ({ name, from = "stream", compress = true, minBytes = 1, trailer }): CommandArtefact => ({ name, from, compress, minBytes, trailer }),
    );
    super(scope, id, props, (problems) => {
      problems.check(script.trim() !== "", "script", script, "a shell script");
      problems.check(!isToken(script), "script", script, "text without references; pass those by env");
      checkNoIdentity(problems, "script", script);
      const names = artefacts.map(({ name }) => name);
      problems.check(names.length > 0, "artefacts", names, "at least one");
      const valid = names.every((name) => /^[A-Za-z0-9_][A-Za-z0-9._-]*$/.test(name));
      problems.check(valid, "artefacts", names, "names of letters, digits, '.', '_' and '-', not beginning with '.' or '-'");
      problems.check(new Set(names).size === names.length, "artefacts", names, "named each differently");
      for (const { name, minBytes, from, trailer } of artefacts) {
        const whole = Number.isSafeInteger(minBytes) && minBytes >= 0;
        problems.check(whole, `artefacts.${name}.minBytes`, minBytes, "a whole number of bytes, 0 or more");
        problems.check(trailer !== "", `artefacts.${name}.trailer`, trailer, "the last text of a whole stream or file");
        const ends = from !== "directory" || trailer === undefined;
        problems.check(ends, `artefacts.${name}.trailer`, trailer, "unset for a directory, which has no end");
      }
      checkEnvironment(problems, "env", env);
      for (const name of RESERVED) problems.check(!(name in env), "env", name, `other than ${RESERVED.join(", ")}`);
      for (const { path } of mounts) {
        const free = isAbsolutePath(path) && !TAKEN.some((taken) => path === taken || path.startsWith(`${taken}/`));
        problems.check(free, "mounts", path, `an absolute, normalised path, not in ${TAKEN.join(" or ")}`);
      }
      return {
        application: "command",
        engine: { kind: "command", artefacts },
        defaultRunAs: props.runAs,
        endpoints,
        container: {
          image: props.image,
          script: "command.sh",
          files: { "script.sh": script },
          environment: env,
          mounts,
          resources: props.engineResources,
          exchangeSize: props.exchangeSize,
        },
      };
    });
    this.artefacts = artefacts;
  }
}
