import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { hostProgram } from "../pod";
import { startProcess, temporaryDirectory, waitFor, type ManagedProcess } from "../process";

export interface RedisOptions {
  /** On 127.0.0.1. @default 6379 */
  readonly port?: number;
  /** Password of the default user, which the methods use. @default - none */
  readonly password?: string;
  /** Settings as in redis.conf. @default {} */
  readonly settings?: { readonly [name: string]: string };
  /** Where its files are. @default - a new directory */
  readonly directory?: string;
}

/** A uid that is nobody's: the server writes as it, and needs no more. */
const UID = 6379;

/** A real Redis server with a directory of its own; it saves nothing unless told to. */
export class Redis {
  /** Resolves when it answers, be it that it still loads. */
  public static async start({ port = 6379, password, settings = {}, directory = Redis.directory() }: RedisOptions = {}): Promise<Redis> {
    const server = new Redis(directory, port, password, settings);
    await server.up();
    return server;
  }

  /** A directory that the server can write. */
  public static directory(): string {
    return temporaryDirectory("redis", UID);
  }

  private process: ManagedProcess | undefined;

  private constructor(
    public readonly directory: string,
    public readonly port: number,
    private readonly password: string | undefined,
    private readonly settings: { readonly [name: string]: string },
  ) {}

  /** Path of a socket without a port. */
  public get socket(): string {
    return join(this.directory, "socket");
  }

  /** Starts the server again after {@link stop}. */
  public async up(): Promise<void> {
    const settings = {
      ...{ port: String(this.port), bind: "127.0.0.1", dir: this.directory, unixsocket: this.socket, save: "", "enable-debug-command": "yes" },
      ...(this.password === undefined ? {} : { requirepass: this.password }),
      ...this.settings,
    };
    const args = Object.entries(settings).flatMap(([name, value]) => [`--${name}`, value]);
    this.process = await startProcess({ command: "redis-server", args, uid: UID, cwd: this.directory, ready: { log: /Ready to accept connections|is now ready/ } });
    await waitFor(() => !this.call("PING").includes("Could not connect"), "redis-server to answer");
  }

  /** Ends the server. It saves what it holds only if it is told to. */
  public async stop(signal: NodeJS.Signals = "SIGTERM"): Promise<void> {
    await this.process?.stop(signal);
  }

  /** One command; the reply as text. */
  public call(...command: readonly string[]): string {
    return this.client(command, "");
  }

  /** Commands one a line; the last replies as text. */
  public pipe(commands: readonly string[]): string {
    return this.client([], `${commands.join("\n")}\n`);
  }

  private client(args: readonly string[], input: string): string {
    const env = { PATH: process.env.PATH, ...(this.password === undefined ? {} : { REDISCLI_AUTH: this.password }) };
    const { stdout, stderr } = spawnSync(hostProgram("redis-cli"), ["-p", String(this.port), ...args], { env, input, encoding: "utf8", maxBuffer: 2 ** 28 });
    return `${stdout}${stderr}`.trimEnd();
  }
}
