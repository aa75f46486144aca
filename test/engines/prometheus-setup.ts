import { join } from "node:path";
import { PrometheusBackup, type PrometheusBackupProps } from "../../constructs/backup";
import { NfsBackupVolume, PodVolume } from "../../constructs/storage";
import { Retention } from "../../lib/retention";
import { Schedule } from "../../lib/schedule";
import { ServiceEndpoint } from "../../lib/service-endpoint";
import { runCronJob, type CronJobOptions } from "../helpers/pod";
import type { Backup } from "../helpers/pod/backup";
import { generationsOn, makeTarget, type FoundGeneration } from "../helpers/pod/target";
import { run, temporaryDirectory } from "../helpers/process";
import { PROMETHEUS_IMAGE, PROMETHEUS_PORT } from "../helpers/servers/prometheus";
import { Template } from "../helpers/template";

export const NAME = "prometheus-backup";
/** What the stored snapshot is called. */
export const ARCHIVE = "snapshot.tar.zst";
/** Blocks of a time that is over: see `makeBlocks`. */
export const MADE = { series: 20, samples: 300, until: Math.floor(Date.now() / 1000) - 6 * 3600 };
/** Claim of the server's data. */
export const DATA = "prometheus-data";
export const SERVICES = ["prometheus-server.monitoring"];

export function synthesise(props: Partial<PrometheusBackupProps> = {}): string {
  const template = Template.of((stack) => {
    const nfs = { server: "10.0.10.15", path: "/mnt/main/prometheus-backup" };
    new PrometheusBackup(stack, NAME, {
      image: PROMETHEUS_IMAGE,
      namespace: "monitoring",
      volume: new NfsBackupVolume(stack, "volume", { name: NAME, namespace: "monitoring", ...nfs }),
      schedule: Schedule.firstSunday({ hour: 4, minute: 0 }),
      retention: Retention.keepLast(2),
      endpoint: ServiceEndpoint.of(`prometheus-server.monitoring:${PROMETHEUS_PORT}`),
      data: PodVolume.fromClaim(DATA, { accessMode: "ReadWriteMany", readOnly: false }),
      ...props,
    });
  });
  return JSON.stringify(template.json);
}

export function optionsFor(data: string, target: string): CronJobOptions {
  return { services: SERVICES, jobName: `${NAME}-manual`, volumes: { [DATA]: data, [NAME]: target } };
}

/** Backs up the server at the standard port, whose data are in this directory. */
export async function backUp(data: string): Promise<Backup> {
  const json = synthesise();
  const target = makeTarget(json, { name: NAME });
  const result = await runCronJob(json, { ...optionsFor(data, target), name: NAME });
  return { ...result, generations: generationsOn(json, target, NAME) };
}

/** What a snapshot's archive holds, unpacked by other means. */
export async function unpack({ path }: FoundGeneration): Promise<string> {
  const directory = temporaryDirectory("restored");
  await run("sh", ["-ec", `zstd -q -dc '${join(path, ARCHIVE)}' | tar -x -C '${directory}'`]);
  return directory;
}
