import type { Subject } from "./subject";
import { rmSync } from "node:fs";
import { join } from "node:path";
import { MySqlDumpBackup, SecretRef } from "../../../constructs/backup";
import { ImageReference } from "../../../lib/image-reference";
import { ServiceEndpoint } from "../../../lib/service-endpoint";
import { mysqlBackupUserSql } from "../../../lib/privileges/mysql";
import { run, temporaryDirectory } from "../process";
import { MariaDb, MARIADB_IMAGE } from "../servers/mariadb";
import { COMMON_SERVICES, hanging, synthesise } from "./subject";

const PRODUCER = { program: "mariadb-dump" };
const PASSWORD = "backup-password";
const TABLES = ["item", "child"];

/** A MariaDB server with two databases. */
export async function startMysql(): Promise<Subject> {
  const server = await MariaDb.start();
  server.sql(`CREATE DATABASE shop; CREATE DATABASE blog; CREATE DATABASE restored; USE shop;
    CREATE TABLE shop.item (id INT PRIMARY KEY, name VARCHAR(100), data VARBINARY(200));
    INSERT INTO shop.item SELECT seq, CONCAT('item ', seq), UNHEX(SHA2(CONCAT('x', seq), 512)) FROM seq_1_to_8000;
    CREATE TABLE shop.child (id INT PRIMARY KEY, item INT REFERENCES shop.item (id));
    INSERT INTO shop.child SELECT seq, seq FROM seq_1_to_500;
    CREATE TABLE blog.post (id INT PRIMARY KEY, text TEXT);
    INSERT INTO blog.post SELECT seq, REPEAT('text ', seq % 50) FROM seq_1_to_500;`);
  server.sql(mysqlBackupUserSql({ user: "backup" }));
  const password = (text: string): string => server.sql(`ALTER USER 'backup'@'%' IDENTIFIED BY '${text}' ACCOUNT UNLOCK`);
  password(PASSWORD);
  const checksums = (database: string): string =>
    server.sql(`CHECKSUM TABLE ${TABLES.map((table) => `${database}.${table}`).join(", ")}`).replaceAll(`${database}.`, "");
  const wanted = checksums("shop");
  return {
    name: "mysql",
    synthesised: synthesise((stack, common) => {
      new MySqlDumpBackup(stack, "mysql", {
        ...common,
        image: ImageReference.parse("docker.io/library/mariadb:10.11.9"),
        endpoint: ServiceEndpoint.of("mysql.dbaas:3306"),
        user: "backup",
        password: SecretRef.of("mysql-backup", "password"),
        expectDatabases: ["shop", "blog"],
        excludeDatabases: ["restored"],
      });
    }),
    options: {
      secrets: { "mysql-backup": { password: PASSWORD } },
      services: [...COMMON_SERVICES, "mysql.dbaas"],
      images: { "docker.io/library/mariadb": MARIADB_IMAGE },
    },
    producer: PRODUCER,
    stall: hanging(PRODUCER),
    sourceFaults: [
      {
        name: "missing",
        reason: /Can't connect to (MySQL )?server/,
        inject: async () => {
          await server.stop();
          return () => server.up();
        },
      },
      {
        name: "empty",
        reason: /expected databases are missing: blog/,
        inject: () => {
          server.sql("CREATE DATABASE aside; RENAME TABLE blog.post TO aside.post; DROP DATABASE blog");
          return Promise.resolve(() => {
            server.sql("CREATE DATABASE blog; RENAME TABLE aside.post TO blog.post; DROP DATABASE aside");
          });
        },
      },
      {
        name: "refusing",
        reason: /Access denied for user 'backup'/,
        inject: () => {
          password("another");
          return Promise.resolve(() => {
            password(PASSWORD);
          });
        },
      },
    ],
    load: {
      write: async (round) => {
        server.sql(`CREATE TABLE IF NOT EXISTS load_ (id INT AUTO_INCREMENT PRIMARY KEY, text TEXT);
          INSERT INTO load_ (text) SELECT MD5(seq) FROM seq_1_to_200; DELETE FROM load_ WHERE id % 7 = ${round % 7}`, "blog");
        return Promise.resolve();
      },
      undo: () => Promise.resolve(void server.sql("DROP TABLE IF EXISTS load_", "blog")),
    },
    restoreEqual: async ({ path }) => {
      const sql = join(temporaryDirectory("restored"), "shop.sql");
      await run("zstd", ["-d", "-q", join(path, "databases/shop.sql.zst"), "-o", sql]);
      server.sql("DROP DATABASE restored; CREATE DATABASE restored");
      server.sql(`SOURCE ${sql}`, "restored");
      rmSync(sql);
      if (checksums("restored") !== wanted) throw new Error("the database that was restored differs from the source");
    },
    stop: () => server.stop("SIGKILL"),
  };
}
