/** One MariaDB server with everything a dump can lose, its backup as a synthesised pod, and ways to break it. */
import { spawn, spawnSync } from "node:child_process";
import { chmodSync, readFileSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { MySqlDumpBackup, type MySqlDumpBackupProps, SecretRef } from "../../constructs/backup";
import { NfsBackupVolume } from "../../constructs/storage";
import { ImageReference } from "../../lib/image-reference";
import { Retention } from "../../lib/retention";
import type { MysqlSettings } from "../../lib/runtime/engines/mysql";
import { DumpReader, withoutSandboxLine, type DumpFacts } from "../../lib/runtime/engines/mysql-dump";
import { fileName } from "../../lib/runtime/file-name";
import { Schedule } from "../../lib/schedule";
import { ServiceEndpoint } from "../../lib/service-endpoint";
import { mysqlBackupUserSql, mysqlRestoreUserSql } from "../../lib/privileges/mysql";
import { type RestoreResult, runRestore } from "../helpers/drill";
import { runCronJob, type CronJobOptions, type ImageProfile } from "../helpers/pod";
import type { Backup } from "../helpers/pod/backup";
import { generationsOn, makeTarget, type FoundGeneration } from "../helpers/pod/target";
import { temporaryDirectory } from "../helpers/process";
import { MariaDb } from "../helpers/servers/mariadb";
import { Template } from "../helpers/template";

export { failure, succeeded, type Backup } from "../helpers/pod/backup";

export const SCRIPT = resolve(__dirname, "../../lib/scripts/mysql.sh");
export const PASSWORD = "s3cr3t of the 'backup\\";
export const ODD = "odd `name' \"ü€\" $x/%";
export const MARIADB: ImageProfile = { tools: ["sh", "sleep", "mariadb", "mariadb-dump"] };
export const MYSQL: ImageProfile = { tools: ["sh", "sleep", "mysql", "mysqldump"] };

export const CLAIM = "mysql-backup";
/** The account of restores. */
export const RESTORER = { user: "restorer", password: SecretRef.of("mysql-restore", "password") };

/** Everything a dump can lose, and everything that can mislead whoever reads one. */
const APP = `
CREATE TABLE parent (
  id INT AUTO_INCREMENT PRIMARY KEY,
  name VARCHAR(12000) NOT NULL DEFAULT 'it''s; \\n' COMMENT 'INSERT INTO \`x\` VALUES (1);\\n',
  d DOUBLE, n DECIMAL(30,10), bits BIT(9), bin VARBINARY(300), doc JSON, at TIMESTAMP(6) NULL, kind ENUM('a;','b'), place POINT,
  twice INT AS (CHAR_LENGTH(name) * 2) STORED
) COMMENT 'AUTO_INCREMENT=7';
INSERT INTO parent (name, d, n, bits, bin, doc, at, kind, place)
SELECT CONCAT('row ', seq, ' ),(''x'');', CHAR(10), CHAR(13), CHAR(9), CHAR(26), CHAR(92), '"\`-- DELIMITER ;; ü€😀'),
  seq / 7, seq / 11, b'101', UNHEX(REPEAT('0027285C3B', 20)), JSON_OBJECT('k', CONCAT('),(', seq)),
  '2024-02-29 12:00:00.123456' + INTERVAL seq SECOND, IF(seq % 2, 'a;', 'b'), POINT(seq, 1)
FROM seq_1_to_3000;
INSERT INTO parent (name) VALUES (''), (REPEAT('\\\\''', 5000));
CREATE TABLE child (id INT PRIMARY KEY, parent INT, FOREIGN KEY (parent) REFERENCES parent (id));
INSERT INTO child SELECT seq, seq FROM seq_1_to_50;
CREATE TABLE \`we\`\`ird; na'me\` (\`a\`\`) VALUES (\` INT, \`c
d\` INT);
INSERT INTO \`we\`\`ird; na'me\` VALUES (1, 2), (3, 4);
CREATE TABLE no_key (a INT);
INSERT INTO no_key VALUES (3), (1), (3);
CREATE TABLE empty_one (a INT);
CREATE TABLE parts (a INT) PARTITION BY HASH (a) PARTITIONS 3;
INSERT INTO parts SELECT seq FROM seq_1_to_20;
CREATE TABLE old_engine (a INT) ENGINE = MyISAM;
INSERT INTO old_engine VALUES (1);
CREATE TABLE history (a INT PRIMARY KEY) WITH SYSTEM VERSIONING;
INSERT INTO history VALUES (1), (2);
CREATE TABLE floats (a FLOAT);
INSERT INTO floats VALUES (1 / 3), (16777217);
CREATE TABLE merged (a INT) ENGINE = MERGE UNION = (old_engine);
CREATE SEQUENCE numbers START WITH 5 CACHE 10;
SELECT NEXTVAL(numbers);
CREATE VIEW named AS SELECT name, 'a''\\n;' AS x FROM parent;
CREATE VIEW above AS SELECT * FROM named;
DELIMITER ;;
CREATE PROCEDURE fill() BEGIN
  -- it's a comment
  INSERT INTO \`parent\` VALUES
(1,'x');
  /* a second one's; */ SELECT ';;';
END;;
CREATE FUNCTION next_of(a INT) RETURNS INT DETERMINISTIC RETURN a + 1;;
CREATE TRIGGER before_child BEFORE INSERT ON child FOR EACH ROW BEGIN /* it's; */ SET NEW.id = NEW.id; END;;
CREATE TRIGGER app.\`after child\` AFTER INSERT ON child FOR EACH ROW SET @a = 1;;
CREATE EVENT nightly ON SCHEDULE EVERY 1 DAY DO DELETE FROM child;;
CREATE EVENT \`\`\`once\`\`\` ON SCHEDULE AT '2037-01-01' ON COMPLETION PRESERVE DO BEGIN DELETE FROM child; SELECT ';'; END;;
DELIMITER ;
`;

export function fill(server: MariaDb): void {
  server.sql(`CREATE DATABASE app; USE app; ${APP}`);
  server.sql(`CREATE DATABASE \`${ODD.replaceAll("`", "``")}\` CHARACTER SET latin1 COLLATE latin1_bin`);
  server.sql("CREATE TABLE t (a INT); INSERT INTO t VALUES (1), (2)", ODD);
  server.sql("CREATE DATABASE hollow; CREATE DATABASE unwanted; CREATE TABLE unwanted.t (a INT)");
  server.sql("CREATE USER 'o''brien'@'%' IDENTIFIED BY 'first'; CREATE ROLE reader; GRANT SELECT ON app.* TO reader");
  server.sql("GRANT reader TO 'o''brien'@'%'; SET DEFAULT ROLE reader FOR 'o''brien'@'%'");
  server.sql("GRANT INSERT (a) ON app.no_key TO 'o''brien'@'%' WITH GRANT OPTION");
  server.sql(mysqlBackupUserSql({ user: "backup" }));
  server.sql(`ALTER USER 'backup'@'%' IDENTIFIED BY '${PASSWORD.replace(/['\\]/g, "\\$&")}' ACCOUNT UNLOCK`);
}

export function synthesise(options: Partial<MysqlSettings> & Pick<MySqlDumpBackupProps, "drill" | "restore"> = {}): string {
  const template = Template.of((stack) => {
    new MySqlDumpBackup(stack, "mysql-backup", {
      namespace: "dbaas",
      volume: new NfsBackupVolume(stack, "volume", { name: CLAIM, namespace: "dbaas", server: "10.0.10.15", path: "/mnt/main/mysql" }),
      schedule: Schedule.cron("30 0 * * *"),
      retention: Retention.keepDays(14),
      image: ImageReference.parse("docker.io/library/mariadb:10.11.9"),
      endpoint: ServiceEndpoint.of("mysql.dbaas:3306"),
      user: "backup",
      password: SecretRef.of("mysql-backup", "password"),
      excludeDatabases: ["unwanted"],
      ...options,
    });
  });
  return JSON.stringify(template.json);
}

export async function backUp(options: CronJobOptions & { readonly json?: string; readonly password?: string } = {}): Promise<Backup> {
  const { json = synthesise(), password = PASSWORD } = options;
  const target = makeTarget(json);
  const result = await runCronJob(json, {
    volumes: { [CLAIM]: target },
    secrets: { "mysql-backup": { password } },
    services: ["mysql.dbaas"],
    images: { "docker.io/library/mariadb": MARIADB },
    ...options,
  });
  return { ...result, generations: generationsOn(json, target) };
}

/** Runs the restore of a target, with what the person chose; RESTORER's password is the backup's. */
export function restoreFrom(json: string, target: string, env: CronJobOptions["env"] = {}, options: CronJobOptions = {}): Promise<RestoreResult> {
  return runRestore(json, target, {
    secrets: { "mysql-restore": { password: PASSWORD } },
    services: ["mysql.dbaas"],
    images: { "docker.io/library/mariadb": MARIADB },
    env,
    ...options,
  });
}

/** Makes {@link RESTORER} on a server. */
export function addRestorer(server: MariaDb): void {
  server.sql(mysqlRestoreUserSql({ user: RESTORER.user }));
  server.sql(`ALTER USER '${RESTORER.user}'@'%' IDENTIFIED BY '${PASSWORD.replace(/['\\]/g, "\\$&")}' ACCOUNT UNLOCK`);
}

/** Calls the real program with other options in the place of one. */
export const swap = (option: string, others = ""): string =>
  `shift; for a; do shift; [ "$a" = ${option} ] || set -- "$@" "$a"; done; exec real-dump --no-defaults ${others} "$@"`;

/** A `mariadb-dump` that does what the script says; `real-dump` is the real one. */
export function instead(script: string, tools: readonly string[] = []): { readonly [repository: string]: ImageProfile } {
  const path = join(temporaryDirectory("stub"), "mariadb-dump");
  writeFileSync(path, `#!/bin/sh\ncase "$*" in *--version*) exec real-dump --version ;; esac\n${script}\n`);
  chmodSync(path, 0o755);
  const programs = { "mariadb-dump": path, "real-dump": "/usr/bin/mariadb-dump" };
  return { "docker.io/library/mariadb": { tools: [...MARIADB.tools, "real-dump", ...tools], programs } };
}

export function dumpOf(generation: FoundGeneration, database: string): string {
  const { stdout, status } = spawnSync("zstd", ["-dc", join(generation.path, "databases", `${fileName(database)}.sql.zst`)], {
    encoding: "utf8",
    maxBuffer: 2 ** 30,
  });
  expect(status).toBe(0);
  return stdout;
}

export function artefact({ path }: FoundGeneration, name: string): string {
  return readFileSync(join(path, name), "utf8");
}

/** As the owner would: the databases, each dump, then the accounts. */
export function restore(generation: FoundGeneration, server: MariaDb): void {
  server.sql(artefact(generation, "databases.sql"));
  for (const name of Object.keys(databasesOf(generation))) server.sql(dumpOf(generation, name), name);
  server.sql(artefact(generation, "accounts.sql"));
}

/** The databases of a fingerprint, and what it says of each besides what is in its dump. */
export function databasesOf({ manifest }: FoundGeneration): { readonly [name: string]: Described } {
  const databases = manifest.fingerprint.databases as unknown as { readonly [name: string]: DumpFacts & Omit<Described, "facts"> };
  return Object.fromEntries(
    Object.entries(databases).map(([name, { characterSet, collation, ...facts }]) => [name, { characterSet, collation, facts }]),
  );
}

export interface Described {
  readonly characterSet: string;
  readonly collation: string;
  readonly facts: DumpFacts;
}

/** Everything in a database, as the server tells it. */
export function contentOf(server: MariaDb, database: string): unknown {
  const names = (from: string): readonly string[] =>
    server
      .sql(`SELECT ${from} ORDER BY 1`, database)
      .split("\n")
      .filter((name) => name !== "");
  const quoted = (name: string): string => `\`${name.replaceAll("`", "``").replaceAll("\\\\", "\\")}\``;
  const schema = "= DATABASE()";
  const tables = names(`TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA ${schema} AND TABLE_TYPE NOT IN ('VIEW', 'SEQUENCE')`);
  const views = names(`TABLE_NAME FROM information_schema.VIEWS WHERE TABLE_SCHEMA ${schema}`);
  const triggers = names(`TRIGGER_NAME FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA ${schema}`);
  const routines = names(`CONCAT(ROUTINE_TYPE, ' ', ROUTINE_NAME) FROM information_schema.ROUTINES WHERE ROUTINE_SCHEMA ${schema}`);
  const events = names(`EVENT_NAME FROM information_schema.EVENTS WHERE EVENT_SCHEMA ${schema}`);
  // The last column of SHOW CREATE TRIGGER is the time of its creation.
  const show = (what: string): string => server.sql(`SHOW CREATE ${what}`, database).replace(/\t[\d.: -]+$/, "");
  // When a versioned row was written is not part of what a dump keeps, nor are a FLOAT's digits after the sixth.
  const checksum = (name: string): string =>
    server.sql(name === "history" || name === "floats" ? `SELECT * FROM ${name}` : `CHECKSUM TABLE ${quoted(name)}`, database);
  return {
    tables: tables.map((name) => [name, checksum(name), show(`TABLE ${quoted(name)}`)]),
    views: views.map((name) => [show(`VIEW ${quoted(name)}`), server.sql(`SELECT SUM(CRC32(name)) FROM ${quoted(name)}`, database)]),
    programs: [
      ...triggers.map((name) => show(`TRIGGER ${quoted(name)}`)),
      ...routines.map((name) => show(name)),
      ...events.map((name) => show(`EVENT ${quoted(name)}`)),
    ],
  };
}

/** What a dump of a live database says it holds, by the verb of the engine's container. */
export async function factsOf(server: MariaDb, database: string): Promise<DumpFacts> {
  const child = spawn("dash", ["-c", '. "$1"; verb_dump "$2"', "sh", SCRIPT, database], {
    env: { PATH: process.env.PATH, MYSQL_HOST: "localhost", MYSQL_UNIX_PORT: server.socket, MYSQL_USER: "root" },
    stdio: ["ignore", "pipe", "inherit"],
  });
  const reader = new DumpReader();
  for await (const chunk of withoutSandboxLine(child.stdout)) reader.write(chunk as Buffer);
  return reader.end();
}

export const environment = (path = process.env.PATH ?? ""): { readonly [name: string]: string } => ({
  PATH: path,
  ENGINE_SCRIPT: SCRIPT,
  MYSQL_HOST: "127.0.0.1",
  MYSQL_TCP_PORT: "3306",
  MYSQL_USER: "backup",
  MYSQL_PWD: PASSWORD,
});

/** A table that was written to within this second counts as moving. */
export const atRest = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 1100));

