import { randomBytes } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import type { Restore, RestoreEngine, RestorePlan } from "../restore";
import { askInfo, explain, type Info, isOlder, keyspace, type Keyspace, type RedisSettings, total, UNFIT } from "./redis";
import { loaded, startScratch } from "./redis-scratch";

/** Between two looks at a server that is busy. */
const LOOK_MS = 200;
/** What a server does in the background, by the field of INFO that says so. */
const BUSY = ["rdb_bgsave_in_progress", "aof_rewrite_in_progress", "aof_rewrite_scheduled"];

/** What a restore found out. */
export interface RedisPlan extends RestorePlan {
  /** Name of the server that has loaded the snapshot. */
  readonly scratch: string;
  readonly keyspace: Keyspace;
  /** Libraries of functions in the snapshot. */
  readonly libraries: number;
}

/**
 * Feeds a snapshot to the running server, as the commands that make its data: a server in the same pod loads it and writes them.
 *
 * A snapshot that is put into the data directory is ignored by a server that keeps an append-only file, and overwritten by one that runs.
 * What arrives as commands is in the append-only file, or in the next snapshot, like anything else that is written; replicas follow.
 */
export class RedisRestore implements RestoreEngine<RedisPlan> {
  public readonly options = {};

  public constructor(_settings: RedisSettings) {}

  public async plan(restore: Restore): Promise<RedisPlan> {
    const { agent, log } = restore;
    const server = await askInfo(restore);
    for (const [field, value, reason] of UNFIT) if (server.get(field) === value) throw new Error(reason);
    if (server.get("role") !== "master") throw new Error("the server is a replica: name the primary, from which replicas have their data");
    const scratch = `restore-${randomBytes(8).toString("hex")}`;
    const info = await startScratch(restore, scratch);
    const [version, own] = [server.get("redis_version") ?? "", info.get("redis_version") ?? ""];
    log(`loaded by Redis ${own}, the very bytes that the source sent, and equal to the fingerprint`);
    if (isOlder(version, own)) {
      throw new Error(`the server, of version ${version}, may not know all commands of the image, ${own}: use an image as old as the server`);
    }
    const data = keyspace(info);
    for (const database of Object.keys(data)) await agent.text("select", database.slice(2)).catch(explain);
    const address = await agent.text("address");
    const there = total(keyspace(server));
    const isEmpty = there === 0 && librariesIn(server) === 0;
    const what = Object.entries(data).map(([database, { keys }]) => `${database} ${keys} keys`);
    return {
      scratch,
      keyspace: data,
      libraries: librariesIn(info),
      replaces: isEmpty ? undefined : address,
      steps: [
        `the server is ${address}, Redis ${version}, ${hasAof(server) ? "with" : "without"} an append-only file; whatever writes to it must be stopped`,
        ...(isEmpty ? [] : [`delete all that it holds: ${there} keys, ${librariesIn(server)} libraries of functions`]),
        `write ${[...what, `${librariesIn(info)} libraries of functions`].join(", ")}`,
        `have the server write it to its disk, by ${hasAof(server) ? "BGREWRITEAOF" : "BGSAVE"}`,
      ],
    };
  }

  public async apply(restore: Restore, { scratch, replaces }: RedisPlan): Promise<void> {
    const { agent, signal, log } = restore;
    await agent.text("write", scratch);
    const written = await idle(() => loaded(agent, scratch, signal), signal);
    if (written.get("aof_last_bgrewrite_status") !== "ok") throw new Error("the commands cannot be written: is the exchange directory too small?");
    if (replaces !== undefined) await agent.text("empty", librariesIn(await askInfo(restore)) > 0 ? "functions" : "").catch(explain);
    for (const line of (await agent.text("feed", scratch).catch(explain)).split("\n")) log(`feed: ${line}`);
    const server = await idle(() => askInfo(restore), signal);
    await agent.text("save", hasAof(server) ? "bgrewriteaof" : "bgsave").catch(explain);
    const after = await idle(() => askInfo(restore), signal);
    const status = after.get(hasAof(server) ? "aof_last_bgrewrite_status" : "rdb_last_bgsave_status");
    if (status !== "ok") throw new Error("everything was written to the server, but it cannot write that to its disk: a restart would lose it");
  }

  public async verify(restore: Restore, { scratch, keyspace: wanted, libraries }: RedisPlan): Promise<readonly string[]> {
    const server = await askInfo(restore);
    const found = keyspace(server);
    for (const database of new Set([...Object.keys(wanted), ...Object.keys(found)])) {
      const want = wanted[database] ?? { keys: 0, expiring: 0 };
      const have = found[database] ?? { keys: 0, expiring: 0 };
      const [lasting, was] = [have.keys - have.expiring, want.keys - want.expiring];
      if (lasting !== was) throw new Error(`${database} holds ${lasting} keys that do not expire instead of ${was}; does something write to it?`);
      // Asked after the server was: what lives now was alive then.
      const alive = want.expiring === 0 ? 0 : Number(await restore.agent.text("alive", `${scratch} ${database.slice(2)}`)) - was;
      if (!(have.expiring >= alive && have.expiring <= want.expiring)) {
        throw new Error(`${database} holds ${have.expiring} keys that expire instead of ${alive} to ${want.expiring}; does something write to it?`);
      }
    }
    if (librariesIn(server) !== libraries) throw new Error(`the server has ${librariesIn(server)} libraries of functions instead of ${libraries}`);
    return [`the server holds what the snapshot does: ${total(found)} keys in ${Object.keys(found).length} databases, ${libraries} libraries`];
  }
}

/** INFO, once the server writes nothing in the background any more. */
async function idle(ask: () => Promise<Info>, signal: AbortSignal): Promise<Info> {
  for (;;) {
    const info = await ask();
    if (BUSY.every((field) => info.get(field) !== "1")) return info;
    await sleep(LOOK_MS, undefined, { signal });
  }
}

function hasAof(info: Info): boolean {
  return info.get("aof_enabled") === "1";
}

/** Before version 7 there are none. */
function librariesIn(info: Info): number {
  return Number(info.get("number_of_libraries") ?? 0);
}
