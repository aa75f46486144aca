import type { CronJobV1SpecJobTemplateSpecTemplateSpecVolume } from "@cdktf/provider-kubernetes/lib/cron-job-v1";
import { posix } from "node:path";
import { SENTINEL } from "../../lib/runtime/settings";
import type { NfsExport } from "./nfs-export";

/** Where a pod's volume comes from, in the provider's own words; its name in the pod is given by the job. */
export type VolumeSource = Omit<CronJobV1SpecJobTemplateSpecTemplateSpecVolume, "name">;

/** A volume that backups are written to: an NFS export that the pods see as a claim or directly. */
export interface IBackupVolume {
  /** What the pod mounts. */
  readonly source: VolumeSource;
  /** The claim in the backup's namespace; absent for a volume that is mounted without one. */
  readonly claimName?: string;
  /** The claim's namespace, where known: no other namespace's pods can mount it. */
  readonly namespace?: string;
  /** The export behind the volume; absent where only the claim's name is known. */
  readonly nfs?: NfsExport;
  /** What the file `.cdktf-backup-target` in the export's root must hold, so that another export is never taken for this one. */
  readonly sentinel: string;
  /**
   * The one-line command that prepares the export on the file server: the directory, its owner and mode, and the sentinel.
   * It touches no backup that is there already. Every failed probe of a backup prints it.
   *
   * @param uid user id that the backup runs as
   * @param gid group id that the backup runs as
   * @param directory the backup's directory below the export's root @default - the root itself
   * @param shared whether other users of the group write there too @default false
   */
  prepareCommand(uid: number, gid: number, directory?: string, shared?: boolean): string;
}

/**
 * The command of {@link IBackupVolume.prepareCommand}. It needs a POSIX shell, `mkdir`, `chown`, `chmod` and `printf`: the same
 * on TrueNAS SCALE (Linux) and CORE (FreeBSD).
 */
export function prepareCommand(root: string, sentinel: string, uid: number, gid: number, directory = "", shared = false): string {
  const target = quote(posix.join(root, directory));
  // The root keeps its owner: backups of several users may share one export, each in its own directory.
  return [
    `mkdir -p ${target}`,
    `chown ${uid}:${gid} ${target}`,
    `chmod ${shared ? 770 : 750} ${target}`,
    ...(directory === "" ? [] : [`chmod a+rx ${quote(root)}`]),
    `printf %s ${quote(sentinel)} > ${quote(posix.join(root, SENTINEL))}`,
    `chmod 444 ${quote(posix.join(root, SENTINEL))}`,
  ].join(" && ");
}

function quote(text: string): string {
  return /^[A-Za-z0-9_./:@-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`;
}
