import { type GlobalStatement } from "./postgres-statements";

/** Roles that a server lacks, and the statements that make them. */
export interface MissingRoles {
  readonly names: readonly string[];
  readonly superusers: readonly string[];
  readonly statements: readonly string[];
}

const GRANTOR = / GRANTED BY "(?:[^"]|"")+";$/;

/**
 * The statements that make missing roles, without passwords, with their settings and memberships. Roles that exist are left as they are.
 *
 * @param wanted names of roles; the groups that a missing one is a member of are made with it. Undefined: all of the backup
 */
export function missingRoles(globals: readonly GlobalStatement[], existing: readonly string[], wanted?: readonly string[]): MissingRoles {
  const there = new Set(existing);
  const known = new Set(globals.flatMap(({ role, sql }) => (role !== undefined && sql.startsWith("CREATE ROLE ") ? [role] : [])));
  const missing = new Set([...(wanted ?? known)].filter((role) => known.has(role) && !there.has(role)));
  // A set that grows is walked to its end.
  for (const role of missing) {
    for (const { membership } of globals) {
      if (membership?.member === role && known.has(membership.group) && !there.has(membership.group)) missing.add(membership.group);
    }
  }
  const superusers = new Set<string>();
  const statements = globals.flatMap(({ sql, role, membership }) => {
    if (role !== undefined && missing.has(role)) {
      if (/^ALTER ROLE .* SUPERUSER /s.test(sql)) superusers.add(role);
      return [sql];
    }
    if (membership === undefined) return sql.startsWith("SET ") ? [sql] : [];
    const { group, member } = membership;
    const isNew = missing.has(group) || missing.has(member);
    const possible = [group, member].every((name) => missing.has(name) || there.has(name) || name.startsWith("pg_"));
    // Whoever granted it may not be there, or may not be allowed to any more.
    return isNew && possible ? [sql.replace(GRANTOR, ";")] : [];
  });
  return { names: [...missing].sort(), superusers: [...superusers].sort(), statements };
}
