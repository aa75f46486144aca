/** A real Prometheus, with a history that it made itself and blocks that were made for it. */
import { spawnSync } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { ImageReference } from "../../../lib/image-reference";
import { hostProgram } from "../pod/image";
import { chownTree, startProcess, temporaryDirectory, waitFor, type ManagedProcess } from "../process";

/** The image whose programs are those of this machine. */
export const PROMETHEUS_IMAGE = ImageReference.parse("quay.io/prometheus/prometheus:v2.42.0");
export const PROMETHEUS_PORT = 9090;
/** Prometheus' own user in its image: `nobody`. */
export const PROMETHEUS_UID = 65_534;

export interface PrometheusOptions {
  /** Its data; made where it is missing. @default - a new directory */
  readonly data?: string;
  /** @default 9090 */
  readonly port?: number;
  /** @default true */
  readonly adminApi?: boolean;
  /** Scrapes itself. @default true */
  readonly scrape?: boolean;
  /** How often. @default "1s" */
  readonly interval?: string;
}

export class Prometheus {
  public static async start({ data, port = PROMETHEUS_PORT, adminApi = true, scrape = true, interval = "1s" }: PrometheusOptions = {}): Promise<Prometheus> {
    const directory = data ?? join(temporaryDirectory("prometheus"), "data");
    mkdirSync(directory, { recursive: true });
    chownTree(directory, PROMETHEUS_UID);
    const config = join(temporaryDirectory("prometheus-config"), "prometheus.yml");
    const jobs = scrape ? [{ job_name: "self", static_configs: [{ targets: [`127.0.0.1:${port}`] }] }] : [];
    writeFileSync(config, JSON.stringify({ global: { scrape_interval: interval, scrape_timeout: interval }, scrape_configs: jobs }));
    const server = await startProcess({
      command: "prometheus",
      args: [
        `--config.file=${config}`,
        `--storage.tsdb.path=${directory}`,
        "--storage.tsdb.retention.time=10y",
        // Blocks stay what they are while tests look at them.
        ...["--storage.tsdb.min-block-duration=2h", "--storage.tsdb.max-block-duration=2h"],
        `--web.listen-address=127.0.0.1:${port}`,
        ...(adminApi ? ["--web.enable-admin-api"] : []),
      ],
      uid: PROMETHEUS_UID,
      ready: { port, log: /Server is ready to receive web requests/ },
    });
    return new Prometheus(server, directory, port);
  }

  private constructor(
    private readonly server: ManagedProcess,
    public readonly data: string,
    private readonly port: number,
  ) {}

  /** Waits until it has scraped itself. */
  public async scraped(): Promise<void> {
    await waitFor(async () => (await this.query("up")).length > 0, "the first scrape");
  }

  /** The result of an instant query: labels and value. */
  public async query(
    expression: string,
    time?: number,
  ): Promise<readonly { readonly metric: object; readonly value: readonly [number, string] }[]> {
    const at = time === undefined ? "" : `&time=${time}`;
    const response = await fetch(`http://127.0.0.1:${this.port}/api/v1/query?query=${encodeURIComponent(expression)}${at}`);
    const { data } = (await response.json()) as { readonly data: { readonly result: never } };
    return data.result;
  }

  /** Deletes series, which stay in their blocks and are hidden. */
  public async remove(selector: string): Promise<void> {
    const url = `http://127.0.0.1:${this.port}/api/v1/admin/tsdb/delete_series?match[]=${encodeURIComponent(selector)}`;
    const response = await fetch(url, { method: "POST" });
    if (!response.ok) throw new Error(`${response.status} ${await response.text()}`);
  }

  public async stop(signal: NodeJS.Signals = "SIGTERM"): Promise<void> {
    await this.server.stop(signal);
  }
}

export interface MadeBlocks {
  readonly series: number;
  /** One sample a minute of each series. */
  readonly samples: number;
  /** Time of the last sample, seconds. */
  readonly until: number;
}

/** Fills a data directory with blocks of two hours each; the value of series `s` at its sample `i` is `s * 1000 + i`. */
export function makeBlocks(data: string, { series, samples, until }: MadeBlocks): void {
  const lines = ["# TYPE made gauge"];
  for (let s = 0; s < series; s++) {
    for (let i = 0; i < samples; i++) lines.push(`made{series="${s}",name="ü"} ${s * 1000 + i} ${until - 60 * (samples - 1 - i)}`);
  }
  const input = join(temporaryDirectory("openmetrics"), "made.txt");
  writeFileSync(input, `${lines.join("\n")}\n# EOF\n`);
  promtool("create-blocks-from", "openmetrics", input, data);
}

/** Runs `promtool tsdb`, whatever it thinks of the data. @returns its exit status and output */
export function promtool(...args: readonly string[]): { readonly status: number | null; readonly output: string } {
  const { status, stdout } = spawnSync(hostProgram("promtool"), ["tsdb", ...args], { encoding: "utf8", maxBuffer: 2 ** 30 });
  return { status, output: stdout };
}
