import { existsSync } from "node:fs";
import { backup, explainRetention, targetSamples, type BackupContext } from "./backup-run";
import { EXIT, GRACE_MS, LAST_WORD_MS, report, verdictOf, type Command } from "./commands";
import type { Engine } from "./engine";
import { log } from "./log";
import { METRICS } from "./metrics";
import { PodAgent } from "./pod-agent";
import type { Settings } from "./settings";
import { unlessAborted, within } from "./within";

/** The command `backup`, for one engine. */
export function backupCommand(engineFor: (settings: Settings) => Engine): Command {
  return {
    help: "make a generation of the backup that settings.json declares; DRY_RUN=true: say what the retention would remove, no more",
    run: async ({ settings, paths, control, mounted }) => {
      const { exchange, scratch } = paths;
      const started = Date.now();
      const { signal } = control;
      const { DRY_RUN: dryRun = "", JOB_NAME: jobName } = process.env;
      const isRun = dryRun === "" || dryRun === "false";
      let code: number;
      try {
        // First of all: the engine's container waits for its pipes, and has nothing else to end it.
        const onDeath = (error: Error): void => control.abort(error);
        const agent = existsSync(exchange) ? new PodAgent({ exchange, signal, log, onDeath }) : undefined;
        if (!isRun) {
          if (dryRun !== "true") throw new Error(`DRY_RUN must be 'true' or 'false', but is ${JSON.stringify(dryRun)}`);
          await unlessAborted(signal, GRACE_MS, explainRetention({ settings, log, mounted }));
          await agent?.exit();
          return EXIT.done;
        }
        const context: BackupContext = { settings, engine: engineFor(settings), agent, jobName, scratch, control, log, mounted };
        const outcome = await unlessAborted(signal, GRACE_MS, backup(context));
        if (outcome !== "done") return EXIT[outcome];
        code = EXIT.done;
      } catch (error) {
        const failure = verdictOf(error, signal);
        log(`${isRun ? "backup" : "dry run"} failed: ${failure.reason}`);
        // A look changes nothing, not even what is known of the last run.
        if (!isRun) return failure.code;
        code = failure.code;
      }
      const now = Date.now();
      const target = within(LAST_WORD_MS, "the target does not answer", targetSamples(settings, now, mounted));
      await report(settings, signal, [
        [METRICS.lastRun, Math.floor(now / 1000)],
        [METRICS.lastExitCode, code],
        [METRICS.duration, (now - started) / 1000],
        ...(await target.catch(() => [])),
      ]);
      return code;
    },
  };
}
