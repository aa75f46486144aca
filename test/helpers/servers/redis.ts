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
  /** What it logs when it counts as started. @default - that it accepts connections, which it says once it has loaded its data */
  readonly ready?: RegExp;
}

/** A uid that is nobody's: the server writes as it, and needs no more. */
const UID = 6379;

/** A real Redis server with a directory of its own; it saves nothing unless told to. */
export class Redis {
  /** Resolves when it answers. */
  public static async start(options: RedisOptions = {}): Promise<Redis> {
    const server = new Redis({ port: 6379, settings: {}, directory: Redis.directory(), ready: /Ready to accept connections/, ...options });
    await server.up();
    return server;
  }

  /** A directory that the server can write. */
  public static directory(): string {
    return temporaryDirectory("redis", UID);
  }

  private process: ManagedProcess | undefined;

  private constructor(private readonly options: Required<Omit<RedisOptions, "password">> & Pick<RedisOptions, "password">) {}

  public get directory(): string {
    return this.options.directory;
  }

  /** Starts the server again after {@link stop}. */
  public async up(): Promise<void> {
    const { port, password, settings, directory, ready } = this.options;
    const all = {
      ...{ port: String(port), bind: "127.0.0.1", dir: directory, unixsocket: join(directory, "socket") },
      ...{ save: "", "enable-debug-command": "yes" },
      ...(password === undefined ? {} : { requirepass: password }),
      ...settings,
    };
    const args = Object.entries(all).flatMap(([name, value]) => [`--${name}`, value]);
    this.process = await startProcess({ command: "redis-server", args, uid: UID, cwd: directory, ready: { log: ready } });
    await waitFor(() => !this.call("PING").includes("Could not connect"), "redis-server to answer");
  }

  /** Ends the server, which forgets what it has not saved. */
  public async stop(signal: NodeJS.Signals = "SIGTERM"): Promise<void> {
    await this.process?.stop(signal);
  }

  /** One command; the reply as text, an error included. */
  public call(...command: readonly string[]): string {
    return this.client(command, "");
  }

  /** Commands one a line, quoted as redis-cli wants them; the replies as text. */
  public pipe(commands: readonly string[]): string {
    return this.client([], `${commands.join("\n")}\n`);
  }

  private client(args: readonly string[], input: string): string {
    const { port, password } = this.options;
    const env = { PATH: process.env.PATH, ...(password === undefined ? {} : { REDISCLI_AUTH: password }) };
    const options = { env, input, encoding: "utf8", maxBuffer: 2 ** 28 } as const;
    const { stdout, stderr } = spawnSync(hostProgram("redis-cli"), ["-p", String(port), ...args], options);
    return `${stdout}${stderr}`.trimEnd();
  }
}
