import type { ImageReference } from "../../lib/image-reference";
import type { Quantity } from "../../lib/quantity";
import type { Duty } from "../../lib/runner-bundle";
import type { EngineSettings } from "../../lib/runtime/engines";
import type { DrillSettings, RetentionSettings } from "../../lib/runtime/settings";
import type { Retention } from "../../lib/retention";
import type { ServiceEndpoint } from "../../lib/service-endpoint";
import type { IBackupVolume } from "../storage/backup-volume";
import type { PodVolume } from "../storage/pod-volume";
import type { Environment } from "./env";
import type { Identity, RunAs } from "./pod-security";
import type { Resources } from "./resources";
import type { SecretRef } from "./secret-ref";

/** What an engine's class adds to the base: all that differs from one engine to the next. */
export interface JobParts {
  /** What the runner is asked to do. */
  readonly command: Duty;
  /** The application, for the label `app.kubernetes.io/name`. */
  readonly application: string;
  readonly engine: EngineSettings;
  /** The pod's user unless the user of the library names another. */
  readonly defaultRunAs: RunAs;
  /** Volumes that the runner reads. */
  readonly mounts?: readonly Mount[];
  /** What the pod connects to. */
  readonly endpoints?: readonly ServiceEndpoint[];
  /** The engine's own container, where its tools are needed. */
  readonly container?: EngineContainer;
  /** Programs of images that have no shell, for a job whose command has a step `stage`. */
  readonly tools?: Tools;
  /** A token of a ServiceAccount. */
  readonly token?: ServiceAccountToken;
  /** Where generations go; absent for a job that writes none. */
  readonly target?: Target;
  /** Name of the backup whose generations these are. @default - the job's own, which is the backup */
  readonly backup?: string;
  /** zstd level for what the engine does not compress itself. */
  readonly compressionLevel?: number;
  /** Public keys that what is stored is encrypted to. */
  readonly recipients?: readonly string[];
  /** The private keys that open it, for the runner of a drill or restore. */
  readonly identity?: SecretRef;
  /** Largest size of the directory in which a scratch instance has its data; absent for a job that starts none. */
  readonly workSize?: Quantity;
  /** What a drill demands. */
  readonly drill?: DrillSettings;
}

/** A volume and where a container sees it. */
export interface Mount {
  readonly volume: PodVolume;
  readonly path: string;
}

/** The container with the engine's own tools, which obeys the runner. */
export interface EngineContainer {
  readonly image: ImageReference;
  /** File of `lib/scripts` that defines the verbs. */
  readonly script: string;
  /** Files of `lib/scripts` that `script` reads from its own directory. */
  readonly libraries?: readonly string[];
  /** More files of the ConfigMap, by name. */
  readonly files?: { readonly [name: string]: string };
  readonly environment: Environment;
  readonly mounts?: readonly Mount[];
  readonly resources?: Resources;
  /** Largest size of the directory that the engine and the runner share. */
  readonly exchangeSize?: Quantity;
}

/** Containers without a shell, which nobody can give orders to: their arguments are fixed, and the runner's `stage` goes before them. */
export interface Tools {
  /** One after the other, before the runner. */
  readonly before: readonly Tool[];
  /** Beside the runner, which ends them. */
  readonly beside: readonly Tool[];
}

/** One program and all that it is told. */
export interface Tool {
  /** Of the container. */
  readonly name: string;
  readonly image: ImageReference;
  readonly command: readonly string[];
  readonly resources?: Resources;
}

/** A token that Kubernetes issues to the pod for one audience. */
export interface ServiceAccountToken {
  readonly audience: string;
  readonly expirationSeconds: number;
  /** Directory in the runner; the token is the file `token` in it. */
  readonly directory: string;
  /** A ServiceAccount that another job has. @default - one of its own is made, named like the job */
  readonly serviceAccountName?: string;
}

/** Where generations go and how long they stay. */
export interface Target {
  readonly volume: IBackupVolume;
  readonly directory: string;
  readonly retention: Retention;
  /** What proves a generation, of which the retention keeps some however old they are. */
  readonly proof: RetentionSettings["proof"];
  /** Whether another user of the pod's group writes there too. */
  readonly shared?: boolean;
  /** Who owns the directory. @default - the pod's user */
  readonly owner?: Identity;
}
