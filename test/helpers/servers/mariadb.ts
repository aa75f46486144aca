import { spawn, spawnSync, type ChildProcess } from "node:child_process";
import { cpSync } from "node:fs";
import { join } from "node:path";
import { hostProgram, type ImageProfile } from "../pod";
import type { Finished } from "../process";
import { startProcess, temporaryDirectory, waitFor, type ManagedProcess } from "../process";

/** What mariadb-install-db, a shell script, works with. */
export const INSTALLING = ["mariadb-install-db", "my_print_defaults", "resolveip", "cat", "chmod", "chown", "dirname", "mkdir", "sed", "uname", "test"];
/** The image whose programs are those of this machine, with the server that a drill starts. */
export const MARIADB_IMAGE: ImageProfile = {
  tools: ["sh", "sleep", "mariadb", "mariadb-dump", "id", "mariadbd", "mariadb-tzinfo-to-sql", ...INSTALLING],
};

export interface MariaDbOptions {
  /** On 127.0.0.1; root logs in through the socket. @default 3306 */
  readonly port?: number;
  /** Further options of the server. @default [] */
  readonly args?: readonly string[];
}

/** An empty data directory, made once for each process. */
let template: string | undefined;

/** A real MariaDB server with a data directory of its own. */
export class MariaDb {
  /** Starts a server without databases; resolves when it answers. */
  public static async start({ port = 3306, args = [] }: MariaDbOptions = {}): Promise<MariaDb> {
    template ??= install();
    const directory = temporaryDirectory("mariadb");
    cpSync(template, join(directory, "data"), { recursive: true });
    const server = new MariaDb(directory, port, args);
    await server.up();
    return server;
  }

  public readonly socket: string;
  private process: ManagedProcess | undefined;

  private constructor(
    private readonly directory: string,
    public readonly port: number,
    private readonly args: readonly string[],
  ) {
    this.socket = join(directory, "socket");
  }

  /** Starts the server again after {@link stop}. */
  public async up(): Promise<void> {
    const options = [
      ...["--no-defaults", "--user=root", `--datadir=${join(this.directory, "data")}`, `--socket=${this.socket}`, `--port=${this.port}`],
      ...["--bind-address=127.0.0.1", `--pid-file=${join(this.directory, "pid")}`, "--skip-name-resolve", "--innodb-log-file-size=48M"],
      ...["--innodb-flush-method=nosync", "--innodb-flush-log-at-trx-commit=0"],
      ...["--character-set-server=utf8mb4", "--collation-server=utf8mb4_unicode_ci"],
    ];
    this.process = await startProcess({ command: "mariadbd", args: [...options, ...this.args], ready: { log: /ready for connections/ } });
    await waitFor(() => this.client(["-e", "SELECT 1"]).status === 0, "mariadbd to answer");
  }

  /** Ends the server and keeps its data. */
  public async stop(signal: NodeJS.Signals = "SIGTERM"): Promise<void> {
    await this.process?.stop(signal);
  }

  /** Runs SQL as root; rows one a line, fields parted by tabs. @throws Error on the first statement that fails */
  public sql(statements: string, database?: string): string {
    const { status, stdout, stderr } = this.client(database === undefined ? [] : [database], statements);
    if (status !== 0) throw new Error(`mariadb: ${stderr}`);
    return stdout.trimEnd();
  }

  /** A client of root that stays, and does what is written to its standard input: for locks and writers. */
  public session(): ChildProcess {
    return spawn(hostProgram("mariadb"), [...this.login(), "--unbuffered"], { stdio: ["pipe", "pipe", "inherit"] });
  }

  private client(args: readonly string[], input = ""): Finished {
    return spawnSync(hostProgram("mariadb"), [...this.login(), ...args], { input, encoding: "utf8", maxBuffer: 2 ** 30 });
  }

  private login(): readonly string[] {
    const how = ["--no-defaults", "--user=root", `--socket=${this.socket}`, "--default-character-set=utf8mb4"];
    // Comments are part of a stored program, and the client drops them unless told otherwise.
    return [...how, "--comments", "--batch", "--skip-column-names", "--max-allowed-packet=1G"];
  }
}

function install(): string {
  const directory = temporaryDirectory("mariadb-template");
  const { status, stdout, stderr } = spawnSync(
    hostProgram("mariadb-install-db"),
    ["--no-defaults", `--datadir=${directory}`, "--auth-root-authentication-method=normal", "--skip-test-db", "--user=root"],
    { encoding: "utf8" },
  );
  if (status !== 0) throw new Error(`mariadb-install-db: ${stdout}${stderr}`);
  return directory;
}
