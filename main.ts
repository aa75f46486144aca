import { App } from "cdktf";
import { ValidationError, withoutCreationStacks } from "./lib";
import { addStacks } from "./stacks";

try {
  withoutCreationStacks();
  // A relative folder, not the library's default, keeps the machine's own paths out of the output.
  const app = new App({ outdir: process.env["CDKTF_OUTDIR"] ?? "cdktf.out" });
  const stacks = addStacks(app);
  app.synth();
  console.log(`${stacks.length} stacks in ${app.outdir}/stacks: ${stacks.map(({ node }) => node.id).join(", ")}`);
} catch (error) {
  if (!ValidationError.is(error)) throw error;
  console.error(error.message);
  process.exitCode = 1;
}
