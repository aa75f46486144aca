import { startPrometheus } from "../helpers/subjects/prometheus";
import { runCronJob } from "../helpers/pod";
import { makeTarget, generationsOn } from "../helpers/pod/target";
import { run, temporaryDirectory } from "../helpers/process";
test("x", async () => {
  const s = await startPrometheus(); const target = makeTarget(s.synthesised);
  const data = (s.options.volumes as any).data;
  const a = (await run("sh", ["-c", 'promtool tsdb dump "$0" | sort > /tmp/h/a; wc -l /tmp/h/a; ls -la "$0"', data])).stdout;
  const r = await runCronJob(s.synthesised, { ...s.options, volumes: { ...s.options.volumes, "backup-target": target } });
  console.log(a, r.logs.runner);
  const d = temporaryDirectory("r");
  await run("sh", ["-c", 'zstd -dcq "$0"/snapshot.tar.zst | tar -x -C "$1"; promtool tsdb dump "$1" | sort > /tmp/h/b', generationsOn(s.synthesised, target)[0]!.path, d]);
  console.log((await run("sh", ["-c", "wc -l /tmp/h/b; diff /tmp/h/a /tmp/h/b | head -5; ls -la $0", d])).stdout);
});
