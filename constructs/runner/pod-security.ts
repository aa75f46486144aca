import type { Problems } from "../../lib/errors";
import type { ContainerSecurityContext, PodSecurityContext } from "./pod-types";

/** Who a backup runs as. Existing exports and data have owners of their own. */
export interface RunAs {
  /** User id. 0 needs a {@link reason}. */
  readonly uid: number;
  /** Group id. @default - the user id */
  readonly gid?: number;
  /**
   * Why it must be root: kept as an annotation of CronJob and pod. The namespace must then allow it, as Pod Security's `restricted` does
   * not.
   *
   * @default - none, and uid 0 is refused
   */
  readonly reason?: string;
}

/** {@link RunAs} with its defaults. */
export interface Identity {
  readonly uid: number;
  readonly gid: number;
  readonly reason?: string;
}

/** Largest id that the kernel takes for a user: one less than `(uid_t) -1`. */
const LARGEST_ID = 2 ** 32 - 2;

/** Fills in the group and records ids that the kernel does not take, and root without a reason. */
export function resolveIdentity(problems: Problems, runAs: RunAs): Identity {
  const { uid, gid = uid, reason } = runAs;
  const isId = (id: number): boolean => Number.isInteger(id) && id >= 0 && id <= LARGEST_ID;
  problems.check(isId(uid), "runAs.uid", uid, `a whole number from 0 to ${LARGEST_ID}`);
  problems.check(isId(gid), "runAs.gid", gid, `a whole number from 0 to ${LARGEST_ID}`);
  if (uid === 0) problems.check((reason ?? "").trim() !== "", "runAs.reason", reason, "why this backup must run as root");
  return { uid, gid, reason };
}

/** What Pod Security's `restricted` asks of a pod; one user for all its containers, so that they can share pipes. */
export function podSecurityContext({ uid, gid }: Identity): PodSecurityContext {
  return {
    runAsNonRoot: uid !== 0,
    runAsUser: String(uid),
    runAsGroup: String(gid),
    seccompProfile: { type: "RuntimeDefault" },
  };
}

/**
 * What Pod Security's `restricted` asks of a container.
 *
 * `runAsNonRoot` is repeated because the provider writes `false` into every container that does not state it.
 */
export function containerSecurityContext({ uid }: Identity): ContainerSecurityContext {
  return {
    runAsNonRoot: uid !== 0,
    allowPrivilegeEscalation: false,
    privileged: false,
    readOnlyRootFilesystem: true,
    capabilities: { drop: ["ALL"] },
  };
}
