import { randomBytes } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { application } from "./sqlite-application";

const PAGE = 4096;

/** Makes a database with rows on many pages, an index, a foreign key, a view and a full-text index. */
export const SCHEMA = `
  sql("BEGIN");
  sql("CREATE TABLE owner (id INTEGER PRIMARY KEY, name TEXT NOT NULL)");
  sql("CREATE TABLE item (id INTEGER PRIMARY KEY, owner INTEGER REFERENCES owner (id), code INTEGER, text TEXT)");
  sql("CREATE INDEX item_code ON item (code)");
  sql("CREATE VIEW codes AS SELECT code FROM item");
  sql("CREATE VIRTUAL TABLE search USING fts5 (text)");
  sql("PRAGMA user_version = 7; PRAGMA application_id = 1234");
  sql("INSERT INTO owner VALUES (1, 'a'), (2, 'b')");
  const numbers = "WITH n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000) ";
  sql(numbers + "INSERT INTO item SELECT i, 1 + i % 2, i, hex(zeroblob(100)) || i FROM n");
  sql("INSERT INTO search SELECT text FROM item WHERE id < 50; COMMIT");
`;

export interface Damage {
  inflict(path: string): void | Promise<void>;
  /** What a check says of it. */
  readonly reason: RegExp;
}

/** What can happen to a database's file. */
export const DAMAGES: { readonly [damage: string]: Damage } = {
  "destroyed header": {
    inflict: edit((bytes) => bytes.fill(randomBytes(100), 0, 100)),
    reason: /is corrupt: file is not a database/,
  },
  "damaged page": {
    inflict: edit((bytes) => bytes.fill(0xa5, 20 * PAGE, 21 * PAGE)),
    reason: /is corrupt: /,
  },
  "damaged schema": {
    inflict: edit((bytes) => bytes.fill("X", bytes.indexOf("TABLE item"), bytes.indexOf("TABLE item") + 5)),
    reason: /is corrupt: malformed database schema/,
  },
  "cut in half": {
    inflict: edit((bytes) => bytes.subarray(0, Math.floor(bytes.length / PAGE / 2) * PAGE)),
    reason: /is corrupt: /,
  },
  "last page missing": {
    inflict: edit((bytes) => bytes.subarray(0, bytes.length - PAGE)),
    reason: /is corrupt: /,
  },
  "last byte missing": {
    inflict: edit((bytes) => bytes.subarray(0, bytes.length - 1)),
    reason: /is corrupt: |is not a whole number of pages of 4096/,
  },
  "something appended": {
    inflict: edit((bytes) => Buffer.concat([bytes, Buffer.alloc(100)])),
    reason: /bytes, which is not a whole number of pages of 4096/,
  },
  "missing index row": {
    inflict: (path) =>
      application(
        path,
        `const set = (text) => {
           sql("PRAGMA writable_schema = on");
           sql("UPDATE sqlite_schema SET sql = '" + text + "' WHERE name = 'item_code'; PRAGMA writable_schema = reset");
         };
         set("CREATE INDEX item_code ON item (code) WHERE code < 0");
         sql("INSERT INTO item VALUES (999999, 1, 77, 'not in the index')");
         set("CREATE INDEX item_code ON item (code)");`,
      ),
    reason: /is corrupt: .*row \d+ missing from index item_code/,
  },
  "zero length": {
    inflict: edit((bytes) => bytes.subarray(0, 0)),
    reason: /is empty \(0 bytes\)/,
  },
};

function edit(change: (bytes: Buffer) => Buffer): (path: string) => void {
  return (path) => writeFileSync(path, change(readFileSync(path)));
}
