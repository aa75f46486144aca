/** The user that a backup, or a restore, logs in as. */
export interface RedisBackupUser {
  /** Name of the user. */
  readonly user: string;
}

/**
 * Command for Redis 6 or later, or Valkey, that makes the user a backup logs in as. It has no password yet:
 * `ACL SETUSER <user> ><password>` adds one.
 *
 * It can name no key and write nothing: `SYNC` sends it the snapshot that a replica gets, which is everything, and `INFO` tells
 * what that must be like.
 *
 * @throws Error for a name that the server refuses
 */
export function redisBackupUserCommand({ user }: RedisBackupUser): string {
  return `ACL SETUSER ${checked(user)} reset on +info +sync +replconf`;
}

/**
 * As {@link redisBackupUserCommand}, the user that a restore logs in as: it may also write everything, delete everything, and have the
 * server write that to its disk. `ACL SETUSER <user> off` after a restore is well advised.
 *
 * @throws Error for a name that the server refuses
 */
export function redisRestoreUserCommand({ user }: RedisBackupUser): string {
  return `ACL SETUSER ${checked(user)} reset on ~* +info +sync +replconf +select +echo +@write +bgsave +bgrewriteaof`;
}

function checked(user: string): string {
  if (!/^[^\s\0]+$/.test(user)) {
    throw new Error(`the user of a Redis server must be a name without white space, but got ${JSON.stringify(user)}`);
  }
  return user;
}
