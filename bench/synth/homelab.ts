/** Synthesises the homelab by its constructs: `homelab.js <out>`. */
import { addStacks } from "../../stacks";
import { measured } from "./measured";

measured(process.argv[2] ?? "", (app) => void addStacks(app));
