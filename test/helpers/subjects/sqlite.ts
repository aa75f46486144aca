import type { SourceFault, Subject } from "./subject";
import { chmodSync, chownSync, copyFileSync, existsSync, renameSync, rmSync, statSync, truncateSync } from "node:fs";
import { open } from "node:fs/promises";
import { join } from "node:path";
import { SqliteBackup } from "../../../constructs/backup";
import { PodVolume } from "../../../constructs/storage";
import { chownTree, run, startProcess, temporaryDirectory } from "../process";
import { COMMON_SERVICES, synthesise } from "./subject";

const USER = 1000;

/** A database with rows that do not compress. */
export async function startSqlite(): Promise<Subject> {
  const data = temporaryDirectory("sqlite-source");
  const database = join(data, "db.sqlite3");
  await run("sqlite3", [database], {
    input: `CREATE TABLE item (id INTEGER PRIMARY KEY, text TEXT NOT NULL, data BLOB);
      WITH n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5000)
      INSERT INTO item SELECT i, 'item ' || i, randomblob(400) FROM n;`,
  });
  chownTree(data, USER);
  const wanted = await contentOf(database);

  /** Puts the database aside, and what is to be found in its place. */
  const replaced = (name: string, reason: RegExp, damage: (path: string) => void | Promise<void>): SourceFault => ({
    name,
    reason,
    inject: async () => {
      const aside = `${data}.aside`;
      copyFileSync(database, aside);
      await damage(database);
      return () => {
        renameSync(aside, database);
        chownSync(database, USER, USER);
      };
    },
  });

  return {
    name: "sqlite",
    synthesised: synthesise((stack, common) => {
      new SqliteBackup(stack, "app", {
        ...common,
        data: PodVolume.fromClaim("data", { accessMode: "ReadWriteMany" }),
        database: "db.sqlite3",
      });
    }),
    options: { volumes: { data }, services: COMMON_SERVICES },
    sourceFaults: [
      replaced("missing", /db\.sqlite3 does not exist/, (path) => rmSync(path)),
      replaced("empty", /db\.sqlite3 is empty/, (path) => truncateSync(path)),
      replaced("corrupt", /db\.sqlite3 is corrupt/, async (path) => {
        const file = await open(path, "r+");
        await file.write(Buffer.alloc(8192, 0xa5), 0, 8192, 16 * 4096);
        await file.close();
      }),
      replaced("unreadable", /db\.sqlite3 \(owner 0:0, mode 600\) cannot be read by uid 1000, gid 1000; .*run: chgrp/, (path) => {
        chownSync(path, 0, 0);
        chmodSync(path, 0o600);
      }),
      {
        name: "locked",
        reason: /db\.sqlite3 is locked by another process/,
        slow: true,
        inject: async () => {
          const script = `const db = new (require("node:sqlite").DatabaseSync)(process.argv[1]);
            db.exec("BEGIN EXCLUSIVE"); console.log("locked"); setInterval(() => db, 1000);`;
          const holder = await startProcess({ command: process.execPath, args: ["-e", script, database], ready: { log: /locked/ } });
          return async () => {
            await holder.stop("SIGKILL");
            if (existsSync(`${database}-journal`) && statSync(`${database}-journal`).size === 0) rmSync(`${database}-journal`);
          };
        },
      },
    ],
    load: {
      write: async (round) => {
        const change = "CREATE TABLE IF NOT EXISTS load (id INTEGER PRIMARY KEY, data BLOB);";
        await run("sqlite3", ["-cmd", ".timeout 5000", database, `${change} INSERT OR REPLACE INTO load VALUES (${round % 500}, randomblob(2000))`]);
      },
      undo: async () => {
        await run("sqlite3", ["-cmd", ".timeout 5000", database, "DROP TABLE IF EXISTS load"]);
        chownTree(data, USER);
      },
    },
    restoreEqual: async ({ path }) => {
      const restored = join(temporaryDirectory("restored"), "db.sqlite3");
      await run("zstd", ["-d", "-q", join(path, "db.sqlite3.zst"), "-o", restored]);
      const found = await contentOf(restored);
      rmSync(restored);
      if (found !== wanted) throw new Error("the database that was restored differs from the source");
    },
    stop: () => Promise.resolve(),
  };
}

/** Hash of everything in a database. */
async function contentOf(database: string): Promise<string> {
  const { stdout } = await run("sh", ["-c", 'sqlite3 -readonly "$0" .dump | sha256sum', database]);
  return stdout;
}
