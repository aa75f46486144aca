import { Cluster } from "./cluster";
import { apply, namespaceFlag, namespacesOf, replace, synthesiseHomelab } from "./homelab";

const stacks = synthesiseHomelab();
const namespaces = namespacesOf(stacks);

describe("the homelab on a real API server", () => {
  let cluster: Cluster;

  beforeAll(async () => {
    cluster = await Cluster.startOrConnect();
    await cluster.refuseIfInUse(namespaces.map(({ metadata }) => metadata.name));
    await apply(cluster, namespaces);
  });
  afterAll(() => cluster?.stop());

  test.each(stacks)("$id: every object is accepted as it is, without a warning", async ({ objects: all }) => {
    // A dry run needs the namespace.
    await apply(cluster, all.filter(({ kind }) => kind === "Namespace"));
    for (const object of all) {
      const { stderr } = await cluster.tryKubectl({ input: JSON.stringify(object) }, "apply", "--server-side", "--dry-run=server", "--validate=strict", "-f", "-");
      expect(`${object.kind} ${object.metadata.name}: ${stderr}`).toBe(`${object.kind} ${object.metadata.name}: `);
    }
  });

  test.each(stacks)("$id: is applied", async ({ objects: all }) => {
    await apply(cluster, all);
    for (const { kind, metadata } of all) {
      expect(await cluster.kubectl("get", kind, metadata.name, ...namespaceFlag(metadata), "-o", "jsonpath={.metadata.name}")).toBe(metadata.name);
    }
  });

  test("every claim binds to the volume that was made for it", async () => {
    for (const { objects } of stacks) {
      for (const { kind, metadata } of objects) {
        if (kind !== "PersistentVolumeClaim") continue;
        const claim = ["pvc", metadata.name, "--namespace", metadata.namespace ?? ""];
        await cluster.kubectl("wait", "--for=jsonpath={.status.phase}=Bound", ...claim, "--timeout=60s");
        expect(await cluster.kubectl("get", ...claim, "-o", "jsonpath={.spec.volumeName}")).toBe(metadata.name);
      }
    }
  });

  test.each(namespaces)("$metadata.name: a pod that is not restricted is refused", async ({ metadata: { name } }) => {
    const pod = ["run", "unrestricted", "--namespace", name, "--image", "registry.k8s.io/pause:3.10", "--dry-run=server"];
    expect((await cluster.tryKubectl({ mayFail: true }, ...pod)).stderr).toContain('violates PodSecurity "restricted');
  });

  test.each(stacks)("$id: destroying it is refused before anything is changed", async ({ json, objects: all }) => {
    await expect(replace(cluster, json, "{}")).rejects.toThrow(/^prevent_destroy: .*kubernetes_persistent_volume_v1\./);
    for (const { kind, metadata } of all) {
      const deleted = ["get", kind, metadata.name, ...namespaceFlag(metadata), "-o", "jsonpath={.metadata.deletionTimestamp}"];
      expect(await cluster.kubectl(...deleted)).toBe("");
    }
  });
});
