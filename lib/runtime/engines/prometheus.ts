import { access, constants, lstat, readdir, readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { isDeepStrictEqual } from "node:util";
import type { Dump, Engine, Run } from "../engine";
import type { HttpOptions } from "../http-client";
import { reasonOf } from "../log";
import { PrometheusClient } from "../prometheus-client";
import { type BlockFacts, isBlock, parseMeta, readBlocks, totals, totalsIn } from "../tsdb-blocks";
import { TreeArchive } from "../tree-archive";

/** Where a Prometheus is, and its data. */
export interface PrometheusSettings {
  readonly kind: "prometheus";
  /** e.g. `http://prometheus-server.monitoring:80` */
  readonly address: string;
  /** Path in the runner of the server's data directory (`--storage.tsdb.path`). Snapshots are removed from it. */
  readonly data: string;
}

/** The archive, before compression. */
export const SNAPSHOT_ARCHIVE = "snapshot.tar";
/** Name of a snapshot: the server's clock and a random number. */
const SNAPSHOT = /^\d{8}T\d{6}Z-[0-9a-f]{1,16}$/;
/** The server answers when the snapshot is made, for which it writes the newest two hours out. */
const SNAPSHOT_MS = 1_800_000;
const ENABLE = "start the server with --web.enable-admin-api";

/** A snapshot of the server's blocks, the newest samples included, as `snapshot.tar.zst`. */
export class PrometheusEngine implements Engine {
  private readonly client: PrometheusClient;

  public constructor(private readonly settings: PrometheusSettings) {
    this.client = new PrometheusClient(settings.address);
  }

  public async preflight(run: Run): Promise<{ readonly versions: { readonly [tool: string]: string } }> {
    const build = (await this.ask(run, "status/buildinfo")) as { readonly version?: string };
    const flags = (await this.ask(run, "status/flags")) as { readonly [flag: string]: string };
    if (flags["web.enable-admin-api"] !== "true")
      throw this.client.error(`its admin API is disabled; ${ENABLE}`);
    await this.assertRemovable(run);
    return { versions: { prometheus: build.version ?? "unknown" } };
  }

  public async dump(run: Run): Promise<Dump> {
    const { name } = (await this.ask(run, "admin/tsdb/snapshot", { method: "POST", silenceMs: SNAPSHOT_MS })) as { readonly name?: string };
    // It becomes part of a path that is removed.
    if (name === undefined || !SNAPSHOT.test(name))
      throw new Error(`Prometheus at ${this.settings.address} made a snapshot of the unexpected name ${JSON.stringify(name)}`);
    const path = join(this.settings.data, "snapshots", name);
    let dump: Dump;
    try {
      dump = await this.archive(run, name, path);
    } catch (error) {
      await remove(path).catch((left: unknown) => run.log(`warning: ${reasonOf(left)}`));
      throw error;
    }
    await remove(path);
    return dump;
  }

  public async verify(run: Run, { files, fingerprint }: Dump): Promise<readonly string[]> {
    const [file] = files;
    if (file === undefined) throw new Error("there is no snapshot");
    const found = totals(await readBlocks(run.open(file), join(run.scratch, "index")));
    if (!isDeepStrictEqual(found, totalsIn(fingerprint))) throw new Error("the blocks on the target are not those of the snapshot");
    return [`every chunk and series of the snapshot was read back from the target: ${found.samples} samples, as many as the server says`];
  }

  private async archive(run: Run, name: string, path: string): Promise<Dump> {
    const found = await lstat(path).catch(() => undefined);
    if (found?.isDirectory() !== true) {
      throw new Error(
        `Prometheus made the snapshot ${name}, which is not at ${path}: ` +
          "mount the server's data volume there, the directory of --storage.tsdb.path",
      );
    }
    const blocks = await this.blocks(path);
    const facts = totals(blocks);
    if (facts.samples === 0) throw new Error("the snapshot holds no sample");
    const archive = new TreeArchive([{ path }], { signal: run.signal });
    const file = await run.store(SNAPSHOT_ARCHIVE, archive.stream());
    run.log(`${facts.samples} samples of ${facts.series} series in ${blocks.length} blocks`);
    return { files: [file], fingerprint: { ...facts, sha256: archive.facts().sha256 } };
  }

  private async blocks(path: string): Promise<readonly BlockFacts[]> {
    const blocks: BlockFacts[] = [];
    for (const name of (await readdir(path)).sort()) {
      if (!isBlock(name)) continue;
      const meta = await readFile(join(path, name, "meta.json"), "utf8").catch((error: unknown) => {
        throw new Error(`the snapshot's block ${name} has no meta.json: ${reasonOf(error)}`);
      });
      blocks.push(parseMeta(name, meta));
    }
    return blocks;
  }

  private async ask(run: Run, path: string, options: Partial<HttpOptions> = {}): Promise<object> {
    return this.client.ask(run.signal, path, options).catch((error: Error) => {
      throw /admin APIs disabled/.test(error.message) ? new Error(`${error.message}; ${ENABLE}`, { cause: error }) : error;
    });
  }

  /** A snapshot that cannot be removed is better not made. */
  private async assertRemovable(run: Run): Promise<void> {
    const { data } = this.settings;
    const snapshots = join(data, "snapshots");
    const others = await readdir(snapshots).catch((error: NodeJS.ErrnoException) => {
      if (error.code === "ENOENT") return undefined;
      throw error;
    });
    if (others !== undefined && others.length > 0) {
      // A run that was killed leaves one too, but there is no telling whose they are.
      const names = others.slice(0, 5).join(", ") + (others.length > 5 ? ", ..." : "");
      run.log(`warning: ${snapshots} holds ${others.length} snapshots that are not removed, because others may need them: ${names}`);
    }
    await access(others === undefined ? data : snapshots, constants.W_OK | constants.X_OK).catch((error: NodeJS.ErrnoException) => {
      if (error.code === "ENOENT") throw new Error(`${data} does not exist: mount the server's data volume there`);
      const who = `uid ${process.getuid?.()}, gid ${process.getgid?.()}`;
      throw new Error(
        `a snapshot in ${snapshots} could not be removed by ${who} (${error.code}): mount the volume writable and run as the server's user`,
      );
    });
  }
}

/** A snapshot that stays keeps the disk space of every block in it for ever. */
async function remove(path: string): Promise<void> {
  await rm(path, { recursive: true, force: true }).catch((error: unknown) => {
    throw new Error(`the snapshot ${path} cannot be removed, do so by hand: ${reasonOf(error)}`);
  });
}
