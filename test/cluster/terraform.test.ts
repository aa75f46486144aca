/** Runs only where run.sh could fetch the provider; it says whether it could. */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { run, temporaryDirectory, type Finished } from "../helpers/process";
import { Cluster } from "./cluster";
import type { KubernetesObject } from "./direct";
import { apply, namespacesOf, synthesiseHomelab } from "./homelab";

const PROGRAM = process.env["CLUSTER_TERRAFORM"] ?? "";
const PROVIDERS = process.env["CLUSTER_PROVIDERS"] ?? "";
const stacks = synthesiseHomelab();

describe("the homelab by Terraform", () => {
  let cluster: Cluster;
  const directories = new Map<string, string>();

  beforeAll(async () => {
    cluster = await Cluster.start();
    await apply(cluster, namespacesOf(stacks));
    for (const { id, json } of stacks) {
      const directory = join(temporaryDirectory("terraform"), id);
      mkdirSync(directory);
      writeFileSync(join(directory, "cdk.tf.json"), json);
      // This cluster instead of the homelab's, and the state beside the stack.
      const override = {
        terraform: { backend: { local: { path: join(directory, "terraform.tfstate") } } },
        provider: { kubernetes: [{ config_path: cluster.kubeconfig }] },
      };
      writeFileSync(join(directory, "override.tf.json"), JSON.stringify(override));
      directories.set(id, directory);
    }
  });
  afterAll(() => cluster?.stop());

  const terraform = (id: string, args: readonly string[], mayFail = false): Promise<Finished> =>
    run(PROGRAM, [`-chdir=${directories.get(id)}`, ...args, "-no-color"], { mayFail, env: { TF_IN_AUTOMATION: "1" } });

  test.each(stacks)("$id: is valid, is applied, and a second plan is empty", async ({ id }) => {
    await terraform(id, ["init", "-input=false", `-plugin-dir=${PROVIDERS}`]);
    await terraform(id, ["validate"]);
    await terraform(id, ["plan", "-input=false", "-out=plan"]);
    await terraform(id, ["apply", "-input=false", "plan"]);
    const { status, stdout } = await terraform(id, ["plan", "-input=false", "-detailed-exitcode"], true);
    expect(`${status}${status === 0 ? "" : stdout}`).toBe("0");
  });

  test.each(stacks)("$id: destroying it is refused, and keeps every volume", async ({ id, objects }) => {
    const { status, stderr } = await terraform(id, ["destroy", "-input=false", "-auto-approve"], true);
    expect(status).not.toBe(0);
    expect(stderr).toContain("prevent_destroy");
    for (const volume of objects.filter(({ kind }) => kind.startsWith("PersistentVolume"))) expect(await stored(volume)).toMatchObject({ kind: volume.kind });
  });

  test.each(stacks)("$id: leaves the objects that direct leaves", async ({ objects }) => {
    const byTerraform = await Promise.all(objects.map(stored));
    const own = objects.filter(({ kind }) => kind !== "Namespace");
    for (const { kind, metadata } of own) {
      const namespace = metadata.namespace === undefined ? [] : ["--namespace", metadata.namespace];
      // The finalizers of volumes wait for claims, and those for pods.
      await cluster.kubectl("delete", kind, metadata.name, ...namespace, "--wait=false");
    }
    for (const { kind, metadata } of own) {
      const namespace = metadata.namespace === undefined ? [] : ["--namespace", metadata.namespace];
      await cluster.kubectl("wait", "--for=delete", `${kind}/${metadata.name}`, ...namespace, "--timeout=60s");
    }
    await apply(cluster, objects);
    expect(await Promise.all(objects.map(stored))).toEqual(byTerraform);
  });

  /** An object as the API keeps it, without what differs from one creation to the next. */
  async function stored({ kind, metadata: { name, namespace } }: KubernetesObject): Promise<object> {
    const where = namespace === undefined ? [] : ["--namespace", namespace];
    const { metadata, ...rest } = JSON.parse(await cluster.kubectl("get", kind, name, ...where, "-o", "json")) as KubernetesObject;
    const { labels, annotations } = metadata as { readonly labels?: object; readonly annotations?: { readonly [name: string]: string } };
    const own = Object.entries(annotations ?? {}).filter(([key]) => !key.startsWith("pv.kubernetes.io/"));
    const text = JSON.stringify(rest, (key: string, value: unknown) => (["uid", "resourceVersion", "status"].includes(key) ? undefined : value));
    return { name, namespace, labels: labels ?? {}, annotations: Object.fromEntries(own), kind, ...(JSON.parse(text) as object) };
  }
});
