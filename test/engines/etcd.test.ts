import { createHash, randomBytes } from "node:crypto";
import {
  chmodSync,
  chownSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import type { EtcdSnapshotBackupProps } from "../../constructs/backup";
import { EtcdClient } from "../../lib/runtime/etcd-client";
import { readDatabase } from "../../lib/runtime/etcd-content";
import type { Run } from "../../lib/runtime/engine";
import { EtcdEngine, type EtcdSettings } from "../../lib/runtime/engines/etcd";
import { createRun } from "../../lib/runtime/run";
import { startCronJob } from "../helpers/pod";
import { failure, succeeded, type Backup } from "../helpers/pod/backup";
import { generationsDirectory, generationsOn, makeTarget } from "../helpers/pod/target";
import { run, temporaryDirectory, waitFor } from "../helpers/process";
import { type CertificateOptions, Etcd, ETCD_PORT, etcdctl, type EtcdOptions, Pki } from "../helpers/servers/etcd";
import { pieces, startLyingEtcd, type Piece } from "../helpers/servers/lying-etcd";
import { backUp as backUpFrom, KUBEADM_PKI, synthesise } from "./etcd-setup";

const RESTORED_PORT = 12_379;

let pki: Pki;
beforeAll(async () => {
  pki = await Pki.make();
});

const backUp = (props: Partial<EtcdSnapshotBackupProps> = {}, from: Pki = pki): Promise<Backup> => backUpFrom(from, synthesise(props));

/** Settings by which the tests themselves back up, to look between an engine's steps. */
function directly(): EtcdSettings {
  const at = (name: string): string => pki.file(`etcd/${name}`);
  const tls = { ca: at("ca.crt"), cert: at("healthcheck-client.crt"), key: at("healthcheck-client.key") };
  return { kind: "etcd", endpoint: `https://127.0.0.1:${ETCD_PORT}`, tls };
}

function newRun(): Run {
  const { signal } = new AbortController();
  const [directory, scratch] = [temporaryDirectory("generation"), temporaryDirectory("scratch")];
  return createRun({ directory, scratch, signal, log: () => undefined, level: 3 });
}

/** Content of many pages and levels, with all that makes the file differ from a list of keys. */
async function fillLikeKubernetes(etcd: Etcd): Promise<void> {
  const random = randomBytes(400_000).toString("base64");
  await etcd.fill(3000, (index) => [`/registry/pods/default/pod-${index}`, random.slice(index * 50, index * 50 + 1000 + (index % 900))]);
  await etcd.fill(500, (index) => [`/registry/pods/default/pod-${index}`, `second version of ${index}`]);
  await etcd.put("/registry/configmaps/large", randomBytes(900_000));
  await etcd.put("/registry/empty", "");
  await etcd.put("key with \u0000 and ü", "value");
  await etcd.call("/v3/kv/deleterange", { key: base64("/registry/pods/default/pod-1"), range_end: base64("/registry/pods/default/pod-2") });
  await etcd.put("/registry/pods/default/pod-1", "made again");
  const { ID } = await etcd.call("/v3/lease/grant", { TTL: 3600, ID: "7587862094529" });
  await etcd.call("/v3/kv/put", { key: base64("/registry/leased"), value: base64("x"), lease: String(ID) });
  const { revision } = await etcd.content();
  await etcd.call("/v3/kv/compaction", { revision: String(revision - 20), physical: true });
  for (let round = 0; round < 30; round++) await etcd.put("/registry/leases/node", `renewed ${round}`);
}

function base64(text: string): string {
  return Buffer.from(text).toString("base64");
}

describe("with a running member", () => {
  let etcd: Etcd;
  beforeAll(async () => {
    etcd = await Etcd.start(pki);
    await fillLikeKubernetes(etcd);
  });
  afterAll(() => etcd.stop());

  test("etcdctl restores the stored file as it is, and the restored server holds what the fingerprint says", async () => {
    const before = await etcd.content();
    const result = await backUp();
    const { path, manifest } = succeeded(result);
    expect(readdirSync(path).sort()).toEqual(["manifest.json", "pki.tar", "snapshot.db"]);
    expect(manifest.versions).toEqual({ etcd: "3.4.23" });
    expect(manifest.fingerprint).toMatchObject(before);
    expect(manifest.checks).toEqual([
      "etcd's own SHA-256 fits the snapshot on the target",
      `every page of the snapshot that is in use was read: ${String(manifest.fingerprint.revisions)} revisions`,
      "the PKI on the target is what was read: 13 files",
    ]);
    const { revisions } = manifest.fingerprint;
    expect(result.logs.runner).toContain(`revision ${before.revision}: ${before.keys} keys, ${String(revisions)} revisions, `);
    expect(await etcdctl(["snapshot", "status", join(path, "snapshot.db")])).toBe(0);

    const restored = await Etcd.restore(pki, join(path, "snapshot.db"), RESTORED_PORT);
    expect(await restored.content()).toEqual(before);
    await restored.stop();
  });

  test("the snapshot of a restored server has the same fingerprint", async () => {
    const first = succeeded(await backUp());
    const restored = await Etcd.restore(pki, join(first.path, "snapshot.db"), RESTORED_PORT);
    const second = succeeded(await backUp({ endpoint: `https://127.0.0.1:${RESTORED_PORT}` }));
    await restored.stop();
    expect(second.manifest.fingerprint).toEqual(first.manifest.fingerprint);
  });

  test("the PKI comes back whole, with modes, and its hashes are in the manifest", async () => {
    const { path, manifest } = succeeded(await backUp());
    const restored = temporaryDirectory("pki");
    await run("sh", ["-ec", `tar -xf ${join(path, "pki.tar")} -C ${restored}`]);
    await run("diff", ["-r", pki.path, restored]);
    expect(statSync(join(restored, "sa.key")).mode & 0o777).toBe(0o600);
    const { stdout } = await run("sh", ["-ec", `cd ${pki.path} && find . -type f | sed 's|^./||' | xargs sha256sum`]);
    const expected = Object.fromEntries(stdout.trim().split("\n").map((line) => line.split("  ").reverse() as [string, string]));
    expect(manifest.fingerprint.pki).toMatchObject({ files: 13, directories: 2, content: expected });
  });

  test("no key of the PKI is in the log or the manifest", async () => {
    const result = await backUp();
    const { manifest } = succeeded(result);
    const said = (result.logs.runner ?? "") + JSON.stringify(manifest);
    const lines = readFileSync(pki.file("etcd/ca.key"), "utf8").split("\n").filter((line) => line.length > 20 && !line.startsWith("-"));
    expect(lines.length).toBeGreaterThan(0);
    for (const line of lines) expect(said).not.toContain(line);
  });

  test("under a busy writer every snapshot is whole and not older than its beginning", async () => {
    let stop = false;
    let written = 0;
    const writer = (async () => {
      while (!stop) await etcd.put(`/registry/busy/${written++ % 50}`, `value ${written}`);
    })();
    for (let round = 0; round < 10; round++) {
      const { revision } = await etcd.content();
      const { path, manifest } = succeeded(await backUp());
      expect(manifest.fingerprint.revision).toBeGreaterThanOrEqual(revision);
      await etcdctl(["snapshot", "restore", join(path, "snapshot.db"), "--data-dir", join(temporaryDirectory("restored"), "data")]);
    }
    stop = true;
    await writer;
    expect(written).toBeGreaterThan(100);
  });

  describe("damage", () => {
    /** Damages of a file of which `etcdctl snapshot status` notices the first two alone. */
    const DAMAGES: { readonly [damage: string]: (file: Buffer, database: Buffer) => Buffer } = {
      "cut in half": (file) => file.subarray(0, file.length / 2),
      empty: () => Buffer.alloc(0),
      "last byte missing": (file) => file.subarray(0, -1),
      "hash removed": (file) => file.subarray(0, -32),
      "byte flipped": (file) => flipped(file, Math.floor(file.length * 0.6)),
      "raw copy of the database": (_, database) => database,
    };
    const SEEN_BY_STATUS = ["cut in half", "empty"];
    let stored: { readonly engine: EtcdEngine; readonly directory: string; readonly dump: Awaited<ReturnType<EtcdEngine["dump"]>> };
    let verify: (content: Buffer, dump?: (typeof stored)["dump"]) => Promise<readonly string[]>;
    let file: Buffer;

    beforeAll(async () => {
      const run = newRun();
      const { directory } = run;
      const engine = new EtcdEngine(directly());
      await engine.preflight(run);
      stored = { engine, directory, dump: await engine.dump(run) };
      file = readFileSync(join(directory, "snapshot.db"));
      verify = async (content, dump = stored.dump) => {
        writeFileSync(join(directory, "snapshot.db"), content);
        return engine.verify(run, dump);
      };
    });

    function database(): Buffer {
      return readFileSync(join(etcd.data, "member", "snap", "db"));
    }

    test("none: verification passes", async () => {
      expect(await verify(file)).toHaveLength(2);
    });

    test.each(Object.entries(DAMAGES))("on the target: %s, and verification fails", async (damage, inflict) => {
      const damaged = inflict(file, database());
      await expect(verify(damaged)).rejects.toThrow("snapshot.db is damaged");
      const status = await etcdctl(["snapshot", "status", join(stored.directory, "snapshot.db")], true);
      expect(status === 0).toBe(!SEEN_BY_STATUS.includes(damage));
    });

    test.each(Object.entries(DAMAGES))("on the target: %s, and verification fails though the manifest has its hash", async (_, inflict) => {
      const damaged = inflict(file, database());
      const entry = { path: "snapshot.db", bytes: damaged.length, sha256: createHash("sha256").update(damaged).digest("hex") };
      await expect(verify(damaged, { ...stored.dump, files: [entry] })).rejects.toThrow("the snapshot's checksum does not fit its content");
    });

    test("one bit at every twentieth of the file", async () => {
      for (let percent = 0; percent <= 100; percent += 5) {
        const damaged = flipped(file, Math.min(file.length - 1, Math.floor((file.length * percent) / 100)));
        await expect(verify(damaged)).rejects.toThrow("snapshot.db is damaged");
      }
    });

    const CUT_OFF = /^the snapshot ended after \d+ bytes: \d+ were announced$/;
    const BROKEN_OFF = "the server broke off the snapshot after";
    const lies: { readonly [lie: string]: readonly [lie: (snapshot: Buffer) => readonly Piece[], reason: RegExp] } = {
      "cut in half": [(it) => pieces(it).slice(0, 3), /^the snapshot ended after 98304 bytes: \d+ were announced$/],
      empty: [() => [], /^the snapshot ended after 0 bytes: nothing came$/],
      "last byte missing": [(it) => pieces(it.subarray(0, -1), it.length - 32), CUT_OFF],
      "hash removed": [(it) => pieces(it).slice(0, -1), CUT_OFF],
      "byte flipped": [(it) => pieces(flipped(it, 500_000)), /^the snapshot's checksum does not fit its content$/],
      "raw copy of the database": [() => pieces(database(), database().length).slice(0, -1), CUT_OFF],
      "the connection cut": [
        (it) => [...pieces(it).slice(0, 3), "cut"],
        /^etcd at https:\/\/127\.0\.0\.1:\d+: the connection broke off: aborted$/,
      ],
      "an error instead of the rest": [
        (it) => [...pieces(it).slice(0, 3), { error: "etcdserver: request timed out" }],
        new RegExp(`^${BROKEN_OFF} 98304 bytes: etcdserver: request timed out$`),
      ],
      "an error at once": [
        () => [{ error: "etcdserver: permission denied" }],
        new RegExp(`^${BROKEN_OFF} 0 bytes: etcdserver: permission denied$`),
      ],
      "a damaged page with a fitting hash": [(it) => pieces(rehashed(flipped(it, 40_960))), /^bbolt: page \d+ calls itself \d+$/],
    };
    test.each(Object.entries(lies))("on the way: %s, and nothing is published", async (_, [lie, reason]) => {
      const liar = await startLyingEtcd(pki, etcd, lie);
      expect(failure(await backUp({ endpoint: `https://127.0.0.1:${liar.port}` }))).toMatch(reason);
      liar.stop();
    });

    test("on the way: an older snapshot, and nothing is published", async () => {
      await etcd.put("/registry/newer", "than the snapshot");
      const liar = await startLyingEtcd(pki, etcd, () => pieces(file));
      const reason = failure(await backUp({ endpoint: `https://127.0.0.1:${liar.port}` }));
      expect(reason).toMatch(/^the snapshot is of revision \d+, and the server was at \d+ before$/);
      liar.stop();
    });

    test("every page's number, kind and count is noticed, though etcd's hash fits", async () => {
      const path = join(temporaryDirectory("snapshot"), "snapshot.db");
      const { pages } = await readDatabase(join(stored.directory, "snapshot.db"), file.length - 32).catch(async () => {
        writeFileSync(path, file);
        return readDatabase(path, file.length - 32);
      });
      let noticed = 0;
      const tried = 60;
      for (let index = 0; index < tried; index++) {
        const page = 2 + Math.floor(((pages - 2) * index) / tried);
        const damaged = Buffer.from(file);
        damaged.fill(0xff, page * 4096, page * 4096 + 16);
        writeFileSync(path, rehashed(damaged));
        await readDatabase(path, file.length - 32).catch((error: Error) => {
          expect(error.message).toMatch(/^bbolt: /);
          noticed++;
        });
      }
      // The others are pages that are free, or continue the one before them.
      expect(noticed).toBeGreaterThan(tried / 2);
    });
  });

  describe("alarms", () => {
    let member: string;
    beforeAll(async () => {
      const { header } = (await etcd.call("/v3/maintenance/status", {})) as unknown as { header: { member_id: string } };
      member = header.member_id;
    });
    const alarm = (action: string, name: string) => etcd.call("/v3/maintenance/alarm", { action, alarm: name, memberID: member });

    test("NOSPACE is reported, and what there is is saved all the more", async () => {
      await alarm("ACTIVATE", "NOSPACE");
      const result = await backUp();
      await alarm("DEACTIVATE", "NOSPACE");
      succeeded(result);
      expect(result.logs.runner).toContain("warning: etcd at https://127.0.0.1:2379 has raised the alarm NOSPACE");
    });

    test("fails when the members' data differ", async () => {
      await alarm("ACTIVATE", "CORRUPT");
      const result = await backUp();
      await alarm("DEACTIVATE", "CORRUPT");
      expect(failure(result)).toBe("etcd at https://127.0.0.1:2379: the alarm CORRUPT is raised: its members' data differ");
    });
  });

  describe("TLS", () => {
    /** A node whose PKI is the real one but for what `change` does. */
    async function changed(change: (node: Pki) => Promise<void>): Promise<Pki> {
      const node = new Pki();
      await run("cp", ["-a", `${pki.path}/.`, node.path]);
      await change(node);
      return node;
    }

    test.each<[string, RegExp, (node: Pki) => Promise<void>]>([
      ["the CA is another", /its certificate is not signed by the CA that the backup was given$/, (node) => node.authority("etcd/ca")],
      [
        "the client certificate is of another CA",
        /it refuses the client certificate$/,
        (node) => node.certificate("etcd/healthcheck-client", { ca: "front-proxy-ca" }),
      ],
      [
        "the client certificate has expired",
        /^the client certificate \/source\/pki\/etcd\/healthcheck-client.crt expired on 20\d\d-\d\d-\d\d$/,
        (node) => node.certificate("etcd/healthcheck-client", { days: -1 }),
      ],
      [
        "the key does not belong to the certificate",
        /key values mismatch$/,
        async (node) => copyFileSync(node.file("etcd/server.key"), node.file("etcd/healthcheck-client.key")),
      ],
      [
        "the CA is no certificate",
        /^\/source\/pki\/etcd\/ca\.crt is not a certificate in PEM format$/,
        async (node) => writeFileSync(node.file("etcd/ca.crt"), "nothing"),
      ],
      [
        "the client certificate is not there",
        /^ENOENT: .*\/source\/pki\/etcd\/healthcheck-client\.crt/,
        async (node) => rmSync(node.file("etcd/healthcheck-client.crt")),
      ],
    ])("fails in one line when %s", async (_, reason, change) => {
      expect(failure(await backUp({}, await changed(change)))).toMatch(reason);
    });

    test("fails when it is spoken to without TLS", async () => {
      expect(failure(await backUp({ endpoint: "http://127.0.0.1:2379" }))).toMatch(/^etcd at http:\/\/127\.0\.0\.1:2379: /);
    });
  });

  describe("the PKI directory", () => {
    test.each([["empty"], ["missing"]])("fails when it is %s", async (how) => {
      const path = temporaryDirectory("pki");
      if (how === "missing") rmSync(path, { recursive: true });
      const engine = new EtcdEngine({ ...directly(), pki: path });
      await expect(engine.preflight(newRun())).rejects.toThrow(`the PKI directory ${path} does not exist or is empty`);
    });

    test("fails when a file in it cannot be read, with the command that mends it", async () => {
      const node = new Pki();
      await run("cp", ["-a", `${pki.path}/.`, node.path]);
      mkdirSync(node.file("users"));
      writeFileSync(node.file("users/someone.key"), "key", { mode: 0o600 });
      chownSync(node.file("users/someone.key"), 1234, 1234);
      const reason = failure(await backUp({}, node));
      expect(reason).toMatch(/^\/source\/pki\/users\/someone\.key \(owner 1234:1234, mode 600\) cannot be read by uid 0, gid 0; /);
      await run("sh", ["-ec", reason.replace(/^.*run: /, "").replaceAll("/source/pki", node.path)]);
      succeeded(await backUp({}, node));
    });

    test("a key of etcd's that cannot be read has the command too", async () => {
      const node = new Pki();
      await run("cp", ["-a", `${pki.path}/.`, node.path]);
      chownSync(node.file("etcd/healthcheck-client.key"), 1234, 1234);
      chmodSync(node.file("etcd/healthcheck-client.key"), 0o600);
      const reason = failure(await backUp({}, node));
      expect(reason).toMatch(/healthcheck-client\.key \(owner 1234:1234, mode 600\) cannot be read .* run: chgrp 0 /);
    });
  });

  test("fails when the server falls silent", async () => {
    const client = await EtcdClient.connect(directly(), new AbortController().signal, 500);
    process.kill(etcd.pid, "SIGSTOP");
    await new Promise((resolve) => setTimeout(resolve, 50)); // until it has stopped
    const silent = client.call("/version").catch((error: Error) => error.message);
    expect(await silent).toBe("etcd at https://127.0.0.1:2379: it cannot be reached: it sent nothing for 0.5 s");
    process.kill(etcd.pid, "SIGCONT");
  });
});

test("fails when no server is there", async () => {
  expect(failure(await backUp())).toBe("etcd at https://127.0.0.1:2379: it cannot be reached: connect ECONNREFUSED 127.0.0.1:2379");
});

describe("with a member of its own", () => {
  const members: Etcd[] = [];
  const start = async (options: EtcdOptions = {}): Promise<Etcd> => {
    const etcd = await Etcd.start(pki, options);
    members.push(etcd);
    return etcd;
  };
  afterEach(() => Promise.all(members.splice(0).map((etcd) => etcd.stop("SIGKILL"))));

  test.each<[string, CertificateOptions, RegExp]>([
    ["has expired", { days: -1 }, /its certificate has expired$/],
    ["is for another name", { names: "DNS:other.example,IP:192.0.2.1" }, /its certificate is for other names \(.*192\.0\.2\.1\)$/],
  ])("fails in one line when the server's certificate %s", async (_, options, reason) => {
    await pki.certificate("etcd/odd", options);
    await start({ certificate: "etcd/odd" });
    expect(failure(await backUp())).toMatch(reason);
  });

  test("fails when the gateway is switched off, and says so", async () => {
    await start({ args: ["--enable-grpc-gateway=false"] });
    const reason = "etcd at https://127.0.0.1:2379: it answers /v3/maintenance/status with 404: is its HTTP gateway switched off?";
    expect(failure(await backUp())).toBe(reason);
  });

  test("fails when it has lost its leader", async () => {
    const peers = "a=http://127.0.0.1:2380,b=http://127.0.0.1:3380";
    const member = (name: string, port: number): Promise<Etcd> => {
      const own = ["--name", name, "--initial-advertise-peer-urls", `http://127.0.0.1:${port + 1}`];
      return start({ port, cluster: [...own, "--initial-cluster", peers] });
    };
    const [a, b] = await Promise.all([member("a", 2379), member("b", 3379)]);
    await waitFor(() => a.content().then(() => true, () => false), "the cluster to have a leader");
    await b.stop("SIGKILL");
    await waitFor(async () => (await a.call("/v3/maintenance/status", {})).leader === undefined, "the leader to be lost");
    expect(failure(await backUp())).toBe("etcd at https://127.0.0.1:2379: the member has no leader, so its data may be old");
  });

  test("fails when it is killed in the middle of the snapshot, and leaves nothing", async () => {
    const etcd = await start();
    const value = randomBytes(100_000);
    for (let index = 0; index < 500; index++) await etcd.put(`/registry/large/${index}`, value);
    const json = synthesise();
    const target = makeTarget(json);
    const directory = generationsDirectory(json, target);
    const pod = startCronJob(json, { volumes: { [KUBEADM_PKI]: pki.path, "etcd-backup": target } });
    const partial = (): number => {
      const [name] = existsSync(directory) ? readdirSync(directory).filter((entry) => entry.startsWith(".partial-")) : [];
      const path = join(directory, name ?? "", "snapshot.db");
      return name !== undefined && existsSync(path) ? statSync(path).size : 0;
    };
    await waitFor(() => partial() > 1_000_000, "the first megabyte");
    await etcd.stop("SIGKILL");
    const result = await pod.done;
    expect(failure({ ...result, generations: generationsOn(json, target) })).toMatch(/^etcd at .*: the connection broke off: /);
    expect(readdirSync(directory).filter((name) => !name.startsWith(".lock"))).toEqual([]);
  });
});

function flipped(file: Buffer, at: number): Buffer {
  const copy = Buffer.from(file);
  copy[at] = (copy[at] ?? 0) ^ 1;
  return copy;
}

function rehashed(file: Buffer): Buffer {
  const data = file.subarray(0, -32);
  return Buffer.concat([data, createHash("sha256").update(data).digest()]);
}
