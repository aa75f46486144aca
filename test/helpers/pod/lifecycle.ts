import { rmSync } from "node:fs";
import type { Kill, PodContext, PodResult, RunningPod } from "./options";
import type { Container } from "./sandbox";
import type { Block } from "./terraform";
import { Kubelet } from "./kubelet";
import { startSandbox } from "./sandbox";
import { block, blocks, number, refuseUnknown, text } from "./terraform";

const POD_KEYS = `container init_container volume security_context restart_policy termination_grace_period_seconds active_deadline_seconds
  service_account_name automount_service_account_token enable_service_links
  affinity node_selector node_name toleration topology_spread_constraint priority_class_name runtime_class_name scheduler_name
  image_pull_secrets dns_policy dns_config host_network share_process_namespace host_ipc host_pid`;
const SECURITY_KEYS = "run_as_user run_as_group run_as_non_root fs_group fs_group_change_policy supplemental_groups seccomp_profile";

/** One pod from its first container to its last, with the signals that reach it on the way. */
export class Pod implements RunningPod {
  public readonly done: Promise<PodResult>;
  private readonly begun = Date.now();
  private readonly containers = new Map<string, Container>();
  private readonly timers = new Set<NodeJS.Timeout>();
  private ending: PodResult["reason"];
  private timedOut = false;
  private reached = 0;

  /** @param root directory on the host for the pod's files; removed at its end */
  public constructor(
    public readonly name: string,
    private readonly spec: Block,
    private readonly options: PodContext,
    private readonly root: string,
  ) {
    this.done = this.run().finally(() => this.clear());
  }

  public log(container: string): string {
    return this.containers.get(container)?.log() ?? "";
  }

  public kill({ container, process, signal = "SIGKILL" }: Pick<Kill, "container" | "process" | "signal"> = {}): number {
    const targets = [...this.containers.values()].filter(({ name }) => container === undefined || name === container);
    return targets.reduce((sum, target) => sum + target.signal(signal, process), 0);
  }

  public delete(): void {
    this.terminate("Deleted");
  }

  private async run(): Promise<PodResult> {
    refuseUnknown(this.spec, "pod", POD_KEYS);
    refuseUnknown(block(this.spec.security_context), "pod security_context", SECURITY_KEYS);
    if (text(this.spec.restart_policy) !== "Never") throw new Error("the pod harness runs pods of restart_policy Never only");
    const kubelet = new Kubelet(this.spec, this.options, this.name, this.root);
    this.after(this.options.timeoutSeconds ?? 120, () => this.giveUp());
    const deadline = this.options.deadlineSeconds ?? number(this.spec.active_deadline_seconds);
    if (deadline !== undefined) this.after(deadline, () => this.terminate("DeadlineExceeded"));

    for (const init of blocks(this.spec.init_container)) {
      if ((await this.start(kubelet, init).exit) !== 0 || this.ending !== undefined) return this.result();
    }
    const started: Container[] = [];
    for (const container of blocks(this.spec.container)) {
      if (started.length > 0) await new Promise((resolve) => setTimeout(resolve, this.options.pauseMs ?? 200));
      if (this.ending !== undefined) break;
      started.push(this.start(kubelet, container));
      await started.at(-1)?.started;
    }
    for (const kill of [this.options.kill ?? []].flat()) this.schedule(kill, started);
    await Promise.all(started.map((container) => container.exit));
    return this.result();
  }

  private start(kubelet: Kubelet, block: Block): Container {
    const container = startSandbox(kubelet.sandbox(block));
    this.containers.set(container.name, container);
    return container;
  }

  private async result(): Promise<PodResult> {
    const all = [...this.containers.values()];
    const logs = Object.fromEntries(all.map((container) => [container.name, container.log()]));
    if (this.timedOut) throw new Error(`the pod did not end in time; its logs:\n${JSON.stringify(logs, undefined, 2)}`);
    const exitCodes = Object.fromEntries(await Promise.all(all.map(async (container) => [container.name, await container.exit] as const)));
    return {
      ok: this.ending === undefined && Object.values(exitCodes).every((code) => code === 0),
      exitCodes,
      logs,
      ...(this.ending === undefined ? {} : { reason: this.ending }),
      durationMs: Date.now() - this.begun,
      killed: this.reached,
      pod: this.name,
    };
  }

  private after(seconds: number, action: () => void): void {
    this.timers.add(setTimeout(action, Math.min(seconds * 1000, 2 ** 31 - 1)));
  }

  private giveUp(): void {
    this.timedOut = true;
    this.kill();
  }

  private terminate(reason: NonNullable<PodResult["reason"]>): void {
    if (this.ending !== undefined) return;
    this.ending = reason;
    this.kill({ signal: "SIGTERM" });
    this.after(this.options.graceSeconds ?? number(this.spec.termination_grace_period_seconds) ?? 30, () => this.kill());
  }

  private schedule(kill: Kill, containers: readonly Container[]): void {
    if (kill.container !== undefined && !containers.some(({ name }) => name === kill.container)) {
      throw new Error(`kill: the pod has no container ${kill.container}`);
    }
    this.after((kill.afterMs ?? 0) / 1000, () => {
      let done = false;
      const attempt = (): void => {
        if (done || (kill.when !== undefined && !kill.when(this))) return;
        const reached = this.kill(kill);
        this.reached += reached;
        // A program that is to be killed may not have been started yet.
        done = reached > 0 || kill.process === undefined;
      };
      attempt();
      for (const container of containers) container.onLog(attempt);
      this.timers.add(setInterval(attempt, 2));
    });
  }

  private clear(): void {
    for (const timer of this.timers) clearTimeout(timer);
    this.kill();
    rmSync(this.root, { recursive: true, force: true });
  }
}
