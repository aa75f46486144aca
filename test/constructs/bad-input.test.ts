import type { TerraformStack } from "cdktf";
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
import type {
  CommandBackupProps,
  FileBackupProps,
  PgDumpBackupProps,
  SqliteBackupProps,
  VaultRaftBackupProps,
} from "../../constructs/backup";
import { InlineNfsVolume, NfsBackupVolume, NfsExport, PodVolume } from "../../constructs/storage";
import type { NfsBackupVolumeProps } from "../../constructs/storage";
import { Duration } from "../../lib/duration";
import { ValidationError } from "../../lib/errors";
import { ImageReference } from "../../lib/image-reference";
import { Quantity } from "../../lib/quantity";
import { Retention } from "../../lib/retention";
import { toBech32 } from "../../lib/runtime/bech32";
import { Schedule } from "../../lib/schedule";
import { ServiceEndpoint } from "../../lib/service-endpoint";
import { testStack } from "../helpers/template";
import { ANNE, BERT } from "../runtime/support/age";
import { COLOCATED, ETCD, MYSQL, POSTGRES, PROMETHEUS, PUSHGATEWAY, REDIS, VAULT, make, required, type Overrides } from "./fixtures";

/** What a user writes, and the whole of what the library answers. */
type Case = readonly [description: string, write: (stack: TerraformStack) => void, message: string];

const nfs = (props: Partial<NfsBackupVolumeProps>) => (stack: TerraformStack) =>
  void new NfsBackupVolume(stack, "v", { name: "v", namespace: "apps", server: "nas", path: "/mnt/v", ...props });
const job = (overrides: Overrides) => (stack: TerraformStack) => void make("postgres", stack, "b", overrides);
const integrity = (overrides: Overrides) => (stack: TerraformStack) => void make("integrity", stack, "b", overrides);
const postgres = (props: Partial<PgDumpBackupProps>) => (stack: TerraformStack) =>
  void new PgDumpBackup(stack, "b", {
    ...required("b"),
    image: POSTGRES,
    endpoint: ServiceEndpoint.of("pg.dbaas:5432"),
    user: "backup",
    password: SecretRef.of("pg", "password"),
    ...props,
  });
const sqlite = (props: Partial<SqliteBackupProps>) => (stack: TerraformStack) =>
  void new SqliteBackup(stack, "b", {
    ...required("b"),
    data: PodVolume.fromClaim("data"),
    database: "db.sqlite3",
    colocateWith: COLOCATED,
    ...props,
  });
const vault = (props: Partial<VaultRaftBackupProps>) => (stack: TerraformStack) =>
  void new VaultRaftBackup(stack, "b", {
    ...required("b"),
    image: VAULT,
    endpoint: ServiceEndpoint.of("vault.vault:8200"),
    role: "backup",
    ...props,
  });
const files = (props: Partial<FileBackupProps>) => (stack: TerraformStack) =>
  void new FileBackup(stack, "b", {
    ...required("b"),
    sources: [{ name: "data", volume: PodVolume.fromNfs("nas", "/mnt/data") }],
    consistency: "snapshot",
    ...props,
  });
const command = (props: Partial<CommandBackupProps>) => (stack: TerraformStack) =>
  void new CommandBackup(stack, "b", {
    ...required("b"),
    image: ImageReference.parse("registry.lan/tool:1.2.3"),
    script: "true",
    artefacts: [{ name: "a" }],
    runAs: { uid: 1000 },
    ...props,
  });

/** The message about one property of the construct at a path. */
function says(property: string, allowed: string, value: unknown, path = "test/b"): string {
  return `${path}: '${property}' must be ${allowed}, but got ${JSON.stringify(value) ?? "undefined"}`;
}

const LABEL = "lower-case letters, digits and '-', beginning and ending with a letter or digit";
const SUBDOMAIN = `at most 253 ${LABEL}; parts joined by '.'`;
const TAKEN = "a directory that is neither another backup's nor above or below it (test/first writes there)";
const RELATIVE = "a normalised path below the volume's root";
const ABSOLUTE = "an absolute, normalised path below /";

const STORAGE: readonly Case[] = [
  [
    "a volume's id with a dot",
    (s) => void new NfsBackupVolume(s, "a.b", { name: "v", namespace: "n", server: "nas", path: "/mnt/v" }),
    says("id", "letters, digits, '-' and '_'", "a.b", "test/a.b"),
  ],
  [
    "a volume's name in capitals",
    nfs({ name: "Backup" }),
    says("name", SUBDOMAIN, "Backup", "test/v"),
  ],
  [
    "a volume's namespace with a dot",
    nfs({ namespace: "a.b" }),
    says("namespace", `at most 63 ${LABEL}`, "a.b", "test/v"),
  ],
  [
    "a claim's name with '_'",
    nfs({ claimName: "a_b" }),
    says("claimName", SUBDOMAIN, "a_b", "test/v"),
  ],
  [
    "a server with a path",
    nfs({ server: "nas:/mnt" }),
    says("server", "a host name or an IP address", "nas:/mnt", "test/v"),
  ],
  [
    "a relative export",
    nfs({ path: "mnt/v" }),
    says("path", ABSOLUTE, "mnt/v", "test/v"),
  ],
  [
    "an export that goes up",
    nfs({ path: "/mnt/../v" }),
    says("path", ABSOLUTE, "/mnt/../v", "test/v"),
  ],
  [
    "an export with a trailing slash",
    nfs({ path: "/mnt/v/" }),
    says("path", ABSOLUTE, "/mnt/v/", "test/v"),
  ],
  [
    "the root as export",
    nfs({ path: "/" }),
    says("path", ABSOLUTE, "/", "test/v"),
  ],
  [
    "an export with a line break",
    nfs({ path: "/mnt/a\nb" }),
    says("path", ABSOLUTE, "/mnt/a\nb", "test/v"),
  ],
  [
    "an empty volume handle",
    nfs({ volumeHandle: "" }),
    says("volumeHandle", "an id that no other volume has", "", "test/v"),
  ],
  [
    "an empty storage class",
    nfs({ storageClassName: "" }),
    says("storageClassName", "a name; an empty one cannot be kept", "", "test/v"),
  ],
  [
    "two mount options in one",
    nfs({ mountOptions: ["hard,nfsvers=4.1"] }),
    says("mountOptions", "one option each, without spaces and commas", ["hard,nfsvers=4.1"], "test/v"),
  ],
  [
    "hard and soft",
    nfs({ mountOptions: ["hard", "soft"] }),
    says("mountOptions", "either hard or soft", ["hard","soft"], "test/v"),
  ],
  [
    "an existing claim's name with a slash",
    (s) => void NfsBackupVolume.fromClaimName(s, "v", "a/b"),
    says("claimName", SUBDOMAIN, "a/b", "test/v"),
  ],
  [
    "an inline export that goes up",
    () => void InlineNfsVolume.of("nas", "/mnt/.."),
    says("path", ABSOLUTE, "/mnt/..", "NfsExport"),
  ],
  [
    "a claim without a name",
    () => void PodVolume.fromClaim(""),
    says("claimName", "the name of a PersistentVolumeClaim", "", "PodVolume.fromClaim"),
  ],
  [
    "a subPath that leaves the volume",
    () => void PodVolume.fromClaim("data", { subPath: "../x" }),
    says("subPath", RELATIVE, "../x", "PodVolume.fromClaim"),
  ],
  [
    "a relative host path",
    () => void PodVolume.fromHostPath("etc"),
    says("path", ABSOLUTE, "etc", "PodVolume.fromHostPath"),
  ],
  [
    "an absolute subPath",
    () => void PodVolume.fromNfs("nas", "/mnt", { subPath: "/x" }),
    says("subPath", RELATIVE, "/x", "PodVolume.fromNfs"),
  ],
];

const JOBS: readonly Case[] = [
  [
    "an id that Terraform would shorten",
    (s) => void new EtcdSnapshotBackup(s, "a.b", { ...required("b"), image: ETCD, name: "ab" }),
    says("id", "letters, digits, '-' and '_'", "a.b", "test/a.b"),
  ],
  [
    "a name in capitals",
    job({ name: "Backup" }),
    says("name", `at most 52 ${LABEL}; parts joined by '.'`, "Backup"),
  ],
  [
    "a name of 53 characters",
    job({ name: "a".repeat(53) }),
    says("name", `at most 52 ${LABEL}; parts joined by '.'`, `${"a".repeat(53)}`),
  ],
  [
    "a namespace with '_'",
    job({ namespace: "a_b" }),
    says("namespace", `at most 63 ${LABEL}`, "a_b"),
  ],
  [
    "a deadline as long as the gap",
    job({ schedule: Schedule.cron("0 * * * *"), deadline: Duration.hours(1) }),
    says("deadline", "less than the shortest gap of its schedule, 1h, or concurrency 'Replace'", "1h"),
  ],
  [
    "a deadline longer than an uneven schedule's shortest gap",
    job({ schedule: Schedule.cron("0 0,3 * * *"), deadline: Duration.hours(4) }),
    says("deadline", "less than the shortest gap of its schedule, 3h, or concurrency 'Replace'", "4h"),
  ],
  [
    "a deadline of nothing",
    job({ deadline: Duration.seconds(0) }),
    says("deadline", "30s or more", "0s"),
  ],
  [
    "a starting deadline that the controller misses",
    job({ startingDeadline: Duration.seconds(10) }),
    says("startingDeadline", "200s or more", "10s"),
  ],
  [
    "endless retries",
    job({ backoffLimit: 7 }),
    says("backoffLimit", "a whole number from 0 to 6", 7),
  ],
  [
    "half a retry",
    job({ backoffLimit: 0.5 }),
    says("backoffLimit", "a whole number from 0 to 6", 0.5),
  ],
  [
    "evidence that vanishes",
    job({ ttlAfterFinished: Duration.seconds(10) }),
    says("ttlAfterFinished", "1h or more", "10s"),
  ],
  [
    "root without a reason",
    job({ runAs: { uid: 0 } }),
    says("runAs.reason", "why this backup must run as root", undefined),
  ],
  [
    "root with a blank reason",
    job({ runAs: { uid: 0, reason: " " } }),
    says("runAs.reason", "why this backup must run as root", " "),
  ],
  [
    "a negative user",
    job({ runAs: { uid: -1, gid: 5 } }),
    says("runAs.uid", "a whole number from 0 to 4294967294", -1),
  ],
  [
    "a group that is no whole number",
    job({ runAs: { uid: 5, gid: 1.5 } }),
    says("runAs.gid", "a whole number from 0 to 4294967294", 1.5),
  ],
  [
    "a label of ours",
    job({ labels: { "app.kubernetes.io/name": "x" } }),
    says("labels", "labels other than app.kubernetes.io/*, which are set already", "app.kubernetes.io/name"),
  ],
  [
    "a label's value with a space",
    job({ labels: { team: "a b" } }),
    says("labels.team", "at most 63 letters, digits, '-', '_' and '.', beginning and ending with a letter or digit", "a b"),
  ],
  [
    "a pull secret with a slash",
    job({ imagePullSecrets: ["a/b"] }),
    says("imagePullSecrets", SUBDOMAIN, "a/b"),
  ],
  [
    "a priority class in capitals",
    job({ priorityClassName: "High" }),
    says("priorityClassName", SUBDOMAIN, "High"),
  ],
  [
    "a node's name with '_'",
    job({ nodeName: "k8s_1" }),
    says("nodeName", SUBDOMAIN, "k8s_1"),
  ],
  [
    "an egress that is no block",
    job({ allowEgressTo: [{ cidr: "192.168.1.13", ports: [443] }] }),
    says("allowEgressTo", "an IP block such as 192.168.1.13/32", "192.168.1.13"),
  ],
  [
    "an egress block that is too long",
    job({ allowEgressTo: [{ cidr: "192.168.1.13/33", ports: [443] }] }),
    says("allowEgressTo", "an IP block such as 192.168.1.13/32", "192.168.1.13/33"),
  ],
  [
    "an exception that is no block",
    job({ allowEgressTo: [{ cidr: "0.0.0.0/0", except: ["lan"], ports: [443] }] }),
    says("allowEgressTo", "an IP block such as 192.168.1.13/32", "lan"),
  ],
  [
    "an egress to port 0",
    job({ allowEgressTo: [{ cidr: "::/0", ports: [0] }] }),
    says("allowEgressTo", "a port from 1 to 65535", 0),
  ],
  [
    "an egress to no port",
    job({ allowEgressTo: [{ cidr: "::/0", ports: [] }] }),
    says("allowEgressTo", "at least one port", []),
  ],
  [
    "co-location with any pod",
    job({ colocateWith: { labels: {} } }),
    says("colocateWith.labels", "at least one label of the application's pods", {}),
  ],
  [
    "a directory that leaves the volume",
    job({ directory: "../other" }),
    says("directory", `${RELATIVE}, or '' for the root itself`, "../other"),
  ],
  [
    "an absolute directory",
    job({ directory: "/daily" }),
    says("directory", `${RELATIVE}, or '' for the root itself`, "/daily"),
  ],
  [
    "a compression level that zstd has not",
    job({ compressionLevel: 23 }),
    says("compressionLevel", "a whole number from 1 to 19", 23),
  ],
  [
    "an integrity check that outlasts its schedule",
    integrity({ deadline: Duration.hours(2) }),
    says("deadline", "less than the shortest gap of its schedule, 1h, or concurrency 'Replace'", "2h"),
  ],
];

const PLACES: readonly Case[] = [
  [
    "a claim of another namespace",
    (s) => make("redis", s, "b", { volume: new NfsBackupVolume(s, "v", { name: "v", namespace: "redis", server: "nas", path: "/mnt/v" }) }),
    says("namespace", "that of the volume's claim, 'redis'", "apps"),
  ],
  [
    "a ReadWriteOnce claim without a place",
    sqlite({ colocateWith: undefined }),
    says("colocateWith", "the application's pods, or nodeName or nodeSelector, since claim data is ReadWriteOnce", undefined),
  ],
  [
    "a ReadWriteOnce claim in the engine's container without a place",
    command({ mounts: [{ volume: PodVolume.fromClaim("data"), path: "/data" }] }),
    says("colocateWith", "the application's pods, or nodeName or nodeSelector, since claim data is ReadWriteOnce", undefined),
  ],
  [
    "a backup into its own data",
    files({ volume: InlineNfsVolume.of("nas", "/mnt/data") }),
    says("volume", "a place that is neither that of its data, above nor below it (nfs nas:/mnt/data)", "nas:/mnt/data"),
  ],
  [
    "a backup below its own data",
    files({ volume: InlineNfsVolume.of("nas", "/mnt/data/backup") }),
    says("volume", "a place that is neither that of its data, above nor below it (nfs nas:/mnt/data)", "nas:/mnt/data/backup"),
  ],
  [
    "data below its own backup",
    files({ volume: InlineNfsVolume.of("nas", "/mnt") }),
    says("volume", "a place that is neither that of its data, above nor below it (nfs nas:/mnt/data)", "nas:/mnt"),
  ],
  [
    "a backup onto its data's claim",
    (s) => files({
    sources: [{ name: "data", volume: PodVolume.fromClaim("data", { accessMode: "ReadWriteMany" }) }],
    volume: NfsBackupVolume.fromClaimName(s, "v", "data"),
  })(s),
    says("volume", "a place that is neither that of its data, above nor below it (claim data)", "data"),
  ],
  [
    "a backup onto the export behind its data's claim",
    files({
    sources: [{ name: "a", volume: PodVolume.fromClaim("data", { accessMode: "ReadWriteMany", nfs: NfsExport.of("nas", "/mnt/data") }) }],
    volume: InlineNfsVolume.of("nas", "/mnt/data"),
  }),
    says("volume", "a place that is neither that of its data, above nor below it (claim data)", "nas:/mnt/data"),
  ],
  [
    "two CronJobs of one name",
    (s) => {
    make("redis", s, "first", { name: "backup" });
    make("mysql", s, "second", { name: "backup" });
  },
    says("name", "a name that no other CronJob in namespace 'apps' has (test/first has it)", "backup", "test/second"),
  ],
  [
    "two backups into one directory of a claim",
    (s) => {
    const volume = NfsBackupVolume.fromClaimName(s, "v", "shared");
    make("redis", s, "first", { volume, directory: "daily" });
    make("mysql", s, "second", { volume: NfsBackupVolume.fromClaimName(s, "again", "shared"), directory: "daily" });
  },
    says("directory", TAKEN, "daily", "test/second"),
  ],
  [
    "a backup below another's directory",
    (s) => {
    const volume = NfsBackupVolume.fromClaimName(s, "v", "shared");
    make("redis", s, "first", { volume, directory: "daily" });
    make("mysql", s, "second", { volume, directory: "daily/mysql" });
  },
    says("directory", TAKEN, "daily/mysql", "test/second"),
  ],
  [
    "a backup above another's directory",
    (s) => {
    const volume = NfsBackupVolume.fromClaimName(s, "v", "shared");
    make("redis", s, "first", { volume, directory: "daily/redis" });
    make("mysql", s, "second", { volume, directory: "" });
  },
    says("directory", TAKEN, "", "test/second"),
  ],
  [
    "two volumes on one directory of a server",
    (s) => {
    make("redis", s, "first", { volume: InlineNfsVolume.of("nas", "/mnt/shared"), directory: "daily" });
    make("mysql", s, "second", { volume: InlineNfsVolume.of("nas", "/mnt/shared/daily"), directory: "" });
  },
    says("directory", TAKEN, "", "test/second"),
  ],
];

const ENGINES: readonly Case[] = [
  [
    "a database expected and left out",
    postgres({ expectDatabases: ["a", "b"], excludeDatabases: ["b"] }),
    says("excludeDatabases", "databases that are not in expectDatabases", ["b"]),
  ],
  [
    "a database expected twice",
    postgres({ expectDatabases: ["a", "a"] }),
    says("expectDatabases", "each database once", ["a","a"]),
  ],
  [
    "a database without a name",
    postgres({ excludeDatabases: [""] }),
    says("excludeDatabases", "names of databases, without control characters", [""]),
  ],
  [
    "a user with a $",
    postgres({ user: "$(id)" }),
    says("user", "text without '$', which the kubelet expands", "$(id)"),
  ],
  [
    "no user",
    postgres({ user: "" }),
    says("user", "the name of a user, without control characters", ""),
  ],
  [
    "half a byte",
    postgres({ exactCountMaxBytes: 0.5 }),
    says("exactCountMaxBytes", "a whole number of bytes, 0 or more", 0.5),
  ],
  [
    "a MySQL user with a line break",
    (s) => void new MySqlDumpBackup(s, "b", {
    ...required("b"), image: MYSQL, endpoint: ServiceEndpoint.of("mysql.dbaas:3306"), user: "a\nb", password: SecretRef.of("x", "y"),
  }),
    says("user", "the name of a user, without control characters", "a\nb"),
  ],
  [
    "a Redis user without a password",
    (s) => void new RedisBackup(s, "b", {
    ...required("b"), image: REDIS, endpoint: ServiceEndpoint.of("redis.redis:6379"), user: "backup",
  }),
    says("password", "set where user is", undefined),
  ],
  [
    "an absolute database path",
    sqlite({ database: "/data/db.sqlite3" }),
    says("database", RELATIVE, "/data/db.sqlite3"),
  ],
  [
    "no table at all",
    sqlite({ minTables: 0 }),
    says("minTables", "a whole number, 1 or more", 0),
  ],
  [
    "a side file elsewhere",
    sqlite({ files: [{ path: "../x" }] }),
    says("files", "normalised paths below the volume's root", "../x"),
  ],
  [
    "the database as a side file",
    sqlite({ files: [{ path: "db.sqlite3" }] }),
    says("files", "each path once, without the database", ["db.sqlite3"]),
  ],
  [
    "a side directory that the database is in",
    sqlite({ database: "data/db.sqlite3", files: [{ path: "data" }] }),
    says("files", "directories other than the database's own", ["data"]),
  ],
  [
    "a metric with a dash",
    (s) => void new SqliteIntegrityCheck(s, "b", {
    namespace: "apps", schedule: Schedule.cron("@hourly"), data: PodVolume.fromClaim("data"), database: "db", metric: "integrity-ok",
    pushgateway: PUSHGATEWAY, colocateWith: COLOCATED,
  }),
    says("metric", "letters, digits, '_' and ':', not beginning with a digit or with backup_", "integrity-ok"),
  ],
  [
    "an etcd address without a port",
    (s) => void new EtcdSnapshotBackup(s, "b", { ...required("b"), image: ETCD, endpoint: "https://127.0.0.1" }),
    says("endpoint", "http(s)://<host>:<port>", "https://127.0.0.1"),
  ],
  [
    "a relative PKI directory",
    (s) => void new EtcdSnapshotBackup(s, "b", { ...required("b"), image: ETCD, pki: "pki" }),
    says("pki", ABSOLUTE, "pki"),
  ],
  [
    "a certificate outside the PKI",
    (s) => void new EtcdSnapshotBackup(s, "b", { ...required("b"), image: ETCD, certificates: { key: "/etc/k.pem" } }),
    says("certificates.key", "a normalised path below the PKI directory", "/etc/k.pem"),
  ],
  [
    "a Vault role with a slash",
    vault({ role: "a/b" }),
    says("role", "letters, digits, '_', '.' and '-'", "a/b"),
  ],
  [
    "an auth mount with a leading slash",
    vault({ authMount: "/kubernetes" }),
    says("authMount", "a path without leading or trailing slash", "/kubernetes"),
  ],
  [
    "an empty audience",
    vault({ audience: "" }),
    says("audience", "the audience that the role asks for", ""),
  ],
  [
    "a token that Kubernetes does not issue",
    vault({ tokenLifetime: Duration.minutes(1) }),
    says("tokenLifetime", "10m to 1h", "1m"),
  ],
  [
    "a token that outlives its use",
    vault({ tokenLifetime: Duration.days(1) }),
    says("tokenLifetime", "10m to 1h", "24h"),
  ],
  [
    "a CA's file elsewhere",
    vault({ ca: { volume: PodVolume.fromSecret("ca"), file: "/ca.crt" } }),
    says("ca.file", "the name of a file in the volume", "/ca.crt"),
  ],
  [
    "Prometheus' data read-only",
    (s) => void new PrometheusBackup(s, "b", {
    ...required("b"),
    image: PROMETHEUS,
    endpoint: ServiceEndpoint.of("prometheus.monitoring:9090"),
    data: PodVolume.fromClaim("data"),
    colocateWith: COLOCATED,
  }),
    says("data", "mounted with readOnly: false, so that snapshots can be removed again", "claim data"),
  ],
  [
    "no files",
    files({ sources: [] }),
    says("sources", "at least one", []),
  ],
  [
    "a source's name with a slash",
    files({ sources: [{ name: "a/b", volume: PodVolume.fromNfs("nas", "/a") }] }),
    says("sources", "names of letters, digits, '.', '_' and '-', not beginning with '.' or '-'", ["a/b"]),
  ],
  [
    "two sources of one name",
    files({ sources: [1, 2].map((n) => ({ name: "a", volume: PodVolume.fromNfs("nas", `/${n}`) })) }),
    says("sources", "named each differently", ["a","a"]),
  ],
  [
    "an exclusion of nothing",
    files({ exclude: ["/"] }),
    says("exclude", "patterns of paths, none of them empty", ["/"]),
  ],
  [
    "an empty script",
    command({ script: "\n" }),
    says("script", "a shell script", "\n"),
  ],
  [
    "no artefact",
    command({ artefacts: [] }),
    says("artefacts", "at least one", []),
  ],
  [
    "a hidden artefact",
    command({ artefacts: [{ name: ".a" }] }),
    says("artefacts", "names of letters, digits, '.', '_' and '-', not beginning with '.' or '-'", [".a"]),
  ],
  [
    "two artefacts of one name",
    command({ artefacts: [{ name: "a" }, { name: "a" }] }),
    says("artefacts", "named each differently", ["a","a"]),
  ],
  [
    "a negative size",
    command({ artefacts: [{ name: "a", minBytes: -1 }] }),
    says("artefacts.a.minBytes", "a whole number of bytes, 0 or more", -1),
  ],
  [
    "an empty trailer",
    command({ artefacts: [{ name: "a", trailer: "" }] }),
    says("artefacts.a.trailer", "the last text of a whole stream or file", ""),
  ],
  [
    "a directory's trailer",
    command({ artefacts: [{ name: "a", from: "directory", trailer: "x" }] }),
    says("artefacts.a.trailer", "unset for a directory, which has no end", "x"),
  ],
  [
    "a variable that the agent uses",
    command({ env: { EXCHANGE: "/x" } }),
    says("env", "other than ENGINE_SCRIPT, EXCHANGE, WORK, OUT, IN, SCRATCH, TMPDIR, PATH", "EXCHANGE"),
  ],
  ["a drill's script that is empty", command({ drill: { script: " " } }), says("drill.script", "a shell script", " ")],
  ["a restore's script that is empty", command({ restore: { script: "" } }), says("restore.script", "a shell script", "")],
  [
    "a restore's variable that the agent uses",
    command({ restore: { script: "true", env: { IN: "/x" } } }),
    says("restore.env", "other than ENGINE_SCRIPT, EXCHANGE, WORK, OUT, IN, SCRATCH, TMPDIR, PATH", "IN"),
  ],
  [
    "a restore's mount in the place of its own files",
    command({ restore: { script: "true", mounts: [{ volume: PodVolume.fromConfigMap("x"), path: "/exchange/in" }] } }),
    says("restore.mounts", "an absolute, normalised path, not in /etc/cdktf-backup or /exchange", "/exchange/in"),
  ],
  [
    "a variable's name with a dash",
    command({ env: { "A-B": "x" } }),
    says("env", "names of letters, digits and '_'", "A-B"),
  ],
  [
    "a variable with a $",
    command({ env: { A: "$(HOSTNAME)" } }),
    says("env.A", "text without '$', which the kubelet expands", "$(HOSTNAME)"),
  ],
  [
    "a mount over the configuration",
    command({ mounts: [{ volume: PodVolume.fromSecret("a"), path: "/etc/cdktf-backup/x" }] }),
    says("mounts", "an absolute, normalised path, not in /etc/cdktf-backup or /exchange", "/etc/cdktf-backup/x"),
  ],
  [
    "a Secret's key with a slash",
    () => void SecretRef.of("name", "a/b"),
    says("key", "letters, digits, '-', '_' and '.'", "a/b", "SecretRef"),
  ],
  [
    "a Secret's name in capitals",
    () => void SecretRef.of("Name", "key"),
    says("name", SUBDOMAIN, "Name", "SecretRef"),
  ],
];

const IDENTITY = SecretRef.of("escrow", "age.txt");
const PUBLIC_KEY = "a public key of age, 'age1' and 58 more characters, without a slip of the pen";
const NO_PRIVATE_KEY = "free of private keys, which belong into a Secret alone";
const encrypted = (...recipients: readonly string[]) => job({ encryption: { recipients, identity: IDENTITY } });

const ENCRYPTION: readonly Case[] = [
  [
    "encryption to nobody",
    encrypted(),
    says("encryption.recipients", "1 to 20 public keys", 0),
  ],
  [
    "encryption to more than anybody needs",
    encrypted(...Array.from({ length: 21 }, (_, index) => toBech32("age", Buffer.alloc(32, index + 1)))),
    says("encryption.recipients", "1 to 20 public keys", 21),
  ],
  [
    "a public key with one wrong character",
    encrypted(ANNE.recipient, BERT.recipient.replace(/j$/, "k")),
    says("encryption.recipients[1]", PUBLIC_KEY, BERT.recipient.replace(/j$/, "k")),
  ],
  [
    "a public key in capitals",
    encrypted(ANNE.recipient.toUpperCase()),
    says("encryption.recipients[0]", PUBLIC_KEY, ANNE.recipient.toUpperCase()),
  ],
  [
    "an SSH key to encrypt to",
    encrypted("ssh-ed25519 AAAA"),
    says("encryption.recipients[0]", PUBLIC_KEY, "ssh-ed25519 AAAA"),
  ],
  [
    "a public key twice",
    encrypted(ANNE.recipient, ANNE.recipient),
    says("encryption.recipients[1]", "a key that is not in the list yet", ANNE.recipient),
  ],
  [
    "a private key to encrypt to, without showing it",
    encrypted(ANNE.identity),
    says("encryption.recipients[0]", NO_PRIVATE_KEY, "AGE-SECRET-KEY-..."),
  ],
  [
    "a private key in the Secret's place, without showing it",
    job({ encryption: { recipients: [ANNE.recipient], identity: ANNE.identity as unknown as SecretRef } }),
    says("encryption.identity", "a SecretRef; a private key goes nowhere else", "string"),
  ],
  [
    "a private key in the environment, without showing it",
    command({ env: { KEY: ANNE.identity } }),
    says("env.KEY", NO_PRIVATE_KEY, "AGE-SECRET-KEY-..."),
  ],
  [
    "a private key in a script, without showing it",
    command({ script: `echo ${ANNE.identity} > key\n` }),
    says("script", NO_PRIVATE_KEY, "AGE-SECRET-KEY-..."),
  ],
  [
    "encryption of hard links",
    files({ layout: "hard-linked", encryption: { recipients: [ANNE.recipient], identity: IDENTITY } }),
    says("encryption", "left out, or the layout 'archive': a file that is linked is stored as it is", "hard-linked"),
  ],
];

const VALUES: readonly Case[] = [
  [
    "pods on port 0",
    () => void ServiceEndpoint.of({ service: "prometheus", namespace: "monitoring", port: 80, podPort: 0 }),
    says("podPort", "a whole number from 1 to 65535", 0, "ServiceEndpoint"),
  ],
  [
    "a floating image",
    () => void ImageReference.parse("docker.io/library/postgres:latest"),
    says(
      "image",
      "an image with an exact tag or a digest (tag 'latest' floats: 'latest' is moved to newer images)",
      "docker.io/library/postgres:latest",
      "ImageReference",
    ),
  ],
  [
    "one generation alone",
    () => void Retention.keepLast(1),
    says("generations", "a whole number of generations, 2 or more", 1, "Retention"),
  ],
  [
    "a negative quantity",
    () => void Quantity.gibibytes(-1),
    says("gibibytes", "a whole number, 0 or more", -1, "Quantity"),
  ],
];

/** The message, where a ValidationError was thrown. */
function messageOf(write: (stack: TerraformStack) => void): string {
  try {
    write(testStack());
  } catch (error) {
    if (ValidationError.is(error)) return error.message;
    throw error;
  }
  return "accepted";
}

const CASES = [...STORAGE, ...JOBS, ...PLACES, ...ENGINES, ...ENCRYPTION, ...VALUES];

test("the table is long, and no line is there twice", () => {
  expect(CASES.length).toBeGreaterThanOrEqual(100);
  expect(new Set(CASES.map(([description]) => description)).size).toBe(CASES.length);
});

test.each(CASES)("refuses %s", (_description, write, message) => {
  expect(messageOf(write)).toBe(message);
  expect(message).not.toContain("\n");
});

test("reports every public key that is none at once, and shows no private one", () => {
  const message = messageOf(encrypted("age1", ANNE.recipient, BERT.identity, BERT.recipient.slice(0, -1)));
  expect(message.match(/encryption\.recipients\[\d\]/g)).toEqual([0, 2, 3].map((index) => `encryption.recipients[${index}]`));
  expect(message).not.toContain(BERT.identity.slice(15));
});

test("reports everything that is wrong with a backup at once", () => {
  const message = messageOf(job({ name: "B", namespace: "N", backoffLimit: -1, runAs: { uid: 0 }, directory: "/" }));
  expect(message.split("; '").map((part) => part.replace(/^test\/b: '/, "").replace(/'.*/, ""))).toEqual([
    "backoffLimit",
    "runAs.reason",
    "name",
    "namespace",
    "directory",
  ]);
});
