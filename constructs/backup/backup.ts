import type { Construct } from "constructs";
import { Duration } from "../../lib/duration";
import { Problems } from "../../lib/errors";
import type { Quantity } from "../../lib/quantity";
import type { Retention } from "../../lib/retention";
import type { EngineSettings } from "../../lib/runtime/engines";
import type { DrillProps, NoDrill } from "../restore/restore-drill";
import { RestoreDrill } from "../restore/restore-drill";
import { RestoreJob } from "../restore/restore-job";
import { DRILL_SIZE, NO_DRILL_ANNOTATION, RESTORE_DEADLINE } from "../runner/defaults";
import { checkEncryption, type EncryptionProps } from "../runner/encryption";
import type { EngineContainer, JobParts, Mount, Target, Tool, Tools } from "../runner/job-parts";
import type { JobProps } from "../runner/job-props";
import type { RunAs } from "../runner/pod-security";
import type { Resources } from "../runner/resources";
import { RunnerCronJob } from "../runner/runner-cron-job";
import type { IBackupVolume } from "../storage/backup-volume";

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
  /** zstd level, 1 to 19, for what the engine does not compress itself. @default 7 */
  readonly compressionLevel?: number;
  /** Encrypts everything that is stored, the manifest aside. @default - whoever can read the volume can read the backup */
  readonly encryption?: EncryptionProps;
  /** The scheduled proof that the backup restores. @default - one with the defaults of {@link DrillProps} */
  readonly drill?: DrillProps | NoDrill;
}

/** What an engine's class adds to {@link Backup}. */
export interface BackupParts
  extends Omit<JobParts, "command" | "target" | "compressionLevel" | "recipients" | "identity" | "workSize" | "drill"> {
  readonly drill?: DrillParts;
  /** How a generation is put back; absent where no pod can do that. */
  readonly restore?: RestoreParts;
}

/** How an engine is drilled. */
export interface DrillParts {
  /** The engine's container, where a scratch instance is started in it. @default - the runner does it all */
  readonly container?: EngineContainer;
  /** Programs of an image without a shell, where the scratch instance is restored and started by them. @default - none */
  readonly tools?: Tools;
  /** Whether it can be asked statements. */
  readonly assertions: boolean;
}

/** How an engine's data are put back. What is not stated is as in the backup. */
export interface RestoreParts {
  /** The engine's container, with credentials that may write. */
  readonly container?: EngineContainer;
  /** Volumes that the runner writes to. */
  readonly mounts?: readonly Mount[];
  /** What the runner is told of the engine. */
  readonly engine?: EngineSettings;
  /** The pod's user, where it is another than the backup's. */
  readonly runAs?: RunAs;
}

/** Seconds: other jobs begin at full hours, and on one file server. */
const OFF_THE_HOUR = 300;

/** Marks backups of every copy of this library. */
const BRAND = Symbol.for("cdktf-backup.Backup");

/** A scheduled backup: each run writes one generation to the volume, whole and checked, or nothing. A drill proves that it restores. */
export abstract class Backup extends RunnerCronJob {
  /** Tells a backup from other constructs, also one of another copy of this library. */
  public static isBackup(construct: unknown): construct is Backup {
    return typeof construct === "object" && construct !== null && BRAND in construct;
  }

  public readonly volume: IBackupVolume;
  /** Directory of the generations below the volume's root. */
  public readonly directory: string;
  public readonly retention: Retention;
  /** Labels of the application's pods, where it runs beside them. */
  public readonly application?: { readonly [label: string]: string };
  /** Address of the server that it backs up, where there is one. */
  public readonly address?: string;
  /** The scheduled restore, a child construct with the id `Drill`; absent where it was left out on purpose. */
  public readonly drill?: RestoreDrill;
  /** The restore that a person can start, a child construct with the id `Restore`. */
  public readonly restore?: RestoreJob;

  /** @throws ValidationError */
  protected constructor(scope: Construct, id: string, props: BackupProps, describe: (problems: Problems) => BackupParts) {
    const { volume, retention, encryption } = props;
    const directory = props.directory ?? props.name ?? id;
    const reason = props.drill !== undefined && "none" in props.drill ? props.drill.none : undefined;
    const annotations = reason === undefined ? props.annotations : { ...props.annotations, [NO_DRILL_ANNOTATION]: reason };
    let parts: BackupParts | undefined;
    const target = (): Target => {
      const proof = parts?.drill === undefined || reason !== undefined ? "verification" : "drill";
      return { volume, directory, retention, proof, shared: parts?.restore?.runAs !== undefined };
    };
    super(scope, id, { ...props, annotations }, (problems) => {
      const level = props.compressionLevel;
      const known = level === undefined || (Number.isInteger(level) && level >= 1 && level <= 19);
      problems.check(known, "compressionLevel", level, "a whole number from 1 to 19");
      problems.check(reason === undefined || reason.trim() !== "", "drill.none", reason, "the reason why there is no drill");
      if (encryption !== undefined) checkEncryption(problems, encryption);
      parts = describe(problems);
      const asked = props.drill !== undefined && "assertions" in props.drill ? props.drill.assertions : undefined;
      const askable = asked === undefined || asked.length === 0 || (parts.drill?.assertions ?? false);
      problems.check(askable, "drill.assertions", asked, `none, since ${parts.application} answers no statements`);
      return { ...parts, command: "backup", drill: undefined, target: target(), compressionLevel: level, recipients: encryption?.recipients };
    });
    this.volume = volume;
    this.directory = directory;
    this.retention = retention;
    this.application = props.colocateWith?.labels;
    this.address = parts?.endpoints?.[0]?.toString();
    Object.defineProperty(this, BRAND, { value: true });
    if (parts?.drill !== undefined && reason === undefined) this.drill = this.makeDrill(props, parts, parts.drill, target());
    if (parts?.restore !== undefined) this.restore = this.makeRestore(props, parts, parts.restore, target());
  }

  /** It inherits what belongs to the service, and nothing that leads to its data: no mount, no address, no placement beside it. */
  private makeDrill(props: BackupProps, parts: BackupParts, { container, tools }: DrillParts, target: Target): RestoreDrill {
    const own: DrillProps = props.drill === undefined || "none" in props.drill ? {} : props.drill;
    const late = this.startingDeadline.toSeconds() + this.deadline.toSeconds();
    const schedule = own.schedule ?? this.schedule.delayed(Duration.seconds(late + OFF_THE_HOUR));
    // Where there is no server, the runner's own scratch space holds what is restored.
    const size = own.size ?? larger(DRILL_SIZE, props.scratchSize);
    const hasServer = container !== undefined || tools !== undefined;
    const problems = new Problems(this.node.path);
    problems.check(schedule !== undefined, "drill.schedule", undefined, "a schedule, as none follows from the backup's");
    problems.throwIfAny();
    return new RestoreDrill(this, "Drill", {
      namespace: props.namespace,
      name: `${this.name}-drill`,
      schedule: schedule ?? this.schedule,
      runAs: this.runAs,
      resources: own.resources ?? props.resources,
      scratchSize: hasServer ? props.scratchSize : size,
      deadline: own.deadline,
      suspend: props.suspend,
      ttlAfterFinished: props.ttlAfterFinished,
      priorityClassName: props.priorityClassName,
      imagePullSecrets: props.imagePullSecrets,
      labels: props.labels,
      annotations: props.annotations,
      ignoreChanges: props.ignoreChanges,
      pushgateway: props.pushgateway,
      runnerImage: props.runnerImage,
      maxAge: own.maxAge ?? Duration.seconds(this.schedule.longestGap().toSeconds() + late),
      assertions: own.assertions ?? [],
      parts: {
        application: parts.application,
        engine: parts.engine,
        defaultRunAs: parts.defaultRunAs,
        container: container === undefined ? undefined : { ...container, resources: own.engineResources ?? container.resources },
        tools: tools && withResources(tools, own.engineResources),
        target,
        backup: this.name,
        identity: props.encryption?.identity,
        workSize: hasServer ? (own.size ?? DRILL_SIZE) : undefined,
      },
    });
  }

  /** It is given what the backup was, but goes anywhere: the application, beside which the backup runs, does not run by then. */
  private makeRestore(props: BackupProps, parts: BackupParts, { container, mounts, engine, runAs }: RestoreParts, target: Target): RestoreJob {
    const { gid } = this.runAs;
    // Nor has it use for what the other jobs are made of, which would go into its settings.
    const { drill: _drill, restore: _restore, ...job } = parts;
    const problems = new Problems(this.node.path);
    const same = runAs?.gid === undefined || runAs.gid === gid;
    problems.check(same, "restore.runAs.gid", runAs?.gid, `the backup's own, ${gid}, by which both can use the volume`);
    problems.throwIfAny();
    return new RestoreJob(this, "Restore", {
      ...props,
      runAs: runAs === undefined ? props.runAs : { ...runAs, gid },
      name: `${this.name}-restore`,
      deadline: RESTORE_DEADLINE,
      startingDeadline: undefined,
      colocateWith: undefined,
      concurrency: "Forbid",
      parts: {
        ...job,
        mounts: mounts ?? parts.mounts,
        engine: engine ?? parts.engine,
        container: container ?? parts.container,
        // What it replaces it backs up first, as the backup does.
        token: parts.token && { ...parts.token, serviceAccountName: this.name },
        target: { ...target, owner: this.runAs },
        backup: this.name,
        recipients: props.encryption?.recipients,
        identity: props.encryption?.identity,
      },
    });
  }
}

function withResources({ before, beside }: Tools, resources: Resources | undefined): Tools {
  const limit = (tool: Tool): Tool => ({ ...tool, resources: resources ?? tool.resources });
  return { before: before.map(limit), beside: beside.map(limit) };
}

/** The larger of two sizes; the second where Terraform alone knows it. */
function larger(one: Quantity, other: Quantity = one): Quantity {
  return (other.toNumber() ?? Infinity) > (one.toNumber() ?? 0) ? other : one;
}
