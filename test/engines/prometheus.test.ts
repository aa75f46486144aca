import {
  cpSync,
  createReadStream,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { createServer, type Server } from "node:http";
import { randomBytes } from "node:crypto";
import { join } from "node:path";
import { readBlocks } from "../../lib/runtime/tsdb-blocks";
import { startCronJob } from "../helpers/pod";
import { failure, succeeded, type Backup } from "../helpers/pod/backup";
import { generationsDirectory, makeTarget, type FoundGeneration } from "../helpers/pod/target";
import { chownTree, run, temporaryDirectory, waitFor } from "../helpers/process";
import { makeBlocks, Prometheus, PROMETHEUS_PORT, PROMETHEUS_UID, promtool } from "../helpers/servers/prometheus";
import { backUp, MADE, optionsFor, synthesise, unpack } from "./prometheus-setup";

const RESTORED_PORT = 9092;

const snapshotsIn = (data: string): readonly string[] => (existsSync(join(data, "snapshots")) ? readdirSync(join(data, "snapshots")) : []);
const blocksIn = (data: string): readonly string[] =>
  readdirSync(data)
    .filter((name) => /^[0-9A-Z]{26}$/.test(name))
    .sort();

describe("with a running server", () => {
  let server: Prometheus;
  let backup: Backup;
  let generation: FoundGeneration;
  let restored: string;
  beforeAll(async () => {
    const data = join(temporaryDirectory("prometheus"), "data");
    makeBlocks(data, MADE);
    server = await Prometheus.start({ data });
    await server.scraped();
    backup = await backUp(data);
    generation = succeeded(backup);
    restored = await unpack(generation);
  });
  afterAll(() => server.stop());

  test("the stored blocks have as many samples as the manifest says, by Prometheus' own tool", () => {
    const { fingerprint } = generation.manifest;
    const dumped = dump(restored).output.trim().split("\n");
    expect(fingerprint.samples).toBe(dumped.length);
    expect(dumped.filter((line) => line.includes("made"))).toHaveLength(MADE.series * MADE.samples);
    const blocks = fingerprint.blocks as readonly { readonly ulid: string; readonly maxTime: number }[];
    expect(blocks.map(({ ulid }) => ulid)).toEqual(blocksIn(restored));
    // The newest is the head, of the samples that are in no block yet.
    expect(Math.max(...blocks.map(({ maxTime }) => maxTime))).toBeGreaterThan(Date.now() - 120_000);
    expect(generation.manifest.versions.prometheus).toMatch(/^2\.42/);
    expect(generation.manifest.checks).toEqual([
      "every chunk and series of the snapshot was read back from the target: " +
        `${String(fingerprint.samples)} samples, as many as the server says`,
    ]);
  });

  test("a server that is started on them answers as the old one did", async () => {
    const copy = temporaryDirectory("restored-data");
    await run("cp", ["-a", `${restored}/.`, copy]);
    const other = await Prometheus.start({ data: copy, port: RESTORED_PORT, scrape: false });
    try {
      for (const [expression, time] of [
        ["made", MADE.until],
        ["sum(made)", MADE.until - 3600],
        ["sum(count_over_time(made[1d]))", MADE.until],
      ] as const) {
        const before = await server.query(expression, time);
        expect(before.length).toBeGreaterThan(0);
        expect(await other.query(expression, time)).toEqual(before);
      }
      expect((await other.query("count_over_time(up[5m])", Date.now() / 1000)).length).toBe(1);
    } finally {
      await other.stop();
    }
  });

  test("its snapshot is removed from the server's volume", () => {
    expect(snapshotsIn(server.data)).toEqual([]);
  });

  test("snapshots of others are left alone, and named", async () => {
    const others = ["20200101T000000Z-0123456789abcdef", "by-hand"];
    for (const name of others) mkdirSync(join(server.data, "snapshots", name), { recursive: true });
    const result = await backUp(server.data);
    succeeded(result);
    expect(snapshotsIn(server.data)).toEqual(others);
    expect(result.logs.runner).toMatch(
      /warning: \S+\/snapshots holds 2 snapshots that are not removed, because others may need them: .*, by-hand\n/,
    );
    for (const name of others) rmSync(join(server.data, "snapshots", name), { recursive: true });
  });

  test("fails when the volume is not that of the server", async () => {
    const elsewhere = temporaryDirectory("elsewhere", PROMETHEUS_UID);
    const reason = failure(await backUp(elsewhere));
    expect(reason).toMatch(
      /^Prometheus made the snapshot (\S+), which is not at \/source\/data\/snapshots\/\1: mount the server's data volume there/,
    );
    for (const name of snapshotsIn(server.data)) rmSync(join(server.data, "snapshots", name), { recursive: true });
  });

  test("fails before it asks for a snapshot when it could not remove it", async () => {
    const foreign = temporaryDirectory("foreign");
    expect(failure(await backUp(foreign))).toBe(
      "a snapshot in /source/data/snapshots could not be removed by uid 65534, gid 65534 (EACCES): " +
        "mount the volume writable and run as the server's user",
    );
    expect(snapshotsIn(server.data)).toEqual([]);
  });

  test("is told to stop while it archives: it removes its snapshot and ends", async () => {
    const [block = ""] = blocksIn(server.data);
    const large = join(server.data, block, "chunks", "000002");
    writeFileSync(large, randomBytes(1 << 28));
    chownTree(large, PROMETHEUS_UID);
    const json = synthesise();
    const target = makeTarget(json);
    const pod = startCronJob(json, optionsFor(server.data, target));
    const directory = generationsDirectory(json, target);
    await waitFor(
      () => readdirSync(directory, { recursive: true, encoding: "utf8" }).some((name) => name.endsWith("snapshot.tar.zst")),
      "the archive",
    );
    expect(snapshotsIn(server.data)).toHaveLength(1);
    pod.kill({ container: "runner", signal: "SIGTERM" });
    const { exitCodes, logs } = await pod.done;
    rmSync(large);
    expect(exitCodes.runner).toBe(143);
    expect(logs.runner).toMatch(/backup failed: stopped by SIGTERM\n/);
    expect(snapshotsIn(server.data)).toEqual([]);
    expect(readdirSync(directory).filter((name) => !name.startsWith(".lock"))).toEqual([]);
  });

  describe("fails when on the server's disk", () => {
    /** Changes a file of a block, in place, for one backup. */
    async function damaged(path: string, change: (data: Buffer) => Buffer): Promise<string> {
      // The second has its two hours in full.
      const block = blocksIn(server.data)[1] ?? "";
      const file = join(server.data, block, path);
      const before = readFileSync(file);
      const write = (data: Buffer): void => {
        // The server has it mapped: never shorter, but at the end.
        writeFileSync(file, data, { flag: "r+" });
        truncateSync(file, data.length);
      };
      write(change(before));
      const result = await backUp(server.data);
      write(before);
      expect(snapshotsIn(server.data)).toEqual([]);
      return failure(result).replaceAll(block, "BLOCK");
    }
    const flip = (where: (data: Buffer) => number) => (data: Buffer) => {
      const copy = Buffer.from(data);
      const at = where(data);
      copy[at] = (copy[at] ?? 0) ^ 1;
      return copy;
    };

    test.each<readonly [string, string, (data: Buffer) => Buffer, RegExp]>([
      [
        "one bit of a chunk is another one",
        "chunks/000001",
        flip(() => 30),
        /^BLOCK\/chunks\/000001: the chunk at byte \d+ has a wrong checksum$/,
      ],
      [
        "half of the chunks is missing",
        "chunks/000001",
        (data) => data.subarray(0, data.length / 2),
        /^BLOCK\/chunks\/000001: it ends in the middle of a chunk$/,
      ],
      ["one bit of a series is another one", "index", flip(inSeries), /^BLOCK\/index: the series at byte \d+ has a wrong checksum$/],
      [
        "the end of the index is missing",
        "index",
        (data) => data.subarray(0, -1),
        /^BLOCK\/index: its table of contents has a wrong checksum$/,
      ],
      [
        "meta.json says more than there is",
        "meta.json",
        (data) => Buffer.from(String(data).replace(/"numSamples": \d/, '"numSamples": 9')),
        /^block BLOCK: meta\.json says 9\d+ samples, and \d+ are there$/,
      ],
    ])("%s", async (_what, path, change, reason) => {
      expect(await damaged(path, change)).toMatch(reason);
    });
  });

  describe("where promtool sees nothing wrong", () => {
    /** Damages an unpacked snapshot, and gives what promtool and we think of it. */
    async function judge(damage: (block: string) => void): Promise<{ list: number | null; dump: number | null; ours: string }> {
      const copy = temporaryDirectory("judged");
      await run("cp", ["-a", `${restored}/.`, copy]);
      const block = blocksIn(copy)[1] ?? "";
      damage(join(copy, block));
      const archive = join(temporaryDirectory("archive"), "snapshot.tar");
      await run("sh", ["-ec", `cd '${copy}' && tar -cf '${archive}' --format=pax --sort=name --no-recursion $(find * | sort)`]);
      const ours = await readBlocks(createReadStream(archive), join(temporaryDirectory("scratch"), "index")).then(
        () => "whole",
        (error: Error) => error.message.replaceAll(block, "BLOCK"),
      );
      return { list: promtool("list", copy).status, dump: dump(copy).status, ours };
    }

    test.each<readonly [string, (block: string) => void, RegExp]>([
      ["a damaged chunk", (block) => writeAt(join(block, "chunks", "000001"), 30, Buffer.from([0xff, 0xff])), /wrong checksum/],
      ["half a segment", (block) => halve(join(block, "chunks", "000001")), /ends in the middle of a chunk/],
      ["a missing meta.json", (block) => rmSync(join(block, "meta.json")), /^block BLOCK: meta\.json is missing$/],
      [
        "an empty directory in a block's place",
        (block) => (rmSync(block, { recursive: true }), mkdirSync(block)),
        /^block BLOCK: meta\.json is missing$/,
      ],
    ])("%s is found", async (_what, damage, reason) => {
      expect(await judge(damage)).toEqual({ list: 0, dump: 0, ours: expect.stringMatching(reason) });
    });

    test("what is whole is found to be whole", async () => {
      expect(await judge(() => undefined)).toEqual({ list: 0, dump: 0, ours: "whole" });
    });
  });

  test("fails when it stops answering, and says so", async () => {
    await server.stop();
    const reason = failure(await backUp(server.data));
    server = await Prometheus.start({ data: server.data });
    expect(reason).toMatch(/^Prometheus at http:\/\/prometheus-server\.monitoring:9090: it cannot be reached: connect ECONNREFUSED/);
  });
});

test("fails when the admin API is disabled, and says how it is enabled", async () => {
  const server = await Prometheus.start({ adminApi: false });
  const reason = failure(await backUp(server.data));
  await server.stop();
  expect(reason).toBe(
    "Prometheus at http://prometheus-server.monitoring:9090: its admin API is disabled; start the server with --web.enable-admin-api",
  );
});

test("fails when there is no sample", async () => {
  const server = await Prometheus.start({ scrape: false });
  const reason = failure(await backUp(server.data));
  expect(snapshotsIn(server.data)).toEqual([]);
  await server.stop();
  expect(reason).toBe("the snapshot holds no sample");
});

describe("with something in Prometheus' place", () => {
  let server: Server;
  const asked: string[] = [];
  let snapshot: { readonly status: number; readonly body: string };

  beforeAll(async () => {
    server = createServer((request, response) => {
      asked.push(`${request.method} ${request.url}`);
      const data: { readonly [url: string]: object } = {
        "/api/v1/status/buildinfo": { version: "3.0.0" },
        "/api/v1/status/flags": { "web.enable-admin-api": "true" },
      };
      const found = data[request.url ?? ""];
      if (found !== undefined) response.end(JSON.stringify({ status: "success", data: found }));
      else response.writeHead(snapshot.status).end(snapshot.body);
    });
    await new Promise<void>((resolve) => server.listen(PROMETHEUS_PORT, "127.0.0.1", resolve));
  });
  afterAll(() => new Promise((resolve) => server.close(resolve)));
  beforeEach(() => asked.splice(0));

  test.each(["../../precious", "..", ".", "", "/source/data", "20260101T000000Z-01/../../precious"])(
    "removes nothing when the snapshot's name is %j",
    async (name) => {
      const data = temporaryDirectory("data", PROMETHEUS_UID);
      mkdirSync(join(data, "precious"));
      chownTree(data, PROMETHEUS_UID);
      snapshot = { status: 200, body: JSON.stringify({ status: "success", data: { name } }) };
      expect(failure(await backUp(data))).toMatch(/made a snapshot of the unexpected name "/);
      expect(readdirSync(data)).toEqual(["precious"]);
    },
  );

  test.each([
    [
      { status: 503, body: '{"status":"error","errorType":"unavailable","error":"admin APIs disabled"}' },
      "admin APIs disabled; start the server with --web.enable-admin-api",
    ],
    [
      { status: 500, body: '{"status":"error","errorType":"internal","error":"create snapshot: no space left on device"}' },
      "create snapshot: no space left on device",
    ],
    [{ status: 502, body: "<html>" }, "HTTP 502"],
    [{ status: 200, body: '{"status":"success"}' }, "HTTP 200"],
  ])("asks for a snapshot once, whatever it answers: %j", async (answer, reason) => {
    snapshot = answer;
    expect(failure(await backUp(temporaryDirectory("data", PROMETHEUS_UID)))).toBe(
      `Prometheus at http://prometheus-server.monitoring:9090: ${reason}`,
    );
    expect(asked).toEqual(["GET /api/v1/status/buildinfo", "GET /api/v1/status/flags", "POST /api/v1/admin/tsdb/snapshot"]);
  });
});

/** A place in the first series of an index: the table of contents, 52 bytes at the end, says second where the series begin. */
function inSeries(index: Buffer): number {
  return Math.ceil(Number(index.readBigUInt64BE(index.length - 52 + 8)) / 16) * 16 + 4;
}

/** Every sample of some blocks, one a line. The tool wants a log beside them, which a snapshot has not. */
function dump(blocks: string): ReturnType<typeof promtool> {
  const data = temporaryDirectory("dumped");
  cpSync(blocks, data, { recursive: true });
  mkdirSync(join(data, "wal"));
  return promtool("dump", data);
}

function halve(path: string): void {
  truncateSync(path, Math.floor(statSync(path).size / 2));
}

function writeAt(path: string, at: number, data: Buffer): void {
  const content = readFileSync(path);
  data.copy(content, at);
  renameSync(path, `${path}.old`);
  writeFileSync(path, content);
  rmSync(`${path}.old`);
}
