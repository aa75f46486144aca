import { spawnSync } from "node:child_process";
import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { MysqlEngine } from "../../lib/runtime/engines/mysql";
import { withoutSandboxLine } from "../../lib/runtime/engines/mysql-dump";
import { withAgent } from "../helpers/agent-run";
import { temporaryDirectory, waitFor } from "../helpers/process";
import { MariaDb } from "../helpers/servers/mariadb";
import {
  atRest,
  backUp,
  environment,
  failure,
  fill,
  instead,
  ODD,
  succeeded,
  synthesise,
  swap,
} from "./mysql-setup";

let server: MariaDb;

beforeAll(async () => {
  server = await MariaDb.start({ args: ["--local-infile=0", "--event-scheduler=OFF"] });
  fill(server);
});

afterAll(() => server.stop("SIGKILL"));

/** Ends connections to the server; one that ended by itself meanwhile is no error. */
function killConnections(where: string): void {
  for (const id of server.sql(`SELECT ID FROM information_schema.PROCESSLIST WHERE ${where}`).split("\n")) {
    if (id !== "") spawnSync("mariadb", ["--no-defaults", "-S", server.socket, "-uroot", "-e", `KILL ${id}`]);
  }
}

describe("fails when", () => {
  test("an expected database is missing, and names it", async () => {
    const json = synthesise({ expectDatabases: ["app", "rybbit", "woodpecker"] });
    expect(failure(await backUp({ json }))).toBe("expected databases are missing: rybbit, woodpecker");
  });

  test("there is nothing to back up", async () => {
    const json = synthesise({ excludeDatabases: ["app", "hollow", "unwanted", ODD] });
    expect(failure(await backUp({ json }))).toBe("the server has no database to back up");
  });

  test("the password is wrong", async () => {
    const denied = /^query failed \(exit status 1\): ERROR 1045 .*Access denied for user 'backup'@.*\(using password: YES\)$/;
    expect(failure(await backUp({ password: "guess" }))).toMatch(denied);
  });

  const cut = /^app: the dump does not end with '-- Dump completed'$/;
  const real = 'real-dump "$@"';
  const differs = (how: string): string => `app: the dump differs from the server: ${how}`;

  test.each([
    ["is cut in half", `${real} | head -c 60000`, cut],
    ["is cut after a statement", `${real} | sed "/^UNLOCK TABLES;/q"`, cut],
    ["is cut within its last line", `${real} | sed "s/ completed.*//"`, cut],
    ["is empty", ":", cut],
    ["goes on behind its end", `${real} && echo "SELECT 1;"`, cut],
    [
      "lacks a table and looks whole",
      `${real} | sed "/^-- Table structure for table .parent/,/^UNLOCK TABLES/d"`,
      "app: the dump lacks TABLE parent",
    ],
    ["lacks routines", swap("--routines"), "app: the dump lacks FUNCTION next_of, PROCEDURE fill"],
    ["lacks events", swap("--events"), "app: the dump lacks EVENT `once`, EVENT nightly"],
    ["lacks triggers", swap("--triggers", "--skip-triggers"), "app: the dump has 0 of 2 triggers"],
    ["lacks one row", `${real} | sed "/^(7,/d"`, differs("child (49 of 50 rows), parent (3001 of 3002 rows)")],
    ["has a row too many", `${real} | sed "s/^(7,7),/(7,7),(0,1),/"`, differs("child (51 of 50 rows)")],
    ["has no rows at all", swap("--quick", "--no-data"), /^app: the dump differs from the server: .*parent \(0 of 3002 rows\)/],
    [
      "is of another database",
      'exec real-dump --no-defaults --host="$MYSQL_HOST" --user="$MYSQL_USER" hollow',
      /^app: the dump lacks EVENT `once`, EVENT nightly, .*TABLE child/,
    ],
    [
      "would change replication",
      `echo "SET @@GLOBAL.GTID_PURGED=/*!80000 '+'*/ 'x';"; exec ${real}`,
      "app: the dump sets GTID_PURGED, which a restore must not",
    ],
    [
      "would not be replicated",
      `echo "SET @@SESSION.SQL_LOG_BIN= 0;"; exec ${real}`,
      "app: the dump sets SQL_LOG_BIN, which a restore must not",
    ],
  ])("the dump %s, though the program ends with 0", async (_, script, reason) => {
    const found = failure(await backUp({ images: instead(script, ["sed", "head"]) }));
    if (typeof reason === "string") expect(found).toBe(reason);
    else expect(found).toMatch(reason);
  });

  test("the server ends the connection in the middle", async () => {
    server.sql("CREATE DATABASE large; CREATE TABLE large.t (a INT PRIMARY KEY, b VARCHAR(1000))");
    server.sql("INSERT INTO t SELECT seq, REPEAT(MD5(seq), 30) FROM seq_1_to_100000", "large");
    const killer = setInterval(() => {
      killConnections("USER = 'backup' AND DB = 'large' AND INFO LIKE '%SQL_NO_CACHE%FROM%'");
    }, 10);
    try {
      expect(failure(await backUp())).toMatch(/^large: dump failed \(exit status 3\): .*Lost connection.*table `t` at row: \d+$/);
    } finally {
      clearInterval(killer);
      server.sql("DROP DATABASE large");
    }
  });

  test("the server is down", async () => {
    await server.stop();
    try {
      expect(failure(await backUp())).toMatch(/^query failed \(exit status 1\): ERROR 2002 .*Can't connect to server on 'mysql.dbaas'/);
    } finally {
      await server.up();
    }
  });

  test("a view's table is gone, and names the view", async () => {
    server.sql("CREATE DATABASE broken; USE broken; CREATE TABLE t (a INT); CREATE VIEW lost_its_table AS SELECT * FROM t; DROP TABLE t");
    const reason = failure(await backUp());
    server.sql("DROP DATABASE broken");
    expect(reason).toMatch(/^broken: dump failed .*View 'broken.lost_its_table' references invalid table/);
  });

  test("a view calls a function that the account may not call, until it may", async () => {
    server.sql("CREATE DATABASE calls; USE calls; CREATE FUNCTION one() RETURNS INT RETURN 1; CREATE VIEW v AS SELECT one() AS x");
    const reason = failure(await backUp());
    server.sql("GRANT EXECUTE ON FUNCTION calls.one TO 'backup'@'%'");
    const after = await backUp();
    server.sql("DROP DATABASE calls");
    expect(reason).toMatch(/^calls: dump failed .*execute command denied to user 'backup'@'%' for routine 'calls.one'/);
    succeeded(after);
  });

  test("a table is locked for longer than half a minute, and names it", async () => {
    const session = server.session();
    session.stdin?.write("LOCK TABLES app.child WRITE;\n");
    await waitFor(() => server.sql("SHOW OPEN TABLES FROM app WHERE In_use > 0") !== "", "the lock");
    const result = await backUp();
    session.stdin?.end();
    expect(failure(result)).toBe("app: table child is locked, for more than 30 s");
  });

  test("the program ends with any status but 0", async () => {
    const path = temporaryDirectory("stub");
    const code = join(path, "code");
    const real = "/usr/bin/mariadb-dump";
    const script = `case "$*" in *--version*) exec ${real} --version ;; esac\n${real} "$@"\nexit "$(cat ${code})"`;
    writeFileSync(join(path, "mariadb-dump"), `#!/bin/sh\n${script}\n`, { mode: 0o755 });
    await withAgent({ env: environment(`${path}:${process.env.PATH}`) }, async ({ run, directory }) => {
      const dump = async (): Promise<void> => {
        const { output, done } = run.agent.request("dump", "hollow");
        await run.store("hollow.sql", withoutSandboxLine(output));
        await done;
      };
      for (let status = 1; status <= 255; status++) {
        writeFileSync(code, String(status));
        await expect(dump()).rejects.toThrow(`dump failed (exit status ${status})`);
        rmSync(join(directory, "hollow.sql.zst"), { force: true });
      }
      writeFileSync(code, "0");
      await dump();
    });
  });

  test.each(["cut", "longer", "changed"] as const)("a dump on the target is %s between writing and reading back", async (how) => {
    await withAgent({ env: environment() }, async ({ run, directory }) => {
      const engine = new MysqlEngine({ kind: "mysql", expectDatabases: [], excludeDatabases: ["unwanted"] });
      await engine.preflight(run);
      const dump = await engine.dump(run);
      const path = join(directory, "databases/app.sql.zst");
      const whole = readFileSync(path);
      const changed = Buffer.from(whole);
      changed.writeUInt8(changed.readUInt8(whole.length >> 1) ^ 1, whole.length >> 1);
      const longer = Buffer.concat([whole, Buffer.from("x")]);
      writeFileSync(path, { cut: whole.subarray(0, -1), longer, changed }[how] ?? "");
      await expect(engine.verify(run, dump)).rejects.toThrow("databases/app.sql.zst is damaged");
      writeFileSync(path, whole);
      expect(await engine.verify(run, dump)).toContain("read back from the target and equal to what the server gave: 3 databases");
    });
  });
});

describe("writers during the dump", () => {
  const TOTAL = 100_000;
  let writers: ReturnType<MariaDb["session"]>[] = [];
  let copy: MariaDb | undefined;

  beforeAll(async () => {
    copy = await MariaDb.start({ port: 3307 });
    server.sql(`CREATE DATABASE bank; USE bank; CREATE TABLE account (id INT PRIMARY KEY, amount INT);
      INSERT INTO account SELECT seq, ${TOTAL / 100} FROM seq_1_to_100;
      CREATE TABLE still (id INT PRIMARY KEY, text VARCHAR(300)); INSERT INTO still SELECT seq, REPEAT('x),(', 60) FROM seq_1_to_20000;
      CREATE TABLE queue (id INT AUTO_INCREMENT PRIMARY KEY, job INT) ; INSERT INTO queue (job) SELECT seq FROM seq_1_to_50;
      DELIMITER ;;
      CREATE PROCEDURE transfer() LOOP
        START TRANSACTION;
        SET @n = FLOOR(RAND() * 50);
        UPDATE account SET amount = amount - @n WHERE id = 1 + @n;
        UPDATE account SET amount = amount + @n WHERE id = 100 - @n;
        COMMIT;
        DO SLEEP(0.001);
      END LOOP;;
      CREATE PROCEDURE work() LOOP
        INSERT INTO queue (job) VALUES (1);
        DELETE FROM queue ORDER BY id LIMIT 1;
        DO SLEEP(0.001);
      END LOOP;;
      DELIMITER ;`);
    await atRest();
    writers = ["transfer", "work", "work"].map((procedure) => {
      const session = server.session();
      session.stdin?.write(`USE bank; CALL ${procedure}();\n`);
      return session;
    });
  });

  afterAll(() => {
    void copy?.stop("SIGKILL");
    for (const writer of writers) writer.kill("SIGKILL");
    killConnections("DB = 'bank'");
    server.sql("DROP DATABASE bank");
  });

  test("leave every dump at one moment, and raise no alarm in 20 runs", async () => {
    const sums: string[] = [];
    const checks: string[] = [];
    for (let round = 0; round < 20; round++) {
      await withAgent({ env: environment() }, async ({ run, directory }) => {
        const engine = new MysqlEngine({ kind: "mysql", expectDatabases: ["bank"], excludeDatabases: ["unwanted", "app", "hollow", ODD] });
        await engine.preflight(run);
        const dump = await engine.dump(run);
        checks.push(...(await engine.verify(run, dump)));
        const sql = spawnSync("zstd", ["-dc", join(directory, "databases/bank.sql.zst")], { encoding: "utf8", maxBuffer: 2 ** 30 }).stdout;
        copy?.sql("CREATE OR REPLACE DATABASE bank");
        copy?.sql(sql, "bank");
        sums.push(String(copy?.sql("SELECT SUM(amount), COUNT(*) FROM account", "bank")));
      });
    }
    expect(sums).toEqual(new Array(20).fill(`${TOTAL}\t100`));
    const said = checks.filter((check) => check.startsWith("bank"));
    expect(said).toHaveLength(20);
    for (const check of said) expect(check).toMatch(/, but for tables that were being written to: (account, )?queue$/);
  });

  test("do not hide a loss in a table at rest", async () => {
    const images = instead('real-dump "$@" | sed "/^(77,.x/d"', ["sed"]);
    expect(failure(await backUp({ images }))).toBe("bank: the dump differs from the server: still (19999 of 20000 rows)");
  });
});

