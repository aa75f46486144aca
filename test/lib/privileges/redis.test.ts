import { redisBackupUserCommand, redisRestoreUserCommand } from "../../../lib/privileges/redis";

test("the user of a backup may ask for a snapshot and nothing else, and has no password in its command", () => {
  expect(redisBackupUserCommand({ user: "backup" })).toBe("ACL SETUSER backup reset on +info +sync +replconf");
});

test("the user of a restore may write and delete, and nothing about the server but what it must save", () => {
  expect(redisRestoreUserCommand({ user: "restore" })).toBe(
    "ACL SETUSER restore reset on ~* +info +sync +replconf +select +echo +@write +bgsave +bgrewriteaof",
  );
});

test.each(["", "two words", "a\nb"])("refuses %j as a name", (user) => {
  for (const command of [redisBackupUserCommand, redisRestoreUserCommand]) {
    expect(() => command({ user })).toThrow("the user of a Redis server must be a name without white space, but got ");
  }
});
