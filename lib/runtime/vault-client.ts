import type { IncomingMessage } from "node:http";
import { type HttpOptions, jsonOf, send } from "./http-client";

/** What a request says besides its path. */
export type VaultOptions = Omit<HttpOptions, "signal" | "ca"> & {
  /** Another node of the cluster. @default - the client's own address */
  readonly origin?: URL;
};

/** The HTTP API of a Vault or OpenBao. */
export class VaultClient {
  public readonly base: URL;

  /** @param ca authority of the server's certificate, PEM @default - those that Node knows */
  public constructor(
    private readonly address: string,
    private readonly ca?: Buffer,
  ) {
    this.base = new URL(address);
  }

  /** The content of an answer. @throws Error in one line, with the address, unless it is a success */
  public async call(signal: AbortSignal, path: string, options: VaultOptions = {}): Promise<{ readonly [key: string]: unknown }> {
    const answer = await this.send(signal, path, options);
    const content = await jsonOf(answer);
    if (answer.statusCode === 200 || answer.statusCode === 204) return content;
    throw this.error(`it answers ${path.replace(/\?.*/, "")} with ${reasonIn(answer, content.errors)}`);
  }

  /** An answer, whatever its status. */
  public async send(signal: AbortSignal, path: string, { origin = this.base, ...options }: VaultOptions = {}): Promise<IncomingMessage> {
    // Some listeners want this header, so that no browser can be made to send a request.
    const headers = { ...options.headers, "x-vault-request": "true" };
    return send(new URL(path, origin), { ...options, headers, ca: this.ca, signal }).catch((error: Error) => {
      throw signal.aborted ? error : this.error(error.message);
    });
  }

  public error(reason: string): Error {
    return new Error(`Vault at ${this.address}: ${reason}`);
  }
}

/** `{"errors": ["..."]}`, or the status where there is no such. */
export function reasonIn({ statusCode }: IncomingMessage, errors: unknown): string {
  const reasons = Array.isArray(errors) ? errors.map(String).filter((reason) => reason !== "") : [];
  return reasons.length === 0 ? `HTTP ${statusCode}` : `HTTP ${statusCode}: ${reasons.join("; ").replace(/\s+/g, " ").trim()}`;
}

/** Who can unseal a server, as it says in `/v1/sys/seal-status`. */
export interface Seal {
  /** `shamir`, or the service that unseals it. */
  readonly type: string;
  /** Of so many keys so many unseal it; where a service does that, they are recovery keys. */
  readonly threshold: number;
  readonly shares: number;
}

/** @param status an answer of `/v1/sys/seal-status` */
export function sealOf({ type, t, n }: { readonly [key: string]: unknown }): Seal {
  return { type: String(type), threshold: Number(t), shares: Number(n) };
}
