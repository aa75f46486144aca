import { Testing } from "cdktf";
import { Schedule } from "../../lib";
import { addStacks } from "../../stacks";
import { Template, at, type Attributes, type Json } from "../helpers/template";

/** Promises that hold for every stack of the homelab, looked up in what is synthesised. */
const templates = addStacks(Testing.app()).map((stack) => ({ id: stack.node.id, template: Template.fromStack(stack) }));
const all = (type: string): readonly { readonly stack: string; readonly resource: Attributes }[] =>
  templates.flatMap(({ id, template }) => template.resources(type).map((resource) => ({ stack: id, resource })));

const cronJobs = all("kubernetes_cron_job_v1").map(({ stack, resource }) => ({
  name: `${stack}: ${String(at(resource, "metadata.name"))}`,
  resource,
  pod: at(resource, "spec.job_template.spec.template.spec") as Attributes,
}));
const strings = (json: Json | undefined): readonly string[] => {
  if (typeof json === "string") return [json];
  return typeof json === "object" && json !== null ? Object.values(json as object).flatMap((value) => strings(value as Json)) : [];
};
const containers = (pod: Attributes): readonly Attributes[] => [
  ...((pod["container"] ?? []) as readonly Attributes[]),
  ...((pod["init_container"] ?? []) as readonly Attributes[]),
];

test("every service of the homelab has its jobs", () => {
  expect(cronJobs.map(({ name }) => name).filter((name) => !/-(drill|restore)$/.test(name)).sort()).toEqual([
    "dbaas: mysql-backup",
    "dbaas: postgresql-backup",
    "immich: immich-backup",
    "monitoring: prometheus-backup",
    "nextcloud: nextcloud-backup",
    "platform: etcd-backup",
    "plotting-book: plotting-book-backup",
    "redis: redis-backup",
    "vault: vault-backup",
    "vaultwarden: vaultwarden-backup",
    "vaultwarden: vaultwarden-integrity-check",
  ]);
});

test.each([
  ["dbaas: postgresql-backup", "0 0 * * *", { keepDays: 14, keepLast: 3 }],
  ["dbaas: mysql-backup", "30 0 * * *", { keepDays: 14, keepLast: 3 }],
  ["platform: etcd-backup", "0 1 * * 0", { keepDays: 30, keepLast: 3 }],
  ["vault: vault-backup", "0 2 * * 0", { keepDays: 30, keepLast: 3 }],
  ["redis: redis-backup", "0 3 * * 0", { keepDays: 30, keepLast: 3 }],
  ["plotting-book: plotting-book-backup", "10 3 * * 0", { keepDays: 30, keepLast: 3 }],
  ["vaultwarden: vaultwarden-backup", "20 */6 * * *", { keepDays: 30, keepLast: 3 }],
  ["monitoring: prometheus-backup", "0 4 * * 0", { keepLast: 2 }],
  ["immich: immich-backup", "15 0 * * *", { keepDays: 14, keepLast: 3 }],
  ["nextcloud: nextcloud-backup", "20 3 * * 0", { keepLast: 7 }],
])("%s runs at %s and keeps what it should", (name, expression, retention) => {
  const job = cronJobs.find((candidate) => candidate.name === name);
  expect(at(job?.resource, "spec.schedule")).toBe(expression);
  expect(at(job?.resource, "spec.timezone")).toBe("Etc/UTC");
  expect(settingsOf(name)["retention"]).toMatchObject(retention);
});

test("Prometheus is backed up on first Sundays: twelve times a year", () => {
  const schedule = Schedule.firstSunday({ hour: 4, minute: 0 });
  const runs = schedule.nextRuns(new Date("2025-12-31T23:59:59Z"), 12);
  expect(settingsOf("monitoring: prometheus-backup")["lastDayOfMonth"]).toBe(7);
  expect(runs.map((run) => run.getUTCMonth())).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]);
  expect(runs.every((run) => run.getUTCDay() === 0 && run.getUTCDate() <= 7)).toBe(true);
});

test("no two jobs start in the same minute of a week on the file server they share", () => {
  const week = new Date("2026-11-01T00:00:00Z"); // a first Sunday, when all of them run
  const starts = cronJobs.flatMap(({ name, resource }) =>
    Schedule.cron(at(resource, "spec.schedule") as string)
      .nextRuns(new Date(week.getTime() - 1000), 200)
      .filter((run) => run.getTime() < week.getTime() + 7 * 86_400_000)
      .map((run) => [run.toISOString(), name] as const),
  );
  expect(starts.length).toBeGreaterThan(7 * 24);
  expect(starts.filter(([minute, name]) => starts.some((other) => other[0] === minute && other[1] !== name))).toEqual([]);
});

describe.each(cronJobs)("$name", ({ name, resource, pod }) => {
  // The generations hold the keys of the cluster, so what reads them is root too; only the backup is on the node.
  const exempt = name.startsWith("platform: etcd-backup");

  test("is restricted as Pod Security understands it", () => {
    const security = at(pod, "security_context") as Attributes;
    expect(at(security, "seccomp_profile.type")).toBe("RuntimeDefault");
    expect(pod["automount_service_account_token"]).toBe(false);
    if (exempt) {
      expect(security["run_as_user"]).toBe("0");
      expect(at(resource, "metadata.annotations.cdktf-backup/runs-as-root-because")).toBeTruthy();
      expect(at(resource, "metadata.namespace")).toBe("etcd-backup");
    } else {
      expect(security["run_as_non_root"]).toBe(true);
      expect(Number(security["run_as_user"])).toBeGreaterThan(0);
    }
    if (name !== "platform: etcd-backup") {
      expect(pod["host_network"] ?? false).toBe(false);
      expect(((pod["volume"] ?? []) as readonly Attributes[]).filter((volume) => "host_path" in volume)).toEqual([]);
    }
    for (const container of containers(pod)) {
      const own = container["security_context"] as Attributes;
      expect(own["allow_privilege_escalation"]).toBe(false);
      expect(own["read_only_root_filesystem"]).toBe(true);
      expect(at(own, "capabilities.drop")).toEqual(["ALL"]);
      expect(Object.keys(at(container, "resources.requests") as object).sort()).toEqual(["cpu", "memory"]);
      expect(Object.keys(at(container, "resources.limits") as object)).toContain("memory");
    }
  });

  test("gives the kubelet nothing to expand", () => {
    const told = containers(pod).flatMap(({ command, args, env }) => [...strings(command), ...strings(args), ...strings(env)]);
    expect(told.length).toBeGreaterThan(0);
    expect(told.filter((text) => text.includes("$"))).toEqual([]);
  });

  test("uses images by exact version from a named registry", () => {
    for (const { image } of containers(pod)) expect(image).toMatch(/^[a-z0-9.-]+\.[a-z]+\/[^:@]+:v?\d+\.\d+[^@]*(@sha256:[0-9a-f]{64})?$/);
  });

  test("ends, is seen when it has ended, and starts late rather than never", () => {
    const spec = at(resource, "spec") as Attributes;
    expect(spec["concurrency_policy"]).toBe("Forbid");
    expect(Number(spec["starting_deadline_seconds"])).toBeGreaterThanOrEqual(200);
    expect(Number(at(spec, "job_template.spec.active_deadline_seconds"))).toBeGreaterThan(0);
    expect(Number(at(spec, "job_template.spec.backoff_limit"))).toBeLessThanOrEqual(6);
    expect(at(spec, "job_template.spec.ttl_seconds_after_finished")).toBeUndefined();
    expect(spec["failed_jobs_history_limit"]).toBeGreaterThanOrEqual(3);
  });
});

test("every pod outside the node's network has a network policy that names its destinations", () => {
  const policies = all("kubernetes_network_policy_v1");
  expect(policies.length).toBe(cronJobs.length - 1);
  for (const { resource } of policies) {
    expect(at(resource, "spec.policy_types")).toEqual(["Ingress", "Egress"]);
    const egress = at(resource, "spec.egress") as readonly Attributes[];
    for (const rule of egress) expect(((rule["to"] ?? []) as readonly Json[]).length).toBeGreaterThan(0);
  }
});

test("volumes outlive Terraform and Kubernetes objects", () => {
  const volumes = all("kubernetes_persistent_volume_v1");
  expect(volumes.length).toBe(10);
  for (const { resource } of [...volumes, ...all("kubernetes_persistent_volume_claim_v1")]) expect(at(resource, "lifecycle.prevent_destroy")).toBe(true);
  for (const { resource } of volumes) expect(at(resource, "spec.0.persistent_volume_reclaim_policy") ?? at(resource, "spec.persistent_volume_reclaim_policy")).toBe("Retain");
});

test("holds no secret, only references to Secrets", () => {
  expect(all("kubernetes_secret_v1")).toEqual([]);
  const secretive = /password|token|secret|passwd|api_?key/i;
  for (const { pod } of cronJobs) {
    for (const container of containers(pod)) {
      for (const entry of (container["env"] ?? []) as readonly Attributes[]) {
        if (secretive.test(String(entry["name"])) || /PWD$|AUTH$/.test(String(entry["name"]))) expect(entry["value"]).toBeUndefined();
      }
    }
  }
});

test("no unresolved token is left in any stack", () => {
  for (const { template } of templates) expect(JSON.stringify(template.json)).not.toMatch(/TfToken\[/i);
});

function settingsOf(job: string): Attributes {
  const [stack, name] = job.split(": ");
  const template = templates.find(({ id }) => id === stack)?.template;
  return JSON.parse(String(settingsText(template, name))) as Attributes;
}

function settingsText(template: Template | undefined, name: string | undefined): Json | undefined {
  const data = at(template?.resource("kubernetes_config_map_v1", name), "data") as Attributes | undefined;
  return data?.["settings.json"];
}
