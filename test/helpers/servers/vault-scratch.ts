/**
 * A program in the place of `vault server`, where there is no real one: as much of a single node as a drill uses, with its data in a
 * bbolt file as a node has it. Run as `vault server -config=<file>`; {@link scratchProgram} makes it of this module.
 */
import { createHash } from "node:crypto";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { join } from "node:path";
import { buffer } from "node:stream/consumers";
import { gunzipSync } from "node:zlib";
import { EntryReader } from "../../../lib/runtime/vault-entries";
import { BboltWriter, type Entry } from "../bbolt-writer";

interface Configuration {
  readonly cluster_name: string;
  readonly storage: { readonly raft: { readonly path: string } };
  readonly listener: readonly { readonly tcp: { readonly address: string } }[];
}

/** Argument of one that keeps less than it was given. */
const LOSES_ONE = "-loses-one";
const TOKEN = "root token of the double";
const KEY = "key of the double";

function serve({ cluster_name: cluster, storage, listener }: Configuration): void {
  const database = join(storage.raft.path, "vault.db");
  const state = { initialized: existsSync(database), sealed: true, threshold: 1, shares: 1 };
  if (state.initialized) Object.assign(state, sealIn(readFileSync(`${database}.seal`, "utf8")));
  const take = (snapshot: Buffer): void => {
    const members = membersOf(gunzipSync(snapshot));
    const sums = members.get("SHA256SUMS")?.toString() ?? "";
    const content = members.get("state.bin") ?? Buffer.alloc(0);
    if (!sums.includes(createHash("sha256").update(content).digest("hex"))) throw new Error("failed to verify the snapshot");
    const entries: Entry[] = [];
    const reader = new EntryReader((key, value) => void entries.push([Buffer.from(key), Buffer.from(value)]));
    reader.add(content);
    reader.end();
    if (process.argv.includes(LOSES_ONE)) entries.pop();
    const { Index, Term } = JSON.parse(members.get("meta.json")?.toString() ?? "{}") as { readonly Index: number; readonly Term: number };
    const writer = new BboltWriter();
    const data = writer.leaf(entries);
    const indexes = Buffer.from([8, Term, 16, (Index & 127) | 128, Index >> 7]);
    writeFileSync(database, writer.finish({ config: [[Buffer.from("latest_indexes"), indexes]], data }));
    writeFileSync(`${database}.seal`, entries.find(([key]) => key.toString() === "core/seal-config")?.[1] ?? "{}");
    state.sealed = true;
  };
  const [host = "", port = ""] = (listener[0]?.tcp.address ?? "").split(":");
  createServer((request, response) => {
    const reply = (status: number, json?: object): void => void response.writeHead(status).end(json && JSON.stringify(json));
    void buffer(request).then((body) => {
      const { threshold: t, shares: n, initialized, sealed } = state;
      switch (`${request.method} ${request.url}`) {
        case "GET /v1/sys/seal-status":
          return reply(200, { type: "shamir", initialized, sealed, t, n });
        case "POST /v1/sys/init":
          if (initialized) return reply(400, { errors: ["Vault is already initialized"] });
          state.initialized = true;
          return reply(200, { keys_base64: [KEY], root_token: TOKEN });
        case "POST /v1/sys/unseal":
          if ((JSON.parse(body.toString()) as { readonly key: string }).key !== KEY) return reply(400, { errors: ["invalid key"] });
          state.sealed = false;
          return reply(200, {});
        case "GET /v1/sys/leader":
          return sealed ? reply(503, { errors: ["Vault is sealed"] }) : reply(200, { is_self: true });
        case "GET /v1/sys/health":
          return reply(200, { cluster_name: cluster, version: "0.0.0" });
        case "POST /v1/sys/storage/raft/snapshot-force":
          if (request.headers["x-vault-token"] !== TOKEN) return reply(403, { errors: ["permission denied"] });
          try {
            take(body);
            return reply(204);
          } catch (error) {
            return reply(500, { errors: [(error as Error).message] });
          }
        default:
          return reply(404, { errors: [] });
      }
    });
  }).listen(Number(port), host);
}

function sealIn(text: string): { readonly threshold: number; readonly shares: number } {
  const { secret_threshold: threshold, secret_shares: shares } = JSON.parse(text) as { readonly [key: string]: number };
  return { threshold: threshold ?? 0, shares: shares ?? 0 };
}

/** Members of a tar archive with short names. */
function membersOf(archive: Buffer): ReadonlyMap<string, Buffer> {
  const members = new Map<string, Buffer>();
  for (let at = 0; archive[at] !== 0 && at < archive.length;) {
    const text = (from: number, length: number): string => archive.toString("latin1", at + from, at + from + length).replace(/\0.*$/s, "");
    const size = parseInt(text(124, 12), 8);
    members.set(text(0, 100), archive.subarray(at + 512, at + 512 + size));
    at += 512 + 512 * Math.ceil(size / 512);
  }
  return members;
}

const configuration = process.argv.find((argument) => argument.startsWith("-config="));
if (configuration !== undefined) serve(JSON.parse(readFileSync(configuration.slice("-config=".length), "utf8")) as Configuration);
