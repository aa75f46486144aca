import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { BUMP, COMMANDS, execute, makeNode } from "../helpers/etcd-node";
import { run } from "../helpers/process";
import { Etcd, Pki } from "../helpers/servers/etcd";
import { succeeded } from "../helpers/pod/backup";
import { backUp, base64, fill, IMAGES, type EtcdImage } from "./etcd-setup";

const [oldest] = IMAGES as readonly [EtcdImage, ...EtcdImage[]];
const kinds = IMAGES.map((image) => [image.image.tag ?? "", image] as const);

test.each(kinds)("with etcd %s the node's commands of the runbook bring back every key and the PKI, and put the old data aside", async (_tag, { programs }) => {
  expect(COMMANDS).toContain(BUMP);
  const pki = await Pki.make();
  const program = join(programs, "etcd");
  const source = await Etcd.start(pki, { program });
  await fill(source);
  const before = await source.content();
  const { path } = succeeded(await backUp(pki));
  await source.stop();

  const { root, commands } = makeNode(path, programs);
  mkdirSync(join(root, "var/lib/etcd/member"), { recursive: true });
  writeFileSync(join(root, "var/lib/etcd/member/old"), "the only copy of what was there");
  await execute(root, commands);

  await run("diff", ["-r", pki.path, join(root, "etc/kubernetes/pki")]);
  expect(readdirSync(join(root, "etc/kubernetes/manifests")).sort()).toEqual(["etcd.yaml", "kube-apiserver.yaml"]);
  const [aside = ""] = readdirSync(join(root, "var/lib")).filter((name) => name.startsWith("etcd.replaced-"));
  expect(readFileSync(join(root, "var/lib", aside, "member/old"), "utf8")).toBe("the only copy of what was there");
  const restored = await Etcd.start(pki, { program, data: join(root, "var/lib/etcd"), cluster: ["--name", "k8s-master"] });
  try {
    const after = await restored.content();
    expect({ ...after, revision: 0 }).toEqual({ ...before, revision: 0 });
    if (!existsSync(join(programs, "etcdutl"))) return;
    expect(after.revision).toBeGreaterThan(1e9);
    const asked = restored.call("/v3/kv/range", { key: base64("/registry/empty"), revision: String(before.revision + 100) });
    await expect(asked).rejects.toThrow(/compacted/);
  } finally {
    await restored.stop("SIGKILL");
  }
});

test("stops before anything is moved where the snapshot is not what its manifest says", async () => {
  const pki = await Pki.make();
  const source = await Etcd.start(pki);
  await fill(source);
  const { path } = succeeded(await backUp(pki));
  await source.stop();
  const snapshot = readFileSync(join(path, "snapshot.db"));
  snapshot[5000] = (snapshot[5000] ?? 0) ^ 1;
  writeFileSync(join(path, "snapshot.db"), snapshot);
  const { root, commands } = makeNode(path, oldest.programs);
  await expect(execute(root, commands)).rejects.toThrow();
  expect(readdirSync(join(root, "etc/kubernetes/manifests")).sort()).toEqual(["etcd.yaml", "kube-apiserver.yaml"]);
  expect(readdirSync(join(root, "var/lib"))).toEqual([]);
});
