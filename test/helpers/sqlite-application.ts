/**
 * Applications that use a SQLite database. Each is a process of its own: opening and closing a database's file in the process that
 * writes it would drop the writer's locks, and damage the database.
 */
import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";

/** What a script of an application can use. */
const PRELUDE = `
  const { DatabaseSync } = require("node:sqlite");
  const db = new DatabaseSync(process.argv[1], { timeout: 10000, enableForeignKeyConstraints: false, defensive: false });
  const sql = (text) => db.exec(text);
  // What a killed process has written is there all the same; waiting for the disk would only take time.
  sql("PRAGMA synchronous = off");
  const all = (text) => db.prepare(text).all();
  const die = () => process.kill(process.pid, "SIGKILL");
  const stay = () => { console.log("ready"); setInterval(() => undefined, 1000); };
`;

const running = new Set<ChildProcess>();

/** So that a test that fails leaves no writer behind. */
afterEach(() => {
  for (const child of running) child.kill("SIGKILL");
});

/** Runs a script on a database to its end: closed as an application closes it, or after its `die()` left as it was. */
export async function application(database: string, script: string): Promise<void> {
  const child = spawn(process.execPath, ["-e", `${PRELUDE}${script}; if (db.isOpen) db.close()`, database], { stdio: "inherit" });
  const [status, signal] = (await once(child, "exit")) as [number | null, NodeJS.Signals | null];
  if (status !== 0 && signal !== "SIGKILL") throw new Error(`the application ended with ${status ?? signal}`);
}

/** A running application. */
export interface RunningApplication {
  /** Ends it at once, with everything left as it is. */
  kill(): Promise<void>;
}

/** Starts a script on a database that says `stay()` or prints something when it is ready, and goes on. */
export async function startApplication(database: string, script: string): Promise<RunningApplication> {
  const child: ChildProcess = spawn(process.execPath, ["-e", PRELUDE + script, database], { stdio: ["ignore", "pipe", "inherit"] });
  running.add(child);
  const ended = once(child, "exit").finally(() => running.delete(child));
  const first = await Promise.race([once(child.stdout as NonNullable<typeof child.stdout>, "data"), ended.then(() => undefined)]);
  if (first === undefined) throw new Error("the application ended at once");
  return {
    kill: async () => {
      child.kill("SIGKILL");
      await ended;
    },
  };
}
