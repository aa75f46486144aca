import type { Readable } from "node:stream";

/** An answer of the engine's container. */
export interface Answer {
  /** Standard output of the verb. Must be read to its end. */
  readonly output: Readable;
  /** Resolves when the verb ended with status 0; rejects with {@link AgentError} otherwise, also when the container died. */
  readonly done: Promise<void>;
}

/** The engine's container, seen from the runner: verbs of the engine's script, one at a time. */
export interface Agent {
  /** @param input standard input of the verb @default - empty */
  request(verb: string, argument?: string, input?: Readable): Answer;
  /** {@link request} for short output, as trimmed text. */
  text(verb: string, argument?: string, input?: Readable): Promise<string>;
}

/** A verb failed, or the container died under it. The message ends with the tool's own last words. */
export class AgentError extends Error {
  public constructor(
    public readonly verb: string,
    /** Exit status; undefined where the container died without one. */
    public readonly status: number | undefined,
    /** Last lines of the tool's standard error. */
    public readonly stderr: string,
  ) {
    const how = status === undefined ? "the engine's container died" : `exit status ${status}`;
    super(`${verb} failed (${how})${stderr === "" ? "" : `: ${stderr.split("\n").at(-1)}`}`);
    this.name = "AgentError";
  }
}
