import type { Settings } from "./settings";

/** When the run was scheduled; undefined where a person started it. The CronJob controller names a Job `<cronjob>-<unix minutes>`. */
export function scheduledTime(cronJob: string, jobName: string | undefined): Date | undefined {
  if (!jobName?.startsWith(`${cronJob}-`)) return undefined;
  const minutes = jobName.slice(cronJob.length + 1);
  return /^\d{8}$/.test(minutes) ? new Date(Number(minutes) * 60_000) : undefined;
}

/**
 * Why this run is not due; undefined where it is.
 *
 * Cron has no "first Sunday of the month": it runs where the day of the month *or* the day of the week fits.
 * So the schedule names every Sunday, and the runner passes over those after the first week.
 */
export function whyNotDue(settings: Settings, jobName: string | undefined): string | undefined {
  const scheduled = scheduledTime(settings.cronJob, jobName);
  if (settings.lastDayOfMonth === undefined || scheduled === undefined) return undefined;
  const format = new Intl.DateTimeFormat("en", { day: "numeric", timeZone: settings.timeZone });
  const day = Number(format.format(scheduled));
  if (day <= settings.lastDayOfMonth) return undefined;
  return `not due: scheduled for day ${day} of the month (${settings.timeZone}), runs on days 1 to ${settings.lastDayOfMonth}`;
}
