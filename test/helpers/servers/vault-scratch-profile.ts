import { execFileSync } from "node:child_process";
import { chmodSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { hostProgram, NODE_ALPINE, type ImageProfile } from "../pod";
import { temporaryDirectory } from "../process";

/** Vault's image with a double in the server's place, for a drill on a machine without one. */
export function scratchProfile(): ImageProfile {
  const program = join(temporaryDirectory("vault-double"), "vault");
  const bundling = [resolve(__dirname, "vault-scratch.ts"), `--outfile=${program}.js`, "--bundle", "--platform=node", "--target=node24"];
  execFileSync(resolve(__dirname, "../../../node_modules/.bin/esbuild"), [...bundling, "--banner:js=#!/usr/bin/node", "--log-level=warning"]);
  // The shell finds it by its name; what runs is Node.
  writeFileSync(program, `#!/bin/sh\nexec node /usr/bin/vault.js "$@"\n`);
  chmodSync(program, 0o755);
  const { node = hostProgram("node") } = NODE_ALPINE.programs ?? {};
  return { tools: ["sleep"], programs: { vault: program, "vault.js": `${program}.js`, node } };
}
