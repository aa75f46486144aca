import type { TerraformStack } from "cdktf";
import {
  CommandBackup,
  EtcdSnapshotBackup,
  FileBackup,
  KYVERNO_DNS_CONFIG,
  MySqlDumpBackup,
  PrometheusBackup,
  SecretRef,
  SqliteBackup,
  SqliteIntegrityCheck,
} from "../../constructs/backup";
import type { Artefact, Colocation, CommandBackupProps } from "../../constructs/backup";
import { InlineNfsVolume, NfsBackupVolume, PodVolume } from "../../constructs/storage";
import { Duration } from "../../lib/duration";
import { ImageReference } from "../../lib/image-reference";
import { Quantity } from "../../lib/quantity";
import { Retention } from "../../lib/retention";
import { Schedule } from "../../lib/schedule";
import { ServiceEndpoint } from "../../lib/service-endpoint";
import { Template, at, type Attributes, type Json } from "../helpers/template";
import { ETCD, MYSQL, PROMETHEUS, PUSHGATEWAY, make, required, type Overrides } from "./fixtures";

// What hand-written backup jobs of a real homelab use, line by line: each must have its form here.

const CRON_JOB = "kubernetes_cron_job_v1";
const POD = "spec.job_template.spec.template.spec";

function pod(template: Template, path: string, name?: string): Json | undefined {
  return template.value(CRON_JOB, `${POD}.${path}`, name);
}

function list(json: Json | undefined): readonly Attributes[] {
  return (json ?? []) as readonly Attributes[];
}

function settings(template: Template, path: string): Json | undefined {
  const data = template.value("kubernetes_config_map_v1", "data") as { [file: string]: string };
  return at(JSON.parse(data["settings.json"] ?? "null") as Json, path);
}

function postgres(overrides: Overrides): Template {
  return Template.of((stack) => make("postgres", stack, "backup", overrides));
}

function command(props: Partial<CommandBackupProps>): Template {
  return Template.of((stack) => {
    new CommandBackup(stack, "backup", {
      ...required("backup"),
      image: ImageReference.parse("docker.io/library/python:3.12.7-alpine"),
      script: "exec python /scripts/export.py\n",
      artefacts: [{ name: "export.json" }],
      runAs: { uid: 1000 },
      ...props,
    });
  });
}

/** Volumes of a container by path: name, and whether it is read-only. */
function mounts(template: Template, container = 0): { [path: string]: Attributes } {
  const rendered = list(at(list(pod(template, "container"))[container], "volume_mount"));
  return Object.fromEntries(rendered.map((mount) => [String(mount["mount_path"]), mount]));
}

test("Forbid and Replace", () => {
  expect(postgres({}).value(CRON_JOB, "spec.concurrency_policy")).toBe("Forbid");
  const replace = postgres({ concurrency: "Replace", deadline: Duration.days(2) });
  expect(replace.value(CRON_JOB, "spec.concurrency_policy")).toBe("Replace");
  expect(replace.value(CRON_JOB, "spec.job_template.spec.active_deadline_seconds")).toBe(172_800);
});

test("a container with the tool beside one that publishes", () => {
  const template = Template.of((stack) => {
    new MySqlDumpBackup(stack, "mysql-backup", {
      ...required("mysql-backup"),
      image: MYSQL,
      endpoint: ServiceEndpoint.of("mysql.dbaas:3306"),
      user: "backup",
      password: SecretRef.of("mysql", "password"),
    });
  });
  expect(list(pod(template, "container")).map(({ name, image }) => [name, String(image).replace(/:.*/, "")])).toEqual([
    ["runner", "docker.io/library/node"],
    ["engine", "docker.io/library/mysql"],
  ]);
  expect(mounts(template, 0)).toHaveProperty(["/exchange"]);
  expect(mounts(template, 1)).toHaveProperty(["/exchange"]);
  expect(mounts(template, 1)).not.toHaveProperty(["/backup"]);
});

test("node name, the node's network and DNS, a priority class and a host path", () => {
  const template = Template.of((stack) => {
    new EtcdSnapshotBackup(stack, "backup-etcd", {
      ...required("backup-etcd"),
      image: ETCD,
      nodeName: "k8s-master",
      priorityClassName: "system-cluster-critical",
    });
  });
  expect(template.value(CRON_JOB, POD)).toMatchObject({
    node_name: "k8s-master",
    host_network: true,
    dns_policy: "ClusterFirstWithHostNet",
    priority_class_name: "system-cluster-critical",
  });
  expect(list(pod(template, "volume"))).toContainEqual({
    name: "source-1",
    host_path: { path: "/etc/kubernetes/pki", type: "Directory" },
  });
});

describe("co-location", () => {
  const rendered = (overrides: Overrides): Template => Template.of((stack) => make("sqlite", stack, "backup", overrides));
  const term = (colocation: Colocation): Json | undefined => pod(rendered({ colocateWith: colocation }), "affinity.pod_affinity");

  test("required, by several labels in several namespaces", () => {
    const labels = { app: "nextcloud", component: "app" };
    expect(term({ labels, namespaces: ["nextcloud"] })).toEqual({
      required_during_scheduling_ignored_during_execution: [
        { topology_key: "kubernetes.io/hostname", namespaces: ["nextcloud"], label_selector: [{ match_labels: labels }] },
      ],
    });
  });

  test("preferred, for an application that may be parked", () => {
    expect(term({ labels: { app: "drone-logbook" }, mode: "preferred" })).toEqual({
      preferred_during_scheduling_ignored_during_execution: [
        {
          weight: 100,
          pod_affinity_term: {
            topology_key: "kubernetes.io/hostname",
            label_selector: [{ match_labels: { app: "drone-logbook" } }],
          },
        },
      ],
    });
  });

  test("by a node selector", () => {
    const template = rendered({ colocateWith: undefined, nodeSelector: { "kubernetes.io/hostname": "k8s-node4" } });
    expect(pod(template, "node_selector")).toEqual({ "kubernetes.io/hostname": "k8s-node4" });
    expect(pod(template, "affinity")).toBeUndefined();
  });
});

test("several source volumes, parts of volumes, read-only and writable", () => {
  const template = Template.of((stack) => {
    new FileBackup(stack, "mailserver-backup", {
      ...required("mailserver-backup"),
      sources: [
        { name: "mail", volume: PodVolume.fromClaim("mailserver", { subPath: "mail" }) },
        { name: "state", volume: PodVolume.fromClaim("mailserver", { subPath: "mail-state" }) },
        { name: "webmail", volume: PodVolume.fromClaim("roundcube", { readOnly: false }) },
      ],
      consistency: "crash-consistent",
      colocateWith: { labels: { app: "mailserver" } },
    });
  });
  expect(mounts(template)).toMatchObject({
    "/source/mail": { name: "source-1", sub_path: "mail", read_only: true },
    "/source/state": { name: "source-1", sub_path: "mail-state", read_only: true },
    "/source/webmail": { name: "source-2" },
  });
  expect(mounts(template)["/source/webmail"]).not.toHaveProperty("read_only");
});

test("several artefacts in a run, each with its own result", () => {
  const artefacts: Artefact[] = [{ name: "sync.db", minBytes: 4096 }, { name: "fx.db" }, { name: "csv", from: "directory" }];
  const template = command({ artefacts, script: "case $1 in csv) cp -R /data/csv/. \"$OUT\" ;; *) cat \"/data/$1\" ;; esac\n" });
  expect(list(settings(template, "engine.artefacts")).map(({ name }) => name)).toEqual(["sync.db", "fx.db", "csv"]);
});

test("artefacts that are files and artefacts that are directories", () => {
  const template = command({ artefacts: [{ name: "db", from: "file" }, { name: "tree", from: "directory" }, { name: "dump" }] });
  expect(list(settings(template, "engine.artefacts")).map(({ from }) => from)).toEqual(["file", "directory", "stream"]);
});

test("retention by age and retention by count", () => {
  expect(settings(postgres({ retention: Retention.keepDays(90) }), "retention")).toMatchObject({ keepDays: 90, keepLast: 3 });
  expect(settings(postgres({ retention: Retention.keepLast(14, { removeAtMost: 1, freezeBelow: 0 }) }), "retention")).toEqual({
    keepLast: 14,
    proof: "drill",
    removeAtMost: 1,
    freezeBelow: 0,
  });
});

test("a backup without a drill, whose generations its own verification proves", () => {
  const template = postgres({ drill: { none: "the data are public" }, retention: Retention.keepDays(9) });
  expect(settings(template, "retention")).toEqual({ keepDays: 9, keepLast: 3, proof: "verification", removeAtMost: 0.25, freezeBelow: 0.5 });
});

describe("forms of artefacts", () => {
  test("JSON, compressed", () => {
    const template = command({ artefacts: [{ name: "config.json", minBytes: 2, trailer: "}" }] });
    expect(settings(template, "engine.artefacts")).toEqual([
      { name: "config.json", from: "stream", compress: true, minBytes: 2, trailer: "}" },
    ]);
  });

  test("binary, as it is", () => {
    expect(settings(command({ artefacts: [{ name: "a.bin", compress: false }] }), "engine.artefacts")).toMatchObject([{ compress: false }]);
  });

  test.each(["hard-linked", "archive"] as const)("a tree of files, %s", (layout) => {
    const template = Template.of((stack) => {
      new FileBackup(stack, "backup", {
        ...required("backup"),
        sources: [{ name: "profile", volume: PodVolume.fromNfs("10.0.10.15", "/mnt/main/profile") }],
        consistency: "quiesced",
        layout,
      });
    });
    expect(settings(template, "engine.layout")).toBe(layout);
  });
});

test("an export over HTTP, from the cluster or from the internet, with a login", () => {
  const template = command({
    script: 'curl -fsS -u "$USER_NAME:$PASSWORD" "$URL"\n',
    env: { URL: "http://aiostreams.aiostreams:3000/export", USER_NAME: "backup", PASSWORD: SecretRef.of("aiostreams", "password") },
    endpoints: [ServiceEndpoint.of("aiostreams.aiostreams:3000")],
    allowEgressTo: [{ cidr: "0.0.0.0/0", except: ["10.0.0.0/8", "192.168.0.0/16"], ports: [443] }],
  });
  const egress = list(template.value("kubernetes_network_policy_v1", "spec.egress"));
  expect(egress.map(({ ports }) => at(ports, "0.port"))).toEqual(["53", "3000", "443"]);
  expect(at(egress[2], "to.0.ip_block.except")).toEqual(["10.0.0.0/8", "192.168.0.0/16"]);
});

describe("volumes that exist", () => {
  const target = (template: Template): Attributes | undefined => list(pod(template, "volume")).find(({ name }) => name === "target");
  const volumeOf = (make: (stack: TerraformStack) => Overrides): Template =>
    Template.of((stack) => {
      new SqliteBackup(stack, "backup", {
        namespace: "apps",
        schedule: Schedule.cron("30 4 * * *"),
        retention: Retention.keepDays(30),
        data: PodVolume.fromClaim("data"),
        database: "app.db",
        nodeName: "k8s-node4",
        volume: InlineNfsVolume.of("10.0.10.15", "/mnt/main/app-backup"),
        ...make(stack),
      });
    });

  test("a claim that is managed elsewhere", () => {
    const template = volumeOf((stack) => ({ volume: NfsBackupVolume.fromClaimName(stack, "volume", "nextcloud-backup") }));
    expect(target(template)).toEqual({ name: "target", persistent_volume_claim: { claim_name: "nextcloud-backup" } });
    expect(template.addresses.filter((address) => address.includes("persistent_volume"))).toEqual([]);
  });

  test("a volume and a claim that are taken over as they are", () => {
    const template = volumeOf((stack) => ({
      volume: new NfsBackupVolume(stack, "volume", {
        name: "vault-backup",
        namespace: "apps",
        server: "10.0.10.15",
        path: "/mnt/main/vault-backup",
        capacity: Quantity.gibibytes(5),
        storageClassName: "nfs-truenas",
        mountOptions: ["nfsvers=4", "soft", "timeo=30", "retrans=3", "actimeo=5"],
        claimRef: false,
      }),
    }));
    expect(target(template)).toEqual({ name: "target", persistent_volume_claim: { claim_name: "vault-backup" } });
    expect(at(template.resource("kubernetes_persistent_volume_v1"), "spec.0")).not.toHaveProperty("claim_ref");
  });

  test("an export without a claim", () => {
    expect(target(volumeOf(() => ({})))).toEqual({ name: "target", nfs: { server: "10.0.10.15", path: "/mnt/main/app-backup" } });
  });
});

test("a script from a ConfigMap: the backup's own, and one that exists", () => {
  const template = command({
    script: "exec python /scripts/export.py\n",
    mounts: [{ volume: PodVolume.fromConfigMap("export-script", { mode: "0555" }), path: "/scripts" }],
  });
  expect(at(template.resource("kubernetes_config_map_v1"), "data")).toMatchObject({ "script.sh": "exec python /scripts/export.py\n" });
  expect(list(pod(template, "volume"))).toContainEqual({
    name: "source-1",
    config_map: { name: "export-script", default_mode: "0555" },
  });
  expect(mounts(template, 1)["/scripts"]).toMatchObject({ name: "source-1", read_only: true });
});

test("pull secrets", () => {
  expect(pod(postgres({ imagePullSecrets: ["registry"] }), "image_pull_secrets")).toEqual([{ name: "registry" }]);
});

test("another user, and root with its reason", () => {
  expect(pod(postgres({ runAs: { uid: 70 } }), "security_context")).toMatchObject({ run_as_user: "70", run_as_group: "70" });
  const root = postgres({ runAs: { uid: 0, reason: "the export squashes nobody else" } });
  expect(pod(root, "security_context")).toMatchObject({ run_as_user: "0", run_as_non_root: false });
  expect(root.value(CRON_JOB, "metadata.annotations")).toMatchObject({
    "cdktf-backup/runs-as-root-because": "the export squashes nobody else",
  });
});

test("a CronJob in place of a sidecar that shares the application's volume", () => {
  const template = Template.of((stack) => {
    new PrometheusBackup(stack, "prometheus-backup", {
      ...required("prometheus-backup"),
      image: PROMETHEUS,
      endpoint: ServiceEndpoint.of({ service: "prometheus-server", namespace: "monitoring", port: 80, podPort: 9090 }),
      data: PodVolume.fromClaim("prometheus-data", { readOnly: false }),
      colocateWith: { labels: { "app.kubernetes.io/name": "prometheus" } },
    });
  });
  expect(mounts(template)["/source/data"]).toEqual({ name: "source-1", mount_path: "/source/data" });
  expect(pod(template, "affinity.pod_affinity.required_during_scheduling_ignored_during_execution.0.label_selector")).toEqual([
    { match_labels: { "app.kubernetes.io/name": "prometheus" } },
  ]);
});

test("a probe that runs more often than hourly", () => {
  const template = Template.of((stack) => {
    new SqliteIntegrityCheck(stack, "integrity-check", {
      namespace: "vaultwarden",
      schedule: Schedule.cron("*/10 * * * *"),
      data: PodVolume.fromClaim("vaultwarden-data"),
      database: "db.sqlite3",
      metric: "vaultwarden_sqlite_integrity_ok",
      pushgateway: PUSHGATEWAY,
      colocateWith: { labels: { app: "vaultwarden" } },
    });
  });
  expect(template.value(CRON_JOB, "spec.schedule")).toBe("*/10 * * * *");
  expect(template.value(CRON_JOB, "spec.job_template.spec.active_deadline_seconds")).toBe(300);
});

test("once a month, on its first Sunday", () => {
  const template = postgres({ schedule: Schedule.firstSunday({ hour: 4, minute: 0 }) });
  expect(template.value(CRON_JOB, "spec.schedule")).toBe("0 4 * * 0");
  expect(settings(template, "lastDayOfMonth")).toBe(7);
});

test("attributes that others change", () => {
  expect(postgres({ ignoreChanges: [KYVERNO_DNS_CONFIG] }).value(CRON_JOB, "lifecycle.ignore_changes")).toEqual([
    "spec[0].job_template[0].spec[0].template[0].spec[0].dns_config",
  ]);
});

test("annotations that keep updaters and admission policies away, on the CronJob and its pods", () => {
  const template = postgres({ annotations: { "policies.kyverno.io/exclude": "true" } });
  const expected = { "keel.sh/policy": "never", "policies.kyverno.io/exclude": "true" };
  expect(template.value(CRON_JOB, "metadata.annotations")).toEqual(expected);
  expect(template.value(CRON_JOB, "spec.job_template.spec.template.metadata.annotations")).toMatchObject(expected);
});
