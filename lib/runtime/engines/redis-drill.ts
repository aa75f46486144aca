import { Readable } from "node:stream";
import type { Drill, DrillEngine } from "../drill";
import { type Info, keyspace, type RedisSettings, snapshotFacts, total } from "./redis";
import { startScratch } from "./redis-scratch";

/** Loads the snapshot into a server of its own, by the programs of the backup's image, and counts what it holds. */
export class RedisDrill implements DrillEngine {
  private info: Info = new Map();

  public constructor(_settings: RedisSettings) {}

  public async restore(drill: Drill): Promise<void> {
    this.info = await startScratch(drill, drill.name);
    drill.log(`started ${drill.name}, Redis ${this.info.get("redis_version")}`);
  }

  public async compare(drill: Drill): Promise<readonly string[]> {
    const found = keyspace(this.info);
    const { expiring, databases } = snapshotFacts(drill.manifest.fingerprint);
    const counted = Object.values(databases).includes(null) ? "of all databases together" : "in each database";
    return [
      `loaded by Redis ${this.info.get("redis_version")}, the very bytes that the source sent`,
      `equal to the fingerprint, ${counted}: ${total(found)} keys in ${Object.keys(found).length} databases, of which ${expiring} expire`,
      ...(await assertions(drill)),
    ];
  }
}

/** A command's reply, as `redis-cli --raw` prints it. */
async function assertions({ agent, name, assertions: wanted }: Drill): Promise<readonly string[]> {
  const passed: string[] = [];
  for (const { database = "0", query, expect } of wanted) {
    const answer = await agent.text("ask", `${name} ${database}`, Readable.from([`${query}\n`]));
    if (answer !== expect) {
      const [got, was] = [answer, expect].map((text) => JSON.stringify(text.slice(0, 200)));
      throw new Error(`database ${database} answers ${got} instead of ${was} to ${JSON.stringify(query)}`);
    }
    passed.push(`database ${database} answers ${JSON.stringify(expect)} to ${JSON.stringify(query)}`);
  }
  return passed;
}
