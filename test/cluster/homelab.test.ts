import { Cluster } from "./cluster";
import { apply, namespacesOf, synthesiseHomelab } from "./homelab";

const stacks = synthesiseHomelab();

describe("the homelab on a real API server", () => {
  let cluster: Cluster;

  beforeAll(async () => {
    cluster = await Cluster.startOrConnect();
    await cluster.refuseIfInUse(namespacesOf(stacks).map(({ metadata }) => metadata.name));
    await apply(cluster, namespacesOf(stacks));
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
      const namespace = metadata.namespace === undefined ? [] : ["--namespace", metadata.namespace];
      expect(await cluster.kubectl("get", kind, metadata.name, ...namespace, "-o", "jsonpath={.metadata.name}")).toBe(metadata.name);
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
});
