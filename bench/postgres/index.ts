import type { Report } from "../result";
import { measure } from "../namespace";

/** What {@link benchPostgres} measures. */
export interface MeasuredBackup {
  /** Of all databases, tables with their indexes. */
  readonly clusterBytes: number;
  /** `pg_dump > /dev/null` of each database, one after the other, with everything in memory. */
  readonly rawSeconds: number;
  /** `pg_dumpall | gzip -9`. */
  readonly handSeconds: number;
  readonly handBytes: number;
  /** The whole pod, from its start to its end. */
  readonly podSeconds: number;
  /** The generation's files. */
  readonly podBytes: number;
}

/** What {@link benchPostgresRestore} measures. */
export interface MeasuredRestore {
  /** Of all databases, tables with their indexes. */
  readonly clusterBytes: number;
  /** Of the one that is restored alone. */
  readonly oneBytes: number;
  /** `gunzip | psql` of what `pg_dumpall` wrote. */
  readonly handSeconds: number;
  /** The whole pod, from its start to its end: one database. */
  readonly oneSeconds: number;
  /** As {@link oneSeconds}: all of them. */
  readonly allSeconds: number;
}

/** A backup of PostgreSQL, with everything a run checks, against the hand-written command. */
export async function benchPostgres(): Promise<Report> {
  const { clusterBytes, rawSeconds, handSeconds, handBytes, podSeconds, podBytes } = await measure<MeasuredBackup>("postgres/backup");
  return {
    title: "postgres",
    about: [
      "The synthesised pod from start to end (snapshot, fingerprint, dump, compression, decoding of every dump, hashes, fsync) against",
      "pg_dumpall | gzip -9, on one server in one run, both over TCP, everything in memory. Data: bench/postgres/data.ts says which.",
    ],
    figures: [
      { name: "time against pg_dumpall | gzip -9", value: podSeconds / handSeconds, unit: "x", goal: 0.4 },
      { name: "size against pg_dumpall | gzip -9", value: podBytes / handBytes, unit: "x", goal: 0.7 },
      { name: "time against pg_dump > /dev/null", value: podSeconds / rawSeconds, unit: "x" },
      { name: "the pod, time", value: podSeconds, unit: "s" },
      { name: "pg_dumpall | gzip -9, time", value: handSeconds, unit: "s" },
      { name: "pg_dump > /dev/null, time", value: rawSeconds, unit: "s" },
      { name: "the databases on disk", value: clusterBytes / 1e6, unit: "MB" },
      { name: "the generation", value: podBytes / 1e6, unit: "MB" },
      { name: "pg_dumpall | gzip -9, size", value: handBytes / 1e6, unit: "MB" },
    ],
  };
}

/** The restore of one database of twelve, against the hand-written command that restores them all. */
export async function benchPostgresRestore(): Promise<Report> {
  const { clusterBytes, oneBytes, handSeconds, oneSeconds, allSeconds } = await measure<MeasuredRestore>("postgres/restore");
  return {
    title: "postgres-restore",
    about: [
      "The largest of twelve databases by the synthesised restore pod from start to end (every file of the generation read and hashed,",
      "roles, rows, indexes, ANALYZE, each table counted and compared, names swapped) against gunzip | psql of what pg_dumpall wrote,",
      "which has no part that can be restored alone. Each into an empty server with the same settings, over TCP, in one run.",
    ],
    figures: [
      { name: "one database against gunzip | psql", value: oneSeconds / handSeconds, unit: "x", goal: 0.6 },
      { name: "all twelve against gunzip | psql", value: allSeconds / handSeconds, unit: "x" },
      { name: "the pod, one database, time", value: oneSeconds, unit: "s" },
      { name: "the pod, all twelve, time", value: allSeconds, unit: "s" },
      { name: "gunzip | psql, time", value: handSeconds, unit: "s" },
      { name: "the twelve databases on disk", value: clusterBytes / 1e6, unit: "MB" },
      { name: "the one on disk", value: oneBytes / 1e6, unit: "MB" },
    ],
  };
}
