import type { Construct } from "constructs";
import { Duration } from "../../lib/duration";
import type { Quantity } from "../../lib/quantity";
import type { Assertion } from "../../lib/runtime/settings";
import type { Schedule } from "../../lib/schedule";
import type { JobParts } from "../runner/job-parts";
import type { JobProps } from "../runner/job-props";
import type { Resources } from "../runner/resources";
import { RunnerCronJob } from "../runner/runner-cron-job";

/** Options of a backup's restore drill. */
export interface DrillProps {
  /**
   * When it runs.
   *
   * @default - on each day on which the backup runs, five minutes after the day's first run must have ended (its start and its deadline)
   */
  readonly schedule?: Schedule;
  /**
   * The recovery point objective: a newest generation older than this makes the drill red, so that yesterday's does not pass for
   * today's.
   *
   * @default - the backup's longest gap, and what one of its runs may be late and may take
   */
  readonly maxAge?: Duration;
  /**
   * Statements, of engines that have a query language, that the restored data must answer as stated: a row that is known to exist,
   * an invariant of the application.
   *
   * @default - none; the data are compared with the fingerprint in any case
   */
  readonly assertions?: readonly Assertion[];
  /**
   * Largest size of what is restored. It is a limit and not set aside; the node must have the room.
   *
   * @default Quantity.gibibytes(20), or as the backup's scratch space where that is larger
   */
  readonly size?: Quantity;
  /** Ends a drill that has not finished by then. @default - one hour, or half of its schedule's shortest gap if that is less */
  readonly deadline?: Duration;
  /** What the runner's container may use. @default - as the backup's */
  readonly resources?: Resources;
  /** What the engine's container may use, which is a whole server. @default - as the backup's */
  readonly engineResources?: Resources;
}

/** A drill that is left out on purpose. */
export interface NoDrill {
  /** Why; becomes an annotation of the backup's CronJob. */
  readonly none: string;
}

/** What {@link RestoreDrill} is made of; a backup fills it in. */
export interface RestoreDrillProps extends JobProps {
  /** The recovery point objective. */
  readonly maxAge: Duration;
  /** Statements and their answers. */
  readonly assertions: readonly Assertion[];
  /** What the engine adds. */
  readonly parts: Omit<JobParts, "command" | "drill">;
}

/**
 * Restores a backup's newest generation into a scratch instance inside the pod, on a schedule, and compares it with what was backed up.
 *
 * The pod can reach the backup volume, DNS and the Pushgateway, but no server of the cluster: the live data cannot be its target.
 * Creates what {@link RunnerCronJob} creates.
 */
export class RestoreDrill extends RunnerCronJob {
  public readonly maxAge: Duration;
  public readonly assertions: readonly Assertion[];

  /** @throws ValidationError */
  public constructor(scope: Construct, id: string, props: RestoreDrillProps) {
    const { maxAge, assertions } = props;
    super(scope, id, props, (problems) => {
      problems.check(maxAge.toSeconds() >= 60, "maxAge", maxAge.toHuman(), "1m or more");
      for (const { query, expect } of assertions) {
        problems.check(query.trim() !== "", "assertions", query, "a statement that returns one value");
        problems.check(typeof expect === "string", "assertions", expect, "the value that the statement returns, as text");
      }
      const scratchBytes = props.scratchSize?.toNumber();
      return { ...props.parts, command: "drill", drill: { maxAgeSeconds: maxAge.toSeconds(), assertions, scratchBytes } };
    });
    this.maxAge = maxAge;
    this.assertions = assertions;
  }
}
