import type { TerraformStack } from "cdktf";
import type { BackupProps, JobProps } from "../../constructs/backup";
import {
  CommandBackup,
  EtcdSnapshotBackup,
  FileBackup,
  MySqlDumpBackup,
  PgDumpBackup,
  PrometheusBackup,
  RedisBackup,
  SecretRef,
  SqliteBackup,
  SqliteIntegrityCheck,
  VaultRaftBackup,
} from "../../constructs/backup";
import type { RunnerCronJob } from "../../constructs/backup";
import { InlineNfsVolume, PodVolume } from "../../constructs/storage";
import { ImageReference } from "../../lib/image-reference";
import { Retention } from "../../lib/retention";
import { Schedule } from "../../lib/schedule";
import { ServiceEndpoint } from "../../lib/service-endpoint";

export const POSTGRES = ImageReference.parse("docker.io/library/postgres:16.4-bullseye");
export const MYSQL = ImageReference.parse("docker.io/library/mysql:8.4.2");
export const REDIS = ImageReference.parse("docker.io/library/redis:7.4.1-alpine");
export const ETCD = ImageReference.parse("registry.k8s.io/etcd:3.5.21-0");
export const VAULT = ImageReference.parse("docker.io/hashicorp/vault:1.18.1");
export const PROMETHEUS = ImageReference.parse("quay.io/prometheus/prometheus:v3.1.0");
export const PUSHGATEWAY = ServiceEndpoint.of("pushgateway.monitoring:9091");
export const COLOCATED = { labels: { app: "app" } };

/** The options that no backup can do without. */
export function required(name: string): BackupProps {
  return {
    namespace: "apps",
    volume: InlineNfsVolume.of("10.0.10.15", `/mnt/main/${name}`),
    schedule: Schedule.cron("0 0 * * *"),
    retention: Retention.keepDays(14),
  };
}

/** What the tests change about a job, whatever its class. */
export type Overrides = Partial<BackupProps> & Partial<JobProps>;

/** Makes one job of each class, with what that class cannot do without; the id is also the name. */
export const MAKE: { readonly [kind: string]: (stack: TerraformStack, id: string, overrides?: Overrides) => RunnerCronJob } = {
  postgres: (stack, id, overrides) =>
    new PgDumpBackup(stack, id, {
      ...required(id),
      image: POSTGRES,
      endpoint: ServiceEndpoint.of("pg-cluster-rw.dbaas:5432"),
      user: "backup",
      password: SecretRef.of("pg-backup", "password"),
      ...overrides,
    }),
  mysql: (stack, id, overrides) =>
    new MySqlDumpBackup(stack, id, {
      ...required(id),
      image: MYSQL,
      endpoint: ServiceEndpoint.of("mysql.dbaas:3306"),
      user: "backup",
      password: SecretRef.of("mysql-backup", "password"),
      ...overrides,
    }),
  redis: (stack, id, overrides) =>
    new RedisBackup(stack, id, { ...required(id), image: REDIS, endpoint: ServiceEndpoint.of("redis.redis:6379"), ...overrides }),
  sqlite: (stack, id, overrides) =>
    new SqliteBackup(stack, id, {
      ...required(id),
      data: PodVolume.fromClaim("app-data"),
      database: "db.sqlite3",
      colocateWith: COLOCATED,
      ...overrides,
    }),
  integrity: (stack, id, overrides) =>
    new SqliteIntegrityCheck(stack, id, {
      namespace: "apps",
      schedule: Schedule.cron("30 * * * *"),
      data: PodVolume.fromClaim("app-data"),
      database: "db.sqlite3",
      metric: "app_sqlite_integrity_ok",
      colocateWith: COLOCATED,
      ...overrides,
      pushgateway: PUSHGATEWAY,
    }),
  etcd: (stack, id, overrides) => new EtcdSnapshotBackup(stack, id, { ...required(id), image: ETCD, ...overrides }),
  vault: (stack, id, overrides) =>
    new VaultRaftBackup(stack, id, {
      ...required(id),
      image: VAULT,
      endpoint: ServiceEndpoint.of("vault-active.vault:8200"),
      role: "backup",
      ...overrides,
    }),
  prometheus: (stack, id, overrides) =>
    new PrometheusBackup(stack, id, {
      ...required(id),
      image: PROMETHEUS,
      endpoint: ServiceEndpoint.of({ service: "prometheus-server", namespace: "monitoring", port: 80, podPort: 9090 }),
      data: PodVolume.fromClaim("prometheus-data", { readOnly: false }),
      colocateWith: COLOCATED,
      ...overrides,
    }),
  files: (stack, id, overrides) =>
    new FileBackup(stack, id, {
      ...required(id),
      sources: [{ name: "data", volume: PodVolume.fromClaim("files", { accessMode: "ReadWriteMany" }) }],
      consistency: "crash-consistent",
      ...overrides,
    }),
  command: (stack, id, overrides) =>
    new CommandBackup(stack, id, {
      ...required(id),
      image: ImageReference.parse("docker.io/curlimages/curl:8.10.1"),
      script: 'curl -fsS "http://app.apps/export?name=${1}"\n',
      artefacts: [{ name: "export.json" }],
      endpoints: [ServiceEndpoint.of("app.apps:80")],
      runAs: { uid: 100, gid: 101 },
      ...overrides,
    }),
};

/** The names of {@link MAKE}. */
export const KINDS = Object.keys(MAKE);

/** Makes a job of a class. */
export function make(kind: string, stack: TerraformStack, id: string, overrides?: Overrides): RunnerCronJob {
  const maker = MAKE[kind];
  if (maker === undefined) throw new Error(`no such kind: ${kind}`);
  return maker(stack, id, overrides);
}
