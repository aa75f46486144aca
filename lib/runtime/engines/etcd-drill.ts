import { createPrivateKey, X509Certificate } from "node:crypto";
import { createWriteStream } from "node:fs";
import { writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { buffer } from "node:stream/consumers";
import { pipeline } from "node:stream/promises";
import { setTimeout as sleep } from "node:timers/promises";
import type { Drill, DrillEngine } from "../drill";
import { EtcdClient } from "../etcd-client";
import { type EtcdContent, KeySet, readDatabase } from "../etcd-content";
import { PKI_ARCHIVE, SCRATCH_CLIENTS, SCRATCH_CONFIGURATION, SCRATCH_DATA, SCRATCH_PEERS, SNAPSHOT } from "../etcd-files";
import { CHECKSUM_BYTES, TrailingChecksum } from "../etcd-snapshot";
import { assertSame } from "../facts";
import type { Fact, ManifestFile } from "../manifest";
import { fileOf } from "../store";
import { readTar } from "../tar";
import { archiveFacts } from "../tree-archive";
import { within } from "../within";
import { type EtcdSettings, fileHashes } from "./etcd";

const START_SECONDS = 300;
/** A server that is there but was not waited for has been started a moment ago. */
const RELEASE_SECONDS = 30;
/** Keys in one answer, each with up to 1.5 MiB. */
const KEYS = 64;

/**
 * Restores a snapshot by etcd's own program and starts a server on it, in containers of etcd's image, which has no shell: this program
 * goes first (`stage`), then `etcdutl snapshot restore`, then the server and, beside it, this program once more.
 */
export class EtcdDrill implements DrillEngine {
  /** @param startSeconds how long the scratch server may take to read its data */
  public constructor(
    _settings: EtcdSettings,
    private readonly startSeconds = START_SECONDS,
  ) {}

  public async stage(drill: Drill): Promise<void> {
    const { manifest, work, name, signal } = drill;
    const path = join(work, SNAPSHOT);
    const checksum = new TrailingChecksum();
    let bytes = 0;
    const see = async function* (chunks: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
      for await (const chunk of chunks) {
        checksum.add(chunk);
        bytes += chunk.length;
        yield chunk;
      }
    };
    await pipeline(drill.open(artefact(drill, SNAPSHOT)), see, createWriteStream(path, { flags: "wx", mode: 0o600 }), { signal });
    checksum.check();
    const { content, revisions } = await readDatabase(path, bytes - CHECKSUM_BYTES, signal);
    const { pki: _, ...wanted } = manifest.fingerprint;
    assertSame("the snapshot:", wanted, { ...content, revisions });
    const configuration = {
      name,
      "data-dir": join(work, SCRATCH_DATA),
      "listen-client-urls": SCRATCH_CLIENTS,
      "advertise-client-urls": SCRATCH_CLIENTS,
      "listen-peer-urls": SCRATCH_PEERS,
      "initial-advertise-peer-urls": SCRATCH_PEERS,
      "initial-cluster": `${name}=${SCRATCH_PEERS}`,
      // On by default, but not where there is a file.
      "enable-grpc-gateway": true,
      "unsafe-no-fsync": true,
      logger: "zap",
      "log-level": "warn",
    };
    await writeFile(join(work, SCRATCH_CONFIGURATION), JSON.stringify(configuration));
  }

  public async restore({ name, signal }: Drill): Promise<void> {
    await assertScratch(await this.reach(signal, this.startSeconds), name);
  }

  public async compare(drill: Drill): Promise<readonly string[]> {
    const { revision, keys, sha256 } = drill.manifest.fingerprint;
    const client = await this.reach(drill.signal, this.startSeconds);
    const { etcdserver } = await client.call("/version");
    const { header } = (await client.call("/v3/maintenance/status", {})) as unknown as Range;
    // It may be further by now: the keys of leases that ended are deleted.
    if (Number(header.revision) < Number(revision)) assertSame("the server:", { revision } as Fact, { revision: Number(header.revision) });
    const found = await contentAt(client, Number(revision));
    assertSame("the server:", { keys, sha256 } as Fact, { ...found });
    return [
      `etcd's own program restored the snapshot, and etcd ${String(etcdserver)} serves it`,
      `equal to the fingerprint: revision ${String(revision)}, ${found.keys} keys, each with its value and the revision that set it`,
      ...(await this.comparePki(drill)),
    ];
  }

  /**
   * The server has a container of its own, without a shell, that must end with status 0. It does when it learns that it is no member of
   * its cluster any more; so a member is added, which is this program, and which answers its first call with just that. (What a member
   * is told by 410, and by nothing else; versions 3.4 to 3.6. Removing the last one is a mistake to which etcd replies by a crash.)
   */
  public async release(name: string, signal: AbortSignal): Promise<void> {
    const client = await this.reach(signal, RELEASE_SECONDS);
    await assertScratch(client, name);
    const { etcdserver } = await client.call("/version");
    // Nothing may be asked of it while it ends: version 3.6 would crash.
    let add = (): void => undefined;
    const added = new Promise<void>((resolve) => (add = resolve));
    let tell = (): void => undefined;
    const told = new Promise<void>((resolve) => (tell = resolve));
    const peer = createServer((request, answer) => {
      const end = (): void => void answer.writeHead(410, { "x-server-version": String(etcdserver), connection: "close" }).end(tell);
      void added.then(request.url === "/raft" || request.url?.startsWith("/raft/stream/") === true ? end : () => answer.destroy());
    });
    await new Promise<void>((resolve) => peer.listen(0, "127.0.0.1", resolve));
    try {
      const peerURLs = [`http://127.0.0.1:${(peer.address() as AddressInfo).port}`];
      await client.call("/v3/cluster/member/add", { peerURLs, isLearner: true });
      add();
      await within(RELEASE_SECONDS * 1000, "the scratch server does not call the member that it was given", told);
    } finally {
      peer.close();
    }
  }

  /** Waits until the scratch server can be asked. */
  private async reach(signal: AbortSignal, seconds: number): Promise<EtcdClient> {
    const client = await EtcdClient.connect({ kind: "etcd", endpoint: SCRATCH_CLIENTS }, signal);
    let reason = "it has no leader";
    for (const end = Date.now() + seconds * 1000; Date.now() < end; await sleep(100, undefined, { signal })) {
      const leader = await leaderOf(client).catch((error: Error) => void (reason = error.message));
      if (leader !== undefined && leader !== "0") return client;
    }
    throw new Error(`the scratch server did not answer within ${seconds} s, its container's log may say why: ${reason}`);
  }

  /** The archive against the fingerprint, and whether what is in it belongs together. */
  private async comparePki(drill: Drill): Promise<readonly string[]> {
    const { pki: wanted } = drill.manifest.fingerprint;
    if (wanted === undefined) return [];
    const file = artefact(drill, PKI_ARCHIVE);
    const facts = await archiveFacts(drill.open(file));
    assertSame("the PKI:", wanted, { ...facts, content: await fileHashes(drill.open(file)) } as unknown as Fact);
    const members = new Map<string, Buffer>();
    for await (const { type, path, content } of readTar(drill.open(file))) {
      if (type === "file" && /\.(crt|key)$/.test(path)) members.set(path.replace(/^\.\//, ""), await buffer(content));
    }
    const certificates = certificatesIn(members);
    checkKeys(members, certificates);
    const all = [...certificates.values()].flat();
    for (const [path, [certificate]] of certificates) if (certificate !== undefined) checkIssuer(path, certificate, all);
    return [`the PKI is equal to the fingerprint: ${facts.files} files; its ${all.length} certificates fit their keys and those who signed them`];
  }
}

function artefact({ manifest: { files, generation } }: Drill, name: string): ManifestFile {
  return fileOf(files, name, generation);
}

async function leaderOf(client: EtcdClient): Promise<string | undefined> {
  return (await client.call("/v3/maintenance/status", {})).leader as string | undefined;
}

/** @throws Error unless the server is the one of this drill: no other may be asked, let alone ended */
async function assertScratch(client: EtcdClient, name: string): Promise<void> {
  const { members = [] } = (await client.call("/v3/cluster/member/list", {})) as { readonly members?: readonly { readonly name?: string }[] };
  const names = members.map((member) => member.name ?? "");
  if (names.length !== 1 || names[0] !== name) throw new Error(`the server at ${SCRATCH_CLIENTS} is ${names.join(", ")}, not the scratch server ${name}`);
}

/** What the server has at a revision. */
async function contentAt(client: EtcdClient, revision: number): Promise<Omit<EtcdContent, "revision">> {
  const keys = new KeySet();
  for (let from: Buffer | undefined = Buffer.alloc(1); from !== undefined;) {
    const asked = { key: from.toString("base64"), range_end: "AA==", limit: KEYS, revision };
    const { kvs = [], more } = (await client.call("/v3/kv/range", asked)) as unknown as Range;
    for (const { key, value = "", mod_revision } of kvs) {
      keys.put(Buffer.from(key, "base64"), Buffer.from(value, "base64"), Number(mod_revision));
    }
    const last = kvs.at(-1);
    from = more === true && last !== undefined ? Buffer.concat([Buffer.from(last.key, "base64"), Buffer.alloc(1)]) : undefined;
  }
  return { keys: keys.size, sha256: keys.digest() };
}

interface Range {
  readonly header: { readonly revision: string };
  readonly kvs?: readonly { readonly key: string; readonly value?: string; readonly mod_revision: string }[];
  readonly more?: boolean;
}

/** All certificates of each file; the first of a file is that which the file is for. */
function certificatesIn(members: ReadonlyMap<string, Buffer>): ReadonlyMap<string, readonly X509Certificate[]> {
  const found = new Map<string, readonly X509Certificate[]>();
  for (const [path, content] of members) {
    if (!path.endsWith(".crt")) continue;
    const blocks = content.toString("latin1").match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g) ?? [];
    try {
      found.set(path, blocks.map((block) => new X509Certificate(block)));
    } catch (error) {
      throw new Error(`the PKI: ${path} is damaged: ${(error as Error).message}`, { cause: error });
    }
    if (blocks.length === 0) throw new Error(`the PKI: ${path} is not a certificate in PEM format`);
  }
  return found;
}

/** A key has the name of its certificate. A certificate may be without one, such as that of an authority that is elsewhere. */
function checkKeys(members: ReadonlyMap<string, Buffer>, certificates: ReadonlyMap<string, readonly X509Certificate[]>): void {
  for (const [path, [certificate]] of certificates) {
    const name = path.replace(/crt$/, "key");
    const key = members.get(name);
    if (key === undefined) continue;
    let fits: boolean | undefined;
    try {
      fits = certificate?.checkPrivateKey(createPrivateKey(key));
    } catch (error) {
      throw new Error(`the PKI: ${name} is not a private key: ${(error as Error).message}`, { cause: error });
    }
    if (fits !== true) throw new Error(`the PKI: ${name} is not the key of ${path}`);
  }
}

/** Of authorities with the issuer's name one must have signed it. Where there is none, it is kept elsewhere. */
function checkIssuer(path: string, certificate: X509Certificate, all: readonly X509Certificate[]): void {
  const authorities = all.filter(({ ca, subject }) => ca && subject === certificate.issuer);
  if (authorities.length === 0 || authorities.some(({ publicKey }) => certificate.verify(publicKey))) return;
  throw new Error(`the PKI: ${path} is not signed by the ${certificate.issuer} that is in it`);
}
