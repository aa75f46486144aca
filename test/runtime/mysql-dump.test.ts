import { Readable } from "node:stream";
import fc from "fast-check";
import { DumpReader, withoutSandboxLine, type DumpFacts } from "../../lib/runtime/engines/mysql-dump";

const TRAILER = "-- Dump completed on 2026-01-01  0:00:00\n";

function read(dump: string | Buffer, chunkBytes = 65_536): DumpFacts {
  const reader = new DumpReader();
  const bytes = Buffer.from(dump);
  for (let start = 0; start < bytes.length; start += chunkBytes) reader.write(bytes.subarray(start, start + chunkBytes));
  return reader.end();
}

const quoted = (name: string): string => `\`${name.replaceAll("`", "``")}\``;
const ESCAPES = new Map(Object.entries({ "\\": "\\", "'": "'", '"': '"', "\n": "n", "\r": "r", "\0": "0", "\x1a": "Z" }));
/** As `mysql_real_escape_string` does it. */
const escaped = (text: string): string => `'${[...text].map((c) => (ESCAPES.has(c) ? `\\${ESCAPES.get(c)}` : c)).join("")}'`;

interface Table {
  readonly name: string;
  readonly columns: readonly string[];
  readonly rows: readonly (readonly (string | number | null)[])[];
}

/** A dump as MariaDB's program (a line for each row) or MySQL's (all rows in one line) writes it. */
function render(tables: readonly Table[], style: "mariadb" | "mysql", rowsPerStatement: number): string {
  const value = (v: string | number | null): string => (v === null ? "NULL" : typeof v === "number" ? String(v) : escaped(v));
  const parts = ["-- a dump\n\n/*!40101 SET NAMES utf8mb4 */;\n/*!40101 SET SQL_MODE='NO_AUTO_VALUE_ON_ZERO' */;\n"];
  for (const { name, columns, rows } of tables) {
    const definition = columns.map((column) => `  ${quoted(column)} text DEFAULT ${escaped(`${column};'`)}`).join(",\n");
    parts.push(`--\n-- Table structure for table ${quoted(name).replaceAll("\n", " ")}\n--\n\nDROP TABLE IF EXISTS ${quoted(name)};\n`);
    parts.push(`CREATE TABLE ${quoted(name)} (\n${definition}\n) ENGINE=InnoDB AUTO_INCREMENT=12 DEFAULT CHARSET=utf8mb4;\n`);
    parts.push(`LOCK TABLES ${quoted(name)} WRITE;\n/*!40000 ALTER TABLE ${quoted(name)} DISABLE KEYS */;\n`);
    for (let start = 0; start < rows.length; start += rowsPerStatement) {
      const tuples = rows.slice(start, start + rowsPerStatement).map((row) => `(${row.map(value).join(",")})`);
      const list = style === "mysql" && columns.length > 1 ? ` (${columns.map(quoted).join(", ")})` : "";
      const [space, comma] = style === "mysql" ? [" ", ","] : ["\n", ",\n"];
      parts.push(`INSERT INTO ${quoted(name)}${list} VALUES${space}${tuples.join(comma)};\n`);
    }
    parts.push("UNLOCK TABLES;\n\n");
  }
  return parts.join("") + TRAILER;
}

const nasty = fc
  .array(
    fc.oneof(
      fc.constantFrom(..."'\\;\n`\"#VI\0", "),(", "--", "/*", "*/", ";\n", "\nINSERT INTO `t` VALUES\n(", "DELIMITER ;;\n"),
      fc.string({ unit: "grapheme", maxLength: 5 }),
    ),
    { maxLength: 6 },
  )
  .map((pieces) => pieces.join(""));
const name = nasty.map((text) => text.replaceAll("\0", "")).filter((text) => text !== "");
const value = fc.oneof(nasty, fc.integer(), fc.constant(null));
const table = fc
  .record({ name, columns: fc.array(name, { minLength: 1, maxLength: 3 }) })
  .chain(({ name, columns }) =>
    fc.record({
      name: fc.constant(name),
      columns: fc.constant(columns),
      rows: fc.array(fc.array(value, { minLength: columns.length, maxLength: columns.length }), { maxLength: 8 }),
    }),
  );

describe("the rows of a dump", () => {
  test("are counted whatever they, the columns and the tables hold, in chunks of any size", () => {
    const tables = fc.uniqueArray(table, { selector: ({ name }) => name, minLength: 1, maxLength: 3 });
    const style = fc.constantFrom("mariadb" as const, "mysql" as const);
    const shape = fc.tuple(tables, style, fc.integer({ min: 1, max: 5 }), fc.integer({ min: 1, max: 400 }));
    fc.assert(
      fc.property(shape, ([of, style, rowsPerStatement, chunkBytes]) => {
        const facts = read(render(of, style, rowsPerStatement), chunkBytes);
        expect(Object.entries(facts.tables).map(([table, { rows, autoIncrement }]) => [table, rows, autoIncrement])).toEqual(
          Object.entries(Object.fromEntries(of.map(({ name, rows }) => [name, rows.length]))).map(([table, rows]) => [table, rows, "12"]),
        );
      }),
      { numRuns: 500 },
    );
  });

  test("give the same facts in one chunk and byte by byte", () => {
    fc.assert(
      fc.property(table, (of) => {
        const dump = render([of], "mariadb", 3);
        expect(read(dump, 1)).toEqual(read(dump));
      }),
      { numRuns: 100 },
    );
  });

  test("are hashed, so that one changed character is seen", () => {
    const of = (text: string): DumpFacts => read(render([{ name: "t", columns: ["a"], rows: [["one"], [text]] }], "mariadb", 10));
    expect(of("two")).toEqual(of("two"));
    expect(of("two").tables.t?.content).not.toBe(of("twO").tables.t?.content);
    expect(of("two").tables.t?.rows).toBe(of("twO").tables.t?.rows);
  });

  test("are read faster than a server writes them: at least 150 MB a second of processor time", () => {
    const row = ["Name 9bf31c7ff062936a96d3c8bd1f8f2ff3 o'Brien 15", `{"k": "${"e629fa6598d732768f7c726b4b621285".repeat(2)}"}`, 2.14];
    const rows = Array.from({ length: 100_000 }, () => row);
    const one = Buffer.from(render([{ name: "t", columns: ["a", "b", "c"], rows }], "mariadb", 5000));
    read(one);
    const before = process.cpuUsage();
    for (let i = 0; i < 5; i++) read(one);
    const { user, system } = process.cpuUsage(before);
    expect((5 * one.length) / (user + system)).toBeGreaterThan(150);
  });
});

describe("the objects of a dump", () => {
  const procedure = `/*!50003 DROP PROCEDURE IF EXISTS \`p;\` */;
DELIMITER ;;
CREATE DEFINER=\`root\`@\`%\` PROCEDURE \`p;\`()
BEGIN
-- it's a comment
INSERT INTO \`t\` VALUES
(1,'x');
END ;;
DELIMITER ;
`;
  const view = `/*!50001 CREATE VIEW \`v\` AS SELECT
 1 AS \`a\`*/;
/*!50001 DROP VIEW IF EXISTS \`v\`*/;
/*!50001 CREATE ALGORITHM=UNDEFINED */
/*!50013 DEFINER=\`root\`@\`%\` SQL SECURITY DEFINER */
/*!50001 VIEW \`v\` AS select 'a;' AS \`a\` */;
`;
  const events = `/*!50106 DROP EVENT IF EXISTS \`e\` */;
DELIMITER ;;
/*!50003 SET time_zone             = 'SYSTEM' */ ;;
/*!50106 CREATE*/ /*!50117 DEFINER=\`root\`@\`%\`*/ /*!50106 EVENT \`e\` ON SCHEDULE EVERY 1 DAY DO DELETE FROM t */ ;;
/*!50106 DROP EVENT IF EXISTS \`\`\`ü\` */;;
DELIMITER ;;
/*!50106 CREATE*/ /*!50117 DEFINER=\`root\`@\`%\`*/ /*!50106 EVENT \`\`\`ü\` ON SCHEDULE EVERY 1 DAY DO SELECT ';' */ ;;
DELIMITER ;
`;
  const trigger = `DELIMITER ;;
/*!50003 CREATE*/ /*!50017 DEFINER=\`root\`@\`%\`*/ /*!50003 TRIGGER tr BEFORE INSERT ON t FOR EACH ROW BEGIN
/* it's; */ SET @a = 1; END */;;
DELIMITER ;
`;
  const sequence = "CREATE SEQUENCE `s` start with 5 minvalue 1 ENGINE=InnoDB;\nDO SETVAL(`s`, 15, 0);\n";

  test("are told by kind and name, with a hash of what makes them", () => {
    const facts = read(`${procedure}${view}${events}${trigger}${sequence}${TRAILER}`);
    const hash = expect.stringMatching(/^[0-9a-f]{64}$/) as unknown;
    expect(facts).toEqual({
      definers: ["`root`@`%`"],
      tables: {},
      sequences: { s: { definition: hash, next: "15" } },
      views: { v: hash },
      routines: { "PROCEDURE p;": hash },
      events: { e: hash, "`ü": hash },
      triggers: [hash],
    });
    const changed = read(`${procedure.replace("'x'", "'y'")}${view.replace("'a;'", "'b;'")}${events}${trigger.replace("END */", "END \n*/")}${sequence}${TRAILER}`);
    expect(changed.routines).not.toEqual(facts.routines);
    expect(changed.views).not.toEqual(facts.views);
    expect(changed.triggers).toEqual(facts.triggers);
    expect(changed.events).toEqual(facts.events);
  });

  test("have definitions without the counter that moves with every row", () => {
    const column = "  `a` int COMMENT 'AUTO_INCREMENT=1'";
    const of = (options: string) => read(`CREATE TABLE \`t\` (\n${column}\n) ENGINE=InnoDB${options};\n${TRAILER}`).tables.t;
    const plain = of(" COMMENT='x'");
    expect(of(" AUTO_INCREMENT=7 COMMENT='x'")).toEqual({ ...plain, autoIncrement: "7" });
    expect(plain?.autoIncrement).toBeUndefined();
    expect(of(" COMMENT='y'")?.definition).not.toBe(plain?.definition);
  });
});

describe("refuses a dump", () => {
  const whole = render([{ name: "t", columns: ["a"], rows: [["x"], ["y"]] }], "mysql", 5);

  test("cut at any byte", () => {
    for (let length = 0; length < Buffer.byteLength(whole); length++) {
      expect(() => read(Buffer.from(whole).subarray(0, length))).toThrow("the dump does not end with '-- Dump completed'");
    }
    expect(read(whole).tables.t?.rows).toBe(2);
  });

  test.each(["x", "SELECT 1;\n", "-- more\n"])("with %j behind its end", (more) => {
    expect(() => read(whole + more)).toThrow("the dump does not end with '-- Dump completed'");
  });

  test.each([
    ["SET @@GLOBAL.GTID_PURGED=/*!80000 '+'*/ 'uuid:1-5';\n", "GTID_PURGED"],
    ["SET @@SESSION.SQL_LOG_BIN= 0;\n", "SQL_LOG_BIN"],
    ["/*!50112 SET SESSION sql_log_bin = 0 */;\n", "sql_log_bin"],
  ])("with %j, which would change replication", (statement, variable) => {
    expect(() => read(statement + whole)).toThrow(`the dump sets ${variable}, which a restore must not`);
  });

  test("with such words in its rows not", () => {
    const rows = [["SET @@SESSION.SQL_LOG_BIN= 0;"], ["SET @@GLOBAL.GTID_PURGED='x';"]];
    expect(read(render([{ name: "t", columns: ["a"], rows }], "mysql", 1)).tables.t?.rows).toBe(2);
  });

  test("with rows of a table that it does not make", () => {
    expect(() => read(`INSERT INTO \`t\` VALUES (1);\n${TRAILER}`)).toThrow("the dump has rows of a table that it does not make");
  });
});

describe("the sandbox line", () => {
  const line = "/*M!999999\\- enable the sandbox mode */ \n";
  const strip = async (chunks: readonly string[]): Promise<string> => {
    const parts: Buffer[] = [];
    for await (const chunk of withoutSandboxLine(Readable.from(chunks.map((chunk) => Buffer.from(chunk))))) parts.push(chunk as Buffer);
    return Buffer.concat(parts).toString();
  };

  const rest = "-- a\n-- b\n";

  test.each([
    ["one chunk", [line + rest]],
    ["chunks of a byte", [...line, rest]],
    ["a dump that has none", [rest]],
    ["a dump that has none, in chunks", ["-", "- a\n-- b\n"]],
  ])("is left out of %s, and nothing else is", async (_, chunks) => {
    expect(await strip(chunks)).toBe(rest);
  });

  test("is no reason to wait for a line that never comes", async () => {
    expect(await strip(["no line"])).toBe("no line");
    expect(await strip([])).toBe("");
  });
});
