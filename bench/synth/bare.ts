/** Synthesises given resources by the provider's classes alone: `bare.js <out> <resources.json>`. */
import type { Construct } from "constructs";
import { readFileSync } from "node:fs";
import { measured, stackOf } from "./measured";

/** What the bare form is made of: each stack's resources with their attributes as the provider's classes take them. */
export interface BareStacks {
  /** The runners' texts, by the number that stands for each in the data of ConfigMaps: given once, as the constructs read each once. */
  readonly runners: readonly string[];
  readonly stacks: { readonly [stack: string]: readonly { readonly type: string; readonly config: { readonly [key: string]: unknown } }[] };
}

type ResourceClass = new (scope: Construct, id: string, config: object) => unknown;

/** `CronJobV1` of `kubernetes_cron_job_v1`, by its deep path. */
function classOf(type: string): ResourceClass {
  const words = type.split("_").slice(1);
  // eslint-disable-next-line @typescript-eslint/no-require-imports -- the classes that are needed, and no others
  const module = require(`@cdktf/provider-kubernetes/lib/${words.join("-")}`) as { readonly [name: string]: ResourceClass };
  const name = words.map((word) => word.charAt(0).toUpperCase() + word.slice(1)).join("");
  const found = module[name];
  if (found === undefined) throw new Error(`the provider has no class ${name}`);
  return found;
}

measured(process.argv[2] ?? "", (app) => {
  const { runners, stacks } = JSON.parse(readFileSync(process.argv[3] ?? "", "utf8")) as BareStacks;
  for (const [id, resources] of Object.entries(stacks)) {
    const stack = stackOf(app, id);
    for (const [index, { type, config }] of resources.entries()) {
      const data = config.data as { readonly [key: string]: string | number } | undefined;
      const given = data?.["runner.js"] === undefined ? config : { ...config, data: { ...data, "runner.js": runners[Number(data["runner.js"])] } };
      const dependsOn = (config.dependsOn as readonly string[] | undefined)?.map((fqn) => ({ fqn }));
      new (classOf(type))(stack, `resource-${index}`, dependsOn === undefined ? given : { ...given, dependsOn });
    }
  }
});
