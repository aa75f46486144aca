import type { Construct } from "constructs";
import type { SqliteSettings } from "../../lib/runtime/engines/sqlite";
import { isRelativePath } from "../storage/nfs-export";
import type { BackupProps } from "./backup";
import { Backup } from "./backup";
import type { VolumeRestoreProps } from "../restore/restore-job";
import { NODE_USER } from "../runner/defaults";
import { stopCommand } from "../runner/placement";
import type { SqliteDatabaseProps } from "./sqlite-database";
import { checkDatabase, inRunner, mountOf } from "./sqlite-database";

/** A file or directory beside the database that belongs to the backup. */
export interface SideFile {
  /** Path below the volume's root. */
  readonly path: string;
  /** Whether a run fails where it is absent. One that is there but cannot be read always fails. @default true */
  readonly required?: boolean;
}

/** Options of {@link SqliteBackup}. */
export interface SqliteBackupProps extends BackupProps, SqliteDatabaseProps {
  /** Files and directories that belong to the backup. @default - the database alone */
  readonly files?: readonly SideFile[];
  /** How it is put back. @default - as the backup's user */
  readonly restore?: VolumeRestoreProps;
}

/**
 * Backs up a SQLite database while its application runs: checked before and after, together with the files that belong to it.
 *
 * The copy is made and checked in scratch space before it is compressed onto the volume, so `scratchSize` must be larger than the
 * database and its log, by a tenth.
 *
 * Its drill restores the database and the files into scratch space, where it opens the database as an application does, checks and
 * compares it in full, asks it the assertions, and writes to it. Its restore mounts the volume with the data, writes everything beside
 * what is there and checks it, and then changes the two by renames; it refuses while the application has the database open.
 *
 * Creates what {@link RunnerCronJob} creates. The pod runs as user 1000 unless told otherwise, and must be able to read the data.
 */
export class SqliteBackup extends Backup {
  public readonly database: string;
  public readonly files: readonly SideFile[];
  public readonly minTables: number;

  /** @throws ValidationError */
  public constructor(scope: Construct, id: string, props: SqliteBackupProps) {
    const { database, files = [], minTables = 1, restore = {} } = props;
    super(scope, id, props, (problems) => {
      checkDatabase(problems, props);
      for (const { path } of files) problems.check(isRelativePath(path), "files", path, "normalised paths below the volume's root");
      const unique = new Set([database, ...files.map(({ path }) => path)]).size === files.length + 1;
      problems.check(unique, "files", files.map(({ path }) => path), "each path once, without the database");
      const apart = files.every(({ path }) => !database.startsWith(`${path}/`));
      problems.check(apart, "files", files.map(({ path }) => path), "directories other than the database's own");
      const asked = props.drill !== undefined && "assertions" in props.drill ? (props.drill.assertions ?? []) : [];
      const placed = asked.flatMap(({ database: named }) => named ?? []);
      problems.check(placed.length === 0, "drill.assertions", placed, "assertions without 'database', as there is one alone");
      const engine: SqliteSettings = {
        kind: "sqlite",
        database: inRunner(database),
        minTables,
        files: files.map(({ path, required = true }) => ({ path: inRunner(path), required })),
      };
      return {
        application: "sqlite",
        engine,
        defaultRunAs: NODE_USER,
        mounts: [mountOf(props)],
        drill: { assertions: true },
        restore: {
          engine: { ...engine, stop: stopCommand(props.namespace, props.colocateWith) },
          mounts: [mountOf({ ...props, data: props.data.writable })],
          runAs: restore.runAs,
        },
      };
    });
    this.database = database;
    this.files = files;
    this.minTables = minTables;
  }
}
