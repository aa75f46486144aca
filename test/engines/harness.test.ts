import type { Block, PodContext, PodResult } from "../helpers/pod";
import { chmodSync, chownSync, existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { networkInterfaces } from "node:os";
import { join } from "node:path";
import { CronJobV1 } from "@cdktf/provider-kubernetes/lib/cron-job-v1";
import { ConfigMapV1 } from "@cdktf/provider-kubernetes/lib/config-map-v1";
import { TerraformStack, Testing } from "cdktf";
import { literal } from "../../lib/terraform-text";
import { runCronJob, runPod, startPod } from "../helpers/pod";
import { mountTmpfs, unmount } from "../helpers/pod/target";
import { run, startProcess, temporaryDirectory } from "../helpers/process";
import { PUSHGATEWAY_PORT, startPushgateway, startRefusingPushgateway } from "../helpers/servers/pushgateway";

const IMAGE = "docker.io/library/node:24.11.1-alpine";

/** A container that runs a line of shell with everything Alpine has. */
function container(script: string, more: Block = {}): Block {
  return { name: "main", image: IMAGE, command: ["sh", "-c", script], ...more };
}

function pod(script: string, more: Block = {}, podMore: Block = {}): Block {
  return { restart_policy: "Never", automount_service_account_token: false, container: [container(script, more)], ...podMore };
}

async function output(spec: Block, options: PodContext = {}): Promise<string> {
  const result = await runPod(spec, options);
  return (result.logs.main ?? "").trim();
}

test("the tests have a network of their own: loopback and nothing else", () => {
  expect(Object.keys(networkInterfaces())).toEqual(["lo"]);
});

describe("environment", () => {
  test("values, Secrets, ConfigMaps and fields of the pod, and no more than the kubelet adds", async () => {
    const env = [
      { name: "PLAIN", value: "a b" },
      { name: "PASSWORD", value_from: [{ secret_key_ref: [{ name: "login", key: "password" }] }] },
      { name: "SETTING", value_from: { config_map_key_ref: { name: "settings", key: "level" } } },
      { name: "JOB", value_from: { field_ref: { field_path: "metadata.labels['batch.kubernetes.io/job-name']" } } },
      { name: "NAMESPACE", value_from: { field_ref: { field_path: "metadata.namespace" } } },
      { name: "MEMORY", value_from: { resource_field_ref: { resource: "limits.memory", divisor: "1Mi" } } },
      { name: "ABSENT", value_from: { secret_key_ref: { name: "none", key: "x", optional: true } } },
    ];
    const all = { env, env_from: [{ prefix: "ALL_", secret_ref: { name: "login" } }], resources: { limits: { memory: "256Mi" } } };
    const printed = await output(pod("env", all), {
      secrets: { login: { password: "p'$x" } },
      configMaps: { settings: { level: "3" } },
      labels: { "batch.kubernetes.io/job-name": "backup-1" },
      namespace: "dbaas",
      podName: "backup-1-abcde",
      services: ["redis-master.dbaas", "vault.vault"],
    });
    const parts = (line: string): readonly string[] => /^([^=]*)=(.*)$/.exec(line)?.slice(1) ?? [];
    const found = Object.fromEntries(printed.split("\n").map(parts)) as Record<string, string>;
    for (const shells of ["PWD", "SHLVL", "OLDPWD", "NODE_VERSION"]) delete found[shells];
    expect(found).toEqual({
      PLAIN: "a b",
      PASSWORD: "p'$x",
      SETTING: "3",
      JOB: "backup-1",
      NAMESPACE: "dbaas",
      MEMORY: "256",
      ALL_password: "p'$x",
      HOME: "/root",
      HOSTNAME: "backup-1-abcde",
      PATH: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
      KUBERNETES_PORT: "tcp://127.0.0.1:443",
      KUBERNETES_SERVICE_HOST: "127.0.0.1",
      KUBERNETES_SERVICE_PORT: "443",
      REDIS_MASTER_PORT: "tcp://127.0.0.1:443",
      REDIS_MASTER_SERVICE_HOST: "127.0.0.1",
      REDIS_MASTER_SERVICE_PORT: "443",
    });
  });

  test("`$(NAME)` is expanded and `$$` halved in command, args and values, as the kubelet does", async () => {
    const env = [
      { name: "HOST", value: "db" },
      { name: "URL", value: "http://$(HOST)/$(LATER)/$$(HOST)/$HOST" },
      { name: "LATER", value: "x" },
    ];
    const spec = pod("", { command: ["sh", "-c", 'echo "$1|$2|$3"', "sh"], args: ["$(URL)", "$$1 $$$$", "$(UNKNOWN)"], env });
    expect(await output(spec)).toBe("http://db/$(LATER)/$(HOST)/$HOST|$1 $$|$(UNKNOWN)");
  });

  test.each([
    ["Secret", { secret_key_ref: { name: "none", key: "x" } }, 'Secret "none" not found'],
    ["key", { secret_key_ref: { name: "login", key: "none" } }, 'no key none in Secret "login"'],
    ["ConfigMap", { config_map_key_ref: { name: "none", key: "x" } }, 'ConfigMap "none" not found'],
  ])("fails when a %s is missing", async (_, value_from, message) => {
    await expect(runPod(pod("", { env: [{ name: "X", value_from }] }), { secrets: { login: {} } })).rejects.toThrow(message);
  });
});

describe("volumes", () => {
  const mount = (more: Block = {}): Block => ({ volume_mount: [{ name: "v", mount_path: "/mnt/v", ...more }] });
  const volume = (kind: Block): Block => ({ volume: [{ name: "v", ...kind }] });
  const configMaps = { code: { "a.sh": "echo a\n", "b.json": "{}" } };

  test("a ConfigMap's files are links behind ..data, read-only, with their modes", async () => {
    const script = "cd /mnt/v && ls -A | sort | tr '\\n' ' '; readlink a.sh; stat -L -c '%a %u' a.sh; echo x > new";
    const printed = await output(pod(script, mount(), volume({ config_map: { name: "code", default_mode: "0444" } })), { configMaps });
    expect(printed).toMatch(/^\.\.20\S+ \.\.data a\.sh b\.json \.\.data\/a\.sh\n444 0\n.*Read-only file system$/);
  });

  test("items choose, rename and set the mode; sub_path shows one file", async () => {
    const items = [{ key: "a.sh", path: "bin/run", mode: "0555" }];
    const printed = await output(
      pod("cd /mnt/v && find . -type f | grep -v '\\.\\./' ; stat -L -c %a bin/run; cat /one", {
        volume_mount: [
          { name: "v", mount_path: "/mnt/v" },
          { name: "w", mount_path: "/one", sub_path: "b.json" },
        ],
      }, { volume: [{ name: "v", config_map: { name: "code", items } }, { name: "w", config_map: { name: "code" } }] }),
      { configMaps },
    );
    expect(printed.split("\n").slice(-2)).toEqual(["555", "{}"]);
  });

  test("a Secret's file of mode 0400 is for root, and for the group where there is an fsGroup", async () => {
    const secrets = { key: { id: "s3cret" } };
    const spec = (security_context: Block): Block =>
      pod("cat /mnt/v/id; stat -L -c '%a %g' /mnt/v/id", mount(), {
        ...volume({ secret: { secret_name: "key", default_mode: "0400" } }),
        security_context,
      });
    expect(await output(spec({ run_as_user: "26" }), { secrets })).toMatch(/Permission denied[^]*400 0$/);
    expect(await output(spec({ run_as_user: "26", fs_group: "27" }), { secrets })).toBe("s3cret440 27");
  });

  test("a service account's token is the user's own; without opting out it is mounted where clients look", async () => {
    const sources = [{ service_account_token: { path: "token", audience: "vault" } }];
    const security_context = { run_as_user: "100" };
    const script = "cat /mnt/v/token; stat -L -c ' %a %u' /mnt/v/token";
    const projected = pod(script, mount(), { ...volume({ projected: { sources } }), security_context });
    expect(await output(projected, { serviceAccountToken: "jwt" })).toBe("jwt 600 100");
    const automatic = { ...pod("cat /var/run/secrets/kubernetes.io/serviceaccount/token"), automount_service_account_token: undefined };
    expect(await output(automatic, { serviceAccountToken: "jwt" })).toBe("jwt");
  });

  test("an emptyDir is writable for every uid, shared by the containers, and carries pipes", async () => {
    const shared = { volume_mount: [{ name: "v", mount_path: "/mnt/v" }] };
    const reader = { ...container("until [ -p /mnt/v/pipe ]; do sleep 0.02; done; cat /mnt/v/pipe", shared), name: "reader" };
    const writer = { ...container("mkfifo /mnt/v/pipe && echo through > /mnt/v/pipe", shared), name: "writer" };
    const result = await runPod({
      restart_policy: "Never",
      container: [reader, writer],
      ...volume({ empty_dir: {} }),
      security_context: { run_as_user: "1000" },
    });
    expect(result).toMatchObject({ ok: true, exitCodes: { reader: 0, writer: 0 }, logs: { reader: "through\n", writer: "" } });
  });

  test.each<[string, Block, string]>([
    ["claim", { persistent_volume_claim: { claim_name: "data" } }, "data"],
    ["NFS export", { nfs: { server: "10.0.0.1", path: "/mnt/main/data" } }, "10.0.0.1:/mnt/main/data"],
    ["CSI export", { csi: { driver: "nfs.csi.k8s.io", volume_attributes: { server: "10.0.0.1", share: "/x" } } }, "10.0.0.1:/x"],
    ["host path", { host_path: { path: "/etc/kubernetes/pki", type: "Directory" } }, "/etc/kubernetes/pki"],
  ])("a %s is the given directory, and is read-only where the mount or the export is", async (_, kind, key) => {
    const path = temporaryDirectory("volume");
    const write = "echo written > /mnt/v/file";
    expect(await output(pod(write, mount(), volume(kind)), { volumes: { [key]: path } })).toBe("");
    expect(readFileSync(join(path, "file"), "utf8")).toBe("written\n");
    const byMount = await output(pod(write, mount({ read_only: true }), volume(kind)), { volumes: { [key]: path } });
    const byExport = await output(pod(write, mount(), volume(kind)), { volumes: { [key]: { path, readOnly: true } } });
    for (const printed of [byMount, byExport]) expect(printed).toMatch(/Read-only file system/);
  });

  test("a volume is a mount point, unless nothing is mounted", async () => {
    const kind = volume({ persistent_volume_claim: { claim_name: "data" } });
    const path = temporaryDirectory("volume");
    const script = "grep -q ' /mnt/v ' /proc/self/mountinfo && echo mounted; echo x > /mnt/v/file && echo written";
    expect(await output(pod(script, mount(), kind), { volumes: { data: path } })).toBe("mounted\nwritten");
    expect(await output(pod(script, mount(), kind), { volumes: { data: { path, mounted: false } } })).toBe("written");
  });

  test("a file system of a given size gets full", async () => {
    const path = temporaryDirectory("volume");
    mountTmpfs(path, 1 << 20);
    const kind = volume({ persistent_volume_claim: { claim_name: "data" } });
    const script = "dd if=/dev/zero of=/mnt/v/file bs=1M count=2";
    expect(await output(pod(script, mount(), kind), { volumes: { data: path } })).toMatch(/No space left/);
    unmount(path);
  });

  test.each<[string, Block, string]>([
    ["refuses a volume that the options lack", { persistent_volume_claim: { claim_name: "x" } }, "mounts x, which options.volumes does not"],
    ["refuses a CSI driver it does not know", { csi: { driver: "csi.example.org" } }, "does not know the driver csi.example.org"],
    ["refuses a kind of volume it does not know", { iscsi: { iqn: "x" } }, "does not know iscsi"],
    ["fails when a ConfigMap is missing", { config_map: { name: "none" } }, "ConfigMap none not found"],
    ["fails when a host path is no directory", { host_path: { path: "/file", type: "Directory" } }, "is not a Directory"],
  ])("%s", async (_, kind, message) => {
    const file = join(temporaryDirectory("volume"), "file");
    writeFileSync(file, "");
    await expect(runPod(pod("", mount(), volume(kind)), { volumes: { "/file": file } })).rejects.toThrow(message);
  });
});

describe("identity and confinement", () => {
  test("uid, gid and groups are the pod's, the container's first; no capabilities, no new privileges", async () => {
    const security = { run_as_user: "26", run_as_group: "27", supplemental_groups: [28], fs_group: "29" };
    const printed = await output(
      pod("id -u; id -g; id -G; grep -E 'Cap(Prm|Bnd|Eff)|NoNewPrivs' /proc/self/status | tr -d '\\t' | tr '\\n' ' '",
        { security_context: { run_as_user: "30", capabilities: { drop: ["ALL"] } } }, { security_context: security }),
    );
    const none = "0000000000000000";
    expect(printed.split("\n")).toEqual(["30", "27", "27 28 29", `CapPrm:${none} CapEff:${none} CapBnd:${none} NoNewPrivs:1`]);
  });

  test("root without capabilities cannot read another's file; root with the default ones can", async () => {
    const path = temporaryDirectory("volume");
    writeFileSync(join(path, "private"), "x");
    chownSync(join(path, "private"), 999, 999);
    chmodSync(join(path, "private"), 0o600);
    const spec = (security_context: Block): Block =>
      pod("cat /mnt/v/private", { security_context, volume_mount: [{ name: "v", mount_path: "/mnt/v" }] }, {
        volume: [{ name: "v", persistent_volume_claim: { claim_name: "data" } }],
      });
    expect(await output(spec({ capabilities: { drop: ["ALL"] } }), { volumes: { data: path } })).toMatch(/Permission denied/);
    expect(await output(spec({}), { volumes: { data: path } })).toBe("x");
  });

  test("refuses to run as root where the pod must not", async () => {
    const spec = pod("", {}, { security_context: { run_as_non_root: true } });
    await expect(runPod(spec)).rejects.toThrow("runAsNonRoot and would run as root");
  });

  test("the root is read-only where the container says so", async () => {
    const script = "echo x > /file && echo written";
    expect(await output(pod(script, { security_context: { read_only_root_filesystem: true } }))).toMatch(/Read-only file system/);
    expect(await output(pod(script))).toBe("written");
    expect(await output(pod(script, {}, { security_context: { run_as_user: "1000" } }))).toMatch(/Permission denied/);
  });

  test("nothing of the host is there but libraries: no home, no project, no users", async () => {
    // What is in /usr/sbin is what is in /usr/bin: programs of an image are found by both names.
    const script = "ls -d /home /work /srv /etc/shadow /usr/local 2>/dev/null; [ /usr/sbin -ef /usr/bin ] && echo same; cut -d: -f1 /etc/passwd | tr '\\n' ' '";
    const printed = await output(pod(script));
    expect(printed).toBe("same\nroot node nobody");
  });

  test("only the declared programs exist, besides the shell", async () => {
    const images = { "docker.io/library/redis": { tools: ["sleep", "redis-cli"] } };
    const script = "sleep 0; redis-cli --version > /dev/null && echo redis; cat /etc/passwd; redis-server --version; echo $?";
    const printed = await output(pod(script, { image: "docker.io/library/redis:7.4.1-bookworm" }), { images });
    expect(printed).toMatch(/^redis\n.*cat: not found\n.*redis-server: not found\n127$/);
  });

  test("the programs of an engine's container are those its scripts declare", async () => {
    const script = "# tools: sleep seq\nseq 1; head -c1 /dev/null; sed -n 1p /dev/null";
    const configMaps = { code: { "agent.sh": "# tools: sh sleep\n. $ENGINE_SCRIPT", "engine.sh": script } };
    const engine = {
      image: "docker.io/library/engine:1.0",
      command: ["/bin/sh", "/etc/code/agent.sh"],
      env: [{ name: "ENGINE_SCRIPT", value: "/etc/code/engine.sh" }],
      volume_mount: [{ name: "code", mount_path: "/etc/code" }],
    };
    const volume = [{ name: "code", config_map: { name: "code" } }];
    expect(await output(pod("", engine, { volume }), { configMaps })).toMatch(/^1\n.*head: not found\n.*sed: not found$/);
    const undeclared = { code: { ...configMaps.code, "agent.sh": "", "engine.sh": "" } };
    const without = runPod(pod("", engine, { volume }), { configMaps: undeclared });
    await expect(without).rejects.toThrow('no script it runs has a "# tools:" line');
  });

  test.each([
    ["dash", /^dash/],
    ["busybox", /^busybox/],
    ["bash", /^bash/],
  ] as const)("/bin/sh is %s where the run says so", async (shell, name) => {
    const images = { "example.org/tool": { tools: ["readlink", "cat"] } };
    const script = 'if [ -n "${BASH_VERSION:-}" ]; then echo bash; elif readlink /bin/sh >/dev/null; then echo busybox; else echo dash; fi';
    expect(await output(pod(script, { image: "example.org/tool:1.0.0" }), { images, shell })).toMatch(name);
  });

  test("a program can be replaced by a double", async () => {
    const path = join(temporaryDirectory("double"), "redis-cli");
    writeFileSync(path, "#!/bin/sh\necho double\nexit 9\n");
    chmodSync(path, 0o755);
    const images = { "docker.io/library/redis": { tools: ["redis-cli"] } };
    const result = await runPod(pod("redis-cli", { image: "docker.io/library/redis:7.4.1" }), { images, programs: { "redis-cli": path } });
    expect(result).toMatchObject({ ok: false, exitCodes: { main: 9 }, logs: { main: "double\n" } });
  });

  test("declared services resolve to loopback as in a cluster, and nothing else does", async () => {
    const lookup = (name: string): string => `node -e 'require("dns").lookup("${name}", (e, found) => console.log(e?.code ?? found))'`;
    const options: PodContext = { services: ["pg-rw.dbaas", "vault.vault"], namespace: "dbaas" };
    for (const name of ["pg-rw", "pg-rw.dbaas", "pg-rw.dbaas.svc", "pg-rw.dbaas.svc.cluster.local", "vault.vault", "localhost"]) {
      expect([name, await output(pod(lookup(name)), options)]).toEqual([name, "127.0.0.1"]);
    }
    const before = Date.now();
    for (const name of ["vault", "other.dbaas"]) expect(await output(pod(lookup(name)), options)).toMatch(/ENOTFOUND|EAI_AGAIN/);
    expect(Date.now() - before).toBeLessThan(5000);
  });
});

describe("life of a pod", () => {
  const two = (first: string, second: string): Block => ({
    restart_policy: "Never",
    container: [{ ...container(first), name: "first" }, { ...container(second), name: "second" }],
  });

  test("init containers run one after the other before the others; one that fails ends the pod", async () => {
    const data = temporaryDirectory("order", 0);
    const volume = [{ name: "v", persistent_volume_claim: { claim_name: "data" } }];
    const mounted = { volume_mount: [{ name: "v", mount_path: "/v" }] };
    const step = (name: string, script: string): Block => ({ ...container(script, mounted), name });
    const last = [step("c", "echo c >> /v/log")];
    const spec = (init_container: readonly Block[]): Block => ({ restart_policy: "Never", init_container, container: last, volume });
    const options = { volumes: { data } };
    expect((await runPod(spec([step("a", "sleep 0.1; echo a >> /v/log"), step("b", "echo b >> /v/log")]), options)).ok).toBe(true);
    expect(readFileSync(join(data, "log"), "utf8")).toBe("a\nb\nc\n");
    const failed = await runPod(spec([step("a", "exit 4"), step("b", "echo b >> /v/log")]), options);
    expect(failed).toMatchObject({ ok: false, exitCodes: { a: 4 } });
    expect(Object.keys(failed.exitCodes)).toEqual(["a"]);
  });

  test("both streams are one log, in order, and /dev/stderr can be opened again by any uid", async () => {
    const spec = pod("echo one; echo two >&2; echo three > /dev/stderr; echo four", {}, { security_context: { run_as_user: "26" } });
    expect(await output(spec)).toBe("one\ntwo\nthree\nfour");
  });

  test("the command is process 1: TERM does nothing to a shell without a trap, and the grace period ends it", async () => {
    const spec = pod("echo $$$$; sleep 100; echo survived");
    const result = await runPod(spec, { deadlineSeconds: 0.3, graceSeconds: 0.3 });
    expect(result).toMatchObject({ ok: false, reason: "DeadlineExceeded", exitCodes: { main: 137 }, logs: { main: "1\n" } });
    expect(result.durationMs).toBeGreaterThan(500);
  });

  test("the deadline reaches every container as TERM, which one that handles it sees", async () => {
    const trap = "trap 'echo told; exit 143' TERM; echo ready; while :; do sleep 0.05; done";
    const result = await runPod(two(trap, trap), { deadlineSeconds: 0.5 });
    expect(result).toMatchObject({ ok: false, reason: "DeadlineExceeded", exitCodes: { first: 143, second: 143 } });
    expect(result.logs.first).toBe("ready\ntold\n");
  });

  test("the pod's own deadline counts too, and a deleted pod gets TERM", async () => {
    const result = await runPod({ ...pod("sleep 100"), active_deadline_seconds: 1, termination_grace_period_seconds: 0 });
    expect(result).toMatchObject({ reason: "DeadlineExceeded", exitCodes: { main: 137 } });
    const deleted = startPod(pod("trap 'exit 143' TERM; echo ready; while :; do sleep 0.05; done"));
    while (!deleted.log("main").includes("ready")) await new Promise((resolve) => setTimeout(resolve, 5));
    deleted.delete();
    expect(await deleted.done).toMatchObject({ reason: "Deleted", exitCodes: { main: 143 } });
  });

  test("a kill ends a container with everything in it, at the moment asked for, and leaves the others", async () => {
    const result = await runPod(two("sleep 100 & echo ready; wait", "sleep 0.3; exit 5"), {
      kill: { container: "first", when: (running) => running.log("first").includes("ready") },
    });
    expect(result).toMatchObject({ ok: false, killed: 1, exitCodes: { first: 137, second: 5 } });
    expect(result.durationMs).toBeLessThan(5000);
  });

  test("a kill in the very moment of the start is not lost", async () => {
    const started = startPod(pod("sleep 100"));
    expect(started.kill()).toBe(1);
    expect((await started.done).exitCodes).toEqual({ main: 137 });
  });

  test("containers start one after the other", async () => {
    const images = { "docker.io/library/node": { tools: ["date"] } };
    const result = await runPod(two("date +%s%N", "date +%s%N"), { pauseMs: 300, images });
    const [first = 0, second = 0] = [result.logs.first, result.logs.second].map((nanoseconds) => Number(nanoseconds) / 1e6);
    expect(second - first).toBeGreaterThan(250);
  });

  test("a kill of one program leaves the container's process 1 to see its status", async () => {
    const result = await runPod(pod("sleep 100; echo $?"), { kill: { container: "main", process: "sleep", afterMs: 50 } });
    expect(result).toMatchObject({ ok: true, killed: 1 });
    expect(result.logs.main).toMatch(/137\n$/);
  });

  test("fails when a pod does not end in time, with its logs", async () => {
    await expect(runPod(pod("echo stuck; sleep 100"), { timeoutSeconds: 0.5 })).rejects.toThrow(/did not end in time[^]*stuck/);
  });

  test.each<[string, Block, string]>([
    ["a field of the pod", { ...pod(""), host_aliases: [] }, "pod: the pod harness does not know host_aliases"],
    ["a field of a container", pod("", { lifecycle: {} }), "does not know lifecycle"],
    ["a field of a security context", pod("", { security_context: { se_linux_options: {} } }), "does not know se_linux_options"],
    ["a restart policy", { ...pod(""), restart_policy: "OnFailure" }, "restart_policy Never only"],
    ["a container without a command", pod("", { command: undefined }), "has no command"],
  ])("refuses %s that it would not honour", async (_, spec, message) => {
    await expect(runPod(spec)).rejects.toThrow(message);
  });

  test("leaves nothing behind", async () => {
    const before = (await run("find", [process.env.TMPDIR ?? "/tmp", "-maxdepth", "1", "-name", "pod-*"])).stdout;
    await runPod(pod("sleep 100"), { kill: { afterMs: 20 } });
    expect((await run("find", [process.env.TMPDIR ?? "/tmp", "-maxdepth", "1", "-name", "pod-*"])).stdout).toBe(before);
    expect((await run("ps", ["-ef"])).stdout).not.toMatch(/sleep 100/);
  });
});

describe("synthesised Terraform JSON", () => {
  function synth(script: string, name = "code"): string {
    const stack = new TerraformStack(Testing.app(), "stack");
    const code = new ConfigMapV1(stack, "code", { metadata: { name, namespace: "ns" }, data: { "main.sh": literal(script) } });
    new CronJobV1(stack, "job", {
      metadata: { name: "job", namespace: "ns" },
      spec: {
        schedule: "0 0 * * *",
        jobTemplate: {
          metadata: {},
          spec: {
            activeDeadlineSeconds: 60,
            template: {
              metadata: { labels: { app: "x" } },
              spec: {
                restartPolicy: "Never",
                container: [
                  {
                    name: "main",
                    image: IMAGE,
                    command: ["sh", "/etc/code/main.sh"],
                    env: [{ name: "JOB", valueFrom: { fieldRef: { fieldPath: "metadata.labels['batch.kubernetes.io/job-name']" } } }],
                    volumeMount: [{ name: "code", mountPath: "/etc/code" }],
                  },
                ],
                volume: [{ name: "code", configMap: { name: code.metadata.name } }],
              },
            },
          },
        },
      },
    });
    return Testing.synth(stack);
  }

  test("a CronJob runs with escapes undone, references to names resolved, and the name of a scheduled Job", async () => {
    const result = await runCronJob(synth('x=%; echo "${x}{a} ${JOB} $${x} $HOSTNAME"'));
    const minute = Math.floor(Date.now() / 60_000);
    expect(result.logs.main).toMatch(/^%\{a\} job-\d{8} \d*%?/);
    const job = /job-(\d{8})/.exec(result.logs.main ?? "")?.[1];
    expect(Math.abs(Number(job) - minute)).toBeLessThanOrEqual(1);
    expect(result.pod).toMatch(new RegExp(`^job-${job}-[a-z0-9]{5}$`));
    expect(result.logs.main).toContain(result.pod);
  });

  test("refuses an expression it cannot resolve, and text that Terraform would not take literally", async () => {
    const json = synth("true");
    const other = json.replaceAll("kubernetes_config_map_v1.code.metadata", "kubernetes_config_map_v1.code.data");
    await expect(runCronJob(other)).rejects.toThrow(
      "cannot resolve the Terraform expression ${kubernetes_config_map_v1.code.data[0].name}",
    );
    await expect(runCronJob(json.replace('"true"', '"%{ if x }"'))).rejects.toThrow("a Terraform directive");
    await expect(runCronJob(json, { name: "other" })).rejects.toThrow("no CronJob other; there is job");
  });

  test("a ConfigMap of another namespace is not found, as in a cluster", async () => {
    const json = JSON.parse(synth("true")) as { resource: { kubernetes_config_map_v1: { code: { metadata: { namespace: string } } } } };
    json.resource.kubernetes_config_map_v1.code.metadata.namespace = "other";
    await expect(runCronJob(json)).rejects.toThrow("ConfigMap code not found");
  });
});

describe("servers", () => {
  test("a process is awaited, its log kept, and stopped", async () => {
    const server = await startProcess({ command: "sh", args: ["-c", "sleep 0.2; echo up; exec sleep 100"], ready: { log: /^up$/m } });
    expect(server.log()).toBe("up\n");
    await server.stop();
    expect(await server.exited).toBe("SIGTERM");
    const broken = startProcess({ command: "sh", args: ["-c", "echo broken; exit 3"], ready: { port: 1 } });
    await expect(broken).rejects.toThrow(/ended with 3[^]*broken/);
  });

  test("the Pushgateway shows what was pushed", async () => {
    const gateway = await startPushgateway();
    const push = (path: string, body: string): Promise<Response> =>
      fetch(`http://127.0.0.1:${PUSHGATEWAY_PORT}/metrics/job/${path}`, { method: "POST", body });
    expect((await push("backup/namespace/a", "up 1\n")).ok).toBe(true);
    expect((await push("backup/namespace/b", "up 2e3\n")).ok).toBe(true);
    expect(await gateway.value("up", { namespace: "b" })).toBe(2000);
    expect(await gateway.value("up", { namespace: "c" })).toBeUndefined();
    await expect(gateway.value("up")).rejects.toThrow("2 samples match");
    await gateway.wipe();
    expect(await gateway.samples("up")).toEqual([]);
    await gateway.stop();
  });

  test("a refusing Pushgateway refuses", async () => {
    const gateway = await startRefusingPushgateway(400);
    expect((await fetch(`http://127.0.0.1:${PUSHGATEWAY_PORT}/metrics/job/x`, { method: "POST", body: "x" })).status).toBe(400);
    expect(gateway.requests()).toBe(1);
    await gateway.stop();
  });
});

test("a pod starts and ends in little time", async () => {
  const durations: number[] = [];
  const path = temporaryDirectory("volume");
  mkdirSync(join(path, "x"));
  for (let round = 0; round < 9; round++) {
    const result: PodResult = await runPod(pod("exit 0"));
    durations.push(result.durationMs);
  }
  expect(existsSync(path)).toBe(true);
  // Half a second leaves room for a machine with other work; an idle one needs 30 ms.
  expect(durations.sort((a, b) => a - b)[4]).toBeLessThan(500);
});
