import { Fn, TerraformVariable } from "cdktf";
import {
  CHECKSUM_ANNOTATION,
  CommandBackup,
  EtcdSnapshotBackup,
  FileBackup,
  KYVERNO_DNS_CONFIG,
  MySqlDumpBackup,
  PgDumpBackup,
  PrometheusBackup,
  ROOT_REASON_ANNOTATION,
  RUNNER_IMAGE,
  RedisBackup,
  SecretRef,
  SqliteBackup,
  SqliteIntegrityCheck,
  VaultRaftBackup,
} from "../../constructs/backup";
import { NfsBackupVolume, PodVolume } from "../../constructs/storage";
import { Duration } from "../../lib/duration";
import { ImageReference } from "../../lib/image-reference";
import { Quantity } from "../../lib/quantity";
import { Retention } from "../../lib/retention";
import { runnerBundle } from "../../lib/runner-bundle";
import { Schedule } from "../../lib/schedule";
import { ServiceEndpoint } from "../../lib/service-endpoint";
import { expand } from "../helpers/pod/environment";
import { Template, at, testStack, type Attributes, type Json } from "../helpers/template";
import { COLOCATED, ETCD, KINDS, MYSQL, POSTGRES, PROMETHEUS, PUSHGATEWAY, REDIS, VAULT, make, required, type Overrides } from "./fixtures";

const CRON_JOB = "kubernetes_cron_job_v1";
const CONFIG_MAP = "kubernetes_config_map_v1";
const POLICY = "kubernetes_network_policy_v1";
const POD = "spec.job_template.spec.template.spec";

/** One job of a kind in a stack of its own, synthesised. */
function synthesise(kind: string, overrides?: Overrides): Template {
  return Template.of((stack) => make(kind, stack, "app-backup", overrides));
}

function pod(template: Template, path: string, name = "app-backup"): Json | undefined {
  return template.value(CRON_JOB, `${POD}.${path}`, name);
}

function list(json: Json | undefined): readonly Attributes[] {
  return (json ?? []) as readonly Attributes[];
}

function settings(template: Template, name = "app-backup"): Json {
  return JSON.parse(String(template.value(CONFIG_MAP, "data", name)?.["settings.json" as never])) as Json;
}

/** What a job is, without what changes with the runner's and the scripts' code. */
function summary(template: Template): Json {
  const text = JSON.stringify(template.json["resource"], (key, value: unknown) => {
    if (key === CHECKSUM_ANNOTATION) return "<hash>";
    if (key === "settings.json") return JSON.parse(String(value)) as Json;
    return /\.(js|sh)$/.test(key) ? "<code>" : value;
  });
  return JSON.parse(text) as Json;
}

describe("by default", () => {
  test.each(KINDS)("%s", (kind) => {
    const template = synthesise(kind);
    expect(summary(template)).toMatchSnapshot();

    const job = template.resource(CRON_JOB, "app-backup");
    expect(at(job, "spec")).toMatchObject({
      concurrency_policy: "Forbid",
      timezone: "Etc/UTC",
      starting_deadline_seconds: kind === "integrity" ? 900 : 3600,
      suspend: false,
      successful_jobs_history_limit: 3,
      failed_jobs_history_limit: 5,
    });
    expect(at(job, "spec.job_template.spec")).toMatchObject({
      active_deadline_seconds: kind === "integrity" ? 1800 : 3600,
      backoff_limit: 1,
    });
    expect(at(job, "spec.job_template.spec.ttl_seconds_after_finished")).toBeUndefined();
    expect(at(job, `${POD}.restart_policy`)).toBe("Never");
    expect(at(job, "metadata.annotations")).toMatchObject({ "keel.sh/policy": "never" });
    expect(at(job, "metadata.labels")).toMatchObject({
      "app.kubernetes.io/instance": "app-backup",
      "app.kubernetes.io/managed-by": "cdktf-backup",
    });
    expect(at(job, "lifecycle")).toBeUndefined();
    expect(list(at(job, `${POD}.container`)).map(({ image }) => image)).toContain(RUNNER_IMAGE.toString());
    expect(settings(template)).toMatchObject({ formatVersion: 1, backup: "app-backup", cronJob: "app-backup", namespace: "apps" });
  });

  test("resolves to public fields", () => {
    const stack = testStack();
    const backup = make("postgres", stack, "app-backup");
    expect(backup).toMatchObject({
      name: "app-backup",
      namespace: "apps",
      concurrency: "Forbid",
      backoffLimit: 1,
      runAs: { uid: 999, gid: 999 },
      directory: "app-backup",
    });
    expect(backup.deadline.toHuman()).toBe("1h");
    expect(backup.startingDeadline.toHuman()).toBe("1h");
    expect(backup.runnerImage).toBe(RUNNER_IMAGE);
    expect(backup.scratchSize.toString()).toBe("1Gi");
    expect(backup.resource.node.path).toBe("test/app-backup/Resource");
    expect(backup.configMap.node.id).toBe("Config");
    expect(backup.networkPolicy?.node.id).toBe("NetworkPolicy");
    expect(backup.serviceAccount).toBeUndefined();
  });

  test.each([
    ["*/5 * * * *", 150, 200],
    ["0 * * * *", 1800, 900],
    ["0 */6 * * *", 3600, 3600],
    ["0 1 * * 0", 3600, 3600],
  ])("deadlines follow the schedule %s", (expression, deadline, startingDeadline) => {
    const template = synthesise("postgres", { schedule: Schedule.cron(expression) });
    expect(template.value(CRON_JOB, "spec.job_template.spec.active_deadline_seconds")).toBe(deadline);
    expect(template.value(CRON_JOB, "spec.starting_deadline_seconds")).toBe(startingDeadline);
  });
});

describe("every pod", () => {
  const stack = testStack();
  for (const kind of KINDS) make(kind, stack, `${kind}-backup`);
  const template = Template.fromStack(stack);
  const jobs = template.resources(CRON_JOB);
  const containers = jobs.flatMap((job) => list(at(job, `${POD}.container`)));

  test("is there for each class", () => {
    const backups = jobs.filter((job) => !/-(drill|restore)$/.test(String(at(job, "metadata.name"))));
    expect(backups).toHaveLength(KINDS.length);
    expect(backups.flatMap((job) => list(at(job, `${POD}.container`)))).toHaveLength(KINDS.length + 4);
  });

  test.each(KINDS)("meets Pod Security's restricted, or says why not: %s", (kind) => {
    const job = template.resource(CRON_JOB, `${kind}-backup`);
    const root = kind === "etcd";
    expect(at(job, `${POD}.security_context`)).toMatchObject({
      run_as_non_root: !root,
      seccomp_profile: { type: "RuntimeDefault" },
      run_as_user: expect.stringMatching(root ? /^0$/ : /^[1-9]\d*$/) as Json,
      run_as_group: expect.stringMatching(/^\d+$/) as Json,
    });
    for (const container of list(at(job, `${POD}.container`))) {
      expect(container["security_context"]).toEqual({
        allow_privilege_escalation: false,
        capabilities: { drop: ["ALL"] },
        privileged: false,
        read_only_root_filesystem: true,
        run_as_non_root: !root,
      });
    }
    expect(at(job, `${POD}.host_network`)).toBe(root ? true : undefined);
    expect(list(at(job, `${POD}.volume`)).some((volume) => "host_path" in volume)).toBe(root);
    const reason = at(job, "metadata.annotations")?.[ROOT_REASON_ANNOTATION as never];
    expect(reason).toBe(root ? "the PKI on a control plane node can be read by root alone" : undefined);
  });

  test("has requests and limits in every container, and sizes for every emptyDir", () => {
    for (const { resources } of containers) {
      for (const kind of ["requests", "limits"]) {
        expect(Object.keys(at(resources, kind) as object).sort()).toEqual(["cpu", "memory"]);
      }
    }
    for (const job of jobs) {
      for (const volume of list(at(job, `${POD}.volume`))) {
        if ("empty_dir" in volume) expect(at(volume, "empty_dir.size_limit")).toMatch(/^\d+Gi$/);
      }
    }
  });

  test("has no service account token but Vault's own, short-lived one, and no ports", () => {
    for (const job of jobs) {
      expect(at(job, `${POD}.automount_service_account_token`)).toBe(false);
      expect(at(job, `${POD}.enable_service_links`)).toBe(false);
    }
    const withAccount = jobs.filter((job) => at(job, `${POD}.service_account_name`) !== undefined);
    expect(withAccount.map((job) => at(job, "metadata.name"))).toEqual(["vault-backup"]);
    expect(template.value("kubernetes_service_account_v1", "automount_service_account_token")).toBe(false);
    expect(containers.every((container) => !("port" in container))).toBe(true);
  });

  test("is left alone by the kubelet's expansion: no $ in command, arguments and environment", () => {
    const known = { HOSTNAME: "x", JOB_NAME: "x", PATH: "x" };
    for (const { command, args, env } of containers) {
      const values = list(env).flatMap(({ value }) => (value === undefined ? [] : [value]));
      const texts = [...((command ?? []) as string[]), ...((args ?? []) as string[]), ...(values as string[])];
      expect(texts.map((text) => expand(text, known))).toEqual(texts);
      expect(texts.filter((text) => text.includes("$"))).toEqual([]);
    }
  });

  test("mounts the backup volume in the runner alone", () => {
    for (const container of containers) {
      const mounted = list(container["volume_mount"]).some(({ mount_path }) => mount_path === "/backup");
      expect(mounted).toBe(container["name"] === "runner" && !(container["command"] as string[]).includes("check-integrity"));
    }
  });

  test("gets its secrets by reference", () => {
    const references = containers.flatMap(({ env }) => list(env)).flatMap((env) => at(env, "value_from.secret_key_ref") ?? []);
    expect(references).toEqual([
      { name: "pg-backup", key: "password" },
      { name: "mysql-backup", key: "password" },
    ]);
  });

  test("runs exact images", () => {
    for (const { image } of containers) expect(ImageReference.parse(String(image)).tag).toMatch(/\d+\.\d+/);
  });
});

describe("with everything set", () => {
  const everything: Overrides = {
    name: "renamed",
    namespace: "other",
    schedule: Schedule.cron("0 3 * * 0", { timeZone: "Europe/Sofia" }),
    directory: "per-db",
    retention: Retention.keepLast(7),
    compressionLevel: 9,
    runAs: { uid: 70, gid: 71 },
    resources: {
      cpuRequest: Quantity.millicores(10),
      cpuLimit: Quantity.millicores(500),
      memoryRequest: Quantity.mebibytes(64),
      memoryLimit: Quantity.gibibytes(1),
    },
    scratchSize: Quantity.gibibytes(20),
    deadline: Duration.hours(6),
    startingDeadline: Duration.hours(2),
    concurrency: "Replace",
    backoffLimit: 6,
    suspend: true,
    ttlAfterFinished: Duration.days(1),
    colocateWith: { labels: { app: "x", tier: "y" }, namespaces: ["apps", "other"] },
    nodeName: "k8s-node4",
    nodeSelector: { disk: "ssd" },
    tolerations: [{ key: "gpu", value: "yes", effect: "NoSchedule" }, { key: "old" }],
    priorityClassName: "system-cluster-critical",
    imagePullSecrets: ["registry"],
    labels: { team: "infra" },
    annotations: { "keel.sh/policy": "patch", note: "x" },
    ignoreChanges: [KYVERNO_DNS_CONFIG],
    pushgateway: PUSHGATEWAY,
    allowEgressTo: [{ cidr: "0.0.0.0/0", except: ["10.0.0.0/8"], ports: [443] }],
    runnerImage: ImageReference.parse("registry.lan/node:24.21.0"),
  };

  test.each(KINDS)("%s", (kind) => {
    const template = synthesise(kind, everything);
    expect(summary(template)).toMatchSnapshot();

    const job = template.resource(CRON_JOB, "renamed");
    const backup = kind !== "integrity";
    expect(at(job, "metadata")).toMatchObject({
      name: "renamed",
      namespace: "other",
      labels: { team: "infra", "app.kubernetes.io/instance": "renamed" },
      annotations: { "keel.sh/policy": "patch", note: "x" },
    });
    expect(at(job, "lifecycle")).toEqual({ ignore_changes: [KYVERNO_DNS_CONFIG] });
    expect(at(job, "spec")).toMatchObject({
      schedule: "0 3 * * 0",
      timezone: "Europe/Sofia",
      concurrency_policy: "Replace",
      starting_deadline_seconds: 7200,
      suspend: true,
    });
    expect(at(job, "spec.job_template.spec")).toMatchObject({
      active_deadline_seconds: 21600,
      backoff_limit: 6,
      ttl_seconds_after_finished: "86400",
    });
    expect(at(job, POD)).toMatchObject({
      node_name: "k8s-node4",
      node_selector: { disk: "ssd" },
      priority_class_name: "system-cluster-critical",
      image_pull_secrets: [{ name: "registry" }],
      security_context: { run_as_user: "70", run_as_group: "71", run_as_non_root: true },
      toleration: [
        { key: "gpu", value: "yes", effect: "NoSchedule", operator: "Equal" },
        { key: "old", operator: "Exists" },
      ],
      affinity: {
        pod_affinity: {
          required_during_scheduling_ignored_during_execution: [
            {
              topology_key: "kubernetes.io/hostname",
              namespaces: ["apps", "other"],
              label_selector: [{ match_labels: { app: "x", tier: "y" } }],
            },
          ],
        },
      },
    });
    const [runner] = list(at(job, `${POD}.container`));
    expect(runner).toMatchObject({
      image: "registry.lan/node:24.21.0",
      resources: { requests: { cpu: "10m", memory: "64Mi" }, limits: { cpu: "500m", memory: "1Gi" } },
    });
    expect(list(at(job, `${POD}.volume`)).find(({ name }) => name === "scratch")).toEqual({
      name: "scratch",
      empty_dir: { size_limit: "20Gi" },
    });
    expect(settings(template, "renamed")).toMatchObject({
      backup: "renamed",
      namespace: "other",
      timeZone: "Europe/Sofia",
      pushgateway: "http://pushgateway.monitoring:9091",
      deadlineSeconds: 21600,
      ...(backup ? { compressionLevel: 9, retention: { keepLast: 7 }, target: { directory: "per-db" } } : {}),
    });
    for (const type of [CONFIG_MAP, ...(kind === "etcd" ? [] : [POLICY])]) {
      expect(template.value(type, "metadata", "renamed")).toMatchObject({ namespace: "other", labels: { team: "infra" } });
    }
  });
});

describe("the network policy", () => {
  test("lets nothing in, and out only to DNS, the engine and the Pushgateway", () => {
    const template = synthesise("postgres", { pushgateway: PUSHGATEWAY });
    const port = (number: string): Json => [{ port: number, protocol: "TCP" }];
    const namespace = (name: string): Json => [{ namespace_selector: { match_labels: { "kubernetes.io/metadata.name": name } } }];
    expect(template.value(POLICY, "spec.policy_types")).toEqual(["Ingress", "Egress"]);
    expect(template.value(POLICY, "spec.ingress")).toBeUndefined();
    expect(template.value(POLICY, "spec.egress")).toEqual([
      {
        to: [
          {
            namespace_selector: { match_labels: { "kubernetes.io/metadata.name": "kube-system" } },
            pod_selector: { match_labels: { "k8s-app": "kube-dns" } },
          },
        ],
        ports: [
          { port: "53", protocol: "UDP" },
          { port: "53", protocol: "TCP" },
        ],
      },
      { to: namespace("dbaas"), ports: port("5432") },
      { to: namespace("monitoring"), ports: port("9091") },
    ]);
  });

  test("selects the job's own pods", () => {
    const template = synthesise("postgres", { labels: { team: "infra" } });
    const labels = template.value(CRON_JOB, "spec.job_template.spec.template.metadata.labels");
    expect(labels).toMatchObject(template.value(POLICY, "spec.pod_selector.match_labels") as object);
    expect(template.value(POLICY, "spec.pod_selector.match_labels.team")).toBeUndefined();
  });

  test("names the pods' port where it is not the Service's", () => {
    const ports = list(synthesise("prometheus").value(POLICY, "spec.egress")).map(({ ports }) => at(ports, "0.port"));
    expect(ports).toEqual(["53", "9090"]);
  });

  test("opens the blocks that are asked for", () => {
    const template = synthesise("command", { allowEgressTo: [{ cidr: "0.0.0.0/0", except: ["10.0.0.0/8"], ports: [443, 8443] }] });
    expect(list(template.value(POLICY, "spec.egress")).at(-1)).toEqual({
      to: [{ ip_block: { cidr: "0.0.0.0/0", except: ["10.0.0.0/8"] } }],
      ports: [
        { port: "443", protocol: "TCP" },
        { port: "8443", protocol: "TCP" },
      ],
    });
  });

  test("is not made for a pod on the node's network, which still finds Services", () => {
    const template = synthesise("postgres", { hostNetwork: true });
    expect(template.resources(POLICY).map((policy) => at(policy, "metadata.name"))).not.toContain("app-backup");
    expect(pod(template, "host_network")).toBe(true);
    expect(pod(template, "dns_policy")).toBe("ClusterFirstWithHostNet");
  });
});

describe("the ConfigMap", () => {
  test("holds the runner as it was built, escaped for Terraform", () => {
    const data = synthesise("sqlite").value(CONFIG_MAP, "data") as { [file: string]: string };
    expect(Object.keys(data).sort()).toEqual(["runner.js", "settings.json"]);
    const arrives = data["runner.js"]?.replace(/\$\$\{/g, () => "${").replace(/%%\{/g, () => "%{");
    expect(arrives).toBe(runnerBundle("sqlite", "backup"));
    expect(data["runner.js"]).not.toMatch(/(?<!\$)\$\{/);
  });

  test("holds the agent and the engine's script where there is an engine's container", () => {
    const data = synthesise("postgres").value(CONFIG_MAP, "data") as { [file: string]: string };
    expect(Object.keys(data).sort()).toEqual(["agent.sh", "postgres.sh", "runner.js", "settings.json"]);
    expect(data["agent.sh"]).toContain("#!/bin/sh");
  });

  test("changes the pods' annotation when its content changes, and only then", () => {
    const checksum = (overrides?: Overrides): Json | undefined =>
      synthesise("postgres", overrides).value(CRON_JOB, "spec.job_template.spec.template.metadata.annotations")?.[
        CHECKSUM_ANNOTATION as never
      ];
    const usual = checksum();
    expect(usual).toMatch(/^[0-9a-f]{64}$/);
    expect(checksum()).toBe(usual);
    expect(checksum({ suspend: true })).toBe(usual);
    expect(checksum({ retention: Retention.keepDays(15) })).not.toBe(usual);
    expect(checksum({ directory: "elsewhere" })).not.toBe(usual);
  });
});

describe("engines", () => {
  test("PostgreSQL: the client's variables and the databases", () => {
    const template = Template.of((stack) => {
      const backup = new PgDumpBackup(stack, "app-backup", {
        ...required("app-backup"),
        image: POSTGRES,
        endpoint: ServiceEndpoint.of("pg-cluster-rw.dbaas:5432"),
        user: "backup",
        password: SecretRef.of("pg-backup", "password"),
        expectDatabases: ["immich"],
        excludeDatabases: ["scratch"],
        exactCountMaxBytes: 1e9,
        engineResources: { memoryLimit: Quantity.gibibytes(2) },
        exchangeSize: Quantity.gibibytes(50),
      });
      expect(backup).toMatchObject({ expectDatabases: ["immich"], excludeDatabases: ["scratch"] });
    });
    const engine = list(pod(template, "container"))[1];
    expect(engine).toMatchObject({
      name: "engine",
      image: "docker.io/library/postgres:16.4-bullseye",
      command: ["/bin/sh", "/etc/cdktf-backup/agent.sh"],
      resources: { limits: { memory: "2Gi" } },
    });
    expect(engine?.["env"]).toEqual([
      { name: "ENGINE_SCRIPT", value: "/etc/cdktf-backup/postgres.sh" },
      { name: "EXCHANGE", value: "/exchange" },
      { name: "TMPDIR", value: "/exchange" },
      { name: "PGHOST", value: "pg-cluster-rw.dbaas" },
      { name: "PGPORT", value: "5432" },
      { name: "PGUSER", value: "backup" },
      { name: "PGPASSWORD", value_from: { secret_key_ref: { name: "pg-backup", key: "password" } } },
    ]);
    expect(list(pod(template, "volume")).find(({ name }) => name === "exchange")).toMatchObject({ empty_dir: { size_limit: "50Gi" } });
    expect(at(settings(template), "engine")).toEqual({
      kind: "postgres",
      expectDatabases: ["immich"],
      excludeDatabases: ["scratch"],
      exactCountMaxBytes: 1e9,
    });
  });

  test("MySQL: the client's variables and the databases", () => {
    const template = Template.of((stack) => {
      new MySqlDumpBackup(stack, "app-backup", {
        ...required("app-backup"),
        image: MYSQL,
        endpoint: ServiceEndpoint.of("mysql.dbaas:3306"),
        user: "backup",
        password: SecretRef.of("mysql", "password"),
        expectDatabases: ["nextcloud"],
        excludeDatabases: ["test"],
      });
    });
    expect(list(list(pod(template, "container"))[1]?.["env"]).slice(3)).toEqual([
      { name: "MYSQL_HOST", value: "mysql.dbaas" },
      { name: "MYSQL_TCP_PORT", value: "3306" },
      { name: "MYSQL_USER", value: "backup" },
      { name: "MYSQL_PWD", value_from: { secret_key_ref: { name: "mysql", key: "password" } } },
    ]);
    expect(at(settings(template), "engine")).toEqual({ kind: "mysql", expectDatabases: ["nextcloud"], excludeDatabases: ["test"] });
  });

  test("Redis: with and without a password", () => {
    const env = (template: Template): readonly Attributes[] => list(list(pod(template, "container"))[1]?.["env"]).slice(3);
    expect(env(synthesise("redis"))).toEqual([
      { name: "REDIS_HOST", value: "redis.redis" },
      { name: "REDIS_PORT", value: "6379" },
    ]);
    const template = Template.of((stack) => {
      const endpoint = ServiceEndpoint.of("redis.redis:6379");
      const password = SecretRef.of("redis", "password");
      new RedisBackup(stack, "app-backup", { ...required("app-backup"), image: REDIS, endpoint, user: "backup", password });
    });
    expect(env(template).slice(2)).toEqual([
      { name: "REDIS_USER", value: "backup" },
      { name: "REDISCLI_AUTH", value_from: { secret_key_ref: { name: "redis", key: "password" } } },
    ]);
  });

  test("SQLite: the database and the files beside it, read-only", () => {
    const template = Template.of((stack) => {
      new SqliteBackup(stack, "app-backup", {
        ...required("app-backup"),
        data: PodVolume.fromClaim("vaultwarden-data", { subPath: "data" }),
        database: "db.sqlite3",
        minTables: 20,
        files: [{ path: "rsa_key.pem" }, { path: "attachments", required: false }],
        colocateWith: COLOCATED,
      });
    });
    expect(at(settings(template), "engine")).toEqual({
      kind: "sqlite",
      database: "/source/data/db.sqlite3",
      minTables: 20,
      files: [
        { path: "/source/data/rsa_key.pem", required: true },
        { path: "/source/data/attachments", required: false },
      ],
    });
    expect(list(at(list(pod(template, "container"))[0], "volume_mount"))).toContainEqual({
      name: "source-1",
      mount_path: "/source/data",
      read_only: true,
      sub_path: "data",
    });
  });

  test("integrity check: no target and no retention", () => {
    const template = Template.of((stack) => {
      new SqliteIntegrityCheck(stack, "app-backup", {
        namespace: "apps",
        schedule: Schedule.cron("30 * * * *"),
        data: PodVolume.fromClaim("vaultwarden-data"),
        database: "db.sqlite3",
        metric: "vaultwarden_sqlite_integrity_ok",
        pushgateway: PUSHGATEWAY,
        colocateWith: COLOCATED,
      });
    });
    expect(list(pod(template, "container"))[0]?.["command"]).toEqual(["node", "/etc/cdktf-backup/runner.js", "check-integrity"]);
    expect(settings(template)).toMatchObject({ engine: { integrityMetric: "vaultwarden_sqlite_integrity_ok" } });
    expect(Object.keys(settings(template) as object)).not.toEqual(expect.arrayContaining(["target", "retention"]));
  });

  test("etcd: the node's network, PKI directory and root, on the control plane", () => {
    const template = synthesise("etcd");
    expect(at(settings(template), "engine")).toEqual({
      kind: "etcd",
      endpoint: "https://127.0.0.1:2379",
      pki: "/source/pki",
      tls: {
        ca: "/source/pki/etcd/ca.crt",
        cert: "/source/pki/etcd/healthcheck-client.crt",
        key: "/source/pki/etcd/healthcheck-client.key",
      },
    });
    expect(list(pod(template, "volume"))).toContainEqual({
      name: "source-1",
      host_path: { path: "/etc/kubernetes/pki", type: "Directory" },
    });
    expect(pod(template, "node_selector")).toEqual({ "node-role.kubernetes.io/control-plane": "" });
    expect(list(pod(template, "toleration"))).toEqual([
      { key: "node-role.kubernetes.io/control-plane", effect: "NoSchedule", operator: "Exists" },
    ]);
  });

  test("etcd: on a node by name, with other certificates, without TLS", () => {
    const template = Template.of((stack) => {
      new EtcdSnapshotBackup(stack, "named", {
        ...required("named"),
        image: ETCD,
        nodeName: "k8s-master",
        pki: "/srv/pki",
        certificates: { ca: "ca.pem", cert: "c.pem", key: "k.pem" },
        runAs: { uid: 0, reason: "the keys are root's" },
      });
      new EtcdSnapshotBackup(stack, "plain", { ...required("plain"), image: ETCD, endpoint: "http://[::1]:2379", runAs: { uid: 1000 } });
    });
    expect(pod(template, "node_selector", "named")).toBeUndefined();
    expect(at(settings(template, "named"), "engine.tls.key")).toBe("/source/pki/k.pem");
    expect(template.value(CRON_JOB, "metadata.annotations", "named")).toMatchObject({ [ROOT_REASON_ANNOTATION]: "the keys are root's" });
    expect(at(settings(template, "plain"), "engine.tls")).toBeUndefined();
    expect(pod(template, "security_context.run_as_non_root", "plain")).toBe(true);
  });

  test("Vault: a ServiceAccount with a token for Vault alone", () => {
    const template = Template.of((stack) => {
      const backup = new VaultRaftBackup(stack, "app-backup", {
        ...required("app-backup"),
        image: VAULT,
        endpoint: ServiceEndpoint.of("vault-active.vault:8200"),
        role: "raft-backup",
        authMount: "kubernetes/homelab",
        audience: "vault.lan",
        tokenLifetime: Duration.minutes(20),
        ca: { volume: PodVolume.fromConfigMap("vault-ca"), file: "ca.pem" },
      });
      expect(backup.serviceAccount).toBeDefined();
    });
    expect(at(settings(template), "engine")).toEqual({
      kind: "vault",
      address: "https://vault-active.vault:8200",
      ca: "/source/ca/ca.pem",
      auth: { mount: "kubernetes/homelab", role: "raft-backup", tokenPath: "/var/run/secrets/vault/token" },
    });
    expect(list(pod(template, "volume"))).toContainEqual({
      name: "token",
      projected: [
        {
          default_mode: "0400",
          sources: [{ service_account_token: { audience: "vault.lan", expiration_seconds: 1200, path: "token" } }],
        },
      ],
    });
    expect(pod(template, "service_account_name")).toBe("app-backup");
    expect(template.value("kubernetes_service_account_v1", "metadata.name")).toBe("app-backup");
  });

  test("Vault: plain HTTP and a ten-minute token unless told otherwise", () => {
    const template = synthesise("vault");
    expect(at(settings(template), "engine.address")).toBe("http://vault-active.vault:8200");
    expect(at(list(pod(template, "volume")).find(({ name }) => name === "token"), "projected.0.sources.0.service_account_token")).toEqual({
      audience: "vault",
      expiration_seconds: 600,
      path: "token",
    });
  });

  test("Prometheus: next to the server, its data writable", () => {
    const template = Template.of((stack) => {
      new PrometheusBackup(stack, "app-backup", {
        ...required("app-backup"),
        image: PROMETHEUS,
        schedule: Schedule.firstSunday({ hour: 4, minute: 0 }),
        retention: Retention.keepLast(2),
        endpoint: ServiceEndpoint.of("prometheus-server.monitoring:9090"),
        data: PodVolume.fromClaim("prometheus-data", { readOnly: false }),
        colocateWith: COLOCATED,
      });
    });
    expect(settings(template)).toMatchObject({
      engine: { kind: "prometheus", address: "http://prometheus-server.monitoring:9090", data: "/source/data" },
      lastDayOfMonth: 7,
      retention: { keepLast: 2 },
    });
    expect(list(at(list(pod(template, "container"))[0], "volume_mount"))).toContainEqual({ name: "source-1", mount_path: "/source/data" });
    expect(pod(template, "security_context.run_as_user")).toBe("65534");
  });

  test("files: several trees of one claim share a volume", () => {
    const template = Template.of((stack) => {
      new FileBackup(stack, "app-backup", {
        ...required("app-backup"),
        sources: [
          { name: "mail", volume: PodVolume.fromClaim("mailserver", { subPath: "data" }) },
          { name: "state", volume: PodVolume.fromClaim("mailserver", { subPath: "state" }) },
          { name: "shared", volume: PodVolume.fromNfs("10.0.10.15", "/mnt/main/shared") },
        ],
        consistency: "quiesced",
        exclude: ["*.log", "cache/"],
        layout: "hard-linked",
        colocateWith: COLOCATED,
      });
    });
    expect(at(settings(template), "engine")).toEqual({
      kind: "files",
      sources: [
        { name: "mail", path: "/source/mail" },
        { name: "state", path: "/source/state" },
        { name: "shared", path: "/source/shared" },
      ],
      exclude: ["*.log", "cache/"],
      consistency: "quiesced",
      layout: "hard-linked",
    });
    expect(list(pod(template, "volume")).filter(({ name }) => String(name).startsWith("source-"))).toEqual([
      { name: "source-1", persistent_volume_claim: { claim_name: "mailserver" } },
      { name: "source-2", nfs: { server: "10.0.10.15", path: "/mnt/main/shared" } },
    ]);
  });

  test("command: script, environment and mounts of the owner", () => {
    const script = 'case $1 in a) echo "${A:-%{x}}" ;; esac\n';
    const template = Template.of((stack) => {
      const backup = new CommandBackup(stack, "app-backup", {
        ...required("app-backup"),
        image: ImageReference.parse("registry.lan/tool:1.2.3"),
        script,
        artefacts: [
          { name: "a", from: "file", compress: false, minBytes: 100, trailer: "end" },
          { name: "b", from: "directory" },
        ],
        env: { A: "1", TOKEN: SecretRef.of("app", "token") },
        mounts: [{ volume: PodVolume.fromConfigMap("more-scripts"), path: "/scripts" }],
        endpoints: [ServiceEndpoint.of("app.apps:80")],
        runAs: { uid: 100 },
      });
      expect(backup.runAs).toMatchObject({ uid: 100, gid: 100 });
    });
    const data = template.value(CONFIG_MAP, "data") as { [file: string]: string };
    expect(Object.keys(data).sort()).toEqual(["agent.sh", "command.sh", "program.sh", "runner.js", "script.sh", "settings.json"]);
    expect(data["script.sh"]).toBe('case $1 in a) echo "$${A:-%%{x}}" ;; esac\n');
    expect(at(settings(template), "engine.artefacts")).toEqual([
      { name: "a", from: "file", compress: false, minBytes: 100, trailer: "end" },
      { name: "b", from: "directory", compress: true, minBytes: 1 },
    ]);
    const engine = list(pod(template, "container"))[1];
    expect(list(engine?.["env"]).slice(3)).toEqual([
      { name: "A", value: "1" },
      { name: "TOKEN", value_from: { secret_key_ref: { name: "app", key: "token" } } },
    ]);
    expect(list(engine?.["volume_mount"])).toContainEqual({ name: "source-1", mount_path: "/scripts", read_only: true });
  });
});

describe("references to other resources", () => {
  // cdktf only warns about text that it will not render faithfully.
  const warn = jest.spyOn(console, "warn");
  afterEach(() => expect(warn).not.toHaveBeenCalled());
  afterAll(() => warn.mockRestore());

  test.each(KINDS)("pass every check and reach the settings through Terraform: %s", (kind) => {
    const template = Template.of((stack) => {
      const reference = (id: string): string => new TerraformVariable(stack, id, { type: "string" }).stringValue;
      make(kind, stack, "app-backup", {
        namespace: reference("namespace"),
        nodeName: reference("node"),
        priorityClassName: reference("priority"),
        imagePullSecrets: [reference("pull")],
        labels: { team: reference("team") },
        runnerImage: ImageReference.parse(reference("image")),
        allowEgressTo: [{ cidr: reference("cidr"), ports: [443] }],
        pushgateway: ServiceEndpoint.of({ service: reference("service"), namespace: "monitoring", port: 9091 }),
      });
    });
    expect(JSON.stringify(template.json)).not.toContain("TfToken");
    expect(template.value(CRON_JOB, "metadata.namespace")).toBe("${var.namespace}");
    const text = String(template.value(CONFIG_MAP, "data")?.["settings.json" as never]);
    expect(text).toContain('"namespace": "${trimsuffix(trimprefix(jsonencode(var.namespace), "\\""), "\\"")}"');
    expect(template.value(CRON_JOB, "spec.job_template.spec.template.metadata.annotations")?.[CHECKSUM_ANNOTATION as never]).toMatch(
      /^\$\{sha256\(/,
    );
  });

  test("of a volume's server and path reach the preparation", () => {
    const template = Template.of((stack) => {
      const pool = new TerraformVariable(stack, "pool", { type: "string" }).stringValue;
      const path = Fn.join("/", ["/mnt", pool]);
      const volume = new NfsBackupVolume(stack, "volume", { name: "v", namespace: "apps", server: "nas", path });
      make("postgres", stack, "app-backup", { volume });
    });
    expect(String(template.value(CONFIG_MAP, "data")?.["settings.json" as never])).toContain(
      "mkdir -p '${trimsuffix(trimprefix(jsonencode(join(\"/\", [\"/mnt\", var.pool])), \"\\\"\"), \"\\\"\")}/app-backup' && ",
    );
  });
});

describe("several jobs in one stack", () => {
  test("have addresses, ConfigMaps and directories of their own on a shared volume", () => {
    const stack = testStack();
    const volume = new NfsBackupVolume(stack, "volume", { name: "shared", namespace: "apps", server: "nas", path: "/mnt/shared" });
    make("postgres", stack, "one", { volume });
    make("mysql", stack, "two", { volume });
    const template = Template.fromStack(stack);
    expect(template.addresses.filter((address) => address.startsWith(CRON_JOB) && !/_(Drill|Restore)_/.test(address))).toEqual([
      `${CRON_JOB}.one_0A8EDDC8`,
      `${CRON_JOB}.two_9720DAB2`,
    ]);
    expect(at(settings(template, "one"), "target.directory")).toBe("one");
    expect(at(settings(template, "two"), "target.directory")).toBe("two");
  });

  test("may have the same name in different namespaces", () => {
    const stack = testStack();
    make("etcd", stack, "one", { name: "backup", namespace: "a" });
    make("etcd", stack, "two", { name: "backup", namespace: "b" });
    const jobs = Template.fromStack(stack).resources(CRON_JOB).map((job) => `${at(job, "metadata.namespace")}/${at(job, "metadata.name")}`);
    expect(jobs.sort()).toEqual(["a/backup", "a/backup-drill", "b/backup", "b/backup-drill"]);
  });

  test("may have the same names and volumes as those of another stack, which is another cluster's", () => {
    for (const stack of [testStack("a"), testStack("b")]) {
      make("postgres", stack, "backup");
      expect(at(Template.fromStack(stack).resource(CRON_JOB), "metadata.name")).toBe("backup");
    }
  });
});
