import { readFileSync } from "node:fs";
import { join } from "node:path";
import { KubernetesProvider } from "@cdktf/provider-kubernetes/lib/provider";
import { Testing } from "cdktf";
import { examples } from "../helpers/readme";
import { at, Template } from "../helpers/template";
import { RecipesStack } from "./new-service";

const source = readFileSync(join(__dirname, "new-service.ts"), "utf8");
const [, indent = "", marked = ""] = /^( *)\/\/ README: begin\n(.*?)^ *\/\/ README: end$/ms.exec(source) ?? [];
const lines = marked.split("\n").map((line) => line.replace(indent, ""));

test("it makes a backup, a drill and a restore, each with its configuration and its network policy, a volume and its claim", () => {
  const stack = new RecipesStack(Testing.app(), "recipes");
  new KubernetesProvider(stack, "kubernetes", {});
  const template = Template.fromStack(stack);
  const jobs = template.resources("kubernetes_cron_job_v1").map((job) => at(job, "metadata.name"));
  expect(jobs.sort()).toEqual(["recipes-backup", "recipes-backup-drill", "recipes-backup-restore"]);
  expect(template.addresses.map((address) => address.split(".")[0])).toEqual([
    ...Array(3).fill("kubernetes_config_map_v1"),
    ...Array(3).fill("kubernetes_cron_job_v1"),
    ...Array(3).fill("kubernetes_network_policy_v1"),
    "kubernetes_persistent_volume_claim_v1",
    "kubernetes_persistent_volume_v1",
  ]);
  const volumes = at(template.resource("kubernetes_cron_job_v1"), "spec.job_template.spec.template.spec.volume");
  expect(JSON.stringify(volumes)).toContain('"claim_name":"recipes-data"');
  expect(JSON.stringify(volumes)).toContain('"claim_name":"recipes-backup"');
});

test("the README shows it as it is, with the import that a user writes", () => {
  const imported = /^import .* from "\.\.\/\.\.\/constructs";$/m.exec(source)?.[0].replace("../../constructs", "cdktf-backup");
  expect(examples("README.md")[0]).toBe(`${imported}\n\n${lines.join("\n")}`);
});

test("it is about ten lines", () => {
  expect(lines.filter((line) => line !== "").length).toBeGreaterThan(5);
  expect(lines.filter((line) => line !== "").length).toBeLessThanOrEqual(11);
});
