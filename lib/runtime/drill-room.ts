import type { Drill } from "./drill";
import { humanBytes } from "./progress";
import { freeBytes } from "./target";

/** Bytes that a drill may put into its scratch space: what the file system has, within what the pod is allowed. */
export async function roomOf({ scratch, scratchBytes = Infinity }: Drill): Promise<number> {
  // A twentieth is for what goes with it: directories, logs, journals.
  return Math.min(await freeBytes(scratch), scratchBytes) * 0.95;
}

/** @throws Error unless scratch space can hold so much */
export async function assertRoom(drill: Drill, bytes: number): Promise<void> {
  const room = await roomOf(drill);
  if (bytes <= room) return;
  const [has, needs] = [humanBytes(Math.floor(room)), humanBytes(bytes)];
  throw new Error(`the scratch space has room for ${has}, and ${needs} are restored: enlarge the drill's size`);
}
