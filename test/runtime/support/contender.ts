import { Lock, LockBusy } from "../../../lib/runtime/lock";

/** A contender in a process of its own: does what its parent says, one message at a time, and answers each. */
let lock: Lock | undefined;
let lost = "";

process.on("message", ({ command, directory, leaseSeconds }: { command: string; directory: string; leaseSeconds: number }) => {
  const work = async (): Promise<string> => {
    switch (command) {
      case "acquire":
        lost = "";
        try {
          const owner = `process ${process.pid}`;
          const onLost = (error: Error): void => void (lost = error.message);
          lock = await Lock.acquire(directory, { leaseSeconds, owner, signal: new AbortController().signal, onLost });
          return "won";
        } catch (error) {
          return error instanceof LockBusy ? "busy" : `error: ${(error as Error).message}`;
        }
      case "check":
        return (await lock?.assertHeld().then(() => "held", (error: Error) => error.message)) ?? "none";
      case "lost":
        return lost;
      default:
        await lock?.release();
        return "released";
    }
  };
  void work().then((answer) => process.send?.(answer));
});
