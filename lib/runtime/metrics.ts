/** The runner's metrics. The only place where their names are; alerts and dashboards take them from here. All are gauges. */
export const METRICS = {
  lastSuccess: {
    name: "backup_last_success_timestamp",
    help: "Unix time at which the newest generation on the target was finished",
  },
  lastRun: { name: "backup_last_run_timestamp", help: "Unix time at which the last run ended, well or not" },
  lastExitCode: { name: "backup_last_exit_code", help: "Exit code of the last run, 0 where it succeeded" },
  duration: { name: "backup_duration_seconds", help: "Duration of the last run" },
  size: { name: "backup_size_bytes", help: "Size of the newest generation on the target" },
  snapshot: { name: "backup_snapshot_timestamp", help: "Unix time that the data of the newest generation is at least as new as" },
  generations: { name: "backup_generations", help: "Number of whole generations on the target" },
  retentionFrozen: {
    name: "backup_retention_frozen",
    help: "1 where no generation is removed because the newest shrank or a drill failed, else 0",
  },
  targetFree: { name: "backup_target_free_bytes", help: "Free space on the target" },
  drillLastRun: { name: "backup_drill_last_run_timestamp", help: "Unix time at which the last drill ended, well or not" },
  drillLastExitCode: { name: "backup_drill_last_exit_code", help: "Exit code of the last drill, 0 where it proved the newest generation" },
  drillLastSuccess: { name: "backup_drill_last_success_timestamp", help: "Unix time at which a drill last proved a generation" },
  drillProven: { name: "backup_drill_proven", help: "1 where the last drill proved the newest generation, else 0" },
  drillSnapshot: {
    name: "backup_drill_snapshot_timestamp",
    help: "Unix time that the data of the newest proven generation is at least as new as",
  },
  drillRestoreSeconds: { name: "backup_drill_restore_seconds", help: "Time that the restore of the newest proven generation took" },
  drillBytes: { name: "backup_drill_size_bytes", help: "Size of the newest proven generation on the target" },
  integrityLastRun: { name: "backup_integrity_check_last_run_timestamp", help: "Unix time at which the last integrity check ended" },
  integrityState: { name: "backup_integrity_check_state", help: "Result of the last integrity check: 0 ok, 1 corrupt, 2 unknown" },
} as const;

/** A gauge: its name and what it means. */
export interface Metric {
  readonly name: string;
  readonly help: string;
}

/** A value to report; one that is undefined is not reported. */
export type Sample = readonly [metric: Metric, value: number | undefined];

/** Renders samples in Prometheus' text format. */
export function renderMetrics(samples: readonly Sample[]): string {
  return samples
    .filter(([, value]) => value !== undefined)
    .map(([{ name, help }, value]) => `# HELP ${name} ${help}\n# TYPE ${name} gauge\n${name} ${value}\n`)
    .join("");
}
