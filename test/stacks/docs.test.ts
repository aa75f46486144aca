import { spawnSync } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { Testing } from "cdktf";
import { protectedServices } from "../../constructs";
import { commandsOf, runbooks } from "../../lib/runbooks";
import { addStacks, site } from "../../stacks";
import { Template, at } from "../helpers/template";

const directory = resolve(__dirname, "../../docs/generated");
const app = Testing.app();
const templates = addStacks(app).map((stack) => Template.fromStack(stack));
const documents = runbooks(protectedServices(app), site.offsite);
const cronJobs = templates.flatMap((template) =>
  template.resources("kubernetes_cron_job_v1").map((job) => `${String(at(job, "metadata.namespace"))}/${String(at(job, "metadata.name"))}`),
);

test("docs/generated is what `npm run docs` would write", () => {
  expect(readdirSync(directory).sort()).toEqual(documents.map(({ file }) => file).sort());
  for (const { file, text } of documents) expect({ file, text: readFileSync(join(directory, file), "utf8") }).toEqual({ file, text });
});

test("there is a runbook for every backup, and one for the loss of everything", () => {
  const files = documents.map(({ file }) => file);
  const backups = cronJobs.filter((job) => /-backup$/.test(job)).map((job) => `restore-${job.replace(/^.*\/|-backup$/g, "")}.md`);
  expect(backups.length).toBeGreaterThan(9);
  expect(files).toEqual(expect.arrayContaining([...backups, "restore-full-cluster.md", "troubleshooting-storage.md"]));
});

test("every job that a command names is one of the stacks", () => {
  const commands = documents.flatMap(({ text }) => commandsOf(text)).join("\n");
  const named = [
    ...[...commands.matchAll(/-n (\S+) \S+ --from=cronjob\/([a-z0-9-]+)/g)].map(([, namespace, job]) => `${namespace}/${job}`),
    ...[...commands.matchAll(/^restore (\S+) (\S+) /gm)].map(([, namespace, job]) => `${namespace}/${job}`),
  ];
  expect(named.length).toBeGreaterThan(20);
  expect([...new Set(named)].filter((job) => !cronJobs.includes(job))).toEqual([]);
});

test("every link leads to a document", () => {
  const files = new Set(documents.map(({ file }) => file));
  for (const { text } of documents) {
    for (const [, target = ""] of text.matchAll(/\]\(([^)]+)\)/g)) expect(files).toContain(target);
  }
});

test("commands are shell that parses", () => {
  for (const { file, text } of documents) {
    for (const commands of [...commandsOf(text), ...commandsOf(text, "file server"), ...commandsOf(text, "node")]) {
      const { status, stderr } = spawnSync("sh", ["-n"], { input: commands, encoding: "utf8" });
      expect({ file, commands, status, stderr }).toEqual({ file, commands, status: 0, stderr: "" });
    }
  }
});
