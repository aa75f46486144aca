import { createServer } from "node:http";
import { startProcess, temporaryDirectory } from "../process";
import { join } from "node:path";

/** Port of a Pushgateway in a cluster and in these tests. */
export const PUSHGATEWAY_PORT = 9091;

/** A real Pushgateway. */
export interface Pushgateway {
  /** Every sample of a metric: its labels, and its value. */
  samples(metric: string): Promise<readonly { readonly labels: { readonly [name: string]: string }; readonly value: number }[]>;
  /** The value of the one sample of a metric that has these labels; `undefined` if there is none. */
  value(metric: string, labels?: { readonly [name: string]: string }): Promise<number | undefined>;
  /** Forgets everything that was pushed. */
  wipe(): Promise<void>;
  stop(): Promise<void>;
}

/** Starts a Pushgateway on its standard port. */
export async function startPushgateway(): Promise<Pushgateway> {
  const directory = temporaryDirectory("pushgateway");
  const server = await startProcess({
    command: "prometheus-pushgateway",
    args: [
      `--web.listen-address=127.0.0.1:${PUSHGATEWAY_PORT}`,
      `--persistence.file=${join(directory, "metrics")}`,
      "--web.enable-admin-api",
      "--log.level=error",
    ],
    ready: { port: PUSHGATEWAY_PORT },
  });
  const address = `http://127.0.0.1:${PUSHGATEWAY_PORT}`;
  const samples: Pushgateway["samples"] = async (metric) => {
    const text = await (await fetch(`${address}/metrics`)).text();
    return text.split("\n").flatMap((line) => {
      const [, name, labels, value] = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)$/.exec(line) ?? [];
      if (name !== metric) return [];
      const pairs = [...(labels ?? "").matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g)].map(([, key = "", quoted = ""]) => [key, quoted] as const);
      return [{ labels: Object.fromEntries(pairs), value: Number(value) }];
    });
  };
  return {
    samples,
    value: async (metric, labels = {}) => {
      const all = await samples(metric);
      const matching = all.filter((sample) => Object.entries(labels).every(([name, value]) => sample.labels[name] === value));
      if (matching.length > 1) throw new Error(`${metric}: ${matching.length} samples match`);
      return matching[0]?.value;
    },
    wipe: async () => {
      const { status } = await fetch(`${address}/api/v1/admin/wipe`, { method: "PUT" });
      if (status !== 202) throw new Error(`wipe answered ${status}`);
    },
    stop: () => server.stop(),
  };
}

/** A server in a Pushgateway's place that gives one answer to everything, or none at all. */
export async function startRefusingPushgateway(
  answer: number | "hang",
): Promise<{ readonly requests: () => number; stop(): Promise<void> }> {
  let requests = 0;
  const server = createServer((request, response) => {
    requests += 1;
    request.resume();
    if (answer !== "hang") request.on("end", () => response.writeHead(answer).end("text format parsing error in line 1\n"));
  });
  await new Promise<void>((resolve) => server.listen(PUSHGATEWAY_PORT, "127.0.0.1", resolve));
  return {
    requests: () => requests,
    stop: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}
