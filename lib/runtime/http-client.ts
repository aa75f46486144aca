import { request as plainRequest, type IncomingMessage } from "node:http";
import { request as tlsRequest } from "node:https";
import type { Readable } from "node:stream";
import { text } from "node:stream/consumers";

/** What a request can be told. */
export interface HttpOptions {
  /** @default "GET" */
  readonly method?: "GET" | "POST";
  readonly headers?: { readonly [name: string]: string };
  /** Sent as JSON. @default - nothing */
  readonly body?: object;
  /** Sent as it comes, where there is no {@link body}. @default - nothing */
  readonly upload?: Readable | Buffer;
  /** Authority of the server's certificate, PEM. @default - those that Node knows */
  readonly ca?: Buffer;
  /** Client certificate and its key, PEM. @default - none */
  readonly cert?: Buffer;
  readonly key?: Buffer;
  readonly signal: AbortSignal;
  /** Silence after which the server counts as gone. @default 60000 */
  readonly silenceMs?: number;
}

/**
 * Sends a request and gives the answer, whatever its status; its body is still to be read. Redirects are not followed.
 * @throws Error where the server, `it`, cannot be reached or falls silent
 */
export function send(url: URL, options: HttpOptions): Promise<IncomingMessage> {
  const { method = "GET", headers, body, upload, ca, cert, key, signal, silenceMs = 60_000 } = options;
  return new Promise((resolve, reject) => {
    const content = body === undefined ? undefined : JSON.stringify(body);
    const length = content === undefined ? {} : { "content-type": "application/json", "content-length": Buffer.byteLength(content) };
    const call = url.protocol === "https:" ? tlsRequest : plainRequest;
    const request = call(url, { method, headers: { ...headers, ...length }, ca, cert, key, signal, timeout: silenceMs }, resolve);
    request.on("timeout", () => request.destroy(new Error(`it sent nothing for ${silenceMs / 1000} s`)));
    let broken: Error | undefined;
    request.on("error", (error: NodeJS.ErrnoException) => {
      if (broken !== undefined) return reject(broken);
      // An error about several addresses of one name has no message of its own.
      const reason = error.message === "" ? error.code : error.message;
      reject(signal.aborted ? error : new Error(`it cannot be reached: ${reason}`, { cause: error }));
    });
    if (upload === undefined || Buffer.isBuffer(upload)) {
      request.end(content ?? upload);
      return;
    }
    upload.once("error", (error) => request.destroy((broken = error)));
    upload.pipe(request);
  });
}

/** The body of an answer as JSON; an empty object where it is none. */
export async function jsonOf(answer: IncomingMessage): Promise<{ readonly [key: string]: unknown }> {
  try {
    const value: unknown = JSON.parse(await text(answer));
    return typeof value === "object" && value !== null ? (value as { readonly [key: string]: unknown }) : {};
  } catch (error) {
    if (error instanceof SyntaxError) return {};
    throw error;
  }
}
