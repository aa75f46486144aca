import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { homedir } from "node:os";
import { join, resolve } from "node:path";
import { run, startProcess, temporaryDirectory, waitFor, type ManagedProcess } from "../helpers/process";
import { NfsDriverDouble } from "./csi/driver";
import { ClusterDns } from "./dns";
import { Pki } from "./pki";

/** An address on a link of the tier's own: a kubelet refuses loopback for its node. */
export const NODE_ADDRESS = "192.0.2.10";
const NODE_NAME = "k8s-master";
const SERVICES = "10.96.0.0/16";
const PODS = "10.88.0.0/24";
const API = "https://127.0.0.1:6443";
/** Where toolchain/build.sh puts the programs. */
export const PROGRAMS = process.env["CLUSTER_PROGRAMS"] ?? join(process.env["XDG_CACHE_HOME"] ?? join(homedir(), ".cache"), "cdktf-backup/cluster");

/**
 * A Kubernetes of one node on this machine, in the network and mount namespace that run.sh makes: etcd, API server, controller
 * manager, scheduler, containerd, kubelet, kube-proxy, DNS for Services, and a stand-in for the NFS CSI driver.
 */
export class Cluster {
  private readonly processes: ManagedProcess[] = [];
  private driver: NfsDriverDouble | undefined;
  private dns: ClusterDns | undefined;

  private constructor(
    /** All that the cluster writes. */
    public readonly directory: string,
    private readonly pki: Pki,
    /** Kubeconfig of a cluster that runs elsewhere. */
    private readonly given?: string,
  ) {}

  /** Stands for the file server's root: the export `/mnt/main/x` is `<exports>/mnt/main/x`. */
  public get exports(): string {
    return join(this.directory, "exports");
  }

  /** A kubeconfig with all rights. */
  public get kubeconfig(): string {
    return this.given ?? join(this.directory, "admin.kubeconfig");
  }

  private get kubectlProgram(): string {
    return this.given === undefined ? join(PROGRAMS, "kubectl") : "kubectl";
  }

  public get containerdSocket(): string {
    return join(this.directory, "run/containerd.sock");
  }

  /** The cluster of `CLUSTER_KUBECONFIG`, or else one of its own. */
  public static async startOrConnect(): Promise<Cluster> {
    const given = process.env["CLUSTER_KUBECONFIG"];
    if (given === undefined || given === "") return Cluster.start();
    const directory = temporaryDirectory("cluster");
    return new Cluster(directory, await Pki.create(directory), resolve(given));
  }

  /** Ready when the node is. */
  public static async start(): Promise<Cluster> {
    const directory = temporaryDirectory("cluster");
    for (const name of ["pki", "etcd", "run", "containerd", "kubelet", "cni", "exports"]) mkdirSync(join(directory, name));
    const cluster = new Cluster(directory, await Pki.create(join(directory, "pki")));
    try {
      await cluster.startControlPlane();
      await cluster.startNode();
      return cluster;
    } catch (error) {
      await cluster.stop();
      throw error;
    }
  }

  public async kubectl(...args: readonly string[]): Promise<string> {
    return (await this.tryKubectl({}, ...args)).stdout;
  }

  /** {@link kubectl} with input, or where a failure is the point. */
  public async tryKubectl(
    options: { readonly input?: string; readonly mayFail?: boolean },
    ...args: readonly string[]
  ): ReturnType<typeof run> {
    return run(this.kubectlProgram, ["--kubeconfig", this.kubeconfig, ...args], options);
  }

  /** Runs shell commands as a person would, with this cluster's `kubectl`. @returns what they print @throws if one of them fails */
  public async shell(commands: string): Promise<string> {
    const path = `${this.given === undefined ? `${PROGRAMS}:` : ""}/usr/local/bin:/usr/bin:/bin`;
    return (await run("sh", ["-euc", commands], { env: { PATH: path, KUBECONFIG: this.kubeconfig } })).stdout;
  }

  /** So that no test writes to namespaces of somebody's services. @throws if one exists in a cluster that runs elsewhere */
  public async refuseIfInUse(namespaces: readonly string[]): Promise<void> {
    if (this.given === undefined) return;
    const { stdout } = await this.tryKubectl({}, "get", "namespaces", "-o", "name");
    const used = namespaces.filter((name) => stdout.split("\n").includes(`namespace/${name}`));
    if (used.length > 0) throw new Error(`the cluster of ${this.given} is in use: it has the namespaces ${used.join(", ")}; give an empty one`);
  }

  /** Log of a part: `kubelet`, `kube-apiserver`, ... */
  public log(name: string): string {
    return readFileSync(join(this.directory, `${name}.log`), "utf8");
  }

  /** What there is to see of pods that are not ready, for the message of a failed test. */
  public async diagnosis(): Promise<string> {
    const pods = await this.kubectl("get", "pods", "--all-namespaces", "--no-headers", "-o", "wide");
    const sick = pods.split("\n").filter((line) => line !== "" && !/ 1\/1 |Completed/.test(line));
    const details = sick.slice(0, 4).map(async (line) => {
      const [namespace = "", pod = ""] = line.split(/\s+/);
      const { stdout: log } = await this.tryKubectl({ mayFail: true }, "logs", "--namespace", namespace, pod, "--all-containers", "--tail=20");
      const events = await this.kubectl("get", "events", "--namespace", namespace, "--field-selector", `involvedObject.name=${pod}`);
      return `${line}\n${log}\n${events}`;
    });
    return [pods, ...(await Promise.all(details))].join("\n");
  }

  public async stop(): Promise<void> {
    await this.dns?.stop();
    this.driver?.stop();
    for (const part of this.processes.splice(0).reverse()) await part.stop();
    // Containers outlive their runtime, and links their node: the next cluster of the same test gives its pods the same addresses.
    killContainers();
    for (const link of ["node0", "cni0"]) await run("ip", ["link", "delete", link], { mayFail: true });
  }

  private async startControlPlane(): Promise<void> {
    const { pki } = this;
    const names = ["localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"].map((name) => `DNS:${name}`);
    await Promise.all([
      pki.issue("apiserver", "/CN=kube-apiserver", [...names, "IP:127.0.0.1", "IP:10.96.0.1", `IP:${NODE_ADDRESS}`]),
      this.user("admin", "/O=system:masters/CN=admin"),
      this.user("kube-controller-manager", "/CN=system:kube-controller-manager"),
      this.user("kube-scheduler", "/CN=system:kube-scheduler"),
      this.user("kube-proxy", "/CN=system:kube-proxy"),
      this.user("kubelet", `/O=system:nodes/CN=system:node:${NODE_NAME}`, [`DNS:${NODE_NAME}`, `IP:${NODE_ADDRESS}`]),
    ]);
    // etcd's usual ports stay free for the etcd that is backed up.
    const etcd = "http://127.0.0.1:12379";
    await this.program("etcd", 12379, [
      ...["--data-dir", join(this.directory, "etcd"), "--listen-client-urls", etcd, "--advertise-client-urls", etcd],
      ...["--listen-peer-urls", "http://127.0.0.1:12380", "--unsafe-no-fsync"],
    ]);
    await this.program("kube-apiserver", 6443, [
      `--etcd-servers=${etcd}`,
      "--secure-port=6443",
      `--advertise-address=127.0.0.1`,
      "--endpoint-reconciler-type=none",
      `--tls-cert-file=${pki.path("apiserver.crt")}`,
      `--tls-private-key-file=${pki.path("apiserver.key")}`,
      `--client-ca-file=${pki.path("ca.crt")}`,
      `--service-account-key-file=${pki.path("sa.pub")}`,
      `--service-account-signing-key-file=${pki.path("sa.key")}`,
      "--service-account-issuer=https://kubernetes.default.svc",
      `--service-cluster-ip-range=${SERVICES}`,
      "--authorization-mode=Node,RBAC",
      "--kubelet-preferred-address-types=InternalIP",
      `--kubelet-client-certificate=${pki.path("admin.crt")}`,
      `--kubelet-client-key=${pki.path("admin.key")}`,
      "--allow-privileged=true",
    ]);
    await waitFor(async () => (await this.tryKubectl({ mayFail: true }, "get", "--raw", "/readyz")).stdout === "ok", "the API server", 60);
    await this.program("kube-controller-manager", undefined, [
      `--kubeconfig=${this.path("kube-controller-manager.kubeconfig")}`,
      `--service-account-private-key-file=${pki.path("sa.key")}`,
      `--root-ca-file=${pki.path("ca.crt")}`,
      "--use-service-account-credentials=true",
      "--bind-address=127.0.0.1",
      "--leader-elect=false",
      // Claims bind at the next look of the controller.
      "--pvclaimbinder-sync-period=1s",
    ]);
    const scheduler = [`--kubeconfig=${this.path("kube-scheduler.kubeconfig")}`, "--bind-address=127.0.0.1", "--leader-elect=false"];
    await this.program("kube-scheduler", undefined, scheduler);
  }

  private async startNode(): Promise<void> {
    await run("ip", ["link", "add", "node0", "type", "bridge"]);
    await run("ip", ["address", "add", `${NODE_ADDRESS}/32`, "dev", "node0"]);
    await run("ip", ["link", "set", "node0", "up"]);
    // For what is sent from the node itself, before kube-proxy gives it a pod's address.
    await run("ip", ["route", "add", SERVICES, "dev", "node0"]);
    writeFileSync("/proc/sys/net/ipv4/ip_forward", "1");
    writeFileSync(this.path("containerd.toml"), this.containerdConfig());
    writeFileSync(this.path("cni/10-bridge.conflist"), cniConfig(this.path("leases")));
    writeFileSync(this.path("kubelet.yaml"), JSON.stringify(this.kubeletConfig()));
    writeFileSync(this.path("kube-proxy.yaml"), JSON.stringify(this.proxyConfig()));
    this.processes.push(await startProcess({ command: "containerd", args: ["-c", this.path("containerd.toml")], ready: { file: this.containerdSocket } }));
    this.driver = new NfsDriverDouble({ kubelet: this.path("kubelet"), nodeName: NODE_NAME, root: this.exports });
    await this.driver.start();
    await this.program("kubelet", undefined, [
      `--config=${this.path("kubelet.yaml")}`,
      `--kubeconfig=${this.path("kubelet.kubeconfig")}`,
      `--root-dir=${this.path("kubelet")}`,
      `--node-ip=${NODE_ADDRESS}`,
      `--hostname-override=${NODE_NAME}`,
    ]);
    await this.program("kube-proxy", undefined, [`--config=${this.path("kube-proxy.yaml")}`]);
    this.dns = new ClusterDns({
      directory: this.directory,
      address: NODE_ADDRESS,
      kubectl: [join(PROGRAMS, "kubectl"), "--kubeconfig", this.kubeconfig],
    });
    await this.dns.start();
    const driver = { apiVersion: "storage.k8s.io/v1", kind: "CSIDriver", metadata: { name: "nfs.csi.k8s.io" }, spec: { attachRequired: false } };
    await this.tryKubectl({ input: JSON.stringify(driver) }, "apply", "-f", "-");
    const ready = "jsonpath={.items[*].status.conditions[?(@.type=='Ready')].status}";
    await waitFor(async () => (await this.kubectl("get", "nodes", "-o", ready)) === "True", "the node to be ready", 120);
  }

  /** Starts one of the built programs; its log is kept in the cluster's directory. */
  private async program(name: string, port: number | undefined, args: readonly string[]): Promise<void> {
    // Written by a shell and not kept in memory: a kubelet has much to say.
    const command = `exec "$0" "$@" > ${this.path(`${name}.log`)} 2>&1`;
    this.processes.push(
      await startProcess({ command: "sh", args: ["-c", command, join(PROGRAMS, name), ...args], ready: port === undefined ? {} : { port }, timeoutSeconds: 60 }),
    );
  }

  private async user(name: string, subject: string, names?: readonly string[]): Promise<void> {
    await this.pki.issue(name, subject, names);
    const config = {
      apiVersion: "v1",
      kind: "Config",
      clusters: [{ name: "test", cluster: { server: API, "certificate-authority": this.pki.path("ca.crt") } }],
      users: [{ name, user: { "client-certificate": this.pki.path(`${name}.crt`), "client-key": this.pki.path(`${name}.key`) } }],
      contexts: [{ name: "test", context: { cluster: "test", user: name } }],
      "current-context": "test",
    };
    writeFileSync(this.path(`${name}.kubeconfig`), JSON.stringify(config));
  }

  private path(name: string): string {
    return join(this.directory, name);
  }

  private containerdConfig(): string {
    return `version = 2
root = "${this.path("containerd")}"
state = "${this.path("run/containerd")}"
[grpc]
  address = "${this.containerdSocket}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "registry.k8s.io/pause:3.10"
  # Without CAP_SYS_RESOURCE no process may be given a better score than its parent has.
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "${this.path("cni")}"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      SystemdCgroup = false
`;
  }

  private kubeletConfig(): object {
    return {
      apiVersion: "kubelet.config.k8s.io/v1beta1",
      kind: "KubeletConfiguration",
      cgroupDriver: "cgroupfs",
      failCgroupV1: false,
      failSwapOn: false,
      containerRuntimeEndpoint: `unix://${this.containerdSocket}`,
      authentication: { anonymous: { enabled: false }, x509: { clientCAFile: this.pki.path("ca.crt") }, webhook: { enabled: false } },
      authorization: { mode: "AlwaysAllow" },
      clusterDNS: [NODE_ADDRESS],
      clusterDomain: "cluster.local",
      // The machine's disk is not the cluster's to manage.
      evictionHard: { "memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%", "nodefs.inodesFree": "1%" },
      imageGCHighThresholdPercent: 100,
      tlsCertFile: this.pki.path("kubelet.crt"),
      tlsPrivateKeyFile: this.pki.path("kubelet.key"),
      // A changed ConfigMap is seen soon.
      syncFrequency: "5s",
    };
  }

  private proxyConfig(): object {
    return {
      apiVersion: "kubeproxy.config.k8s.io/v1alpha1",
      kind: "KubeProxyConfiguration",
      mode: "nftables",
      clientConnection: { kubeconfig: this.path("kube-proxy.kubeconfig") },
      hostnameOverride: NODE_NAME,
      clusterCIDR: PODS,
      conntrack: { maxPerCore: 0 },
      metricsBindAddress: "127.0.0.1:10249",
    };
  }
}

/** @param leases directory of the addresses that are taken: by default they would stay on the machine, also after a run that was killed */
function cniConfig(leases: string): string {
  const ipam = { type: "host-local", dataDir: leases, ranges: [[{ subnet: PODS }]], routes: [{ dst: "0.0.0.0/0" }] };
  return JSON.stringify({
    cniVersion: "0.4.0",
    name: "bridge",
    plugins: [
      { type: "bridge", bridge: "cni0", isGateway: true, ipMasq: false, hairpinMode: true, ipam },
      { type: "portmap", capabilities: { portMappings: true } },
    ],
  });
}

/** Ends whatever runs in a control group of the kubelet's. */
function killContainers(): void {
  for (const pid of readdirSync("/proc").filter((name) => /^\d+$/.test(name))) {
    try {
      if (readFileSync(`/proc/${pid}/cgroup`, "utf8").includes("kubepods")) process.kill(Number(pid), "SIGKILL");
    } catch {
      // It has ended.
    }
  }
}
