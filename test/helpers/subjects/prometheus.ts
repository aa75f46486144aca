import type { Subject } from "./subject";
import { chownSync, mkdirSync, renameSync, rmSync } from "node:fs";
import { join } from "node:path";
import { PrometheusBackup } from "../../../constructs/backup";
import { PodVolume } from "../../../constructs/storage";
import { ServiceEndpoint } from "../../../lib/service-endpoint";
import { run, temporaryDirectory } from "../process";
import { makeBlocks, Prometheus, PROMETHEUS_IMAGE, PROMETHEUS_UID } from "../servers/prometheus";
import { COMMON_SERVICES, synthesise } from "./subject";

/** A Prometheus with a history of some hours. */
export async function startPrometheus(): Promise<Subject> {
  const data = join(temporaryDirectory("prometheus-source"), "data");
  makeBlocks(data, { series: 200, samples: 300, until: Math.floor(Date.now() / 1000) - 6 * 3600 });
  const start = (): Promise<Prometheus> => Prometheus.start({ data, scrape: false });
  let server = await start();
  const samplesIn = async (directory: string): Promise<string> => {
    const { stdout } = await run("sh", ["-c", 'promtool tsdb dump "$0" | sort | sha256sum', directory]);
    return stdout;
  };
  const wanted = await samplesIn(data);
  return {
    name: "prometheus",
    synthesised: synthesise((stack, common) => {
      new PrometheusBackup(stack, "prometheus", {
        ...common,
        image: PROMETHEUS_IMAGE,
        endpoint: ServiceEndpoint.of("prometheus.monitoring:9090"),
        data: PodVolume.fromClaim("data", { accessMode: "ReadWriteMany", readOnly: false }),
      });
    }),
    options: { volumes: { data }, services: [...COMMON_SERVICES, "prometheus.monitoring"] },
    sourceFaults: [
      {
        name: "missing",
        reason: /Prometheus at http:\/\/prometheus\.monitoring:9090: .*ECONNREFUSED/,
        inject: async () => {
          await server.stop();
          return async () => {
            server = await start();
          };
        },
      },
      {
        name: "another's volume",
        reason: /could not be removed by uid 65534/,
        inject: () => {
          renameSync(join(data, "snapshots"), `${data}.snapshots`);
          chownSync(data, 0, 0);
          return Promise.resolve(() => {
            chownSync(data, PROMETHEUS_UID, PROMETHEUS_UID);
            rmSync(join(data, "snapshots"), { recursive: true, force: true });
            renameSync(`${data}.snapshots`, join(data, "snapshots"));
          });
        },
      },
    ],
    restoreEqual: async ({ path }) => {
      const restored = temporaryDirectory("restored");
      await run("sh", ["-c", 'zstd -dcq "$0" | tar -x -C "$1"', join(path, "snapshot.tar.zst"), restored]);
      mkdirSync(join(restored, "wal")); // promtool reads nothing without one; a server makes it
      const found = await samplesIn(restored);
      rmSync(restored, { recursive: true });
      if (found !== wanted) throw new Error("the samples that were restored differ from the source");
    },
    stop: () => server.stop(),
  };
}
