/** Runs only where run.sh could fetch the provider; it says whether it could. */
import { KubernetesProvider } from "@cdktf/provider-kubernetes/lib/provider";
import { TerraformStack, Testing } from "cdktf";
import { RetiredBackupVolume } from "../../constructs/storage";
import { Cluster } from "./cluster";
import type { KubernetesObject } from "./direct";
import { apply, namespaceFlag, namespacesOf, synthesiseHomelab } from "./homelab";
import { TerraformFolder } from "./terraform";

const stacks = synthesiseHomelab();

describe("the homelab by Terraform", () => {
  let cluster: Cluster;
  const folders = new Map<string, TerraformFolder>();

  beforeAll(async () => {
    cluster = await Cluster.start();
    await apply(cluster, namespacesOf(stacks));
    for (const { id, json } of stacks) folders.set(id, new TerraformFolder(cluster, id, json));
  });
  afterAll(() => cluster?.stop());

  const folder = (id: string): TerraformFolder => folders.get(id) as TerraformFolder;

  test.each(stacks)("$id: is valid, is applied, and a second plan is empty", async ({ id }) => {
    await folder(id).init();
    await folder(id).run("validate");
    expect(new Set(Object.values(await folder(id).plan()))).toEqual(new Set(["create"]));
    await folder(id).apply();
    const { status, stdout } = await folder(id).tryRun("plan", "-input=false", "-detailed-exitcode", "-no-color");
    expect(`${status}${status === 0 ? "" : stdout}`).toBe("0");
  });

  test.each(stacks)("$id: destroying it is refused, and keeps every volume", async ({ id, objects }) => {
    const { status, stderr } = await folder(id).tryRun("destroy", "-input=false", "-auto-approve", "-no-color");
    expect(status).not.toBe(0);
    expect(stderr).toContain("prevent_destroy");
    for (const volume of objects.filter(({ kind }) => kind.startsWith("PersistentVolume"))) expect(await stored(volume)).toMatchObject({ kind: volume.kind });
  });

  test.each(stacks)("$id: leaves the objects that direct leaves", async ({ objects }) => {
    await bound(objects);
    const byTerraform = await Promise.all(objects.map(stored));
    const own = objects.filter(({ kind }) => kind !== "Namespace");
    // The finalizers of volumes wait for claims, and those for pods.
    for (const { kind, metadata } of own) await cluster.kubectl("delete", kind, metadata.name, ...namespaceFlag(metadata), "--wait=false");
    for (const { kind, metadata } of own) {
      await cluster.kubectl("wait", "--for=delete", `${kind}/${metadata.name}`, ...namespaceFlag(metadata), "--timeout=60s");
    }
    await apply(cluster, objects);
    await bound(objects);
    expect(await Promise.all(objects.map(stored))).toEqual(byTerraform);
  });

  describe("a backup that is removed", () => {
    const name = "redis-backup";
    const place = ["--namespace", "redis", "--ignore-not-found", "-o", "name"];
    const left = async (): Promise<string> => cluster.kubectl("get", "cronjob,configmap,networkpolicy,pvc", name, ...place);

    test("would take its volume and claim with it, were it not for the tombstone", async () => {
      folder("redis").write(without());
      const changes = Object.entries(await folder("redis").plan());
      expect(changes.filter(([address]) => address.startsWith("kubernetes_persistent_volume")).map(([, action]) => action)).toEqual(["delete", "delete"]);
    });

    test("leaves volume and claim as they are, with it", async () => {
      folder("redis").write(without("redis-volume"));
      const actions = Object.entries(await folder("redis").plan()).map(([address, action]) => `${action} ${address.replace(/\..*/, "")}`);
      expect(actions.filter((action) => !action.startsWith("delete")).sort()).toEqual([
        "forget kubernetes_persistent_volume_claim_v1",
        "forget kubernetes_persistent_volume_v1",
      ]);
      await folder("redis").apply();
      expect(await left()).toBe(`persistentvolumeclaim/${name}\n`);
      for (const what of [["pv", name], ["pvc", name, "--namespace", "redis"]]) {
        expect(await cluster.kubectl("get", ...what, "-o", "jsonpath={.status.phase}")).toBe("Bound");
      }
      expect(await folder("redis").plan()).toEqual({});
    });
  });

  /** Redis' stack without its backup, and the tombstone of that backup's volume, if its id is given. */
  function without(volume?: string): string {
    const stack = new TerraformStack(Testing.app(), "redis");
    new KubernetesProvider(stack, "kubernetes", {});
    if (volume !== undefined) new RetiredBackupVolume(stack, volume, { reason: "it held a cache only", since: "2026-11-23" });
    return Testing.synth(stack);
  }

  async function bound(objects: readonly KubernetesObject[]): Promise<void> {
    for (const { metadata } of objects.filter(({ kind }) => kind === "PersistentVolumeClaim")) {
      await cluster.kubectl("wait", "--for=jsonpath={.status.phase}=Bound", `pvc/${metadata.name}`, ...namespaceFlag(metadata), "--timeout=60s");
    }
  }

  /** An object as the API keeps it, without what differs from one creation to the next. */
  async function stored({ kind, metadata: { name, namespace }, metadata: of }: KubernetesObject): Promise<object> {
    const json = await cluster.kubectl("get", kind, name, ...namespaceFlag(of), "-o", "json");
    const { metadata, ...rest } = JSON.parse(json) as KubernetesObject;
    const { labels, annotations } = metadata as { readonly labels?: object; readonly annotations?: { readonly [name: string]: string } };
    const own = Object.entries(annotations ?? {}).filter(([key]) => !key.startsWith("pv.kubernetes.io/"));
    const text = JSON.stringify(rest, (key: string, value: unknown) => {
      if (["uid", "resourceVersion", "status"].includes(key)) return undefined;
      // The provider has them as a set.
      return key === "mountOptions" ? [...(value as readonly string[])].sort() : value;
    });
    return { name, namespace, labels: labels ?? {}, annotations: Object.fromEntries(own), kind, ...(JSON.parse(text) as object) };
  }
});
