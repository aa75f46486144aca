import { posix } from "node:path";
import type { Problems } from "../../lib/errors";
import { isRelativePath } from "../storage/nfs-export";
import type { PodVolume } from "../storage/pod-volume";

/** Where a runner sees the volume with the database. */
const DIRECTORY = "/source/data";

/** A SQLite database and the volume that it is on. */
export interface SqliteDatabaseProps {
  /** The application's volume. */
  readonly data: PodVolume;
  /** Path of the database file below the volume's root. */
  readonly database: string;
  /** Fewer tables than this is a damaged or a wrong database. @default 1 */
  readonly minTables?: number;
}

/** Records what is wrong with a database's path and number of tables. */
export function checkDatabase(problems: Problems, { database, minTables = 1 }: SqliteDatabaseProps): void {
  problems.check(isRelativePath(database), "database", database, "a normalised path below the volume's root");
  problems.check(Number.isInteger(minTables) && minTables >= 1, "minTables", minTables, "a whole number, 1 or more");
}

/** A path below the volume's root, as the runner sees it. */
export function inRunner(path: string): string {
  return posix.join(DIRECTORY, path);
}

/** The database's volume and where the runner sees it. */
export function mountOf({ data }: SqliteDatabaseProps): { volume: PodVolume; path: string } {
  return { volume: data, path: DIRECTORY };
}
