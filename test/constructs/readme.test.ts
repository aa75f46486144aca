import * as library from "../../constructs";
import { examples } from "../helpers/readme";
import { at, Template, testStack } from "../helpers/template";

/** The examples of a README, as one program, with all that the library exports. */
function run(readme: string): Template {
  const stack = testStack();
  // They use no types, so they are JavaScript as they stand.
  new Function("stack", ...Object.keys(library), examples(readme).join("\n"))(stack, ...Object.values(library));
  return Template.fromStack(stack);
}

test("the examples of the backups' README make a job for every engine that has one, and one that is encrypted", () => {
  const jobs = run("constructs/backup/README.md").resources("kubernetes_cron_job_v1").map((job) => String(at(job, "metadata.name")));
  expect(jobs.filter((name) => !/-(drill|restore)$/.test(name))).toHaveLength(10);
});

test("the examples of the storage README make the volumes that they show, and retire one", () => {
  const template = run("constructs/storage/README.md");
  expect(template.resources("kubernetes_persistent_volume_v1")).toHaveLength(2);
  expect(template.json.removed).toHaveLength(2);
  const command = examples("constructs/storage/README.md").join("\n").match(/prepareCommand\((.*)\)/)?.[1];
  expect(command).toBe('999, 999, "postgresql-backup"');
});
