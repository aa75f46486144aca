import type { EngineSettings } from "../runtime/engines";

/** A backup, as a runbook speaks of it. Every name in it is that of a resource of the tree it was read from. */
export interface ProtectedService {
  /** The backup's name without `-backup`; also part of the runbook's file name. */
  readonly name: string;
  readonly engine: EngineSettings["kind"];
  /** Stack that the backup is declared in. */
  readonly stack: string;
  readonly namespace: string;
  /** CronJob of the backup. */
  readonly backup: string;
  /** CronJob of the drill; absent where there is none. */
  readonly drill?: string;
  /** Suspended CronJob of the restore; absent where no pod can do it. */
  readonly restore?: string;
  /** Secret that the restore reads a token from; absent where it needs none. */
  readonly restoreToken?: { readonly name: string; readonly key: string };
  /** When the backup runs, in words. */
  readonly schedule: string;
  /** How long generations are kept, in words. */
  readonly retention: string;
  /** Export that the generations are on, where it is known. */
  readonly nfs?: { readonly server: string; readonly path: string };
  /** Directory of the generations below the export's root. */
  readonly directory: string;
  /** User and group of the generations, `999:999`. */
  readonly owner: string;
  /** Command that prepares the export on the file server. */
  readonly prepare?: string;
  /** Databases that the backup expects. */
  readonly databases: readonly string[];
  /** Labels of the application's pods, where the backup runs beside them. */
  readonly application?: { readonly [label: string]: string };
  /** Address of the server, where there is one. */
  readonly endpoint?: string;
}

/** Names as their makers write them. */
const TITLES: { readonly [name: string]: string } = {
  postgresql: "PostgreSQL",
  mysql: "MySQL",
  redis: "Redis",
  etcd: "etcd",
  vault: "Vault",
  vaultwarden: "Vaultwarden",
  prometheus: "Prometheus",
  immich: "Immich",
  nextcloud: "Nextcloud",
};

/** The service's name in a heading. */
export function titleOf({ name }: ProtectedService): string {
  return TITLES[name] ?? name;
}

/** The runbook's file, `restore-postgresql.md`. */
export function fileOf({ name }: ProtectedService): string {
  return `restore-${name}.md`;
}

/** Where the generations lie on the file server. */
export function placeOf({ nfs, directory }: ProtectedService): string {
  return [nfs?.path ?? "<export>", directory].filter((part) => part !== "").join("/");
}
