import { spawn, type ChildProcess } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { startProcess, type ManagedProcess } from "../helpers/process";

export interface DnsOptions {
  /** Where its files lie. */
  readonly directory: string;
  readonly address: string;
  /** A `kubectl` command line that reaches the API. */
  readonly kubectl: readonly [program: string, ...args: string[]];
}

/** An event of a watch, as one line of text. */
const EVENT = '{.type} {.object.metadata.name}.{.object.metadata.namespace} {.object.spec.clusterIP}{"\\n"}';

/** DNS of the cluster: dnsmasq, fed from the API's Services for as long as it runs. */
export class ClusterDns {
  private server: ManagedProcess | undefined;
  private watch: ChildProcess | undefined;
  private readonly services = new Map<string, string>();

  public constructor(private readonly options: DnsOptions) {}

  public async start(): Promise<void> {
    const { address, kubectl } = this.options;
    this.write();
    this.server = await startProcess({
      command: "dnsmasq",
      args: [
        ...["--keep-in-foreground", "--user=root", "--conf-file=/dev/null", `--listen-address=${address}`, "--bind-interfaces"],
        ...["--no-resolv", "--no-hosts", `--addn-hosts=${this.hosts}`, "--local=/cluster.local/", "--log-facility=-"],
      ],
      ready: { log: /started/ },
    });
    const [program, ...args] = kubectl;
    this.watch = spawn(program, [...args, "get", "services", "--all-namespaces", "--watch", "--output-watch-events", "-o", `jsonpath=${EVENT}`], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    if (this.watch.stdout !== null) createInterface(this.watch.stdout).on("line", (line) => this.take(line));
  }

  public async stop(): Promise<void> {
    this.watch?.kill();
    await this.server?.stop();
  }

  private get hosts(): string {
    return join(this.options.directory, "services.hosts");
  }

  private take(event: string): void {
    const [type, service = "", address = ""] = event.split(" ");
    if (type === "DELETED") this.services.delete(service);
    else if (/^[\d.]+$/.test(address)) this.services.set(service, address);
    this.write();
    // It reads its files anew.
    if (this.server !== undefined) process.kill(this.server.pid, "SIGHUP");
  }

  private write(): void {
    writeFileSync(this.hosts, [...this.services].map(([service, address]) => `${address} ${service}.svc.cluster.local\n`).join(""));
  }
}
