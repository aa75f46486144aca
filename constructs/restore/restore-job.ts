import type { Construct } from "constructs";
import { Schedule } from "../../lib/schedule";
import type { JobParts } from "../runner/job-parts";
import type { JobProps } from "../runner/job-props";
import type { RunAs } from "../runner/pod-security";
import { RunnerCronJob } from "../runner/runner-cron-job";

/** Options of the restore of a backup whose data lie on an application's volume. */
export interface VolumeRestoreProps {
  /**
   * User of the pod, who must be able to write the data: their owner. Its group is the backup's, by which both can use the volume with the
   * backups.
   *
   * @default - as the backup's
   */
  readonly runAs?: RunAs;
}

/** What {@link RestoreJob} is made of; a backup fills it in. */
export interface RestoreJobProps extends Omit<JobProps, "schedule" | "suspend" | "backoffLimit"> {
  /** What the engine adds. */
  readonly parts: Omit<JobParts, "command" | "drill" | "workSize">;
}

/** Never reached, as the CronJob is suspended; the CronJob needs one all the same. */
const NEVER = Schedule.cron("0 0 1 1 *");

/**
 * The restore of a backup, ready to be started by a person: a suspended CronJob, from which `kubectl create job --from` makes a Job.
 * What is restored, and whether it may replace anything, is said by environment variables of that Job.
 *
 * It is never tried again by itself: a restore that failed half way is for a person to look at. Creates what {@link RunnerCronJob}
 * creates.
 */
export class RestoreJob extends RunnerCronJob {
  /** @throws ValidationError */
  public constructor(scope: Construct, id: string, props: RestoreJobProps) {
    const own: JobProps = { ...props, schedule: NEVER, suspend: true, backoffLimit: 0 };
    super(scope, id, own, () => ({ ...props.parts, command: "restore" }));
  }
}
