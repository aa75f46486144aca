// Writes docs/generated anew from the stacks.
//
//   node scripts/docs.js [directory, default docs/generated]
const { mkdirSync, mkdtempSync, rmSync, writeFileSync } = require("node:fs");
const { tmpdir } = require("node:os");
const { join } = require("node:path");
const { App } = require("cdktf");
const { protectedServices } = require("../dist/constructs");
const { runbooks } = require("../dist/lib/runbooks");
const { addStacks, site } = require("../dist/stacks");

const directory = process.argv[2] ?? join(__dirname, "..", "docs", "generated");
// An app makes its output folder when it is made, also where nothing is synthesised.
const outdir = mkdtempSync(join(tmpdir(), "docs-"));
const app = new App({ outdir });
addStacks(app);
const written = runbooks(protectedServices(app), site.offsite);
rmSync(outdir, { recursive: true });
rmSync(directory, { recursive: true, force: true });
mkdirSync(directory, { recursive: true });
for (const { file, text } of written) writeFileSync(join(directory, file), text);
console.log(`${written.length} documents in ${directory}: ${written.map(({ file }) => file).join(", ")}`);
