import { existsSync } from "node:fs";
import { EXIT, GRACE_MS, LAST_WORD_MS, report, verdictOf, type Command } from "./commands";
import type { DrillEngine } from "./drill";
import { drill, drillSamples, readStaged, stage, type Staged } from "./drill-run";
import { whyNotDue } from "./due";
import { log } from "./log";
import { METRICS } from "./metrics";
import { PodAgent } from "./pod-agent";
import type { Settings } from "./settings";
import type { Mounted } from "./target";
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
        const engine = engineFor(settings);
        // A container cannot tell those after it that there is nothing to do: a drill that is staged is made whenever its pod is.
        const notDue = engine.stage === undefined ? whyNotDue(settings, process.env.JOB_NAME) : undefined;
        if (notDue !== undefined) {
          log(notDue);
          await agent?.exit();
          return EXIT["not due"];
        }
        const staged = engine.stage === undefined ? undefined : await readStaged(work);
        const drilled = drill({ settings, engine, agent, scratch, work, staged, signal, log, mounted });
        await unlessAborted(signal, GRACE_MS, drilled).finally(() => release(engine, staged, signal));
      } catch (error) {
        const failure = verdictOf(error, signal);
        log(`drill failed: ${failure.reason}`);
        code = failure.code;
      }
      await reportDrill(settings, signal, code, mounted);
      return code;
    },
  };
}

/** The command `stage`, for an engine that prepares its drill in a container of its own. */
export function stageCommand(engineFor: (settings: Settings) => DrillEngine): Command {
  return {
    help: "prepare the drill of the newest generation for the containers that come after this one",
    run: async ({ settings, paths: { scratch, work }, control, mounted }) => {
      const { signal } = control;
      let code: number = EXIT.done;
      try {
        await unlessAborted(signal, GRACE_MS, stage({ settings, engine: engineFor(settings), scratch, work, signal, log, mounted }));
      } catch (error) {
        const failure = verdictOf(error, signal);
        log(`drill failed: ${failure.reason}`);
        code = failure.code;
      }
      // Where a container between this one and the drill fails, nobody else will say so.
      await reportDrill(settings, signal, code === EXIT.done ? EXIT.failed : code, mounted);
      return code;
    },
  };
}

/** What is told to stop has its containers ended by the kubelet. */
async function release(engine: DrillEngine, staged: Staged | undefined, signal: AbortSignal): Promise<void> {
  if (staged === undefined || signal.aborted) return;
  await engine.release?.(staged.name, signal).catch((error: Error) => log(`warning: ${error.message}`));
}

async function reportDrill(settings: Settings, signal: AbortSignal, code: number, mounted: Mounted | undefined): Promise<void> {
  const target = within(LAST_WORD_MS, "the target does not answer", drillSamples(settings, mounted));
  await report(settings, signal, [
    [METRICS.drillLastRun, Math.floor(Date.now() / 1000)],
    [METRICS.drillLastExitCode, code],
    [METRICS.drillProven, code === EXIT.done ? 1 : 0],
    ...(await target.catch(() => [])),
  ]);
}
