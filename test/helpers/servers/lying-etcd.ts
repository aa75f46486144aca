import { createServer, request } from "node:https";
import type { AddressInfo } from "node:net";
import { buffer } from "node:stream/consumers";
import type { Etcd, Pki } from "./etcd";

/** A piece of a snapshot as the gateway sends it: a message, or the end of the connection. */
export type Piece = { readonly blob?: Buffer; readonly remaining?: number } | { readonly error: string } | "cut";

/** Stands before an etcd, passes on what is asked and answered, and changes the snapshots. */
export async function startLyingEtcd(
  pki: Pki,
  etcd: Etcd,
  lie: (snapshot: Buffer) => readonly Piece[],
): Promise<{ readonly port: number; stop(): void }> {
  const { ca, cert, key } = pki.client("etcd/server");
  const server = createServer({ ca, cert, key, requestCert: true, rejectUnauthorized: true }, (asked, answer) => {
    const options = { ...pki.client(), host: "127.0.0.1", port: etcd.port, path: asked.url, method: asked.method };
    const forwarded = request(options, (response) => {
      answer.statusCode = response.statusCode ?? 500;
      if (asked.url !== "/v3/maintenance/snapshot") return void response.pipe(answer);
      void buffer(response).then((content) => {
        const blobs = content.toString().trim().split("\n").map((line) => (JSON.parse(line) as { result: { blob: string } }).result.blob);
        for (const piece of lie(Buffer.concat(blobs.map((blob) => Buffer.from(blob, "base64"))))) {
          if (piece === "cut") return void answer.write("", () => answer.destroy());
          answer.write(`${JSON.stringify(message(piece))}\n`);
        }
        answer.end();
      });
    });
    asked.pipe(forwarded);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    port: (server.address() as AddressInfo).port,
    stop: () => {
      server.close();
      server.closeAllConnections();
    },
  };
}

function message(piece: Exclude<Piece, "cut">): object {
  if ("error" in piece) return { error: { grpc_code: 14, http_code: 503, message: piece.error, http_status: "Service Unavailable" } };
  const { blob = Buffer.alloc(0), remaining = 0 } = piece;
  return { result: { ...(remaining === 0 ? {} : { remaining_bytes: String(remaining) }), blob: blob.toString("base64") } };
}

/** A file as a server sends it: pieces of 32 KiB that count down, and the last 32 bytes by themselves. */
export function pieces(file: Buffer, announced = file.length - 32): readonly Piece[] {
  const data = file.subarray(0, announced);
  const sent: Piece[] = [];
  for (let at = 0; at < data.length; at += 32_768) {
    const blob = data.subarray(at, at + 32_768);
    sent.push({ blob, remaining: announced - at - blob.length });
  }
  return [...sent, { blob: file.subarray(announced) }];
}
