import { redisBackupUserCommand } from "../../../lib/privileges/redis";

test("the user of a backup may ask for a snapshot and nothing else, and has no password in its command", () => {
  expect(redisBackupUserCommand({ user: "backup" })).toBe("ACL SETUSER backup reset on +info +sync +replconf");
});

test.each(["", "two words", "a\nb"])("refuses %j as a name", (user) => {
  expect(() => redisBackupUserCommand({ user })).toThrow("the user of a Redis server must be a name without white space, but got ");
});
