import { Duration } from "../../lib/duration";
import { ImageReference } from "../../lib/image-reference";
import { Quantity } from "../../lib/quantity";

/** The image every runner works in: Node.js 24, the long-term release whose built-ins have SQLite and zstd. */
export const RUNNER_IMAGE = ImageReference.parse("docker.io/library/node:24.21.0-alpine");

/** User and group of `node` in the image `docker.io/library/node` (its Dockerfile: `addgroup -g 1000 node`). */
export const NODE_USER = { uid: 1000, gid: 1000 } as const;
/** User and group in `docker.io/library/postgres`, Debian variant (its Dockerfile: `groupadd -r postgres --gid=999`). */
export const POSTGRES_USER = { uid: 999, gid: 999 } as const;
/** User and group in `docker.io/library/mysql` and `docker.io/library/mariadb` (their Dockerfiles: `groupadd --gid 999 mysql`). */
export const MYSQL_USER = { uid: 999, gid: 999 } as const;
/** User and group in `docker.io/library/redis`, Debian variant (its Dockerfile: `groupadd -r -g 999 redis`). */
export const REDIS_USER = { uid: 999, gid: 999 } as const;
/** User and group in `quay.io/prometheus/prometheus`, which own the data (its Dockerfile: `USER nobody`, of busybox). */
export const PROMETHEUS_USER = { uid: 65534, gid: 65534 } as const;

/** A Job may run this long unless its schedule is too tight for it. */
export const DEADLINE = Duration.hours(1);
/** A restore is ended after this: longer than any that somebody waits for, shorter than for ever. */
export const RESTORE_DEADLINE = Duration.hours(24);
/** What a drill may restore, unless told otherwise: nothing is set aside for it. */
export const DRILL_SIZE = Quantity.gibibytes(20);
/** A run may start this late at most, unless told otherwise. */
export const LATEST_START = Duration.hours(1);
/**
 * No run may be given up for being less late than this: the CronJob controller looks every 10 s in a healthy cluster, and only every few
 * minutes in one whose API server is starved of disk.
 */
export const SHORTEST_STARTING_DEADLINE = Duration.seconds(200);
/** Finished Jobs stay at least this long, so that alerts and people see them. */
export const SHORTEST_TTL = Duration.hours(1);
/** Finished Jobs that a CronJob keeps. */
export const HISTORY = { successful: 3, failed: 5 } as const;
/** Attempts after the first that a Job may be allowed; Kubernetes' own default. */
export const MOST_RETRIES = 6;
/** Seconds without a sign of life after which a lock may be taken over. */
export const LOCK_LEASE_SECONDS = 300;
/**
 * Measured on the data of `bench/postgres`, with long distance matching: 0.92 of the size of `gzip -9` for 0.12 of its time; level 3 has
 * 0.96 for 0.06, level 9 has 0.91 for 0.20. Much of that data is random: also level 19 and `xz -6` have no less than 0.72.
 */
export const COMPRESSION_LEVEL = 7;
/** Keeps updaters away from images that are pinned on purpose (https://keel.sh/docs/#policies). */
export const ANNOTATIONS = { "keel.sh/policy": "never" } as const;
/** What Kyverno changes in a pod where it injects `ndots`, for `ignoreChanges`. */
export const KYVERNO_DNS_CONFIG = "spec[0].job_template[0].spec[0].template[0].spec[0].dns_config";

/** Pod annotation: a hash of code and settings. */
export const CHECKSUM_ANNOTATION = "cdktf-backup/checksum";
/** Annotation of CronJob and pod: why a backup runs as root. */
export const ROOT_REASON_ANNOTATION = "cdktf-backup/runs-as-root-because";
/** Annotation of a backup's CronJob: why no drill proves it. */
export const NO_DRILL_ANNOTATION = "cdktf-backup/no-drill-because";
