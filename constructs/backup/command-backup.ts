import type { Construct } from "constructs";
import { isAbsolutePath } from "../storage/nfs-export";
import type { Quantity } from "../../lib/quantity";
import type { CommandArtefact } from "../../lib/runtime/engines/command-artefacts";
import { CONFIG_DIRECTORY, EXCHANGE_DIRECTORY } from "../../lib/runtime/settings";
import type { Problems } from "../../lib/errors";
import { isToken } from "../../lib/terraform-text";
import type { ServiceEndpoint } from "../../lib/service-endpoint";
import type { DrillProps, NoDrill } from "../restore/restore-drill";
import type { BackupProps } from "./backup";
import { Backup } from "./backup";
import { DRILL_SIZE } from "../runner/defaults";
import type { EngineContainerProps } from "../runner/engine-container-props";
import type { Environment } from "../runner/env";
import { checkNoIdentity } from "../runner/encryption";
import { checkEnvironment } from "../runner/env";
import type { Mount } from "../runner/job-parts";
import type { RunAs } from "../runner/pod-security";
import type { Resources } from "../runner/resources";

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
  /** The scheduled proof that the backup restores. @default - every byte is read back; only a script can restore them */
  readonly drill?: CommandDrillProps | NoDrill;
  /** How it is put back. @default - no restore job is made */
  readonly restore?: CommandRestoreProps;
}

/** Options of a drill by the owner's own program. */
export interface CommandDrillProps extends DrillProps {
  /**
   * A POSIX shell script, run as {@link CommandBackupProps.script} is, in the same image and with nothing of its environment and volumes:
   * it restores the artefacts, which are files and directories of their names in `$IN`, into the empty directory `$SCRATCH`, looks at what
   * came back, and prints a line for each thing that it found to be as it should: at least one.
   *
   * @default - every byte is read back, and nothing is restored from them
   */
  readonly script?: string;
}

/** Options of a restore by the owner's own program. */
export interface CommandRestoreProps {
  /**
   * A POSIX shell script, run as {@link CommandBackupProps.script} is, three times, with one argument:
   *
   * - `target`: prints the name of what is there and would be replaced, on one line, or nothing where nothing is there. Who restores must
   *   confirm that name, and what is there is backed up first.
   * - `restore`: puts the artefacts back, which are files and directories of their names in `$IN`.
   * - `check`: looks at what is there then, and prints a line for each thing that it found to be as it should: at least one.
   */
  readonly script: string;
  /** Environment of the program. @default - as the backup's */
  readonly env?: Environment;
  /** Volumes of the program's container. @default - as the backup's */
  readonly mounts?: readonly Mount[];
  /** Largest size of the artefacts and of what is backed up first, together. @default Quantity.gibibytes(20) */
  readonly size?: Quantity;
  /** What the program's container may use. @default - as the backup's */
  readonly engineResources?: Resources;
}

/** Names that the agent, the shell and the program's contract have given a meaning. */
const RESERVED = ["ENGINE_SCRIPT", "EXCHANGE", "WORK", "OUT", "IN", "SCRATCH", "TMPDIR", "PATH"];
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
    const { script, env = {}, mounts = [], endpoints = [], restore } = props;
    const drilled = props.drill !== undefined && "script" in props.drill ? props.drill.script : undefined;
    const artefacts = props.artefacts.map(
      ({ name, from = "stream", compress = true, minBytes = 1, trailer }): CommandArtefact => ({ name, from, compress, minBytes, trailer }),
    );
    super(scope, id, props, (problems) => {
      checkScript(problems, "script", script);
      if (drilled !== undefined) checkScript(problems, "drill.script", drilled);
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
      checkContainer(problems, "", env, mounts);
      if (restore !== undefined) {
        checkScript(problems, "restore.script", restore.script);
        checkContainer(problems, "restore.", restore.env ?? {}, restore.mounts ?? []);
      }
      const common = { image: props.image, resources: props.engineResources };
      return {
        application: "command",
        engine: { kind: "command", artefacts, drilled: drilled !== undefined },
        defaultRunAs: props.runAs,
        endpoints,
        container: {
          ...common,
          script: "command.sh",
          libraries: ["program.sh"],
          files: { "script.sh": script },
          environment: env,
          mounts,
          exchangeSize: props.exchangeSize,
        },
        drill: {
          container: drilled === undefined ? undefined : {
            ...common,
            script: "command-drill.sh",
            libraries: ["program.sh"],
            files: { "drill-script.sh": drilled },
            environment: {},
          },
          assertions: false,
        },
        restore: restore && {
          container: {
            ...common,
            script: "command-restore.sh",
            libraries: ["command.sh", "program.sh"],
            files: { "script.sh": script, "restore-script.sh": restore.script },
            environment: restore.env ?? env,
            mounts: restore.mounts ?? mounts,
            resources: restore.engineResources ?? props.engineResources,
            exchangeSize: restore.size ?? DRILL_SIZE,
          },
        },
      };
    });
    this.artefacts = artefacts;
  }
}

function checkScript(problems: Problems, property: string, script: string): void {
  problems.check(script.trim() !== "", property, script, "a shell script");
  problems.check(!isToken(script), property, script, "text without references; pass those by env");
  checkNoIdentity(problems, property, script);
}

function checkContainer(problems: Problems, property: "" | "restore.", env: Environment, mounts: readonly Mount[]): void {
  checkEnvironment(problems, `${property}env`, env);
  for (const name of RESERVED) problems.check(!(name in env), `${property}env`, name, `other than ${RESERVED.join(", ")}`);
  for (const { path } of mounts) {
    const free = isAbsolutePath(path) && !TAKEN.some((taken) => path === taken || path.startsWith(`${taken}/`));
    problems.check(free, `${property}mounts`, path, `an absolute, normalised path, not in ${TAKEN.join(" or ")}`);
  }
}
