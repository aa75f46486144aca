import { chmodSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { hostProgram, NODE_ALPINE, type ImageProfile } from "../pod";
import { temporaryDirectory } from "../process";

/** Vault's image with a double in the server's place, for a drill on a machine without one. */
export function scratchProfile(): ImageProfile {
  const { buildSync } = jest.requireActual<typeof import("esbuild")>("esbuild");
  const program = join(temporaryDirectory("vault-double"), "vault");
  const entryPoints = [resolve(__dirname, "vault-scratch.ts")];
  const banner = { js: "#!/usr/bin/node" };
  buildSync({ entryPoints, outfile: `${program}.js`, bundle: true, platform: "node", target: "node24", banner });
  // The shell finds it by its name; what runs is Node.
  writeFileSync(program, `#!/bin/sh\nexec node /usr/bin/vault.js "$@"\n`);
  chmodSync(program, 0o755);
  const { node = hostProgram("node") } = NODE_ALPINE.programs ?? {};
  return { tools: ["sleep"], programs: { vault: program, "vault.js": `${program}.js`, node } };
}
