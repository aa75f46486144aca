import { readFileSync } from "node:fs";
import { resolve } from "node:path";
import * as backup from "../../constructs/backup";
import * as storage from "../../constructs/storage";
import * as lib from "../../lib";
import { Template, testStack } from "../helpers/template";

const names = { ...backup, ...storage, ...lib };

/** The TypeScript of a README, all blocks as one program. */
function code(readme: string): string {
  const text = readFileSync(resolve(__dirname, "../../constructs", readme), "utf8");
  return [...text.matchAll(/^```ts\n(.*?)^```$/gms)].map(([, block]) => block).join("\n");
}

function run(readme: string): Template {
  const stack = testStack();
  // The examples use no types, so they are JavaScript as they stand.
  new Function("stack", ...Object.keys(names), code(readme))(stack, ...Object.values(names));
  return Template.fromStack(stack);
}

test("the examples of the backups' README make a job for every engine that has one", () => {
  const jobs = run("backup/README.md").resources("kubernetes_cron_job_v1");
  expect(jobs).toHaveLength(8);
});

test("the examples of the storage README make the volumes that they show", () => {
  const template = run("storage/README.md");
  expect(template.resources("kubernetes_persistent_volume_v1")).toHaveLength(2);
  const command = code("storage/README.md").match(/prepareCommand\((.*)\)/)?.[1];
  expect(command).toBe('999, 999, "postgresql-backup"');
});
