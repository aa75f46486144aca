import { probeTarget } from "../../../lib/runtime/target";

/** Probes a target in a process of its own, and says the reason where it fails. */
probeTarget(JSON.parse(process.argv[2] ?? ""), () => Promise.resolve(true)).then(
  () => console.log("well"),
  (error: Error) => console.log(error.message),
);
