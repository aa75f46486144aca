import { spawn } from "node:child_process";
import { resolve } from "node:path";
import { text } from "node:stream/consumers";

const PROJECT = resolve(__dirname, "..");

/**
 * Runs a measurement where the tests of engines run, as pods and servers need root and a network of their own.
 *
 * @param what file below `bench`, without its ending, that prints what it measured as JSON
 */
export async function measure<T>(what: string): Promise<T> {
  const node = resolve(PROJECT, "node_modules/node/bin/node");
  const args = ["test/engines/namespace.sh", node, "-r", "ts-node/register/transpile-only", `bench/${what}.ts`];
  const child = spawn("sh", args, { cwd: PROJECT, stdio: ["ignore", "pipe", "inherit"] });
  const [output, status] = await Promise.all([text(child.stdout), new Promise((done) => child.on("exit", done))]);
  if (status !== 0) throw new Error(`the measurement ${what} did not end well, for the reason above`);
  return JSON.parse(output) as T;
}
