import type { IBackupVolume, VolumeSource } from "./backup-volume";
import { prepareCommand } from "./backup-volume";
import { NfsExport } from "./nfs-export";

/**
 * An NFS export that the kubelet mounts without a PersistentVolume. Creates no resource.
 *
 * It has no mount options: the node's defaults hold. Prefer `NfsBackupVolume` where that matters.
 */
export class InlineNfsVolume implements IBackupVolume {
  /**
   * @param server address or host name of the file server
   * @param path absolute path of the export
   * @throws ValidationError
   */
  public static of(server: string, path: string): InlineNfsVolume {
    return new InlineNfsVolume(NfsExport.of(server, path));
  }

  public readonly nfs: NfsExport;
  public readonly source: VolumeSource;
  public readonly sentinel: string;

  private constructor(nfs: NfsExport) {
    this.nfs = nfs;
    this.source = { nfs: { server: nfs.server, path: nfs.path } };
    this.sentinel = nfs.path;
  }

  public prepareCommand(uid: number, gid: number, directory?: string, shared?: boolean): string {
    return prepareCommand(this.nfs.path, this.sentinel, uid, gid, directory, shared);
  }
}
