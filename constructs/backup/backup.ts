import type { Construct } from "constructs";
import type { Problems } from "../../lib/errors";
import type { Retention } from "../../lib/retention";
import type { IBackupVolume } from "../storage/backup-volume";
import type { JobParts } from "./job-parts";
import type { JobProps } from "./job-props";
import { RunnerCronJob } from "./runner-cron-job";

/** What every backup can be told. */
export interface BackupProps extends JobProps {
  /** Where generations are written. */
  readonly volume: IBackupVolume;
  /**
   * Directory of this backup's generations below the volume's root; `""` is the root itself. Changing it starts anew: the generations
   * of the old one stay where they are.
   *
   * @default - the backup's name
   */
  readonly directory?: string;
  /** How long generations are kept. There is no default, as a default would delete data. */
  readonly retention: Retention;
  /** zstd level, 1 to 19, for what the engine does not compress itself. @default 3 */
  readonly compressionLevel?: number;
}

/** What an engine's class adds to {@link Backup}. */
export type BackupParts = Omit<JobParts, "command" | "target" | "compressionLevel">;

/** A scheduled backup: each run writes one generation to the volume, whole and checked, or nothing. */
export abstract class Backup extends RunnerCronJob {
  public readonly volume: IBackupVolume;
  /** Directory of the generations below the volume's root. */
  public readonly directory: string;
  public readonly retention: Retention;

  /** @throws ValidationError */
  protected constructor(scope: Construct, id: string, props: BackupProps, describe: (problems: Problems) => BackupParts) {
    const directory = props.directory ?? props.name ?? id;
    super(scope, id, props, (problems) => {
      const level = props.compressionLevel;
      const known = level === undefined || (Number.isInteger(level) && level >= 1 && level <= 19);
      problems.check(known, "compressionLevel", level, "a whole number from 1 to 19");
      return {
        ...describe(problems),
        command: "backup",
        target: { volume: props.volume, directory, retention: props.retention },
        compressionLevel: level,
      };
    });
    this.volume = props.volume;
    this.directory = directory;
    this.retention = props.retention;
  }
}
