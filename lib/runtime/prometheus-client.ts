import type { IncomingMessage } from "node:http";
import { type HttpOptions, jsonOf, send } from "./http-client";

/** The HTTP API of a Prometheus. */
export class PrometheusClient {
  private readonly base: string;

  public constructor(private readonly address: string) {
    this.base = address.replace(/\/*$/, "/");
  }

  /** The data of an answer. @throws Error in one line, with the address, unless it is a success */
  public async ask(signal: AbortSignal, path: string, options: Partial<HttpOptions> = {}): Promise<object> {
    const answer = await this.send(signal, `api/v1/${path}`, options);
    const { status, error, data } = await jsonOf(answer);
    if (answer.statusCode === 200 && status === "success" && typeof data === "object" && data !== null) return data;
    throw this.error(typeof error === "string" ? error : `HTTP ${answer.statusCode}`);
  }

  /** An answer, whatever its status. */
  public async send(signal: AbortSignal, path: string, options: Partial<HttpOptions> = {}): Promise<IncomingMessage> {
    return send(new URL(path, this.base), { ...options, signal }).catch((error: Error) => {
      throw signal.aborted ? error : this.error(error.message);
    });
  }

  public error(reason: string): Error {
    return new Error(`Prometheus at ${this.address}: ${reason}`);
  }
}
