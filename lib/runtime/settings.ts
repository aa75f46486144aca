import type { EngineSettings } from "./engines";

/** Where the runner finds its settings, its own code and the engine scripts: one ConfigMap, mounted read-only. */
export const CONFIG_DIRECTORY = "/etc/cdktf-backup";
/** The `emptyDir` that the runner and the engine's container share. */
export const EXCHANGE_DIRECTORY = "/exchange";
/** The backup volume, mounted in the runner alone. */
export const TARGET_DIRECTORY = "/backup";
/** The `emptyDir` that the runner has for itself. */
export const SCRATCH_DIRECTORY = "/scratch";
/** The `emptyDir` in which runner and engine hand over files of a scratch instance. */
export const WORK_DIRECTORY = "/work";
/** Below it the runner of a drill or restore has the Secret with the identities that decrypt. */
export const IDENTITY_DIRECTORY = "/identity";
/** The sentinel's name in the root of the export. */
export const SENTINEL = ".cdktf-backup-target";

/** Everything the runner is told: `settings.json`, rendered by the construct, read by the runner. */
export interface Settings {
  readonly formatVersion: 1;
  /** The backup's name, unique in its namespace; a metric label and part of every manifest. */
  readonly backup: string;
  readonly namespace: string;
  /** Name of the CronJob, from which a scheduled run is told from a manual one. */
  readonly cronJob: string;
  readonly engine: EngineSettings;
  /** Absent for a job that writes no generation (an integrity check). */
  readonly target?: TargetSettings;
  readonly retention?: RetentionSettings;
  /** What the generation is made for, where it is no backup of the schedule's. */
  readonly purpose?: "safety";
  /** Absent for anything but a drill. */
  readonly drill?: DrillSettings;
  /** Runs on days of the month up to this one only; a manual run always runs. 7 = first week. */
  readonly lastDayOfMonth?: number;
  readonly timeZone: string;
  /** Base URL of the Pushgateway, without `/metrics`. */
  readonly pushgateway?: string;
  /** Seconds after which Kubernetes ends the Job (`activeDeadlineSeconds`). */
  readonly deadlineSeconds: number;
  /** zstd level for what the engine does not compress itself. */
  readonly compressionLevel: number;
  /** Absent where what is stored is not encrypted. */
  readonly encryption?: EncryptionSettings;
  /** Path in the runner of the file with the identities that decrypt; never set for a backup. */
  readonly identity?: string;
}

/** How everything that is stored is encrypted, in the format of https://age-encryption.org/v1. */
export interface EncryptionSettings {
  /** Public keys, `age1...`: whoever has the private key of one of them can read everything. At least one. */
  readonly recipients: readonly string[];
}

/** What a restore drill demands besides equality with the fingerprint. */
export interface DrillSettings {
  /** The newest generation must not be older than this: the recovery point objective. */
  readonly maxAgeSeconds: number;
  /** Statements that the restored data must answer as stated. */
  readonly assertions: readonly Assertion[];
  /** Bytes that the runner's scratch space may hold. */
  readonly scratchBytes?: number;
}

/** A statement and what it must return, such as a row that is known to exist. */
export interface Assertion {
  /** Database that it is asked of, where the engine has several. */
  readonly database?: string;
  /** One statement that returns one value. */
  readonly query: string;
  /** The value, as text. */
  readonly expect: string;
}

/** Where generations are written. */
export interface TargetSettings {
  /** Mount point of the volume in the runner's container. */
  readonly mount: string;
  /** Directory of this backup's generations below the mount; "" for the mount itself. */
  readonly directory: string;
  /** What the sentinel file must contain, so that another export is never mistaken for this one. */
  readonly sentinel: string;
  /** The command that prepares the export on the NAS, printed where a probe fails. */
  readonly prepare: string;
  /** Seconds after which a lock whose holder shows no life may be taken over. */
  readonly lockLeaseSeconds: number;
}

/** How long generations are kept. */
export interface RetentionSettings {
  /** Generations younger than this are kept; absent for a retention by count alone. */
  readonly keepDays?: number;
  /** Never fewer proven generations than this, however old. At least 2. */
  readonly keepLast: number;
  /** What proves a generation: the green verdict of its drill or, of a backup that has none, that it was verified when it was made. */
  readonly proof: "drill" | "verification";
  /** Largest share of the generations that one run removes; one may go in any case. */
  readonly removeAtMost: number;
  /** Nothing is removed while the newest generation is smaller than this share of what is usual. */
  readonly freezeBelow: number;
}
