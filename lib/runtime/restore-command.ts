import { existsSync } from "node:fs";
import { EXIT, GRACE_MS, verdictOf, type Command } from "./commands";
import type { Engine } from "./engine";
import { log } from "./log";
import { PodAgent } from "./pod-agent";
import type { RestoreEngine } from "./restore";
import { OPTIONS, restore } from "./restore-run";
import type { Settings } from "./settings";
import { unlessAborted } from "./within";

/** The command `restore`, for one engine. */
export function restoreCommand(restorerFor: (settings: Settings) => RestoreEngine, engineFor: (settings: Settings) => Engine): Command {
  return {
    help: "put a generation back; which one, and where, is said by environment variables",
    run: async ({ settings, paths: { exchange, scratch }, control, mounted }) => {
      const { signal } = control;
      try {
        // First of all: the engine's container waits for its pipes, and has nothing else to end it.
        const onDeath = (error: Error): void => control.abort(error);
        const agent = existsSync(exchange) ? new PodAgent({ exchange, signal, log, onDeath }) : undefined;
        const restorer = restorerFor(settings);
        const known = { ...OPTIONS, ...restorer.options };
        const options = Object.fromEntries(Object.keys(known).map((name) => [name, process.env[name]]));
        for (const [name, meaning] of Object.entries(known)) log(`${name}=${options[name] ?? ""}   ${meaning}`);
        const engine = engineFor(settings);
        const work = restore({ settings, restorer, engine, options, agent, scratch, control, log, mounted });
        return EXIT[await unlessAborted(signal, GRACE_MS, work)];
      } catch (error) {
        const { code, reason } = verdictOf(error, signal);
        log(`restore failed: ${reason}`);
        return code;
      }
    },
  };
}
