/** Synthesises services with a database in a file and a volume each, a stack for each: `synth.js DIRECTORY SERVICES NAMESPACES`. */
import { KubernetesProvider } from "@cdktf/provider-kubernetes/lib/provider";
import { App, TerraformStack } from "cdktf";
import { SqliteBackup } from "../../constructs/backup";
import { NfsBackupVolume, PodVolume } from "../../constructs/storage";
import { Retention, Schedule, ServiceEndpoint, withoutCreationStacks } from "../../lib";

const [outdir = "", services, namespaces] = process.argv.slice(2);
withoutCreationStacks(); // as main.ts does
const app = new App({ outdir });
for (let n = 0; n < Number(services); n++) {
  const name = `service-${n}`;
  const namespace = `namespace-${n % Number(namespaces)}`;
  const stack = new TerraformStack(app, name);
  new KubernetesProvider(stack, "kubernetes", {});
  new SqliteBackup(stack, `${name}-backup`, {
    namespace,
    schedule: Schedule.cron(`${n % 60} ${n % 24} * * *`),
    data: PodVolume.fromClaim(`${name}-data`),
    database: "db.sqlite3",
    colocateWith: { labels: { app: name } },
    volume: new NfsBackupVolume(stack, `${name}-volume`, { name: `${name}-backup`, namespace, server: "192.0.2.1", path: `/mnt/main/${name}-backup` }),
    retention: Retention.keepDays(30),
    pushgateway: ServiceEndpoint.of("pushgateway.monitoring:9091"),
  });
}
app.synth();
// The start of Node and the loading of modules are part of it.
process.stdout.write(JSON.stringify({ seconds: performance.now() / 1000, bytes: process.resourceUsage().maxRSS * 1024 }));
