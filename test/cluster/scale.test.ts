import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { temporaryDirectory } from "../helpers/process";
import { Cluster } from "./cluster";
import type { KubernetesObject } from "./direct";
import { apply } from "./homelab";
import { mebibytes, namesOf, namespacesOfServices, objectsOfJson, Peaks, SERVICES, synthesiseServices, timed } from "./scale";

/** kubectl sends one object after the other. */
const CLIENTS = 4;

describe(`${SERVICES} services, a stack for each`, () => {
  let cluster: Cluster;
  beforeAll(async () => {
    cluster = await Cluster.start();
    await apply(cluster, namespacesOfServices);
  });
  afterAll(() => cluster?.stop());

  test("are synthesised, planned and applied", async () => {
    const { stacks, seconds, bytes } = await synthesiseServices();
    expect(stacks.size).toBe(SERVICES);
    const report = [`${SERVICES} services, direct: synthesised in ${seconds.toFixed(1)} s, ${mebibytes(bytes)}`];

    const outdir = temporaryDirectory("direct");
    const directories = Array.from({ length: CLIENTS }, (_, client) => join(outdir, String(client)));
    for (const directory of directories) mkdirSync(directory);
    const objects: KubernetesObject[] = [];
    const translated = await timed(async () =>
      [...stacks].forEach(([id, json], index) => {
        const items = objectsOfJson(json);
        objects.push(...items);
        writeFileSync(join(directories[index % CLIENTS] ?? "", `${id}.json`), JSON.stringify({ apiVersion: "v1", kind: "List", items }));
      }),
    );
    report.push(`translated into ${objects.length} objects in ${translated}`);

    const send = (...flags: readonly string[]) =>
      timed(() => Promise.all(directories.map((directory) => cluster.kubectl("apply", "--server-side", ...flags, "--filename", directory))));
    const peaks = new Peaks(["kube-apiserver", "kubectl"]);
    report.push(`tried by a server-side dry run in ${await send("--dry-run=server")}`, `applied in ${await send()}`, `at most ${peaks.end()}`);
    process.stderr.write(`${report.join("; ")}\n`);

    const expected = namesOf(objects);
    const kinds = [...new Set(objects.map(({ kind }) => kind))];
    expect(kinds).toEqual(expect.arrayContaining(["CronJob", "ConfigMap", "NetworkPolicy", "PersistentVolume", "PersistentVolumeClaim"]));
    const listed = await Promise.all(kinds.map(async (kind) => cluster.kubectl("get", kind, "--all-namespaces", "-o", "json")));
    const there = new Set(listed.flatMap((json) => namesOf((JSON.parse(json) as { readonly items: readonly KubernetesObject[] }).items)));
    expect(expected.filter((name) => !there.has(name))).toEqual([]);
  }, 300_000);
});
