import { createHash } from "node:crypto";
import { chmodSync, cpSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { EtcdDrill } from "../../lib/runtime/engines/etcd-drill";
import type { Drill } from "../../lib/runtime/drill";
import { SCRATCH_CLIENTS } from "../../lib/runtime/etcd-files";
import { forge, proven, red, runDrill, TWENTIETHS, flip, withoutLastByte, type DrillResult, type Forgery } from "../helpers/drill";
import { findCronJob, startCronJob, type CronJobOptions } from "../helpers/pod";
import { succeeded } from "../helpers/pod/backup";
import { generationsDirectory, type FoundGeneration } from "../helpers/pod/target";
import { block, blocks } from "../helpers/pod/terraform";
import { run, startProcess, temporaryDirectory, waitFor } from "../helpers/process";
import { Etcd, Pki } from "../helpers/servers/etcd";
import { readVerdict } from "../../lib/runtime/verdict";
import { backUp, base64, fill, IMAGES, NAME, synthesise, type EtcdImage } from "./etcd-setup";

const [oldest] = IMAGES as readonly [EtcdImage, ...EtcdImage[]];
const json = synthesise();
let pki: Pki;
let etcd: Etcd;
let generation: FoundGeneration;

beforeAll(async () => {
  pki = await Pki.make();
  etcd = await Etcd.start(pki);
  await fill(etcd);
  generation = succeeded(await backUp(pki));
  await etcd.stop();
});

function optionsFor({ image, profile }: EtcdImage): CronJobOptions {
  return { images: { [image.repository]: profile }, pauseMs: 0 };
}

async function drill(forgery: Forgery = {}, options: CronJobOptions = {}, of = generation): Promise<DrillResult> {
  return runDrill(json, forge(json, of, forgery, NAME).target, { backup: NAME, ...optionsFor(oldest), ...options });
}

/** The reason of a drill that ended before etcd's own programs began. */
async function stopped(forgery: Forgery): Promise<string> {
  const result = await drill(forgery);
  expect(Object.keys(result.exitCodes)).toEqual(["stage"]);
  return red(result);
}

describe.each(IMAGES.map((image) => [image.image.tag ?? "", image] as const))("with the image %s", (_tag, image) => {
  const own = synthesise({ image: image.image });

  test("etcd's own program restores the snapshot, and a server that nothing outside can reach serves what was backed up", async () => {
    const result = await runDrill(own, forge(own, generation, {}, NAME).target, { backup: NAME, ...optionsFor(image) });
    const { revision, keys } = generation.manifest.fingerprint;
    expect(proven(result)).toEqual([
      expect.stringMatching(/^etcd's own program restored the snapshot, and etcd 3\.\d+\.\d+ serves it$/),
      `equal to the fingerprint: revision ${String(revision)}, ${String(keys)} keys, each with its value and the revision that set it`,
      "the PKI is equal to the fingerprint: 13 files; its 6 certificates fit their keys and those who signed them",
    ]);
    // The server's own container, in which there is no shell, has ended well, too.
    expect(result.exitCodes).toEqual({ stage: 0, restore: 0, runner: 0, etcd: 0 });
    expect(result.verdict?.restoreSeconds).toBeGreaterThan(0.1);
  });

  test("keys whose lease ends while the drill goes on are compared as they were", async () => {
    const member = await Etcd.start(pki);
    await fill(member, 40);
    const { ID } = await member.call("/v3/lease/grant", { TTL: 2 });
    await member.call("/v3/kv/put", { key: base64("/registry/leased"), value: base64("x"), lease: String(ID) });
    const leased = succeeded(await backUp(pki));
    await member.stop();
    const held = { container: "runner", when: (pod: { log(name: string): string }) => pod.log("runner").includes("drilling") };
    const kill = [
      { ...held, signal: "SIGSTOP" },
      { ...held, signal: "SIGCONT", afterMs: 6000 },
    ] as const;
    const result = await runDrill(own, forge(own, leased, {}, NAME).target, { backup: NAME, ...optionsFor(image), kill });
    expect(result.killed).toBe(2);
    proven(result);
  });
});

test("the pod has nothing that leads to the live member: not the node's network, and no path of it", () => {
  const { cronJob } = findCronJob(json, `${NAME}-drill`);
  const pod = block(block(block(block(block(cronJob.spec).job_template).spec).template).spec);
  expect({ network: pod.host_network, node: pod.node_selector, token: pod.automount_service_account_token }).toEqual({ token: false });
  expect(blocks(pod.volume).map(({ name, ...source }) => [name, Object.keys(source)])).toEqual([
    ["config", ["config_map"]],
    ["scratch", ["empty_dir"]],
    ["work", ["empty_dir"]],
    ["target", ["persistent_volume_claim"]],
  ]);
  const containers = [...blocks(pod.init_container), ...blocks(pod.container)];
  expect(containers.map(({ name, command }) => [name, command])).toEqual([
    ["stage", ["node", "/etc/cdktf-backup/runner.js", "stage"]],
    ["restore", expect.arrayContaining(["etcdctl", "snapshot", "restore", "/work/snapshot.db"])],
    ["runner", ["node", "/etc/cdktf-backup/runner.js", "drill"]],
    ["etcd", ["etcd", "--config-file", "/work/etcd.json"]],
  ]);
  expect(JSON.stringify(containers)).not.toContain("$");
});

describe("is red when", () => {
  test("one bit is flipped at any twentieth of the snapshot, though the manifest has its hash", async () => {
    for (const fraction of TWENTIETHS) {
      expect(await stopped({ change: { "snapshot.db": flip(fraction) } })).toBe("the snapshot's checksum does not fit its content");
    }
  });

  test("one bit is flipped in the PKI", async () => {
    for (const fraction of TWENTIETHS.filter((_, index) => index % 5 === 0)) {
      const result = await drill({ change: { "pki.tar": flip(fraction) }, rehash: false });
      expect(red(result)).toMatch(/^pki\.tar is damaged: its SHA-256|^the archive is damaged: |^what came back is not what was backed up: the PKI: /);
      expect(result.exitCodes).toMatchObject({ restore: 0, etcd: 0 });
    }
  });

  test("one bit is flipped in a file of the PKI, though the manifest has its hash", async () => {
    const damage = (archive: Buffer): Buffer => {
      const data = Buffer.from(archive);
      const at = data.indexOf("BEGIN PRIVATE KEY") + 60;
      data[at] = (data[at] ?? 0) ^ 1;
      return data;
    };
    expect(red(await drill({ change: { "pki.tar": damage } }))).toMatch(/^what came back is not what was backed up: the PKI: /);
  });

  test.each<[string, Forgery, RegExp]>([
    ["the last byte is missing", { change: { "snapshot.db": withoutLastByte } }, /^the snapshot's checksum does not fit its content$/],
    ["etcd's hash is missing", { change: { "snapshot.db": (it) => it.subarray(0, -32) } }, /^the snapshot's checksum does not fit its content$/],
    ["it is empty", { change: { "snapshot.db": () => Buffer.alloc(0) } }, /^the snapshot's checksum does not fit its content$/],
    ["it is yesterday's, of a backup that runs weekly", { hoursOlder: 8 * 24 }, /^the newest generation is 192\.0 h old, but may be 17\d\.\d h at most$/],
    [
      "the fingerprint is of another time",
      { manifest: (manifest) => ({ ...manifest, fingerprint: { ...manifest.fingerprint, revision: 7, keys: 3 } }) },
      /the snapshot: revision is \d+, but was 7, the snapshot: keys is \d+, but was 3$/,
    ],
    [
      "there is no snapshot in it",
      { manifest: (manifest) => ({ ...manifest, files: manifest.files.slice(1) }) },
      /^\d{8}T\d{6}Z-[0-9a-f]{8} has no snapshot\.db$/,
    ],
  ])("%s", async (_when, forgery, expected) => {
    expect(red(await drill(forgery))).toMatch(expected);
  });

  test("a page is damaged in a way that neither etcd's hash nor the manifest's tells", async () => {
    const damage = (file: Buffer): Buffer => {
      const data = Buffer.from(file.subarray(0, -32));
      data.fill(0x61, data.indexOf("second version of 33"), data.indexOf("second version of 33") + 6);
      return Buffer.concat([data, createHash("sha256").update(data).digest()]);
    };
    expect(await stopped({ change: { "snapshot.db": damage } })).toMatch(/the snapshot: sha256 is "[0-9a-f]{64}", but was "[0-9a-f]{64}"$/);
  });

  describe("the snapshot is whole, and that of", () => {
    /** The snapshot of a member with this content, in the place of the one that was backed up. */
    async function other(content: (member: Etcd) => Promise<void>): Promise<Forgery> {
      const member = await Etcd.start(pki);
      try {
        await content(member);
        const { path } = succeeded(await backUp(pki));
        return { change: { "snapshot.db": () => readFileSync(join(path, "snapshot.db")) } };
      } finally {
        await member.stop();
      }
    }

    test.each<[string, (member: Etcd) => Promise<void>]>([
      ["another cluster", (member) => fill(member, 300)],
      ["an empty one", () => Promise.resolve()],
      [
        "the same one with one key missing",
        async (member) => {
          await fill(member);
          await member.call("/v3/kv/deleterange", { key: base64("/registry/empty") });
        },
      ],
    ])("%s", async (_what, content) => {
      expect(await stopped(await other(content))).toMatch(/^what came back is not what was backed up: the snapshot: .*sha256 is/);
    });
  });

  test("etcd's own program does not restore it, and no container of the runner's comes after that", async () => {
    const failing = join(temporaryDirectory("double"), "etcdctl");
    writeFileSync(failing, "#!/bin/sh\necho no space left on device >&2\nexit 1\n");
    chmodSync(failing, 0o755);
    const { exitCodes, verdict } = await drill({}, { programs: { etcdctl: failing } });
    expect(exitCodes).toEqual({ stage: 0, restore: 1 });
    expect(verdict).toMatchObject({ green: false, reason: "it was not restored: the logs of the pod's other containers say why" });
  });

  test.each<[string, (member: Etcd) => Promise<void>, RegExp]>([
    ["of less", (member) => fill(member, 300), /: the server: revision is \d+, but was \d+$/],
    [
      "of as much",
      async (member) => {
        await member.put("/registry/other", "x");
        await fill(member);
      },
      /: the server: keys is 403, but was \d+, the server: sha256 is "\w+", but was "\w+"$/,
    ],
  ])("what etcd serves is not what was restored, but the snapshot %s", async (_what, content, expected) => {
    const member = await Etcd.start(pki);
    await content(member);
    const { path } = succeeded(await backUp(pki));
    await member.stop();
    // In place of the snapshot that was checked, another one is restored.
    const double = join(temporaryDirectory("double"), "etcdctl");
    writeFileSync(double, `#!/bin/sh\nshift 3\nexec etcdctl.real snapshot restore /usr/bin/other.db "$@"\n`);
    chmodSync(double, 0o755);
    const programs = { etcdctl: double, "etcdctl.real": "/usr/bin/etcdctl", "other.db": join(path, "snapshot.db") };
    expect(red(await drill({}, { programs }))).toMatch(expected);
  });

  test.each<[string, (node: Pki) => Promise<void>, string]>([
    [
      "a key is that of another certificate",
      async (node) => cpSync(node.file("etcd/server.key"), node.file("apiserver-etcd-client.key")),
      "the PKI: apiserver-etcd-client.key is not the key of apiserver-etcd-client.crt",
    ],
    [
      "a certificate is of an authority that was replaced",
      async (node) => {
        await node.certificate("front-proxy-client", { ca: "front-proxy-ca" });
        await node.authority("front-proxy-ca");
      },
      "the PKI: front-proxy-client.crt is not signed by the CN=front-proxy-ca that is in it",
    ],
    [
      "a certificate is none",
      async (node) => writeFileSync(node.file("front-proxy-ca.crt"), "nothing"),
      "the PKI: front-proxy-ca.crt is not a certificate in PEM format",
    ],
    [
      "a key is none",
      async (node) => writeFileSync(node.file("ca.key"), "nothing"),
      expect.stringMatching(/^the PKI: ca\.key is not a private key: ./) as string,
    ],
  ])("in the PKI, %s", async (_what, change, expected) => {
    const node = new Pki();
    await run("cp", ["-a", `${pki.path}/.`, node.path]);
    await change(node);
    const member = await Etcd.start(pki);
    const odd = succeeded(await backUp(node));
    await member.stop();
    expect(red(await drill({}, {}, odd))).toEqual(expected);
  });
});

describe("of a server that is not the scratch server", () => {
  test("nothing is asked, and nothing is ended", async () => {
    const data = join(temporaryDirectory("live"), "data");
    const live = await startProcess({
      command: "etcd",
      args: ["--name", "live", "--data-dir", data, "--listen-client-urls", SCRATCH_CLIENTS, "--advertise-client-urls", SCRATCH_CLIENTS],
      ready: { port: 12_379 },
    });
    const result = await drill();
    expect(red(result)).toMatch(/^the server at http:\/\/127\.0\.0\.1:12379 is live, not the scratch server drill-[0-9a-f]{16}$/);
    expect(result.logs.runner).toContain("warning: the server at http://127.0.0.1:12379 is live");
    const answer = await fetch(`${SCRATCH_CLIENTS}/v3/cluster/member/list`, { method: "POST", body: "{}" });
    expect(((await answer.json()) as { members: readonly object[] }).members).toHaveLength(1);
    await live.stop();
  });
});

test("fails when no server answers, after a time", async () => {
  const { signal } = new AbortController();
  const late = new EtcdDrill({ kind: "etcd", endpoint: "http://127.0.0.1:2379" }, 1).restore({ name: "drill-x", signal } as Drill);
  await expect(late).rejects.toThrow(/^the scratch server did not answer within 1 s, its container's log may say why: etcd at http:.*ECONNREFUSED/);
});

test("is told to stop: every container ends, and the verdict says so", async () => {
  const { target } = forge(json, generation, {}, NAME);
  const options = { name: `${NAME}-drill`, volumes: { [NAME]: target }, ...optionsFor(oldest) };
  const pod = startCronJob(json, options);
  await waitFor(() => pod.log("runner").includes("drilling"), "the runner");
  pod.delete();
  const { exitCodes } = await pod.done;
  // Whatever etcd makes of an end in the middle of a request.
  expect(exitCodes).toEqual({ stage: 0, restore: 0, runner: 143, etcd: expect.any(Number) as number });
  const verdict = await readVerdict(generationsDirectory(json, target, NAME), generation.name);
  expect(verdict).toMatchObject({ green: false, reason: "stopped by SIGTERM" });
});
