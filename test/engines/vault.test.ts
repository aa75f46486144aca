import { X509Certificate } from "node:crypto";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { gunzipSync, gzipSync } from "node:zlib";
import { VaultRaftBackup, type VaultRaftBackupProps } from "../../constructs/backup";
import { NfsBackupVolume, PodVolume } from "../../constructs/storage";
import { Retention } from "../../lib/retention";
import { Schedule } from "../../lib/schedule";
import { ServiceEndpoint } from "../../lib/service-endpoint";
import { vaultBackupRoleCommands } from "../../lib/privileges/vault";
import { runCronJob, startCronJob, type CronJobOptions } from "../helpers/pod";
import { type Backup, failure as reasonOf, succeeded } from "../helpers/pod/backup";
import { generationsDirectory, generationsOn, makeTarget, type FoundGeneration } from "../helpers/pod/target";
import { run, temporaryDirectory, waitFor } from "../helpers/process";
import { VAULT_IMAGE, vaultProgram, VaultServer } from "../helpers/servers/vault";
import { VAULT_PORT, VaultDouble, type VaultState } from "../helpers/servers/vault-double";
import { Template } from "../helpers/template";
import { makeSnapshot } from "../helpers/vault-snapshot";

const ROLE = "raft-backup";
const NAMESPACE = "vault";
const NAME = "vault-backup";
const AUDIENCE = "vault";
const SNAPSHOT = "vault.snap";
const REAL = vaultProgram();

process.stderr.write(`vault: the double${REAL === undefined ? " alone, no vault or bao is on PATH" : ` and ${REAL}`}\n`);

function synthesise(props: Partial<VaultRaftBackupProps> = {}): string {
  const template = Template.of((stack) => {
    new VaultRaftBackup(stack, NAME, {
      image: VAULT_IMAGE,
      namespace: NAMESPACE,
      volume: new NfsBackupVolume(stack, "volume", {
        name: NAME,
        namespace: NAMESPACE,
        server: "10.0.10.15",
        path: "/mnt/main/vault-backup",
      }),
      schedule: Schedule.cron("0 2 * * 0"),
      retention: Retention.keepDays(30),
      endpoint: ServiceEndpoint.of("vault-active.vault:8200"),
      role: ROLE,
      audience: AUDIENCE,
      ...props,
    });
  });
  return JSON.stringify(template.json);
}

async function backUp(options: CronJobOptions = {}, props: Partial<VaultRaftBackupProps> = {}): Promise<Backup> {
  const json = synthesise(props);
  const target = makeTarget(json);
  const result = await runCronJob(json, { services: ["vault-active.vault"], ...options, volumes: { [NAME]: target, ...options.volumes } });
  return { ...result, generations: generationsOn(json, target) };
}

/** The reason of a failed run, without the server's address, which begins it; one that is not the server's is told from those. */
function failure(result: Backup): string {
  const reason = reasonOf(result);
  const said = reason.replace(/^Vault at https?:\/\/vault-active.vault:8200: /, "");
  return said === reason ? `backup failed: ${reason}` : said;
}

const stored = ({ path }: FoundGeneration): Buffer => readFileSync(join(path, SNAPSHOT));

/** What both kinds of server can be asked for. */
interface Subject {
  /** Token of the pod's ServiceAccount. */
  readonly jwt: string;
  /** Takes a rule away from the backup's policy until the returned function is called. */
  without(rule: "sys/storage/raft/snapshot" | "auth/token/revoke-self"): Promise<() => Promise<void>>;
  seal(): Promise<() => Promise<void>>;
  /** Tokens that a backup got and that are still valid. */
  tokensLeft(): Promise<number>;
  stop(): Promise<void>;
}

async function startDouble(): Promise<Subject> {
  const double = await VaultDouble.start({ role: ROLE, jwt: "the token of the service account" });
  const set = (change: Partial<VaultState>): (() => Promise<void>) => {
    const before = { ...double.state };
    Object.assign(double.state, change);
    return () => Promise.resolve(void Object.assign(double.state, before));
  };
  return {
    jwt: double.state.jwt,
    without: (rule) => Promise.resolve(set(rule === "auth/token/revoke-self" ? { mayRevoke: false } : { maySnapshot: false })),
    seal: () => Promise.resolve(set({ sealed: true })),
    tokensLeft: () => Promise.resolve(double.tokens.size),
    stop: async () => {
      expect(double.violations).toEqual([]);
      await double.stop();
    },
  };
}

const COMMANDS = vaultBackupRoleCommands({ role: ROLE, serviceAccount: NAME, namespace: NAMESPACE, audience: AUDIENCE });

/** A real server with the backup's policy and role. */
async function startPrepared(program: string, storage: "raft" | "inmem" = "raft"): Promise<{ vault: VaultServer; jwt: string }> {
  const vault = await VaultServer.start({ program, storage });
  try {
    const jwt = await vault.enableKubernetesAuth(NAME, NAMESPACE, AUDIENCE);
    await vault.shell(COMMANDS);
    return { vault, jwt };
  } catch (error) {
    await vault.stop();
    throw error;
  }
}

async function startReal(program: string): Promise<Subject> {
  const { vault, jwt } = await startPrepared(program);
  const tokensAtFirst = await vault.tokens();
  return {
    jwt,
    without: async (rule) => {
      const lines = COMMANDS.split("\n").filter((line) => !line.startsWith(`path "${rule}"`));
      expect(lines).toHaveLength(COMMANDS.split("\n").length - 1);
      await vault.shell(lines.join("\n"));
      return () => vault.shell(COMMANDS);
    },
    seal: async () => {
      await vault.seal();
      return () => vault.unseal();
    },
    tokensLeft: async () => (await vault.tokens()) - tokensAtFirst,
    stop: () => vault.stop(),
  };
}

const kinds: [string, () => Promise<Subject>][] = [["a double", startDouble]];
if (REAL !== undefined) kinds.push([REAL, () => startReal(REAL)]);

describe.each(kinds)("with %s", (_name, start) => {
  let subject: Subject;
  let started: Subject | undefined;
  beforeAll(async () => {
    subject = started = await start();
  });
  afterAll(() => started?.stop());
  const withToken = (): CronJobOptions => ({ serviceAccountToken: `${subject.jwt}\n` });

  test("a snapshot is stored as it was sent, whole, and its token is no longer valid", async () => {
    const result = await backUp(withToken());
    const generation = succeeded(result);
    expect(readdirSync(generation.path).sort()).toEqual(["manifest.json", SNAPSHOT]);
    const { stdout } = await run("tar", ["-tzf", join(generation.path, SNAPSHOT)]);
    expect(stdout.split("\n").filter(Boolean)).toEqual(["meta.json", "state.bin", "SHA256SUMS", "SHA256SUMS.sealed"]);
    const unpacked = temporaryDirectory("snapshot");
    await run("tar", ["-xzf", join(generation.path, SNAPSHOT), "-C", unpacked]);
    await run("sha256sum", ["--check", "--strict", "SHA256SUMS"], { cwd: unpacked });
    const meta = JSON.parse(readFileSync(join(unpacked, "meta.json"), "utf8")) as { Index: number; Term: number; Size: number };
    const { fingerprint, versions, checks } = generation.manifest;
    expect(fingerprint).toMatchObject({ index: meta.Index, term: meta.Term, stateBytes: meta.Size });
    expect(fingerprint.servers).toContainEqual(expect.objectContaining({ id: "vault-0", voter: true }));
    expect(versions.vault).toMatch(/^\d+\.\d+\.\d+/);
    expect(checks).toEqual(["the snapshot on the target has all its members, their SHA-256 are those in it, and nothing follows its end"]);
    expect(await subject.tokensLeft()).toBe(0);
  });

  test("neither the log nor the manifest has a token", async () => {
    const result = await backUp(withToken());
    const said = (result.logs.runner ?? "") + JSON.stringify(succeeded(result).manifest);
    expect(said).not.toContain(subject.jwt);
    expect(said).not.toMatch(/hvs\.|s\.[A-Za-z0-9]{20}/);
  });

  test("fails when the policy allows no snapshot, and gives the rule that mends it", async () => {
    const undo = await subject.without("sys/storage/raft/snapshot");
    const result = await backUp(withToken());
    await undo();
    expect(failure(result)).toBe(
      "it refuses a snapshot (HTTP 403: 1 error occurred: * permission denied): " +
        'the policy of the role raft-backup must have path "sys/storage/raft/snapshot" { capabilities = ["read"] }',
    );
    expect(await subject.tokensLeft()).toBe(0);
  });

  test("fails when the policy does not let the token be revoked, and gives the rule that mends it", async () => {
    const before = await subject.tokensLeft();
    const undo = await subject.without("auth/token/revoke-self");
    const result = await backUp(withToken());
    await undo();
    const reason = failure(result);
    expect(reason).toMatch(/^it refuses to revoke the backup's token \(HTTP 403: .*permission denied\): /);
    expect(reason).toContain('the policy of the role raft-backup must have path "auth/token/revoke-self" { capabilities = ["update"] }');
    expect(await subject.tokensLeft()).toBe(before + 1);
  });

  test("fails when the role is another one", async () => {
    const result = await backUp(withToken(), { role: "other" });
    expect(failure(result)).toBe(
      'it refuses to log in the role "other" at auth/kubernetes (HTTP 400: invalid role name "other"): ' +
        "the role must exist and name this pod's service account, its namespace and the audience of its token",
    );
  });

  test("fails when the token is not that of the ServiceAccount", async () => {
    const result = await backUp({ serviceAccountToken: `${subject.jwt.slice(0, -20)}${"A".repeat(20)}` });
    expect(failure(result)).toMatch(
      /^it refuses to log in the role "raft-backup" at auth\/kubernetes \(HTTP 4\d\d: .*\): the role must exist/,
    );
  });

  test("fails when it is sealed", async () => {
    const undo = await subject.seal();
    const result = await backUp(withToken());
    await undo();
    expect(failure(result)).toBe("it is sealed; unseal it, nothing can be backed up until then");
  });
});

const real = (program: string): void => {
  test("that is restored from a stored snapshot has the secrets that were there, and is unsealed by the keys of then", async () => {
    const { vault: before, jwt } = await startPrepared(program);
    await before.call("POST", "sys/mounts/kv", { type: "kv" });
    for (let secret = 0; secret < 40; secret++) await before.call("POST", `kv/${secret}`, { value: `secret ${secret}`.repeat(secret) });
    const result = await backUp({ serviceAccountToken: jwt });
    await before.stop();
    const generation = succeeded(result);

    // Nothing is left of the old server but the snapshot, its unseal key and its root token.
    const after = await VaultServer.start({ program });
    try {
      await after.restore(stored(generation));
      await waitFor(() => after.isSealed(), "the restored server to be sealed");
      after.rootToken = before.rootToken;
      await after.unseal(before.unsealKeys);
      for (const secret of [0, 1, 20, 39]) {
        const { data } = (await after.call("GET", `kv/${secret}`)) as { readonly data: { readonly value: string } };
        expect(data.value).toBe(`secret ${secret}`.repeat(secret));
      }
    } finally {
      await after.stop();
    }
  });

  test("without integrated storage has nothing to back up", async () => {
    const { vault, jwt } = await startPrepared(program, "inmem");
    const result = await backUp({ serviceAccountToken: jwt });
    await vault.stop();
    expect(failure(result)).toBe("it does not keep its data in integrated storage (raft), and only that has snapshots");
  });
};
if (REAL !== undefined) describe("a real server", () => real(REAL));

describe("with a double", () => {
  let double: VaultDouble;
  beforeEach(async () => {
    double = await VaultDouble.start({ role: ROLE });
  });
  afterEach(async () => {
    await double.stop();
    expect(double.violations).toEqual([]);
  });
  const paths = (of = double): string[] => of.requests.map(({ method, path }) => `${method} ${path.replace(/\?.*/, "")}`);

  test("a run sends these requests and no other, the token only where it belongs", async () => {
    const generation = succeeded(await backUp());
    expect(stored(generation).equals(double.state.snapshot)).toBe(true);
    expect(paths()).toEqual([
      "GET /v1/sys/health",
      "GET /v1/sys/leader",
      "GET /v1/sys/seal-status",
      "POST /v1/auth/kubernetes/login",
      "GET /v1/sys/storage/raft/snapshot",
      "POST /v1/auth/token/revoke-self",
    ]);
    expect(double.requests.map(({ token }) => token !== undefined)).toEqual([false, false, false, false, true, true]);
    expect(double.requests[3]?.body).toEqual({ role: ROLE, jwt: "service-account-token" });
  });

  test("the auth method may be mounted elsewhere", async () => {
    double.state.mount = "clusters/home";
    succeeded(await backUp({}, { authMount: "clusters/home" }));
    expect(paths()).toContain("POST /v1/auth/clusters/home/login");
  });

  describe("that is a standby", () => {
    const ACTIVE_PORT = 8210;
    const active = `http://127.0.0.1:${ACTIVE_PORT}`;
    let other: VaultDouble;
    beforeEach(async () => {
      other = await VaultDouble.start({ role: ROLE }, ACTIVE_PORT);
      other.tokens = double.tokens;
      Object.assign(double.state, { isSelf: false, leader: active, redirect: `${active}/v1/sys/storage/raft/snapshot` });
    });
    afterEach(() => other.stop());

    test("the snapshot is that of the active node, to which it sends the request", async () => {
      const generation = succeeded(await backUp());
      expect(stored(generation).equals(other.state.snapshot)).toBe(true);
      expect(paths(other)).toEqual(["GET /v1/sys/storage/raft/snapshot"]);
      expect(double.tokens.size).toBe(0);
    });

    test.each([
      ["another host than its leader's", { leader: "http://127.0.0.1:9999" }],
      ["another path", { redirect: `${active}/v1/sys/storage/raft/snapshot/x` }],
      [
        "an address of another scheme, though it is the leader's",
        { leader: `https://127.0.0.1:${ACTIVE_PORT}`, redirect: `https://127.0.0.1:${ACTIVE_PORT}/v1/sys/storage/raft/snapshot` },
      ],
      ["nowhere", { redirect: "" }],
    ])("sends no token to %s", async (_what, change: Partial<VaultState>) => {
      Object.assign(double.state, change);
      const reason = failure(await backUp());
      expect(reason).toMatch(
        /which is not its leader https?:\S+ over http; the token was not sent there$|^it refuses a snapshot: HTTP 307$/,
      );
      expect(other.requests).toEqual([]);
      expect(double.tokens.size).toBe(0);
    });

    test("follows it once, not round in circles", async () => {
      other.state.redirect = `http://127.0.0.1:${VAULT_PORT}/v1/sys/storage/raft/snapshot`;
      expect(failure(await backUp())).toBe("it refuses a snapshot: HTTP 307");
      expect(paths(other)).toHaveLength(1);
    });
  });

  describe("fails when", () => {
    const reasonWith = async (change: Partial<VaultState>): Promise<string> => {
      Object.assign(double.state, change);
      const result = await backUp();
      expect(double.tokens.size).toBe(0);
      return failure(result);
    };

    test.each<readonly [when: string, change: Partial<VaultState>, reason: string | RegExp]>([
      ["it is not initialised", { initialized: false }, "it is not initialised"],
      ["there is no leader", { leader: "" }, "the cluster has no leader; nothing can be backed up until it has"],
      [
        "it has no integrated storage",
        { raft: false },
        "it does not keep its data in integrated storage (raft), and only that has snapshots",
      ],
      [
        "it answers with an error",
        { answer: { status: 500, body: '{"errors":["disk\\n full"]}' } },
        /^it answers \/v1\/sys\/health with HTTP 500: disk full \(/,
      ],
      ["something else answers in its place", { answer: { status: 200, body: "<html>" } }, /^the cluster has no leader/],
      [
        "the snapshot is older than the server's data was before",
        { appliedIndex: 1235 },
        "the snapshot is of index 1234, and the server was at 1235 before",
      ],
    ])("%s", async (_when, change, reason) => {
      expect(await reasonWith(change)).toEqual(typeof reason === "string" ? reason : expect.stringMatching(reason));
    });

    const whole = makeSnapshot();
    test.each<readonly [what: string, change: Partial<VaultState>]>([
      ["is empty", { snapshot: Buffer.alloc(0) }],
      ["is the compression of nothing", { snapshot: gzipSync("") }],
      ["is an error in JSON", { snapshot: Buffer.from('{"errors":["context canceled"]}') }],
      ["ends in the middle without an error", { cut: { bytes: 2000, how: "end" } }],
      ["lacks its last byte", { snapshot: whole.subarray(0, -1) }],
      ["is followed by something", { snapshot: Buffer.concat([whole, Buffer.from("x")]) }],
      ["has one bit changed", { snapshot: flipped(whole, 3000) }],
      ["has a state with one bit changed, well compressed", { snapshot: gzipSync(flipped(gunzipSync(whole), 3000)) }],
      ["has an empty state", { snapshot: makeSnapshot({ state: Buffer.alloc(0) }) }],
      ["lacks the sealed sums", { snapshot: makeSnapshot({ change: (members) => members.delete("SHA256SUMS.sealed") }) }],
      ["is of index 0", { snapshot: makeSnapshot({ meta: { Index: 0 } }) }],
    ])("the snapshot %s", async (_what, change) => {
      Object.assign(double.state, { appliedIndex: 0, ...change });
      const result = await backUp();
      expect(failure(result)).toMatch(/^the snapshot cannot be restored: ./);
      expect(double.tokens.size).toBe(0);
    });

    test("the connection breaks in the middle of the snapshot", async () => {
      expect(await reasonWith({ cut: { bytes: 3000, how: "close" } })).toBe("it broke off in the middle of the snapshot");
    });
  });

  test("is told to stop in the middle of a snapshot: it revokes its token, reports and ends", async () => {
    double.state.cut = { bytes: 3000, how: "hang" };
    const json = synthesise();
    const target = makeTarget(json);
    const pod = startCronJob(json, { services: ["vault-active.vault"], volumes: { [NAME]: target } });
    await waitFor(() => paths().includes("GET /v1/sys/storage/raft/snapshot"), "the snapshot to be asked for");
    const at = Date.now();
    pod.kill({ container: "runner", signal: "SIGTERM" });
    const { exitCodes, logs } = await pod.done;
    expect(Date.now() - at).toBeLessThan(5000);
    expect(exitCodes.runner).toBe(143);
    expect(logs.runner).toMatch(/backup failed: stopped by SIGTERM\n/);
    expect(double.tokens.size).toBe(0);
    expect(readdirSync(generationsDirectory(json, target)).filter((name) => !name.startsWith(".lock"))).toEqual([]);
  });
});

test("fails when nothing listens, and says why that may be", async () => {
  expect(failure(await backUp())).toBe(
    "it cannot be reached: connect ECONNREFUSED 127.0.0.1:8200 (the Service of the active node leads nowhere while every node is sealed)",
  );
});

describe("over HTTPS", () => {
  let double: VaultDouble;
  const authority = temporaryDirectory("ca");
  const openssl = (...args: string[]): Promise<unknown> => run("openssl", args, { cwd: authority });

  beforeAll(async () => {
    for (const name of ["ca", "other"]) {
      await openssl(
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-keyout",
        `${name}.key`,
        "-out",
        `${name}.crt`,
        "-subj",
        `/CN=${name}`,
        "-days",
        "2",
      );
    }
    writeFileSync(join(authority, "names"), "subjectAltName=DNS:vault-active.vault\n");
    await openssl(
      "req",
      "-newkey",
      "ec",
      "-pkeyopt",
      "ec_paramgen_curve:P-256",
      "-nodes",
      "-keyout",
      "server.key",
      "-out",
      "server.csr",
      "-subj",
      "/CN=vault",
    );
    await openssl(
      "x509",
      "-req",
      "-in",
      "server.csr",
      "-CA",
      "ca.crt",
      "-CAkey",
      "ca.key",
      "-set_serial",
      "1",
      "-extfile",
      "names",
      "-out",
      "server.crt",
      "-days",
      "2",
    );
    const [cert, key] = ["server.crt", "server.key"].map((name) => readFileSync(join(authority, name)));
    expect(new X509Certificate(cert ?? "").subjectAltName).toBe("DNS:vault-active.vault");
    double = await VaultDouble.start({ role: ROLE }, VAULT_PORT, { cert, key });
  });
  afterAll(() => double.stop());
  const with_ = (file: string): Promise<Backup> => {
    const volume = PodVolume.fromConfigMap("vault-ca");
    return backUp({ configMaps: { "vault-ca": { "ca.crt": readFileSync(join(authority, file), "utf8") } } }, { ca: { volume } });
  };

  test("the server's certificate must be signed by the given authority", async () => {
    succeeded(await with_("ca.crt"));
    expect(failure(await with_("other.crt"))).toMatch(/^it cannot be reached: unable to verify the first certificate/);
    expect(double.requests.map(({ path }) => path)).toHaveLength(6);
  });
});

function flipped(data: Buffer, at: number): Buffer {
  const copy = Buffer.from(data);
  copy[at] = (copy[at] ?? 0) ^ 1;
  return copy;
}
