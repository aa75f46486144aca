import { readdirSync } from "node:fs";
import { inspectSnapshot } from "../../lib/runtime/vault-snapshot";
import { Readable } from "node:stream";
import { cut, flip, forge, refused, restored, runRestore, type CompanionOptions, type Forgery } from "../helpers/drill";
import { generationsDirectory, generationsOn, type FoundGeneration } from "../helpers/pod/target";
import { VaultServer, vaultProgram } from "../helpers/servers/vault";
import { CLUSTER, ROOT, VaultDouble } from "../helpers/servers/vault-double";
import { makeSnapshot } from "../helpers/vault-snapshot";
import { NAME, SERVICES, startDouble, startPrepared, synthesise, TOKEN_SECRET } from "./vault-setup";

const REAL = vaultProgram();
const json = synthesise();
const SNAPSHOT = "vault.snap";
process.stderr.write(`vault: the double${REAL === undefined ? " alone, no vault or bao is on PATH" : ` and ${REAL}`}\n`);

/** A server that was backed up. */
interface Subject {
  readonly generation: FoundGeneration;
  /** What the plan calls it. */
  readonly cluster: string;
  readonly token: string;
  /** Of the pod's ServiceAccount. */
  readonly jwt: string;
  /** What is in it, as far as can be told from outside. */
  content(): Promise<unknown>;
  /** Changes it. */
  write(): Promise<void>;
  /** Does something while it is sealed. */
  sealed(work: () => Promise<void>): Promise<void>;
  stop(): Promise<void>;
}

async function double(): Promise<Subject> {
  const source = await startDouble();
  const { state, violations } = source.double;
  return {
    ...{ generation: await source.backUp(), cluster: CLUSTER, token: ROOT, jwt: state.jwt },
    content: () => inspectSnapshot(Readable.from([state.snapshot])),
    write: () => Promise.resolve(void (state.snapshot = makeSnapshot())),
    sealed: async (work) => {
      state.sealed = true;
      await work().finally(() => (state.sealed = false));
    },
    stop: async () => {
      await source.stop();
      expect(violations).toEqual([]);
    },
  };
}

async function real(program: string): Promise<Subject> {
  const source = await startPrepared({ program });
  const { vault, jwt } = source;
  const { cluster_name: cluster } = await vault.call("GET", "sys/health");
  let round = 1000;
  return {
    ...{ generation: await source.backUp(), cluster: String(cluster), token: vault.rootToken, jwt },
    content: () => secretsOf(vault),
    write: () => source.write(round++),
    sealed: async (work) => {
      await vault.seal();
      await work().finally(() => vault.unseal());
    },
    stop: () => source.stop(),
  };
}

/** All that the tests put into a real server. */
async function secretsOf(vault: VaultServer): Promise<unknown> {
  const { data } = (await vault.call("LIST", "kv/")) as { readonly data: { readonly keys: readonly string[] } };
  const values = data.keys.map(async (key) => [key, (await vault.call("GET", `kv/${key}`)).data]);
  return { secrets: await Promise.all(values), auth: (await vault.call("GET", "sys/auth")).data, policies: (await vault.call("GET", "sys/policy")).policies };
}

interface Given {
  readonly env?: NonNullable<CompanionOptions["env"]>;
  readonly forgery?: Forgery;
  readonly token?: string;
  readonly jwt?: string;
}

/** Restores a generation, and tells what is on the target then. */
async function restore(generation: FoundGeneration, { env = {}, forgery = {}, token, jwt }: Given) {
  const { target } = forge(json, generation, forgery, NAME);
  const result = await runRestore(json, target, {
    ...{ backup: NAME, services: SERVICES, ...(jwt === undefined ? {} : { serviceAccountToken: jwt }) },
    secrets: token === undefined ? {} : { [TOKEN_SECRET.name]: { [TOKEN_SECRET.key]: `${token}\n` } },
    env: { GENERATION: "newest", ...env },
  });
  // No token that was used may be in a log.
  for (const secret of [token, jwt]) if (secret !== undefined) expect(JSON.stringify(result.logs)).not.toContain(secret);
  const left = readdirSync(generationsDirectory(json, target, NAME)).filter((name) => name.startsWith(".partial"));
  expect(left).toEqual([]);
  return { result, generations: generationsOn(json, target, NAME) };
}

const kinds: [string, () => Promise<Subject>][] = [["a double", double]];
if (REAL !== undefined) kinds.push([REAL, () => real(REAL)]);

describe.each(kinds)("of %s", (_name, start) => {
  let subject: Subject;
  let wanted: unknown;
  beforeAll(async () => {
    subject = await start();
    wanted = await subject.content();
  });
  afterAll(() => subject.stop());
  const give = (given: Given = {}) => restore(subject.generation, { token: subject.token, jwt: subject.jwt, ...given });

  test("brings back what was there, and backs up what is there first", async () => {
    await subject.write();
    const changed = await subject.content();
    expect(changed).not.toEqual(wanted);
    const { result, generations } = await give({ env: { CONFIRM: subject.cluster } });
    const log = restored(result);
    expect(await subject.content()).toEqual(wanted);
    expect(generations.map(({ manifest }) => manifest.purpose)).toEqual([undefined, "safety"]);
    expect(log).toContain(`what is there now is kept as ${generations[1]?.name}`);
    expect(log).toContain("the server has taken the snapshot, whose SHA-256 are those in it");
    expect(log).toMatch(/it is active and not sealed, at index \d+\n/);
    // What was there can be had again, and from that again what was backed up.
    const safety = generations[1] ?? subject.generation;
    restored((await restore(safety, { token: subject.token, jwt: subject.jwt, env: { GENERATION: safety.name, CONFIRM: subject.cluster } })).result);
    expect(await subject.content()).toEqual(changed);
    const skipped = await give({ env: { CONFIRM: subject.cluster, SAFETY_DUMP: "skip" } });
    expect(restored(skipped.result)).toContain("plan: no safety dump, as SAFETY_DUMP is 'skip'");
    expect(skipped.generations).toHaveLength(1);
    expect(await subject.content()).toEqual(wanted);
  });

  describe("refuses, and changes nothing,", () => {
    let before: unknown;
    beforeAll(async () => {
      await subject.write();
      before = await subject.content();
    });
    afterEach(async () => expect(await subject.content()).toEqual(before));

    test("when it is only to say what it would do", async () => {
      const { result, generations } = await give({ env: { DRY_RUN: "true" } });
      expect(restored(result)).toContain(`dry run: nothing was changed; without DRY_RUN it needs CONFIRM="${subject.cluster}"`);
      const { index, entries, seal } = subject.generation.manifest.fingerprint;
      const { threshold, shares } = seal as { readonly threshold: number; readonly shares: number };
      expect(result.plan).toEqual([
        expect.stringMatching(/^http:\/\/vault-active\.vault:8200 holds [12] mounts: /),
        `give it the snapshot of index ${String(index)}, of ${String(entries)} entries, in the place of all that it holds`,
        expect.stringContaining(`unsealed by ${threshold} of the ${shares} keys that the cluster of the snapshot had`),
        "back up what is there first",
      ]);
      expect(generations).toHaveLength(1);
    });

    test("to replace anything without a word, or with the wrong one", async () => {
      const refusal = `the target is not empty, and nothing was changed; to replace it, set CONFIRM to "${subject.cluster}"`;
      expect(refused((await give()).result)).toBe(refusal);
      expect(refused((await give({ env: { CONFIRM: "vault" } })).result)).toBe(refusal);
    });

    test.each<[string, Forgery, RegExp]>([
      ["is damaged", { change: { [SNAPSHOT]: flip(0.5) } }, /^the snapshot cannot be restored: /],
      ["is cut", { change: { [SNAPSHOT]: cut(0.9) } }, /^the snapshot cannot be restored: unexpected end of file$/],
      ["is another one", { change: { [SNAPSHOT]: () => makeSnapshot() } }, /^what came back is not what was backed up: the snapshot: /],
    ])("when the snapshot %s, though its manifest has its hash", async (_how, forgery, reason) => {
      expect(refused((await give({ forgery, env: { CONFIRM: subject.cluster } })).result)).toMatch(reason);
    });

    test("when the token may not do it", async () => {
      const { result } = await give({ token: "hvs.another", env: { CONFIRM: subject.cluster } });
      expect(refused(result)).toMatch(/permission denied.* \(the restore's token must be a root token, or one that may do everything below sys\/\)$/);
    });

    test("when nobody has put a token into the Secret", async () => {
      const { result } = await restore(subject.generation, { jwt: subject.jwt, env: { CONFIRM: subject.cluster } });
      expect(refused(result)).toBe(
        "there is no token at /var/run/secrets/vault-restore/token: " +
          "put a root token of the server into the Secret that 'restore: { token }' names",
      );
    });

    test("when what is there cannot be backed up first", async () => {
      const { result, generations } = await give({ jwt: "another.service.account", env: { CONFIRM: subject.cluster } });
      expect(refused(result)).toMatch(/refuses to log in the role/);
      expect(generations).toHaveLength(1);
    });

    test("while it is sealed", async () => {
      await subject.sealed(async () => {
        expect(refused((await give({ env: { CONFIRM: subject.cluster } })).result)).toBe(
          "Vault at http://vault-active.vault:8200: it is sealed, and takes nothing: unseal it by the keys that it has now",
        );
      });
    });
  });
});

describe("of a double", () => {
  let server: VaultDouble;
  afterEach(async () => {
    await server.stop();
    expect(server.violations).toEqual([]);
  });
  async function given(state: Parameters<typeof VaultDouble.start>[0]): Promise<FoundGeneration> {
    const source = await startDouble();
    const generation = await source.backUp();
    await source.stop();
    server = await VaultDouble.start(state);
    return generation;
  }

  test("with other keys and nothing in it, no word is needed; it is sealed then, and the log says by whose keys", async () => {
    const generation = await given({ foreign: true, mounts: [] });
    const { result, generations } = await restore(generation, { token: ROOT });
    expect(restored(result)).toMatch(/it is sealed: unseal every node by 3 of the snapshot's 5 keys/);
    expect(generations).toHaveLength(1);
    expect(server.requests.filter(({ method, path }) => method === "POST" && path.includes("snapshot")).map(({ path }) => path)).toEqual([
      "/v1/sys/storage/raft/snapshot",
      "/v1/sys/storage/raft/snapshot-force",
    ]);
  });

  test.each<[string, Parameters<typeof VaultDouble.start>[0], RegExp]>([
    ["is not initialised", { initialized: false }, /: it is not initialised, and takes nothing: initialise it with any keys, unseal it, and let its root token/],
    ["is a standby", { isSelf: false }, /: it is not the active node: the backup's 'endpoint' must be a Service that leads there$/],
    ["refuses", { answer: { status: 500, body: '{"errors":["no space left on device"]}' } }, /no space left on device/],
  ])("fails when it %s", async (_how, state, reason) => {
    const generation = await given(state);
    expect(refused((await restore(generation, { token: ROOT })).result)).toMatch(reason);
    expect(server.requests.filter(({ method }) => method === "POST")).toEqual([]);
  });
});

if (REAL !== undefined) {
  test("of a real server, to one that is new: it is sealed, and the old keys give back all of it, and nobody else's", async () => {
    const source = await startPrepared({ program: REAL });
    const generation = await source.backUp();
    const { unsealKeys, rootToken } = source.vault;
    const wanted = await secretsOf(source.vault);
    await source.stop();
    // Of another number of keys, as whoever is in a hurry makes it.
    const fresh = await VaultServer.start({ program: REAL });
    try {
      const own = { unsealKeys: fresh.unsealKeys, rootToken: fresh.rootToken };
      const { result, generations } = await restore(generation, { token: own.rootToken });
      const log = restored(result);
      expect(log).toContain("holds nothing but what every server has");
      expect(log).toContain("the snapshot is sealed by other keys than the server has");
      expect(log).toMatch(/it is sealed: unseal every node by 3 of the snapshot's 5 keys/);
      expect(generations).toHaveLength(1);
      expect(await fresh.isSealed()).toBe(true);
      await fresh.restart();
      await expect(fresh.tryUnseal(own.unsealKeys)).resolves.toBe(false);
      await fresh.unseal(unsealKeys);
      await expect(secretsOf(fresh)).rejects.toThrow(/403/);
      fresh.rootToken = rootToken;
      expect(await secretsOf(fresh)).toEqual(wanted);
    } finally {
      await fresh.stop();
    }
  });
}
