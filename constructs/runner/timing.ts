import { Duration } from "../../lib/duration";
import type { Problems } from "../../lib/errors";
import type { Schedule } from "../../lib/schedule";
import { DEADLINE, LATEST_START, MOST_RETRIES, SHORTEST_STARTING_DEADLINE, SHORTEST_TTL } from "./defaults";
import type { JobProps } from "./job-props";
import { shortestGap } from "./shortest-gap";

/** When Jobs start, end and are tried again, with every default resolved. */
export interface Timing {
  readonly deadline: Duration;
  readonly startingDeadline: Duration;
  readonly concurrency: "Forbid" | "Replace";
  readonly backoffLimit: number;
}

/** Derives from the schedule what is not set, and records deadlines and limits that do not fit it. */
export function resolveTiming(problems: Problems, props: JobProps): Timing {
  const { schedule, concurrency = "Forbid", backoffLimit = 1 } = props;
  const gap = shortestGap(schedule).toSeconds();
  const deadline = props.deadline ?? Duration.seconds(Math.min(DEADLINE.toSeconds(), Math.floor(gap / 2)));
  const startingDeadline = props.startingDeadline ?? defaultStartingDeadline(schedule, gap);

  problems.check(deadline.toSeconds() >= 30, "deadline", deadline.toHuman(), "30s or more");
  if (concurrency === "Forbid") {
    const allowed = `less than the shortest gap of its schedule, ${Duration.seconds(gap).toHuman()}, or concurrency 'Replace'`;
    problems.check(deadline.toSeconds() < gap, "deadline", deadline.toHuman(), allowed);
  }
  const late = startingDeadline.toSeconds() >= SHORTEST_STARTING_DEADLINE.toSeconds();
  problems.check(late, "startingDeadline", startingDeadline.toHuman(), `${SHORTEST_STARTING_DEADLINE.toSeconds()}s or more`);
  const bounded = Number.isInteger(backoffLimit) && backoffLimit >= 0 && backoffLimit <= MOST_RETRIES;
  problems.check(bounded, "backoffLimit", backoffLimit, `a whole number from 0 to ${MOST_RETRIES}`);
  const ttl = props.ttlAfterFinished;
  const seen = ttl === undefined || ttl.toSeconds() >= SHORTEST_TTL.toSeconds();
  problems.check(seen, "ttlAfterFinished", ttl?.toHuman(), `${SHORTEST_TTL.toHuman()} or more`);
  return { deadline, startingDeadline, concurrency, backoffLimit };
}

/** A quarter of the longest gap, within limits. The longest gap takes long to find and seldom matters: it is no shorter than `gap`. */
function defaultStartingDeadline(schedule: Schedule, gap: number): Duration {
  if (gap / 4 >= LATEST_START.toSeconds()) return LATEST_START;
  const quarter = Duration.seconds(Math.floor(schedule.longestGap().toSeconds() / 4));
  if (quarter.toSeconds() >= LATEST_START.toSeconds()) return LATEST_START;
  return quarter.toSeconds() > SHORTEST_STARTING_DEADLINE.toSeconds() ? quarter : SHORTEST_STARTING_DEADLINE;
}
