import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { KubernetesProvider } from "@cdktf/provider-kubernetes/lib/provider";
import { App, TerraformStack } from "cdktf";
import { SqliteBackup } from "../../constructs/backup";
import { NfsBackupVolume, PodVolume } from "../../constructs/storage";
import { Retention, Schedule, ServiceEndpoint } from "../../lib";
import type { Synthesised } from "../helpers/pod/terraform";
import { run, temporaryDirectory } from "../helpers/process";
import { Cluster } from "./cluster";
import { objectsOf } from "./direct";

const SERVICES = Number(process.env["SCALE_SERVICES"] ?? "500");
const NAMESPACES = 10;
/** kubectl sends one object after the other. */
const CLIENTS = 4;

describe(`${SERVICES} services`, () => {
  let cluster: Cluster;
  beforeAll(async () => {
    cluster = await Cluster.start();
  });
  afterAll(() => cluster?.stop());

  test("are synthesised, and applied to an API server", async () => {
    const outdir = temporaryDirectory("scale");
    let began = performance.now();
    const lap = (): string => {
      const seconds = ((performance.now() - began) / 1000).toFixed(1);
      began = performance.now();
      return `${seconds} s`;
    };
    synthesise(outdir);
    const report = [`${SERVICES} services: synthesised in ${lap()}, ${mebibytes(process.memoryUsage().rss)} resident`];

    const directories = Array.from({ length: CLIENTS }, (_, client) => join(outdir, `direct-${client}`));
    for (const directory of directories) mkdirSync(directory);
    let count = 0;
    readdirSync(join(outdir, "stacks")).forEach((id, index) => {
      const objects = objectsOf(JSON.parse(readFileSync(join(outdir, "stacks", id, "cdk.tf.json"), "utf8")) as Synthesised);
      count += objects.length;
      writeFileSync(join(directories[index % CLIENTS] ?? "", `${id}.json`), JSON.stringify({ apiVersion: "v1", kind: "List", items: objects }));
    });
    report.push(`translated into ${count} objects in ${lap()}`);

    for (let n = 0; n < NAMESPACES; n++) await cluster.kubectl("create", "namespace", `namespace-${n}`);
    lap();
    await Promise.all(directories.map((directory) => cluster.kubectl("apply", "--server-side", "--filename", directory)));
    report.push(`applied in ${lap()}, ${await peakOf("kube-apiserver")} peak of the API server`);
    process.stderr.write(`${report.join("; ")}\n`);

    for (const kind of ["cronjobs", "configmaps", "networkpolicies", "persistentvolumeclaims"]) {
      const names = await cluster.kubectl("get", kind, "--all-namespaces", "--selector", "app.kubernetes.io/name=sqlite", "-o", "name");
      const all = kind === "persistentvolumeclaims" ? await cluster.kubectl("get", kind, "--all-namespaces", "-o", "name") : names;
      expect(all.trim().split("\n")).toHaveLength(SERVICES);
    }
  }, 300_000);
});

function synthesise(outdir: string): void {
  const app = new App({ outdir });
  for (let n = 0; n < SERVICES; n++) {
    const name = `service-${n}`;
    const namespace = `namespace-${n % NAMESPACES}`;
    const stack = new TerraformStack(app, name);
    new KubernetesProvider(stack, "kubernetes", {});
    new SqliteBackup(stack, "backup", {
      name: `${name}-backup`,
      namespace,
      schedule: Schedule.cron(`${n % 60} ${n % 24} * * *`),
      data: PodVolume.fromClaim(`${name}-data`),
      database: "db.sqlite3",
      colocateWith: { labels: { app: name } },
      volume: new NfsBackupVolume(stack, "volume", { name: `${name}-backup`, namespace, server: "192.0.2.1", path: `/mnt/main/${name}-backup` }),
      retention: Retention.keepDays(30),
      pushgateway: ServiceEndpoint.of("pushgateway.monitoring:9091"),
    });
  }
  app.synth();
}

/** Largest memory that a program of this cluster has had. */
async function peakOf(program: string): Promise<string> {
  const { stdout } = await run("pgrep", ["--exact", program.slice(0, 15)]);
  const status = readFileSync(`/proc/${stdout.trim().split("\n")[0]}/status`, "utf8");
  return mebibytes(Number(/^VmHWM:\s+(\d+) kB$/m.exec(status)?.[1]) * 1024);
}

function mebibytes(bytes: number): string {
  return `${Math.round(bytes / 2 ** 20)} MiB`;
}
