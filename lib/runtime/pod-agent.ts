import { execFileSync } from "node:child_process";
import { closeSync, constants, existsSync, fstatSync, mkdirSync, openSync, readSync, renameSync, rmSync, writeSync } from "node:fs";
import { Socket } from "node:net";
import { join } from "node:path";
import { PassThrough, type Readable } from "node:stream";
import { finished } from "node:stream/promises";
import { text } from "node:stream/consumers";
import { setTimeout as sleep } from "node:timers/promises";
import { AgentError, type Agent, type Answer } from "./agent";
import { within } from "./within";

/** A request is written at once, so it must fit what a pipe takes atomically. */
const MAX_REQUEST_BYTES = 4096;
const STDERR_TAIL_BYTES = 65_536;
/** A verb that has closed its output has its status written, or it was killed. */
const STATUS_MS = 10_000;
const BEGIN_MS = 60_000;
/** For a pipe that has no reader yet: opening it for writing alone would fail. */
const BOTH_WAYS = constants.O_RDWR | constants.O_NONBLOCK;

/** How the engine's container is reached. */
export interface PodAgentOptions {
  /** Directory shared with the engine's container; no pipes in it yet. */
  readonly exchange: string;
  /** Ends every wait. */
  readonly signal: AbortSignal;
  readonly log: (message: string) => void;
  /** Called once when the container died unasked. */
  readonly onDeath: (error: Error) => void;
  /** How long the container may take to start (its image may have to be pulled). @default 300 */
  readonly startSeconds?: number;
}

/**
 * The engine's container of this pod, which runs `agent.sh`, reached through named pipes.
 *
 * No pipe is ever opened or read in a way that blocks: the pool that Node does its file work in has
 * four threads, and a blocked one would take compression and disk writes with it.
 */
export class PodAgent implements Agent {
  private readonly requests: number;
  private readonly gone: Promise<never>;
  private readonly ready: Promise<void>;
  private turn: Promise<void> = Promise.resolve();
  private leaving = false;
  private readonly death = new Error("the engine's container died");
  private onStatus: (line: string) => void = () => undefined;

  /** Makes the pipes. The container may start before or after this. */
  public constructor(private readonly options: PodAgentOptions) {
    const { exchange, signal, startSeconds = 300 } = options;
    mkdirSync(this.path("out"), { recursive: true });
    this.makePipes("request", "status", ".alive");
    const alive = this.reader(".alive");
    const status = this.reader("status");
    this.requests = openSync(this.path("request"), BOTH_WAYS);
    // The container waits for this name, and so finds every pipe opened.
    renameSync(join(exchange, ".alive"), this.path("alive"));

    let rest = "";
    status.on("data", (chunk) => {
      const lines = (rest + chunk.toString()).split("\n");
      rest = lines.pop() ?? "";
      for (const line of lines) this.onStatus(line);
    });
    this.gone = new Promise((_, reject) => {
      const abort = (): void => {
        reject(signal.reason as Error);
        this.leaving = true;
        for (const pipe of [alive, status]) pipe.destroy();
        // The container sees the end of the requests, and stops what it is doing.
        closeSync(this.requests);
      };
      if (signal.aborted) abort();
      else signal.addEventListener("abort", abort, { once: true });
      alive.once("close", () => {
        reject(this.death);
        // The request that was under way says more, and goes first.
        if (!this.leaving) setImmediate(() => options.onDeath(this.death));
      });
    });
    this.gone.catch(() => undefined);
    const started = new Promise<void>((resolve) => alive.once("data", () => resolve()));
    const late = `the engine's container did not start within ${startSeconds} s`;
    this.ready = within(startSeconds * 1000, late, Promise.race([started, this.gone]));
    this.ready.catch(() => undefined);
  }

  public request(verb: string, argument = "", input?: Readable): Answer {
    const line = `${verb}\n${argument}\n`;
    if (/[\n\0]/.test(verb + argument) || Buffer.byteLength(line) > MAX_REQUEST_BYTES) {
      const got = JSON.stringify(argument.slice(0, 100));
      throw new Error(`${verb}: the argument must be one line of at most ${MAX_REQUEST_BYTES} bytes, but got ${got}`);
    }
    const output = new PassThrough();
    const done = this.perform(verb, line, output, input);
    // Whoever reads the output learns of the failure there: it has no end then.
    done.catch((error: Error) => output.destroy(error));
    output.on("error", () => undefined);
    return { output, done };
  }

  public async text(verb: string, argument?: string, input?: Readable): Promise<string> {
    const answer = this.request(verb, argument, input);
    const [result] = await Promise.all([text(answer.output), answer.done]);
    return result.trim();
  }

  /** Lets the container end with status 0 and waits until it has. */
  public async exit(): Promise<void> {
    await this.turn;
    await this.ready;
    this.options.signal.throwIfAborted();
    this.leaving = true;
    writeSync(this.requests, "exit\n\n");
    await within(30_000, "the engine's container did not end within 30 s", this.gone).catch((error: Error) => {
      if (error !== this.death) throw error;
    });
  }

  private async perform(verb: string, line: string, output: PassThrough, input?: Readable): Promise<void> {
    const previous = this.turn;
    let release = (): void => undefined;
    this.turn = new Promise((resolve) => (release = resolve));
    try {
      await Promise.race([previous, this.gone]);
      await this.ready;
      const status = await this.run(line, output, input);
      const stderr = this.stderr();
      for (const text of stderr === "" ? [] : stderr.split("\n")) this.options.log(`${verb}: ${text}`);
      if (status !== 0) throw new AgentError(verb, status, stderr);
      output.end();
    } finally {
      release();
    }
  }

  /** One verb from request to status; undefined where it, or the container, ended without one. */
  private async run(line: string, output: PassThrough, input?: Readable): Promise<number | undefined> {
    this.options.signal.throwIfAborted();
    // New pipes for every verb: what an earlier one left unread, or left running, is on the old ones.
    for (const name of ["input", "output", "stderr"]) rmSync(this.path(name), { force: true });
    this.makePipes("input", "output");
    const pipe = this.reader("output");
    const feed = new Socket({ fd: openSync(this.path("input"), BOTH_WAYS), readable: false });
    feed.on("error", () => undefined);
    pipe.on("error", () => undefined);
    output.once("close", () => pipe.destroy());
    try {
      let begin = (): void => undefined;
      const begun = new Promise<void>((resolve) => (begin = resolve));
      const status = new Promise<number>((resolve) => {
        this.onStatus = (text) => (text === "begin" ? begin() : resolve(Number(text)));
      });
      writeSync(this.requests, line);
      await within(BEGIN_MS, "the engine's container did not take a request", Promise.race([begun, this.gone]));
      pipe.pipe(output, { end: false });
      let inputError: Error | undefined;
      void this.feed(feed, input).catch((error: Error) => (inputError = error)).finally(() => feed.destroy());
      await Promise.race([finished(pipe).catch(() => status), this.gone]);
      const code = await Promise.race([status, this.gone, sleep(STATUS_MS, undefined, { ref: false })]);
      // An input that broke off looks to the verb like one that ended.
      if (inputError !== undefined) throw inputError;
      return code;
    } catch (error) {
      if (error === this.death) return undefined;
      throw error;
    } finally {
      pipe.destroy();
      feed.destroy();
      input?.destroy();
    }
  }

  private async feed(pipe: Socket, input?: Readable): Promise<void> {
    for await (const chunk of input ?? []) {
      if (pipe.destroyed) break;
      await new Promise<void>((resolve) => pipe.write(chunk as Buffer, () => resolve()));
    }
  }

  /** By the only program that the runner needs: Node has no call for it. */
  private makePipes(...names: readonly string[]): void {
    execFileSync("mkfifo", ["-m", "600", ...names.map((name) => this.path(name))]);
  }

  /** Never blocks, and waits for a writer instead of taking its absence for the end. */
  private reader(name: string): Socket {
    return new Socket({ fd: openSync(this.path(name), constants.O_RDONLY | constants.O_NONBLOCK), writable: false });
  }

  /** The end of what the last verb wrote to standard error; nothing where the container died before it began. */
  private stderr(): string {
    if (!existsSync(this.path("stderr"))) return "";
    const fd = openSync(this.path("stderr"), "r");
    try {
      const buffer = Buffer.alloc(STDERR_TAIL_BYTES);
      const start = Math.max(0, fstatSync(fd).size - STDERR_TAIL_BYTES);
      return buffer.toString("utf8", 0, readSync(fd, buffer, 0, STDERR_TAIL_BYTES, start)).trim();
    } finally {
      closeSync(fd);
    }
  }

  private path(name: string): string {
    return join(this.options.exchange, name);
  }
}
