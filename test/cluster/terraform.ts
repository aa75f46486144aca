import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { run, temporaryDirectory, type Finished } from "../helpers/process";
import type { Cluster } from "./cluster";

/** What run.sh found. */
const PROGRAM = process.env["CLUSTER_TERRAFORM"] ?? "";
const PROVIDERS = process.env["CLUSTER_PROVIDERS"] ?? "";

/** A stack's folder, in which Terraform or OpenTofu works on a test's cluster. */
export class TerraformFolder {
  private readonly directory: string;

  public constructor(cluster: Cluster, id: string, json: string) {
    this.directory = join(temporaryDirectory("terraform"), id);
    mkdirSync(this.directory);
    this.write(json);
    // This cluster instead of the one that the stack names, and the state beside the stack.
    const override = {
      terraform: { backend: { local: { path: join(this.directory, "terraform.tfstate") } } },
      provider: { kubernetes: [{ config_path: cluster.kubeconfig }] },
    };
    writeFileSync(join(this.directory, "override.tf.json"), JSON.stringify(override));
  }

  /** Puts other JSON in the stack's place. */
  public write(json: string): void {
    writeFileSync(join(this.directory, "cdk.tf.json"), json);
  }

  public async init(): Promise<void> {
    await this.run("init", "-input=false", `-plugin-dir=${PROVIDERS}`);
  }

  /** Plans, and gives what becomes of each address that does not stay as it is. */
  public async plan(): Promise<{ readonly [address: string]: string }> {
    await this.run("plan", "-input=false", "-out=plan");
    const { resource_changes: changes = [] } = JSON.parse((await this.tryRun("show", "-json", "plan")).stdout) as {
      readonly resource_changes?: readonly { readonly address: string; readonly change: { readonly actions: readonly string[] } }[];
    };
    return Object.fromEntries(changes.map(({ address, change }) => [address, change.actions.join()]).filter(([, actions]) => actions !== "no-op"));
  }

  /** Applies the last plan. */
  public async apply(): Promise<void> {
    await this.run("apply", "-input=false", "plan");
  }

  /** @throws unless it ends with 0 */
  public async run(command: string, ...args: readonly string[]): Promise<string> {
    const { status, stdout, stderr } = await this.tryRun(command, ...args, "-no-color");
    if (status !== 0) throw new Error(`${command} ended with ${status}: ${stderr}${stdout}`);
    return stdout;
  }

  public async tryRun(...args: readonly string[]): Promise<Finished> {
    return run(PROGRAM, [`-chdir=${this.directory}`, ...args], { mayFail: true, env: { TF_IN_AUTOMATION: "1", CHECKPOINT_DISABLE: "1" } });
  }
}
