import { postgresBackupRoleSql, postgresRestoreRoleSql } from "../../../lib/privileges/postgres";

test("the role of a backup reads everything, may be named anything, and has no password in its SQL", () => {
  expect(postgresBackupRoleSql({ role: 'back"up', databases: ["app", 'odd "name"'] })).toBe(
    [
      'CREATE ROLE "back""up" LOGIN BYPASSRLS;',
      'GRANT pg_read_all_data TO "back""up";',
      'GRANT CONNECT ON DATABASE "app" TO "back""up";',
      'GRANT CONNECT ON DATABASE "odd ""name""" TO "back""up";',
      "",
    ].join("\n"),
  );
});

test("the role of a restore may do everything, and has no password in its SQL", () => {
  expect(postgresRestoreRoleSql({ role: 're"store' })).toBe('CREATE ROLE "re""store" LOGIN SUPERUSER;\n');
});
