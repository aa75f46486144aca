import { SecretRef } from "../constructs/backup";
import { ImageReference, Schedule, ServiceEndpoint } from "../lib";

/**
 * The homelab: every name, address, image and time of it. Another homelab replaces this one file.
 *
 * Times are UTC, as a Kubernetes CronJob without a time zone has them, and lie so that no two jobs start in one minute on the file
 * server they share: on Sundays at 03:00 that would be Redis, plotting-book and Nextcloud, at midnight PostgreSQL, Vaultwarden and Immich.
 */
export const site = {
  kubeconfig: "~/.kube/config",
  /** Directory of the Terraform states, seen from a stack's own directory below `cdktf.out/stacks`. */
  states: "../../../state",
  nfs: { server: "10.0.10.15", root: "/mnt/main", storageClassName: "nfs-truenas" },
  /** The copy on the second NAS, as rclone on the file server names it. */
  offsite: { remote: "synology:/Backup/Viki/truenas", below: "/mnt/main" },
  pushgateway: ServiceEndpoint.of("prometheus-prometheus-pushgateway.monitoring:9091"),

  postgresql: {
    namespace: "dbaas",
    /** The primary of the cluster; the Service `postgresql` leads to no pod. */
    endpoint: ServiceEndpoint.of("pg-cluster-rw.dbaas:5432"),
    image: ImageReference.parse("docker.io/library/postgres:16.4-bullseye"),
    user: "backup",
    password: SecretRef.of("postgresql-backup-role", "password"),
    /** The superuser and the Secret that CloudNativePG makes where `enableSuperuserAccess` is set. */
    restore: { user: "postgres", password: SecretRef.of("pg-cluster-superuser", "password") },
    expectDatabases: ["affine", "claude_memory", "health", "linkwarden", "trading", "woodpecker"],
    volume: { name: "dbaas-postgresql-backup", directory: "postgresql-backup" },
    schedule: Schedule.cron("0 0 * * *"),
  },
  mysql: {
    namespace: "dbaas",
    endpoint: ServiceEndpoint.of("mysql.dbaas:3306"),
    image: ImageReference.parse("docker.io/library/mysql:8.4.5"),
    user: "backup",
    password: SecretRef.of("mysql-backup-user", "password"),
    restore: { user: "restore", password: SecretRef.of("mysql-restore-user", "password") },
    expectDatabases: ["codimd", "grafana", "nextcloud", "shlink", "speedtest", "wrongmove"],
    volume: { name: "dbaas-mysql-backup", directory: "mysql-backup" },
    schedule: Schedule.cron("30 0 * * *"),
  },
  etcd: {
    /** A namespace of its own, as the pod needs the control plane's network and files. */
    namespace: "etcd-backup",
    image: ImageReference.parse("registry.k8s.io/etcd:3.5.21-0"),
    node: "k8s-master",
    endpoint: "https://127.0.0.1:2379",
    pki: "/etc/kubernetes/pki",
    volume: { name: "infra-etcd-backup", directory: "etcd-backup" },
    schedule: Schedule.cron("0 1 * * 0"),
  },
  vault: {
    namespace: "vault",
    image: ImageReference.parse("docker.io/hashicorp/vault:1.18.1"),
    endpoint: ServiceEndpoint.of("vault-active.vault:8200"),
    restore: { token: SecretRef.of("vault-root-token", "vault-root-token") },
    role: "vault-backup",
    volume: { name: "vault-backup", directory: "vault-backup" },
    schedule: Schedule.cron("0 2 * * 0"),
  },
  redis: {
    namespace: "redis",
    endpoint: ServiceEndpoint.of("redis.redis:6379"),
    image: ImageReference.parse("docker.io/library/redis:8.2.1-bookworm"),
    volume: { name: "redis-backup", directory: "redis-backup" },
    schedule: Schedule.cron("0 3 * * 0"),
  },
  plottingBook: {
    namespace: "plotting-book",
    claim: "plotting-book-data",
    database: "database.sqlite",
    labels: { app: "plotting-book" },
    volume: { name: "plotting-book-backup", directory: "plotting-book-backup" },
    schedule: Schedule.cron("10 3 * * 0"),
  },
  vaultwarden: {
    namespace: "vaultwarden",
    claim: "vaultwarden-data-iscsi",
    database: "db.sqlite3",
    labels: { app: "vaultwarden" },
    volume: { name: "vaultwarden-backup", directory: "vaultwarden-backup" },
    schedule: Schedule.cron("20 */6 * * *"),
    /** Off the half hour, when the MySQL dump starts. */
    integritySchedule: Schedule.cron("45 * * * *"),
  },
  prometheus: {
    namespace: "monitoring",
    image: ImageReference.parse("quay.io/prometheus/prometheus:v3.1.0"),
    endpoint: ServiceEndpoint.of({ service: "prometheus-server", namespace: "monitoring", port: 80, podPort: 9090 }),
    claim: "prometheus-data",
    labels: { "app.kubernetes.io/name": "prometheus", "app.kubernetes.io/component": "server" },
    volume: { name: "monitoring-prometheus-backup", directory: "prometheus-backup" },
    schedule: Schedule.firstSunday({ hour: 4, minute: 0 }),
  },
  immich: {
    namespace: "immich",
    endpoint: ServiceEndpoint.of("immich-postgresql.immich:5432"),
    image: ImageReference.parse("docker.io/library/postgres:16.4-bullseye"),
    user: "backup",
    password: SecretRef.of("immich-backup-role", "password"),
    restore: { user: "restore", password: SecretRef.of("immich-restore-role", "password") },
    expectDatabases: ["immich"],
    /** A directory of its own: the old dumps lie in the server's data directory. */
    volume: { name: "immich-backup", directory: "immich-backup" },
    schedule: Schedule.cron("15 0 * * *"),
  },
  nextcloud: {
    namespace: "nextcloud",
    claim: "nextcloud-data-iscsi",
    labels: { "app.kubernetes.io/name": "nextcloud" },
    /** `www-data` of the image, which owns the data. */
    user: { uid: 33, gid: 33 },
    exclude: ["*.log", "data/appdata_*/preview/"],
    volume: { name: "nextcloud-backup", directory: "nextcloud-backup" },
    schedule: Schedule.cron("20 3 * * 0"),
  },
} as const;

/** Where a service's backups lie on the file server, and the name of their volume and claim. */
export interface SiteVolume {
  readonly name: string;
  /** Below the file server's root. */
  readonly directory: string;
}
