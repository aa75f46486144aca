// Bundles the runner, and puts the shell scripts where the compiled library looks for them.
//
//   node scripts/build-runner.js [directory, default dist]
const { cpSync } = require("node:fs");
const { join } = require("node:path");
const { buildSync } = require("esbuild");

const root = join(__dirname, "..");
const out = process.argv[2] ?? join(root, "dist");

buildSync({
  absWorkingDir: root,
  entryPoints: ["lib/runtime/main.ts"],
  outfile: join(out, "runner.js"),
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
cpSync(join(root, "lib", "scripts"), join(out, "lib", "scripts"), { recursive: true });
