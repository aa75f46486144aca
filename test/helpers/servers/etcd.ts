import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { Agent, request } from "node:https";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { ImageReference } from "../../../lib/image-reference";
import { KeySet, type EtcdContent } from "../../../lib/runtime/etcd-content";
import { run, startProcess, temporaryDirectory, type ManagedProcess } from "../process";

/** The image whose programs are those of this machine. */
export const ETCD_IMAGE = ImageReference.parse("registry.k8s.io/etcd:3.4.23-0");

/** Port of etcd on a control plane node. */
export const ETCD_PORT = 2379;

export interface CertificateOptions {
  /** Name of the authority below the PKI directory. @default "etcd/ca" */
  readonly ca?: string;
  /** @default "DNS:localhost,IP:127.0.0.1" */
  readonly names?: string;
  /** A negative number is an expired one. @default 365 */
  readonly days?: number;
}

/** The PKI directory of a kubeadm control plane node, as far as it concerns etcd and its restore. */
export class Pki {
  public readonly path = temporaryDirectory("pki");

  public static async make(): Promise<Pki> {
    const pki = new Pki();
    mkdirSync(join(pki.path, "etcd"));
    for (const ca of ["ca", "front-proxy-ca", "etcd/ca"]) await pki.authority(ca);
    // kubeadm gives the server's certificate both usages: the server is a client of itself (its gateway).
    await pki.certificate("etcd/server");
    await pki.certificate("etcd/healthcheck-client");
    await pki.certificate("apiserver-etcd-client");
    writeFileSync(join(pki.path, "sa.key"), "key that signs the tokens of service accounts", { mode: 0o600 });
    return pki;
  }

  public async authority(name: string): Promise<void> {
    await this.openssl(["req", "-x509", ...this.newKey(name), "-out", `${name}.crt`, "-days", "3650"]);
  }

  /** Makes `<name>.crt` and `<name>.key`. */
  public async certificate(name: string, options: CertificateOptions = {}): Promise<void> {
    const { ca = "etcd/ca", names = "DNS:localhost,IP:127.0.0.1", days = 365 } = options;
    await this.openssl(["req", ...this.newKey(name), "-out", `${name}.csr`]);
    const extensions = join(temporaryDirectory("extensions"), "extensions");
    writeFileSync(extensions, `extendedKeyUsage=serverAuth,clientAuth\nsubjectAltName=${names}\n`);
    const signer = ["-CA", `${ca}.crt`, "-CAkey", `${ca}.key`, "-set_serial", String(Date.now())];
    const files = ["-in", `${name}.csr`, "-out", `${name}.crt`, "-extfile", extensions];
    await this.openssl(["x509", "-req", ...files, ...signer, "-days", String(days)]);
    await run("rm", [join(this.path, `${name}.csr`)]);
  }

  public file(name: string): string {
    return join(this.path, name);
  }

  /** What a client needs to be let in. */
  public client(name = "etcd/healthcheck-client"): { readonly ca: Buffer; readonly cert: Buffer; readonly key: Buffer } {
    const read = (file: string): Buffer => readFileSync(this.file(file));
    return { ca: read("etcd/ca.crt"), cert: read(`${name}.crt`), key: read(`${name}.key`) };
  }

  private newKey(name: string): readonly string[] {
    const curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
    return [...curve, "-subj", `/CN=${name.replace("/", "-")}`, "-keyout", `${name}.key`];
  }

  private async openssl(args: readonly string[]): Promise<void> {
    await run("openssl", args, { cwd: this.path });
  }
}

export interface EtcdOptions {
  /** @default - a new directory */
  readonly data?: string;
  /** @default 2379 */
  readonly port?: number;
  /** Server certificate below the PKI directory. @default "etcd/server" */
  readonly certificate?: string;
  /** Its arguments about other members; its peers speak to it on the port after {@link port}. @default - there are none */
  readonly cluster?: readonly string[];
  readonly args?: readonly string[];
  /** Its program. @default - the one on PATH */
  readonly program?: string;
}

/** A member of an etcd cluster that wants client certificates, as kubeadm sets it up. */
export class Etcd {
  public static async start(pki: Pki, options: EtcdOptions = {}): Promise<Etcd> {
    const etcd = new Etcd(pki, options.data ?? join(temporaryDirectory("etcd"), "data"), options.port ?? ETCD_PORT);
    const [url, peer] = [`https://127.0.0.1:${etcd.port}`, `http://127.0.0.1:${etcd.port + 1}`];
    const alone = ["--initial-advertise-peer-urls", peer, "--initial-cluster", `default=${peer}`];
    const { certificate = "etcd/server", args = [], cluster = alone, program = "etcd" } = options;
    etcd.process = await startProcess({
      command: program,
      args: [
        ...["--data-dir", etcd.data, "--listen-client-urls", url, "--advertise-client-urls", url],
        ...["--listen-peer-urls", peer, ...cluster],
        ...["--cert-file", pki.file(`${certificate}.crt`), "--key-file", pki.file(`${certificate}.key`)],
        ...["--client-cert-auth", "--trusted-ca-file", pki.file("etcd/ca.crt"), "--log-level", "error"],
        ...args,
      ],
      ready: { port: etcd.port },
    });
    return etcd;
  }

  /** Restores a snapshot as `etcdctl` does, and starts a server on it. */
  public static async restore(pki: Pki, snapshot: string, port: number): Promise<Etcd> {
    const data = join(temporaryDirectory("restored"), "data");
    const peer = `http://127.0.0.1:${port + 1}`;
    const cluster = ["--initial-cluster", `default=${peer}`, "--initial-advertise-peer-urls", peer];
    await etcdctl(["snapshot", "restore", snapshot, "--data-dir", data, ...cluster]);
    return Etcd.start(pki, { data, port });
  }

  private process?: ManagedProcess;
  private readonly agent: Agent;

  private constructor(
    pki: Pki,
    public readonly data: string,
    public readonly port: number,
  ) {
    this.agent = new Agent({ ...pki.client(), keepAlive: true, maxSockets: 8, checkServerIdentity: () => undefined });
  }

  public get pid(): number {
    return this.process?.pid ?? -1;
  }

  /** A call of the HTTP gateway. @throws unless it answers 200 */
  public async call(path: string, body: object): Promise<{ readonly [key: string]: unknown }> {
    const answer = await new Promise<{ status: number; content: string }>((resolve, reject) => {
      const sent = request({ host: "127.0.0.1", port: this.port, path, method: "POST", agent: this.agent }, (response) => {
        text(response).then((content) => resolve({ status: response.statusCode ?? 0, content }), reject);
      });
      sent.on("error", reject);
      sent.end(JSON.stringify(body));
    });
    if (answer.status !== 200) throw new Error(`${path}: ${answer.status} ${answer.content}`);
    return JSON.parse(answer.content) as { readonly [key: string]: unknown };
  }

  /** Deletes every key that begins with `prefix`, which must not end with the byte 255. */
  public async removeAll(prefix: string): Promise<void> {
    const end = Buffer.from(prefix);
    end[end.length - 1] = (end.at(-1) ?? 0) + 1;
    await this.call("/v3/kv/deleterange", { key: base64(prefix), range_end: base64(end) });
  }

  public async put(key: string, value: string | Buffer): Promise<void> {
    await this.call("/v3/kv/put", { key: base64(key), value: base64(value) });
  }

  /** Puts many keys, a hundred in a revision. */
  public async fill(count: number, entry: (index: number) => readonly [key: string, value: string | Buffer]): Promise<void> {
    for (let start = 0; start < count; start += 100) {
      const success = Array.from({ length: Math.min(100, count - start) }, (_, index) => {
        const [key, value] = entry(start + index);
        return { requestPut: { key: base64(key), value: base64(value) } };
      });
      await this.call("/v3/kv/txn", { success });
    }
  }

  /** What it holds now, in the terms of a backup's fingerprint. */
  public async content(): Promise<EtcdContent> {
    const keys = new KeySet();
    let revision = 0;
    for (let from: Buffer | undefined = Buffer.from([0]); from !== undefined; ) {
      const asked = { key: from.toString("base64"), range_end: "AA==", limit: 200 };
      const { header, kvs = [], more } = (await this.call("/v3/kv/range", asked)) as unknown as Range;
      revision = Number(header.revision);
      for (const { key, value = "", mod_revision } of kvs) {
        keys.put(Buffer.from(key, "base64"), Buffer.from(value, "base64"), Number(mod_revision));
      }
      const last = kvs.at(-1);
      from = more === true && last !== undefined ? Buffer.concat([Buffer.from(last.key, "base64"), Buffer.from([0])]) : undefined;
    }
    return { revision, keys: keys.size, sha256: keys.digest() };
  }

  public async stop(signal: NodeJS.Signals = "SIGTERM"): Promise<void> {
    this.agent.destroy();
    await this.process?.stop(signal);
  }
}

interface Range {
  readonly header: { readonly revision: string };
  readonly kvs?: readonly { readonly key: string; readonly value?: string; readonly mod_revision: string }[];
  readonly more?: boolean;
}

/** Runs `etcdctl` without a server. @throws with what it says unless it ends with 0, or `mayFail` */
export async function etcdctl(args: readonly string[], mayFail = false): Promise<number | null> {
  return (await run("etcdctl", args, { env: { ETCDCTL_API: "3" }, mayFail })).status;
}

function base64(content: string | Buffer): string {
  return Buffer.from(content as string).toString("base64");
}
