import { X509Certificate } from "node:crypto";
import { readFile } from "node:fs/promises";
import { text } from "node:stream/consumers";
import type { EtcdSettings } from "./engines/etcd";
import { type HttpOptions, send } from "./http-client";
import { mending } from "./readable";

const UNKNOWN_CA = "its certificate is not signed by the CA that the backup was given";
/** What Node says of a server's certificate, and what it means here. */
const REASONS: { readonly [code: string]: string } = {
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: UNKNOWN_CA,
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: UNKNOWN_CA,
  SELF_SIGNED_CERT_IN_CHAIN: UNKNOWN_CA,
  DEPTH_ZERO_SELF_SIGNED_CERT: UNKNOWN_CA,
  CERT_SIGNATURE_FAILURE: UNKNOWN_CA,
  CERT_HAS_EXPIRED: "its certificate has expired",
  CERT_NOT_YET_VALID: "its certificate is not valid yet",
};

/** The HTTP gateway that an etcd server (3.4 to 3.6) has on its client port. */
export class EtcdClient {
  private constructor(
    private readonly endpoint: string,
    private readonly options: HttpOptions,
  ) {}

  /**
   * @param silenceMs how long the server may send nothing
   * @throws Error where a file of `tls` cannot be used, with the command that mends it where that is a matter of permissions
   */
  public static async connect({ endpoint, tls }: EtcdSettings, signal: AbortSignal, silenceMs?: number): Promise<EtcdClient> {
    if (tls === undefined) return new EtcdClient(endpoint, { signal, silenceMs });
    const read = async (path: string): Promise<Buffer> => {
      return readFile(path).catch(async (error: unknown) => {
        throw await mending(error);
      });
    };
    const [ca, cert, key] = [await read(tls.ca), await read(tls.cert), await read(tls.key)];
    certificate(tls.ca, ca);
    const expires = new Date(certificate(tls.cert, cert).validTo);
    const expired = expires.getTime() < Date.now();
    if (expired) throw new Error(`the client certificate ${tls.cert} expired on ${expires.toISOString().slice(0, 10)}`);
    return new EtcdClient(endpoint, { ca, cert, key, signal, silenceMs });
  }

  /** A GET, or a POST where there is a body. @throws Error in one line, with the endpoint */
  public async call(path: string, body?: object): Promise<{ readonly [key: string]: unknown }> {
    const answer = await text(this.stream(path, body));
    try {
      return JSON.parse(answer) as { readonly [key: string]: unknown };
    } catch {
      throw this.error(`it answers ${path} with something that is not JSON`);
    }
  }

  /** Like {@link call}, for an answer that is read as it comes. It fails where the server goes away or falls silent. */
  public async *stream(path: string, body?: object): AsyncGenerator<Buffer> {
    const { signal } = this.options;
    const method = body === undefined ? "GET" : "POST";
    const response = await send(new URL(path, this.endpoint), { ...this.options, body, method }).catch((error: Error) => {
      throw signal.aborted ? error : this.explain(error);
    });
    try {
      if (response.statusCode === 200) return yield* response as AsyncIterable<Buffer>;
      const reason = response.statusCode === 404 ? "is its HTTP gateway switched off?" : reasonIn(await text(response));
      throw this.error(`it answers ${path} with ${response.statusCode}: ${reason}`);
    } catch (error) {
      const { code, message } = error as NodeJS.ErrnoException;
      throw signal.aborted || code === undefined ? error : this.error(`the connection broke off: ${message}`);
    } finally {
      response.destroy();
    }
  }

  private explain(error: Error): Error {
    const { code = "", message } = (error.cause ?? error) as NodeJS.ErrnoException;
    const names = message.replace(/^.*altnames?: /, "");
    if (code === "ERR_TLS_CERT_ALTNAME_INVALID") return this.error(`its certificate is for other names (${names})`);
    if (/ALERT_(BAD_CERTIFICATE|CERTIFICATE|UNKNOWN_CA)/.test(code)) return this.error("it refuses the client certificate");
    return this.error(REASONS[code] ?? error.message);
  }

  private error(reason: string): Error {
    return new Error(`etcd at ${this.endpoint}: ${reason}`);
  }
}

function certificate(path: string, content: Buffer): X509Certificate {
  try {
    return new X509Certificate(content);
  } catch {
    throw new Error(`${path} is not a certificate in PEM format`);
  }
}

/** The gateway's own words: `{"error": "...", "message": "...", "code": 14}`. */
function reasonIn(answer: string): string {
  try {
    const { message, error } = JSON.parse(answer) as { message?: string; error?: string };
    return message ?? error ?? answer;
  } catch {
    return answer.trim().slice(0, 200);
  }
}
