import { DRILL_ROUNDS, forge, proven, runDrill } from "../helpers/drill";
import { VAULT_IMAGE, vaultProgram } from "../helpers/servers/vault";
import { NAME, startDouble, startPrepared, synthesise, type Source } from "./vault-setup";

const REAL = vaultProgram();
const json = synthesise();

// A real node takes seconds until it is its own leader, which makes minutes of all rounds: a file of its own, where DRILL_ROUNDS shortens it.
const kinds: [string, () => Promise<Source>][] = [["a double", startDouble]];
if (REAL !== undefined) kinds.push([REAL, () => startPrepared({ program: REAL })]);

/** Clients that never stop writing. @returns what stops them */
function writers(source: Source): () => Promise<void> {
  let writing = true;
  const write = async (client: number): Promise<void> => {
    for (let round = client; writing; round += 3) {
      await source.write(round);
      // As busy as a cluster, and no busier: the drills need the machine, too.
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  };
  const clients = [0, 1, 2].map(write);
  return async () => {
    writing = false;
    await Promise.all(clients);
  };
}

test.each(kinds)(`of %s, ${DRILL_ROUNDS} of ${DRILL_ROUNDS} backups that were made while everything was written to are proven`, async (_name, start) => {
  const source = await start();
  const stop = writers(source);
  const states = new Set<unknown>();
  const images = { [VAULT_IMAGE.repository]: source.profile };
  try {
    // One drill at a time, as each has the same port of a pod of its own, and the next backup meanwhile.
    let next = source.backUp();
    for (let round = 1; round <= DRILL_ROUNDS; round++) {
      const generation = await next;
      states.add(generation.manifest.fingerprint.sha256);
      next = source.backUp();
      proven(await runDrill(json, forge(json, generation, {}, NAME).target, { backup: NAME, images }));
    }
    await next;
  } finally {
    await stop();
    await source.stop();
  }
  expect(states.size).toBe(DRILL_ROUNDS);
}, 1_800_000);
