// Bundles the runner once for each duty of each engine, and puts the shell scripts where the compiled library looks for them.
//
//   node scripts/build-runner.js [directory, default dist]
//
//   <directory>/runner/<kind>-<duty>.js   with that engine and duty alone: a pod is given no more than it runs
const { cpSync, readdirSync } = require("node:fs");
const { join } = require("node:path");
const { buildSync } = require("esbuild");

const root = join(__dirname, "..");
const engines = join(root, "lib", "runtime", "engines");
const out = process.argv[2] ?? join(root, "dist");

/** By the end of a module's name: its duty, what its class is called, and what makes a command of it. */
const DUTIES = [
  { suffix: "-drill", duty: "drill", type: "Drill" },
  { suffix: "-restore", duty: "restore", type: "Restore" },
  { suffix: "-integrity", duty: "integrity" },
  { suffix: "", duty: "backup", type: "Engine" },
];
/** Engines whose drill begins in a container of its own. */
const STAGED = ["etcd"];
const KINDS = ["command", "etcd", "files", "mysql", "postgres", "prometheus", "redis", "sqlite", "vault"];

function bundle(name, contents) {
  buildSync({
    absWorkingDir: root,
    stdin: { contents, resolveDir: join(root, "lib", "runtime"), sourcefile: `${name}.js` },
    outfile: join(out, "runner", `${name}.js`),
    bundle: true,
    platform: "node",
    format: "cjs",
    target: "node24",
    charset: "utf8",
    legalComments: "none",
    logLevel: "warning",
    // The text goes through Terraform, where a template literal's placeholder would read as its own.
    supported: { "template-literal": false },
  });
}

/** The program of a duty, or undefined where the engine has no such module. */
function program(kind, { suffix, duty, type }) {
  if (!readdirSync(engines).includes(`${kind}${suffix}.ts`)) return undefined;
  const module = `./engines/${kind}${suffix}`;
  const command = `import { ${duty}Command } from "./${duty}-command";\nimport { start } from "./commands";\n`;
  if (duty === "integrity") {
    return `${command}import { checkIntegrity } from "${module}";\nstart({ "check-integrity": integrityCommand(checkIntegrity) });`;
  }
  const className = kind[0].toUpperCase() + kind.slice(1);
  const name = className + type;
  if (duty === "restore") {
    // What a restore is about to replace, it backs up first.
    const own = `import { ${className}Engine } from "./engines/${kind}";\n`;
    const both = `({ engine }) => new ${name}(engine), ({ engine }) => new ${className}Engine(engine)`;
    return `${command}import { ${name} } from "${module}";\n${own}start({ restore: restoreCommand(${both}) });`;
  }
  const engineFor = `({ engine }) => new ${name}(engine)`;
  if (duty === "drill" && STAGED.includes(kind)) {
    const both = `import { drillCommand, stageCommand } from "./drill-command";\nimport { start } from "./commands";\n`;
    return `${both}import { ${name} } from "${module}";\nstart({ stage: stageCommand(${engineFor}), drill: drillCommand(${engineFor}) });`;
  }
  return `${command}import { ${name} } from "${module}";\nstart({ ${duty}: ${duty}Command(${engineFor}) });`;
}

for (const kind of KINDS) {
  for (const part of DUTIES) {
    const contents = program(kind, part);
    if (contents !== undefined) bundle(`${kind}-${part.duty === "integrity" ? "check-integrity" : part.duty}`, contents);
  }
}

const scripts = join(root, "lib", "scripts");
for (const name of readdirSync(scripts)) cpSync(join(scripts, name), join(out, "lib", "scripts", name));
