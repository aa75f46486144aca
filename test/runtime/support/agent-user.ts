import { PodAgent } from "../../../lib/runtime/pod-agent";

/** A runner in a process of its own: asks for a verb, says when its output begins, and stays; or ends at once. */
const [exchange = "", verb] = process.argv.slice(2);
const agent = new PodAgent({ exchange, signal: new AbortController().signal, log: () => undefined, onDeath: () => undefined });
if (verb === undefined) process.exit(1);
agent.request(verb).output.once("data", () => console.log("begun"));
