import { spawn } from "node:child_process";
import { mkdirSync } from "node:fs";
import { join, resolve } from "node:path";
import type { Run } from "../../lib/runtime/engine";
import { PodAgent } from "../../lib/runtime/pod-agent";
import { createRun } from "../../lib/runtime/run";
import { temporaryDirectory } from "./process";

export interface AgentRunOptions {
  /** Environment of the engine's container, with `ENGINE_SCRIPT`. PATH is the host's unless given. */
  readonly env: { readonly [name: string]: string };
  /** @default "dash" */
  readonly shell?: string;
}

/** What an engine is given in a run, with the real `agent.sh` as a process of the host: for tests that look between an engine's steps. */
export interface AgentRun {
  readonly run: Run;
  /** Where artefacts are stored; each call of `work` has a new one. */
  readonly directory: string;
  /** What the program leaves for the runner. */
  readonly out: string;
  readonly log: readonly string[];
}

const AGENT = resolve(__dirname, "../../lib/scripts/agent.sh");

/** Calls `work` with a run whose agent is ready, and ends the agent afterwards. */
export async function withAgent<T>({ env, shell = "dash" }: AgentRunOptions, work: (run: AgentRun) => Promise<T>): Promise<T> {
  const root = temporaryDirectory("agent");
  const [exchange, directory, scratch] = ["exchange", "generation", "scratch"].map((name) => join(root, name)) as [string, string, string];
  for (const path of [exchange, directory, scratch]) mkdirSync(path);
  const control = new AbortController();
  const log: string[] = [];
  const tell = (message: string): void => void log.push(message);
  const agent = new PodAgent({ exchange, signal: control.signal, log: tell, onDeath: (error) => control.abort(error) });
  const child = spawn(shell, [AGENT], { env: { PATH: process.env.PATH, EXCHANGE: exchange, ...env }, stdio: "ignore" });
  const ended = new Promise((resolve) => child.once("exit", resolve));
  try {
    const run = createRun({ directory, scratch, signal: control.signal, log: tell, level: 3, agent });
    const result = await work({ run, directory, out: join(exchange, "out"), log });
    await agent.exit();
    return result;
  } finally {
    child.kill("SIGKILL");
    await ended;
  }
}
