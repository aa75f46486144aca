import { createHash } from "node:crypto";
import { createWriteStream } from "node:fs";
import { rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { isDeepStrictEqual } from "node:util";
import type { Dump, Engine, Run } from "../engine";
import { EtcdClient } from "../etcd-client";
import { type EtcdDatabase, readDatabase } from "../etcd-content";
import { PKI_ARCHIVE, SNAPSHOT } from "../etcd-files";
import { CHECKSUM_BYTES, readSnapshot, TrailingChecksum } from "../etcd-snapshot";
import type { Fact, ManifestFile } from "../manifest";
import { readableTree } from "../readable";
import { readTar } from "../tar";
import { archiveFacts, TreeArchive } from "../tree-archive";

/** Where etcd is, and the files of the cluster that go with it. */
export interface EtcdSettings {
  readonly kind: "etcd";
  /** e.g. `https://127.0.0.1:2379` */
  readonly endpoint: string;
  /** Paths in the runner of the CA, the client certificate and its key. Absent for a plain-text endpoint. */
  readonly tls?: { readonly ca: string; readonly cert: string; readonly key: string };
  /** Directory whose files are archived with the snapshot (kubeadm PKI, encryption config). */
  readonly pki?: string;
}

/**
 * A snapshot of an etcd member by its HTTP gateway (etcd 3.4 to 3.6), and the PKI that belongs to it.
 *
 * Both are stored as they are, not compressed: on the night they are needed, the node has `etcdutl` and little else, and the snapshot
 * can be handed to it from the backup volume: `etcdutl snapshot restore snapshot.db --data-dir <new directory>` (before etcd 3.5
 * `etcdctl`). `tar -xf pki.tar -C /etc/kubernetes/pki` brings the PKI back.
 */
export class EtcdEngine implements Engine {
  private client: EtcdClient | undefined;
  /** The member's revision before the snapshot. */
  private revision = 0;

  public constructor(private readonly settings: EtcdSettings) {}

  public async preflight(run: Run): Promise<{ readonly versions: { readonly [tool: string]: string } }> {
    const { endpoint, pki } = this.settings;
    this.client = await EtcdClient.connect(this.settings, run.signal);
    const { etcdserver } = await this.client.call("/version");
    const { leader, header } = (await this.client.call("/v3/maintenance/status", {})) as Status;
    if (leader === undefined || leader === "0") throw new Error(`etcd at ${endpoint}: the member has no leader, so its data may be old`);
    this.revision = Number(header?.revision ?? 0);
    const { alarms = [] } = (await this.client.call("/v3/maintenance/alarm", { action: "GET" })) as Alarms;
    for (const { alarm } of alarms) {
      if (alarm === "CORRUPT") throw new Error(`etcd at ${endpoint}: the alarm CORRUPT is raised: its members' data differ`);
      // Nothing can be written then, but what there is should be saved all the more.
      run.log(`warning: etcd at ${endpoint} has raised the alarm ${alarm}`);
    }
    const files = pki === undefined ? undefined : ((await readableTree(pki, run.signal)) ?? 0);
    if (files === 0) throw new Error(`the PKI directory ${pki} does not exist or is empty`);
    return { versions: { etcd: String(etcdserver) } };
  }

  public async dump(run: Run): Promise<Dump> {
    if (this.client === undefined) throw new Error("dump before preflight");
    const pieces = readSnapshot(this.client.stream("/v3/maintenance/snapshot", {}));
    const snapshot = await run.store(SNAPSHOT, Readable.from(pieces, { objectMode: false }), { compress: false });
    const database = await read(run, snapshot);
    const { content, revisions, pages, pagesInUse } = database;
    const { revision, keys } = content;
    if (revision < this.revision) throw new Error(`the snapshot is of revision ${revision}, and the server was at ${this.revision} before`);
    run.log(`revision ${revision}: ${keys} keys, ${revisions} revisions, ${pagesInUse} of ${pages} pages in use`);
    const fingerprint = { ...content, revisions };
    const { pki } = this.settings;
    if (pki === undefined) return { files: [snapshot], fingerprint };

    const archive = new TreeArchive([{ path: pki }], { signal: run.signal });
    const file = await run.store(PKI_ARCHIVE, archive.stream(), { compress: false });
    return { files: [snapshot, file], fingerprint: { ...fingerprint, pki: { ...archive.facts(), content: await fileHashes(run.open(file)) } } };
  }

  public async verify(run: Run, { files, fingerprint }: Dump): Promise<readonly string[]> {
    const [snapshot, pki] = files;
    if (snapshot === undefined) throw new Error("there is no snapshot");
    const checksum = new TrailingChecksum();
    for await (const chunk of run.open(snapshot)) checksum.add(chunk as Buffer);
    checksum.check();
    const checks = [
      "etcd's own SHA-256 fits the snapshot on the target",
      `every page of the snapshot that is in use was read: ${String(fingerprint.revisions)} revisions`,
    ];
    if (pki === undefined) return checks;
    const { content, ...expected } = fingerprint.pki as { readonly [key: string]: Fact };
    if (!isDeepStrictEqual(await archiveFacts(run.open(pki)), expected)) throw new Error("the PKI on the target is not what was read");
    return [...checks, `the PKI on the target is what was read: ${Object.keys(content as object).length} files`];
  }
}

interface Status {
  /** Absent, or "0", where there is none. */
  readonly leader?: string;
  readonly header?: { readonly revision?: string };
}

interface Alarms {
  readonly alarms?: readonly { readonly alarm?: string }[];
}

/** Its pages lie in the file in no order, in which only a file that is not encrypted can be read. */
async function read(run: Run, snapshot: ManifestFile): Promise<EtcdDatabase> {
  const copy = join(run.scratch, SNAPSHOT);
  if (snapshot.recipients !== undefined) await pipeline(run.open(snapshot), createWriteStream(copy));
  const path = snapshot.recipients === undefined ? join(run.directory, snapshot.path) : copy;
  const database = await readDatabase(path, (await stat(path)).size - CHECKSUM_BYTES, run.signal);
  await rm(copy, { force: true });
  return database;
}

/** SHA-256 of each file in an archive, by path. */
export async function fileHashes(archive: AsyncIterable<Buffer>): Promise<{ readonly [path: string]: string }> {
  const found: { [path: string]: string } = {};
  for await (const { type, path, content } of readTar(archive)) {
    if (type !== "file") continue;
    const hash = createHash("sha256");
    for await (const chunk of content) hash.update(chunk);
    found[path] = hash.digest("hex");
  }
  return found;
}
