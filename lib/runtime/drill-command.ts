import { existsSync } from "node:fs";
import { EXIT, GRACE_MS, LAST_WORD_MS, report, verdictOf, type Command } from "./commands";
import type { DrillEngine } from "./drill";
import { drill, drillSamples } from "./drill-run";
import { whyNotDue } from "./due";
import { log } from "./log";
import { METRICS } from "./metrics";
import { PodAgent } from "./pod-agent";
import type { Settings } from "./settings";
import { unlessAborted, within } from "./within";

/** The command `drill`, for one engine. */
export function drillCommand(engineFor: (settings: Settings) => DrillEngine): Command {
  return {
    help: "restore the newest generation into a scratch instance and compare it with what was backed up",
    run: async ({ settings, paths: { exchange, scratch, work }, control, mounted }) => {
      const { signal } = control;
      let code: number = EXIT.done;
      try {
        // First of all: the engine's container waits for its pipes, and has nothing else to end it.
        const onDeath = (error: Error): void => control.abort(error);
        const agent = existsSync(exchange) ? new PodAgent({ exchange, signal, log, onDeath }) : undefined;
        const notDue = whyNotDue(settings, process.env.JOB_NAME);
        if (notDue !== undefined) {
          log(notDue);
          await agent?.exit();
          return EXIT["not due"];
        }
        await unlessAborted(signal, GRACE_MS, drill({ settings, engine: engineFor(settings), agent, scratch, work, signal, log, mounted }));
      } catch (error) {
        const failure = verdictOf(error, signal);
        log(`drill failed: ${failure.reason}`);
        code = failure.code;
      }
      const target = within(LAST_WORD_MS, "the target does not answer", drillSamples(settings, mounted));
      await report(settings, signal, [
        [METRICS.drillLastRun, Math.floor(Date.now() / 1000)],
        [METRICS.drillLastExitCode, code],
        [METRICS.drillProven, code === EXIT.done ? 1 : 0],
        ...(await target.catch(() => [])),
      ]);
      return code;
    },
  };
}
