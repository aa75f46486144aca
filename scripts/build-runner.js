// Bundles the runner once for each engine, and puts the shell scripts where the compiled library looks for them.
//
//   node scripts/build-runner.js [directory, default dist]
//
//   <directory>/runner/<kind>.js   with that engine alone: a pod is given no more than it runs
const { cpSync, readdirSync } = require("node:fs");
const { join } = require("node:path");
const { buildSync } = require("esbuild");

const KINDS = ["command", "etcd", "files", "mysql", "postgres", "prometheus", "redis", "sqlite", "vault"];
const root = join(__dirname, "..");
const out = process.argv[2] ?? join(root, "dist");

function bundle(kind, contents) {
  buildSync({
    absWorkingDir: root,
    stdin: { contents, resolveDir: join(root, "lib", "runtime"), sourcefile: `${kind}.js` },
    outfile: join(out, "runner", `${kind}.js`),
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

for (const kind of KINDS) {
  const engine = kind[0].toUpperCase() + kind.slice(1) + "Engine";
  const check = kind === "sqlite" ? ["checkIntegrity"] : [];
  const contents = [
    'import { start } from "./commands";',
    `import { ${engine} } from "./engines/${kind}";`,
    ...check.map((name) => `import { ${name} } from "./engines/sqlite-integrity";`),
    `start({ ${["engineFor: ({ engine }) => new " + engine + "(engine)", ...check].join(", ")} });`,
  ].join("\n");
  bundle(kind, contents);
}

const scripts = join(root, "lib", "scripts");
for (const name of readdirSync(scripts)) cpSync(join(scripts, name), join(out, "lib", "scripts", name));
