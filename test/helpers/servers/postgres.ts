import { spawn, spawnSync, type ChildProcess } from "node:child_process";
import { appendFileSync } from "node:fs";
import { join } from "node:path";
import { hostProgram } from "../pod";
import { startProcess, temporaryDirectory, type ManagedProcess } from "../process";

export interface PostgresOptions {
  /** On 127.0.0.1, with passwords; the superuser logs in through the socket. @default 5432 */
  readonly port?: number;
  /** Name of the superuser. @default "postgres" */
  readonly superuser?: string;
  /** Settings of the server, as in postgresql.conf. @default {} */
  readonly settings?: { readonly [name: string]: string };
}

export interface ProgramOptions {
  /** @default "postgres" */
  readonly database?: string;
  /** Standard input. @default - empty */
  readonly input?: string | Buffer;
}

/** Empty data directories by superuser, made once for each process. */
const templates = new Map<string, string>();

/** A real PostgreSQL server with a data directory of its own, run by Debian's user `postgres`, as it refuses root. */
export class Postgres {
  /** Starts a server without databases of its own; resolves when it answers. */
  public static async start({ port = 5432, superuser = "postgres", settings = {} }: PostgresOptions = {}): Promise<Postgres> {
    const uid = userId();
    let template = templates.get(superuser);
    if (template === undefined) {
      template = initialise(superuser, uid);
      templates.set(superuser, template);
    }
    const directory = temporaryDirectory("postgres", uid);
    spawnSync("cp", ["-a", template, join(directory, "data")]);
    const fast = { fsync: "off", full_page_writes: "off", max_wal_size: "2GB" };
    const own = { listen_addresses: "127.0.0.1", unix_socket_directories: directory };
    for (const [name, value] of Object.entries({ ...fast, ...own, ...settings })) {
      appendFileSync(join(directory, "data/postgresql.conf"), `${name} = '${value.replaceAll("'", "''")}'\n`);
    }
    const server = new Postgres(directory, port, superuser, uid);
    await server.up();
    return server;
  }

  private process: ManagedProcess | undefined;

  private constructor(
    /** Directory of the socket, which libpq takes for a host. */
    public readonly socket: string,
    public readonly port: number,
    public readonly superuser: string,
    private readonly uid: number,
  ) {}

  /** What makes libpq's programs log in as the superuser. */
  public get env(): { readonly [name: string]: string } {
    return { PATH: process.env.PATH ?? "", PGHOST: this.socket, PGPORT: String(this.port), PGUSER: this.superuser, PGDATABASE: "postgres" };
  }

  /** Starts the server again after {@link stop}. */
  public async up(): Promise<void> {
    this.process = await startProcess({
      command: "postgres",
      args: ["-D", join(this.socket, "data"), "-p", String(this.port)],
      uid: this.uid,
      ready: { log: /database system is ready to accept connections/ },
    });
  }

  /** Ends the server and keeps its data. */
  public async stop(): Promise<void> {
    await this.process?.stop("SIGINT");
  }

  /** Runs SQL as the superuser; rows one a line, fields parted by `|`. @throws Error on the first statement that fails */
  public sql(statements: string, database = "postgres"): string {
    return this.run("psql", ["-XqAt", "-v", "ON_ERROR_STOP=1"], { database, input: statements }).trimEnd();
  }

  /** Runs a program of PostgreSQL as the superuser. @throws Error unless it ends with 0 and says nothing on standard error */
  public run(program: string, args: readonly string[], { database = "postgres", input = "" }: ProgramOptions = {}): string {
    const env = { ...this.env, PGDATABASE: database };
    const { status, stdout, stderr } = spawnSync(hostProgram(program), args, { env, input, encoding: "utf8", maxBuffer: 2 ** 30 });
    if (status !== 0 || /ERROR|FATAL|error/.test(stderr)) throw new Error(`${program} ended with ${status}: ${stderr}`);
    return stdout;
  }

  /** A session of the superuser that stays, and does what is written to its standard input: for locks and writers. */
  public session(database = "postgres"): ChildProcess {
    return spawn(hostProgram("psql"), ["-XqAt"], { env: { ...this.env, PGDATABASE: database }, stdio: ["pipe", "pipe", "inherit"] });
  }
}

/** Debian's user for the server. */
function userId(): number {
  const { status, stdout } = spawnSync("id", ["-u", "postgres"], { encoding: "utf8" });
  if (status !== 0) throw new Error("the host has no user postgres, which comes with the Debian package");
  return Number(stdout);
}

function initialise(superuser: string, uid: number): string {
  const directory = temporaryDirectory("postgres-template", uid);
  const options = ["--no-sync", "--encoding=UTF8", "--locale=C.UTF-8", "--auth-local=trust", "--auth-host=scram-sha-256"];
  const args = ["-D", join(directory, "data"), "--username", superuser, ...options];
  const { status, stdout, stderr } = spawnSync(hostProgram("initdb"), args, { uid, gid: uid, encoding: "utf8" });
  if (status !== 0) throw new Error(`initdb: ${stdout}${stderr}`);
  return join(directory, "data");
}
