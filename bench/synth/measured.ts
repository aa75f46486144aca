import { KubernetesProvider } from "@cdktf/provider-kubernetes/lib/provider";
import { App, LocalBackend, TerraformStack } from "cdktf";
import { withoutCreationStacks } from "../../lib";

/** What one synthesis took, the start of Node and the loading of modules included. */
export interface Measure {
  /** Since the process began. */
  readonly seconds: number;
  /** Largest size in memory, 10^6 bytes. */
  readonly megabytes: number;
}

/** Synthesises what `fill` makes into a directory, and prints a {@link Measure}. */
export function measured(out: string, fill: (app: App) => void): void {
  withoutCreationStacks(); // as main.ts does
  const app = new App({ outdir: out });
  fill(app);
  app.synth();
  const measure: Measure = { seconds: performance.now() / 1000, megabytes: (process.resourceUsage().maxRSS * 1024) / 1e6 };
  process.stdout.write(`${JSON.stringify(measure)}\n`);
}

/** A stack with what every stack has. */
export function stackOf(app: App, id: string): TerraformStack {
  const stack = new TerraformStack(app, id);
  new LocalBackend(stack, { path: `${id}.tfstate` });
  new KubernetesProvider(stack, "kubernetes", { configPath: "~/.kube/config" });
  return stack;
}
