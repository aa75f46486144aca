import { existsSync, open } from "node:fs";
import { join } from "node:path";
import { Readable } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";
import type { Engine, Run } from "../../../lib/runtime/engine";
import type { IntegrityCheck } from "../../../lib/runtime/integrity-run";
import type { ManifestFile } from "../../../lib/runtime/manifest";
import { backupCommand } from "../../../lib/runtime/backup-command";
import { end, runCommand } from "../../../lib/runtime/commands";
import { integrityCommand } from "../../../lib/runtime/integrity-command";

/** The runner with an engine, or a check, that does what its second argument says, below the root that its first one names. */
const [root = "", behaviour = "well", command = "backup"] = process.argv.slice(2);
/** Where the test mounts something, the kernel is asked; elsewhere it is taken for granted. */
const mounted = process.env.MOUNTED === "ask" ? undefined : (): Promise<boolean> => Promise.resolve(true);

async function* slowly(chunks: number): AsyncGenerator<Buffer> {
  for (let index = 0; index < chunks; index++) {
    yield Buffer.alloc(50_000, index);
    await sleep(1);
  }
}

const dumps: { readonly [behaviour: string]: (run: Run) => Promise<ManifestFile | void> } = {
  well: async () => undefined,
  fails: async () => Promise.reject(new Error("the source is\n  broken")),
  waits: (run) => {
    run.log("waiting");
    setInterval(() => undefined, 1000);
    return new Promise((_, reject) => run.signal.addEventListener("abort", () => reject(run.signal.reason as Error)));
  },
  // Threads of the pool hang in a system call, as they do on a file server that does not answer.
  hangs: (run) => {
    run.log("waiting");
    return new Promise(() => open(join(root, "pipe"), "r", () => undefined));
  },
  throws: (run) => {
    setTimeout(() => {
      throw new Error("thrown by nobody's call");
    }, 5);
    return sleep(60_000, undefined, { signal: run.signal });
  },
  rejects: (run) => {
    void Promise.reject(new Error("rejected and not awaited"));
    return sleep(60_000, undefined, { signal: run.signal });
  },
  // Goes on when the test has done what it does to the target meanwhile.
  pauses: async (run) => {
    run.log("waiting");
    while (!existsSync(join(root, "go"))) await sleep(10);
  },
  large: (run) => run.store("large", Readable.from(slowly(400)), { compress: false }),
  forgets: () => new Promise(() => undefined),
  asks: (run) => run.store("answer", run.agent.request("dump", "it's \"all\"").output),
};

const engine: Engine = {
  preflight: async () => ({ versions: {} }),
  dump: async (run) => {
    const own = await dumps[behaviour]?.(run);
    const files = [
      ...(own === undefined ? [] : [own]),
      await run.store("a", Readable.from(slowly(10))),
      await run.store("b/c", Readable.from(slowly(3)), { compress: false }),
    ];
    return { files, fingerprint: {} };
  },
  verify: async () => [],
};
const checkIntegrity: IntegrityCheck = async (_, log) => {
  if (behaviour === "waits") {
    log("waiting");
    await sleep(60_000);
  }
  if (behaviour === "fails") throw new Error("the check is broken");
  return { state: behaviour as "ok", detail: behaviour === "ok" ? "" : `found ${behaviour}` };
};
const paths = { config: join(root, "config"), exchange: join(root, "exchange"), scratch: join(root, "scratch"), work: join(root, "work") };
const commands = { backup: backupCommand(() => engine), "check-integrity": integrityCommand(checkIntegrity) };
void runCommand(command, paths, commands, mounted).then(end);
