import { mysqlBackupUserSql } from "../../../lib/privileges/mysql";

describe("the SQL of a MySQL backup's account", () => {
  test("makes it locked, without a password, and lets it read everything and change nothing", () => {
    expect(mysqlBackupUserSql({ user: "backup" })).toBe(
      `-- Then give it a password: ALTER USER 'backup'@'%' IDENTIFIED BY '<password>' ACCOUNT UNLOCK;
CREATE USER IF NOT EXISTS 'backup'@'%' ACCOUNT LOCK;
GRANT SELECT, SHOW VIEW, TRIGGER, EVENT ON *.* TO 'backup'@'%';
`,
    );
  });

  test("takes any name and host as they are", () => {
    expect(mysqlBackupUserSql({ user: "o'br\\ien", host: "10.0.%" })).toContain("TO 'o''br\\\\ien'@'10.0.%';");
  });

  test("refuses names that would leave their line, or that no server takes, all at once", () => {
    const refused = () => mysqlBackupUserSql({ user: "a\nDROP USER root", host: "" });
    expect(refused).toThrow("mysqlBackupUserSql: 'user' must be 1 to 32 characters, none of them a control character");
    expect(refused).toThrow(`'host' must be a host name, address or pattern of at most 255 characters, without '@', but got ""`);
    expect(() => mysqlBackupUserSql({ user: "x".repeat(33) })).toThrow("'user' must be 1 to 32 characters");
    expect(() => mysqlBackupUserSql({ user: "x", host: "a@b" })).toThrow("without '@'");
  });
});
