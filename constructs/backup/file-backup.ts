import type { Construct } from "constructs";
import type { FilesSettings } from "../../lib/runtime/engines/files";
import type { PodVolume } from "../storage/pod-volume";
import type { BackupProps } from "./backup";
import { Backup } from "./backup";
import type { VolumeRestoreProps } from "../restore/restore-job";
import { NODE_USER } from "../runner/defaults";
import { stopCommand } from "../runner/placement";

/** One tree of files. */
export interface FileSource {
  /** Its name in every generation. */
  readonly name: string;
  /** The volume, or with `subPath` the part of it, that is backed up. */
  readonly volume: PodVolume;
  /** The volume that it is restored to, where `volume` is a snapshot of it. @default - `volume` */
  readonly restoreTo?: PodVolume;
}

/** Options of {@link FileBackup}. */
export interface FileBackupProps extends BackupProps {
  /** What is backed up: one tree or several, all in one generation. */
  readonly sources: readonly FileSource[];
  /**
   * What makes the copy consistent. `snapshot`: the volume is a snapshot. `quiesced`: nothing writes during a run, which is checked.
   * `crash-consistent`: the application goes on, and a file that changes while it is read is read again.
   */
  readonly consistency: FilesSettings["consistency"];
  /**
   * Patterns of paths that are left out. They match whole path components at any depth, or with a leading `/` at a source's root alone:
   * `*` any characters but `/`, `?` one of them, `**` any characters. A trailing `/` means a directory.
   *
   * @default - nothing is left out
   */
  readonly exclude?: readonly string[];
  /**
   * `archive`: one compressed tar archive for each source. `hard-linked`: trees, in which an unchanged file is a hard link into the
   * generation before.
   *
   * @default "archive"
   */
  readonly layout?: FilesSettings["layout"];
  /** How it is put back. @default - as the backup's user */
  readonly restore?: VolumeRestoreProps;
}

/**
 * Backs up trees of files.
 *
 * Its drill restores the trees into scratch space and reads them back; one that is larger than that, file by file. Its restore mounts the
 * volumes, writes everything beside what is there and compares it, and then changes the two by renames; a snapshot, to which nothing
 * can be restored, needs a `restoreTo`, or no restore is made.
 *
 * Creates what {@link RunnerCronJob} creates. The pod runs as user 1000 unless told otherwise, and must be able to read the data.
 */
export class FileBackup extends Backup {
  public readonly sources: readonly FileSource[];
  public readonly consistency: FilesSettings["consistency"];
  public readonly exclude: readonly string[];
  public readonly layout: FilesSettings["layout"];

  /** @throws ValidationError */
  public constructor(scope: Construct, id: string, props: FileBackupProps) {
    const { sources, consistency, exclude = [], layout = "archive", restore = {} } = props;
    super(scope, id, props, (problems) => {
      const names = sources.map(({ name }) => name);
      problems.check(sources.length > 0, "sources", names, "at least one");
      const valid = names.every((name) => /^[A-Za-z0-9_][A-Za-z0-9._-]*$/.test(name));
      problems.check(valid, "sources", names, "names of letters, digits, '.', '_' and '-', not beginning with '.' or '-'");
      problems.check(new Set(names).size === names.length, "sources", names, "named each differently");
      const usable = exclude.every((pattern) => /[^/]/.test(pattern) && !/\p{Cc}/u.test(pattern));
      problems.check(usable, "exclude", exclude, "patterns of paths, none of them empty");
      const trees = sources.map((source) => ({ ...source, path: `/source/${source.name}` }));
      const linked = layout === "hard-linked" && props.encryption !== undefined;
      problems.check(!linked, "encryption", layout, "left out, or the layout 'archive': a file that is linked is stored as it is");
      const places = trees.flatMap(({ volume, restoreTo = consistency === "snapshot" ? undefined : volume, path }) =>
        restoreTo === undefined ? [] : [{ volume: restoreTo.writable, path }],
      );
      const engine: FilesSettings = {
        kind: "files",
        sources: trees.map(({ name, path }) => ({ name, path })),
        exclude,
        consistency,
        layout,
      };
      const stop = stopCommand(props.namespace, props.colocateWith);
      return {
        application: "files",
        engine,
        defaultRunAs: NODE_USER,
        mounts: trees.map(({ volume, path }) => ({ volume, path })),
        drill: { assertions: false },
        restore: places.length < trees.length ? undefined : { engine: { ...engine, stop }, mounts: places, runAs: restore.runAs },
      };
    });
    this.sources = sources;
    this.consistency = consistency;
    this.exclude = exclude;
    this.layout = layout;
  }
}
