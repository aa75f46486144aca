/** The table of contents of an archive, as `pg_restore --list` prints it: which of its lines are about what. */

/** Lines of what `pg_restore --create` adds: the database itself, its properties, and who may do what with it. */
const OF_DATABASE = /^\d+; \d+ \d+ (?:DATABASE - |DATABASE PROPERTIES - |(?:ACL|COMMENT|SECURITY LABEL) - DATABASE )/;
/** Rows, large objects, and what reaches beyond the database or binds tables together. */
const MORE_THAN_SCHEMA = new RegExp(
  String.raw`^\d+; \d+ \d+ (?:TABLE DATA|MATERIALIZED VIEW DATA|FK CONSTRAINT|EVENT TRIGGER|PUBLICATION|SUBSCRIPTION|BLOB|LARGE OBJECT` +
    String.raw`|(?:ACL|COMMENT|SECURITY LABEL) - (?:LARGE OBJECT|EVENT TRIGGER|PUBLICATION|SUBSCRIPTION)|STATISTICS DATA)`,
);

/** What makes the database and sets its properties. */
export function ofDatabase(list: string): string {
  return chosen(list, (line) => OF_DATABASE.test(line));
}

/** All of the schema but what binds tables together, and the rows of one table alone. */
export function ofTable(list: string, schema: string, table: string): string {
  const rows = about("TABLE DATA", schema, table);
  return chosen(list, (line) => rows(line) || (!MORE_THAN_SCHEMA.test(line) && !OF_DATABASE.test(line)));
}

/** The references of a table to others. */
export function foreignKeysOf(list: string, schema: string, table: string): string {
  return chosen(list, about("FK CONSTRAINT", schema, table));
}

/** A name's end is not marked: where one table's name begins with another's and a space, the lines of both are meant. */
function about(what: string, schema: string, table: string): (line: string) => boolean {
  const names = `${schema} ${table} `.replace(/[\r\n]/g, " ");
  return (line) => line.replace(/^\d+; \d+ \d+ /, "").startsWith(`${what} ${names}`);
}

function chosen(list: string, wanted: (line: string) => boolean): string {
  return list
    .split("\n")
    .filter((line) => /^\d/.test(line) && wanted(line))
    .map((line) => `${line}\n`)
    .join("");
}
