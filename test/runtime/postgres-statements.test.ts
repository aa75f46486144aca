import { Readable } from "node:stream";
import { missingRoles } from "../../lib/runtime/engines/postgres-roles";
import { globalsOf, readGlobals, renamedDatabase, statementsOf } from "../../lib/runtime/engines/postgres-statements";
import { foreignKeysOf, ofDatabase, ofTable } from "../../lib/runtime/engines/postgres-toc";

describe("the statements of a dump", () => {
  test("are told apart, without comments and commands to psql, and keep what is in quotes", () => {
    const script = String.raw`-- a comment; with 'quotes
\restrict abc
SET client_encoding = 'UTF8';
CREATE ROLE "od""d; na'me -- \! not a command";
COMMENT ON ROLE "x" IS  E'it''s; \\';
\connect "x"
COMMENT ON DATABASE "x" IS 'two
\! lines -- ;';
`;
    expect(statementsOf(script)).toEqual([
      "SET client_encoding = 'UTF8';",
      String.raw`CREATE ROLE "od""d; na'me -- \! not a command";`,
      String.raw`COMMENT ON ROLE "x" IS  E'it''s; \\';`,
      "COMMENT ON DATABASE \"x\" IS 'two\n\\! lines -- ;';",
    ]);
  });

  test("are refused where the last one has no end", () => {
    expect(() => statementsOf('CREATE ROLE "a";\nCREATE ROLE "b"')).toThrow('the script breaks off in CREATE ROLE "b"');
    expect(() => statementsOf("COMMENT ON ROLE \"x\" IS 'cut;")).toThrow(/^the script breaks off in COMMENT/);
  });
});

test("globals without their last line are refused", async () => {
  const end = "\n-- PostgreSQL database cluster dump complete\n";
  expect(await readGlobals(Readable.from([`SET x = 1;${end}--\n`]))).toContain("SET x");
  await expect(readGlobals(Readable.from([`SET x = 1;${end.slice(0, -2)}`]))).rejects.toThrow("globals.sql does not end with its last line");
});

describe("the statements that make a database", () => {
  const script = String.raw`SET statement_timeout = 0;
SET client_encoding = 'UTF8';
SELECT pg_catalog.set_config('search_path', '', false);
CREATE DATABASE "app" WITH TEMPLATE = template0 ENCODING = 'UTF8' LOCALE = 'C.UTF-8';
ALTER DATABASE app OWNER TO owner;
\connect app
COMMENT ON DATABASE "app" IS 'of DATABASE "app"';
ALTER DATABASE "app" SET "search_path" TO '"app"', 'public';
ALTER ROLE "DATABASE ""app""" IN DATABASE "app" SET "work_mem" TO '1MB';
SECURITY LABEL FOR "dummy" ON DATABASE "app" IS 'x';
REVOKE CONNECT,TEMPORARY ON DATABASE "app" FROM PUBLIC;
SET SESSION AUTHORIZATION "boss";
GRANT ALL ON DATABASE "app" TO "app" WITH GRANT OPTION;
RESET SESSION AUTHORIZATION;
`;

  test("name another one, and nothing else changes", () => {
    expect(renamedDatabase(script, "app", 'my "new"')).toEqual([
      "SET client_encoding = 'UTF8';",
      `CREATE DATABASE "my ""new""" WITH TEMPLATE = template0 ENCODING = 'UTF8' LOCALE = 'C.UTF-8';`,
      'ALTER DATABASE "my ""new""" OWNER TO owner;',
      `COMMENT ON DATABASE "my ""new""" IS 'of DATABASE "app"';`,
      `ALTER DATABASE "my ""new""" SET "search_path" TO '"app"', 'public';`,
      `ALTER ROLE "DATABASE ""app""" IN DATABASE "my ""new""" SET "work_mem" TO '1MB';`,
      `SECURITY LABEL FOR "dummy" ON DATABASE "my ""new""" IS 'x';`,
      'REVOKE CONNECT,TEMPORARY ON DATABASE "my ""new""" FROM PUBLIC;',
      'SET SESSION AUTHORIZATION "boss";',
      'GRANT ALL ON DATABASE "my ""new""" TO "app" WITH GRANT OPTION;',
      "RESET SESSION AUTHORIZATION;",
    ]);
  });

  test.each(["DROP DATABASE app;", 'ALTER DATABASE "apple" OWNER TO "x";', 'CREATE TABLE "app" ();'])("may not be %j", (statement) => {
    expect(() => renamedDatabase(statement, "app", "new")).toThrow('the dump of database "app" has a statement that is not understood: ');
  });

  test("are found whatever the name is", () => {
    const odd = '$1 (a|b) "x"\\';
    const name = `"${odd.replaceAll('"', '""')}"`;
    expect(renamedDatabase(`ALTER DATABASE ${name} OWNER TO x;`, odd, "$& $1")).toEqual(['ALTER DATABASE "$& $1" OWNER TO x;']);
  });
});

describe("the missing roles", () => {
  const globals = globalsOf(`
SET client_encoding = 'UTF8';
CREATE ROLE "postgres";
ALTER ROLE "postgres" WITH SUPERUSER INHERIT LOGIN;
CREATE ROLE "app";
ALTER ROLE "app" WITH NOSUPERUSER INHERIT LOGIN VALID UNTIL 'infinity';
ALTER ROLE "app" SET "search_path" TO 'app';
CREATE ROLE "readers";
ALTER ROLE "readers" WITH NOSUPERUSER INHERIT NOLOGIN;
CREATE ROLE "everyone";
ALTER ROLE "everyone" WITH NOSUPERUSER INHERIT NOLOGIN;
COMMENT ON ROLE "everyone" IS 'x';
CREATE ROLE "other";
ALTER ROLE "other" WITH NOSUPERUSER INHERIT NOLOGIN;
GRANT "everyone" TO "readers" GRANTED BY "gone";
GRANT "readers" TO "app" WITH ADMIN OPTION, INHERIT TRUE GRANTED BY "postgres";
GRANT "other" TO "app" GRANTED BY "postgres";
GRANT "pg_monitor" TO "other" GRANTED BY "postgres";
GRANT SET ON PARAMETER "work_mem" TO "app";
CREATE TABLESPACE "fast" OWNER "app" LOCATION '/x';
`);

  test("are those that are wanted and the groups that they are in; what exists is left as it is", () => {
    const { names, superusers, statements } = missingRoles(globals, ["postgres", "other"], ["app", "postgres"]);
    expect(names).toEqual(["app", "everyone", "readers"]);
    expect(superusers).toEqual([]);
    expect(statements).toEqual([
      "SET client_encoding = 'UTF8';",
      'CREATE ROLE "app";',
      `ALTER ROLE "app" WITH NOSUPERUSER INHERIT LOGIN VALID UNTIL 'infinity';`,
      `ALTER ROLE "app" SET "search_path" TO 'app';`,
      'CREATE ROLE "readers";',
      'ALTER ROLE "readers" WITH NOSUPERUSER INHERIT NOLOGIN;',
      'CREATE ROLE "everyone";',
      'ALTER ROLE "everyone" WITH NOSUPERUSER INHERIT NOLOGIN;',
      `COMMENT ON ROLE "everyone" IS 'x';`,
      'GRANT "everyone" TO "readers";',
      'GRANT "readers" TO "app" WITH ADMIN OPTION, INHERIT TRUE;',
      'GRANT "other" TO "app";',
      'GRANT SET ON PARAMETER "work_mem" TO "app";',
    ]);
  });

  test("are all that there are where nothing else is said; superusers are told", () => {
    const { names, superusers, statements } = missingRoles(globals, []);
    expect([names, superusers]).toEqual([["app", "everyone", "other", "postgres", "readers"], ["postgres"]]);
    expect(statements).toContain('GRANT "pg_monitor" TO "other";');
    expect(statements.join()).not.toMatch(/GRANTED BY|TABLESPACE/);
  });

  test("are none where all exist", () => {
    expect(missingRoles(globals, ["postgres", "app", "readers", "everyone", "other"])).toEqual({
      names: [],
      superusers: [],
      statements: ["SET client_encoding = 'UTF8';"],
    });
  });

  test("the tablespaces are told", () => {
    expect(globals.flatMap(({ tablespace }) => tablespace ?? [])).toEqual(["fast"]);
  });
});

describe("of an archive's contents", () => {
  const list = `;
; Archive created at 2026-11-24
;
3339; 1262 16386 DATABASE - app owner
3340; 0 0 COMMENT - DATABASE "app" owner
3341; 0 0 ACL - DATABASE "app" owner
3342; 0 0 DATABASE PROPERTIES - app owner
5; 2615 2200 SCHEMA - public owner
215; 1259 16390 TABLE public item owner
216; 1259 16391 TABLE public item sold owner
3330; 0 16390 TABLE DATA public item owner
3331; 0 16391 TABLE DATA public item sold owner
3332; 0 16392 TABLE DATA public items owner
3333; 0 0 SEQUENCE SET public item_id_seq owner
3334; 0 16400 MATERIALIZED VIEW DATA public kept owner
3335; 2613 16401 BLOB - 16401 owner
3336; 0 0 ACL - LARGE OBJECT 16401 owner
3337; 0 0 BLOBS - BLOBS
3180; 2606 16402 CONSTRAINT public item item_pkey owner
3181; 2606 16403 FK CONSTRAINT public item item_shop_fkey owner
3182; 2606 16404 FK CONSTRAINT public sale sale_item_fkey owner
3183; 3466 16405 EVENT TRIGGER - watched owner
3184; 0 0 COMMENT - EVENT TRIGGER watched owner
3185; 6104 16406 PUBLICATION - p owner
`;
  const ids = (lines: string): number[] => lines.trim().split("\n").map((line) => Number.parseInt(line, 10));

  test("a database is what makes it and sets its properties", () => {
    expect(ids(ofDatabase(list))).toEqual([3339, 3340, 3341, 3342]);
  });

  test("a table is the schema, its rows, and nothing that binds it or reaches beyond", () => {
    // Of two names that the list does not tell apart, both are taken.
    expect(ids(ofTable(list, "public", "item"))).toEqual([5, 215, 216, 3330, 3331, 3333, 3180]);
    expect(ids(ofTable(list, "public", "items"))).toEqual([5, 215, 216, 3332, 3333, 3180]);
  });

  test("the references of a table are its own, not those to it", () => {
    expect(ids(foreignKeysOf(list, "public", "item"))).toEqual([3181]);
    expect(foreignKeysOf(list, "public", "kept")).toBe("");
  });
});
