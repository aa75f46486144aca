import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { RUNNER_IMAGE } from "../../constructs/runner/defaults";
import { site } from "../../stacks/site";
import { declaredTools, NODE_ALPINE } from "../helpers/pod";
import type { Shell } from "../helpers/pod/image";
import { INSTALLING } from "../helpers/servers/mariadb";
import { realProfile, vaultProgram } from "../helpers/servers/vault";
import { scratchProfile } from "../helpers/servers/vault-scratch-profile";
import { PROGRAMS } from "./cluster";
import type { KubernetesObject } from "./direct";
import type { ImageSpec } from "./images";

/** Every server of the homelab in one image, apart from the engines' images, which hold no more than a backup may call for. */
const SERVERS = "cdktf-backup.test/servers:1";
/** It looks for its libraries beside its own directory. */
const POSTGRES_DIRECTORY = "/usr/lib/postgresql/15";

/** What PostgreSQL's server and `initdb` read at run time. */
const POSTGRES_DATA = [
  "/usr/share/postgresql/15",
  "/usr/share/zoneinfo",
  ...["bin/initdb", "bin/pg_ctl", "bin/postgres", "lib/plpgsql.so", "lib/dict_snowball.so"].map((path) => join(POSTGRES_DIRECTORY, path)),
];

/** The engines' images: what the scripts of backups, drills and restores call for, and no more. */
export const ENGINES: readonly ImageSpec[] = [
  { ...engine(site.postgresql.image.toString(), "postgres", "dash"), data: POSTGRES_DATA },
  // A MariaDB stands in for MySQL, whose server and clients are not in Debian. Its installer looks for the server in one place only.
  { ...engine(site.mysql.image.toString(), "mysql", "bash", /^mysql/, INSTALLING), data: ["/usr/share/mysql", "/usr/sbin/mariadbd"] },
  engine(site.redis.image.toString(), "redis", "dash"),
  engine(site.prometheus.image.toString(), "prometheus", "dash"),
];

/** Of Vault's drill: OpenBao where it is installed, and otherwise a double, which is run by Node.js. */
const VAULT: ImageSpec = {
  reference: site.vault.image.toString(),
  profile: vaultProgram() === undefined ? scratchProfile() : realProfile(vaultProgram() ?? ""),
  shell: "busybox",
};

/** Programs of a control plane's etcd; its image has nothing else. */
export const ETCD = join(PROGRAMS, "etcd");
const ETCD_IMAGE: ImageSpec = {
  reference: site.etcd.image.toString(),
  profile: { tools: [], programs: { etcd: ETCD, etcdutl: join(PROGRAMS, "etcdutl") } },
  shell: "dash",
};

/** All images that pods of the homelab declare. */
export const IMAGES: readonly ImageSpec[] = [
  {
    reference: "registry.k8s.io/pause:3.10",
    // Process 1 is deaf to signals that it has no handler for.
    profile: { tools: ["sleep"], entrypoint: ["/bin/sh", "-c", "trap 'exit 0' TERM INT; sleep 2147483647 & wait"] },
    shell: "busybox",
  },
  { reference: RUNNER_IMAGE.toString(), profile: NODE_ALPINE, shell: "busybox" },
  ...ENGINES,
  VAULT,
  ETCD_IMAGE,
  {
    reference: SERVERS,
    profile: {
      tools: "psql mariadbd mariadb redis-server redis-cli prometheus prometheus-pushgateway".split(" "),
      alpine: true,
      users: { postgres: 999 },
    },
    shell: "busybox",
    data: [...POSTGRES_DATA, "/usr/share/mysql"],
  },
];

/** @param name of the engine, its scripts and the user that its image has @param without tools that the machine has not @param besides what its tools call */
function engine(reference: string, name: string, shell: Shell, without = /^$/, besides: readonly string[] = []): ImageSpec {
  const scripts = join(__dirname, "../../lib/scripts");
  const own = readdirSync(scripts).filter((file) => file === "agent.sh" || file === `${name}.sh` || file.startsWith(`${name}-`));
  const tools = own.flatMap((file) => declaredTools(readFileSync(join(scripts, file), "utf8"))).filter((tool) => !without.test(tool));
  return { reference, profile: { tools: [...new Set([...tools, ...besides])], users: { [name]: 999 } }, shell };
}

/** A server or an application, as one Deployment with one pod. */
export interface Server {
  readonly name: string;
  readonly namespace: string;
  readonly labels: { readonly [label: string]: string };
  readonly command: readonly string[];
  readonly user: number;
  /** Claim mounted at /data. */
  readonly claim: string;
  /** Service ports, each with the pod's; no Service where there is none. */
  readonly port?: { readonly service: number; readonly pod: number };
  readonly image?: string;
}

/** Password of every account that backs up. */
export const PASSWORD = "backup's \"password\" $1";

const POSTGRES = `test -e /data/db/PG_VERSION || {
  ${POSTGRES_DIRECTORY}/bin/initdb --pgdata=/data/db --username=postgres --auth=trust --no-sync --encoding=UTF8 --no-locale
  echo "host all all all scram-sha-256" >> /data/db/pg_hba.conf
}
exec ${POSTGRES_DIRECTORY}/bin/postgres -D /data/db -c listen_addresses='*' -c unix_socket_directories=/data -c fsync=off -c shared_buffers=16MB`;

const MARIADB = [
  ...["mariadbd", "--no-defaults", "--datadir=/data/db", "--socket=/data/socket", "--pid-file=/data/pid", "--bind-address=0.0.0.0"],
  ...["--skip-name-resolve", "--character-set-server=utf8mb4", "--innodb-flush-method=nosync", "--innodb-flush-log-at-trx-commit=0"],
];

const PROMETHEUS = `printf 'scrape_configs: [{job_name: self, scrape_interval: 1s, static_configs: [{targets: ["127.0.0.1:9090"]}]}]' > /tmp/prometheus.yml
exec prometheus --config.file=/tmp/prometheus.yml --storage.tsdb.path=/data --web.enable-admin-api`;

/** An application that keeps its SQLite database open in WAL mode and writes to it. */
const application = (database: string): readonly string[] => [
  "node",
  "-e",
  `const { DatabaseSync } = require("node:sqlite");
  const db = new DatabaseSync("/data/${database}", { timeout: 10000 });
  db.exec("PRAGMA journal_mode = WAL; CREATE TABLE IF NOT EXISTS item (id INTEGER PRIMARY KEY, text TEXT NOT NULL, data BLOB)");
  db.exec("WITH n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000) INSERT INTO item (text, data) SELECT 'item ' || i, randomblob(400) FROM n");
  setInterval(() => db.exec("INSERT INTO item (text) VALUES ('later')"), 200);
  process.on("SIGTERM", () => process.exit(0));
  console.log("ready");`,
];

const { postgresql, mysql, immich, redis, prometheus, pushgateway, vaultwarden, plottingBook, nextcloud } = site;
const runner = RUNNER_IMAGE.toString();

/** The servers behind the homelab's Services, and the applications whose volumes are backed up. */
export const SERVERS_OF_THE_HOMELAB: readonly Server[] = [
  postgres(postgresql.endpoint.toString()),
  postgres(immich.endpoint.toString()),
  server(mysql.endpoint.toString(), MARIADB, 999),
  server(redis.endpoint.toString(), ["redis-server", "--dir", "/data", "--save", "", "--protected-mode", "no"], 999),
  server(pushgateway.toString(), ["prometheus-pushgateway", "--web.listen-address=:9091", "--web.enable-admin-api"], 1000),
  {
    ...server(prometheus.endpoint.toString(), ["sh", "-c", PROMETHEUS], 65534, 9090),
    labels: prometheus.labels,
    claim: prometheus.claim,
  },
  { name: "vaultwarden", namespace: vaultwarden.namespace, labels: vaultwarden.labels, command: application(vaultwarden.database), user: 1000, claim: vaultwarden.claim, image: runner },
  { name: "plotting-book", namespace: plottingBook.namespace, labels: plottingBook.labels, command: application(plottingBook.database), user: 1000, claim: plottingBook.claim, image: runner },
  { name: "nextcloud", namespace: nextcloud.namespace, labels: nextcloud.labels, command: ["sleep", "2147483647"], user: nextcloud.user.uid, claim: nextcloud.claim },
];

function postgres(endpoint: string): Server {
  return server(endpoint, ["sh", "-c", POSTGRES], 999);
}

function server(endpoint: string, command: readonly string[], user: number, podPort?: number): Server {
  const [name = "", namespace = "", port] = endpoint.split(/[.:]/);
  const service = Number(port);
  return { name, namespace, labels: { app: name }, command, user, claim: `${name}-data`, port: { service, pod: podPort ?? service } };
}

/** The objects of a server: its volume on this machine in the place of one on iSCSI, its claim, its pod and its Service. */
export function objectsOfServer(server: Server, directory: string): readonly KubernetesObject[] {
  const { name, namespace, labels, claim, port, user } = server;
  const accessModes = ["ReadWriteOnce"];
  const storageClassName = "iscsi-truenas";
  const volume = `${namespace}-${claim}`;
  const container = {
    name: "server",
    image: server.image ?? SERVERS,
    command: server.command,
    volumeMounts: [{ name: "data", mountPath: "/data" }],
    securityContext: { allowPrivilegeEscalation: false, capabilities: { drop: ["ALL"] } },
    ...(port === undefined ? {} : { readinessProbe: { tcpSocket: { port: port.pod }, periodSeconds: 1 } }),
  };
  const spec = {
    securityContext: { runAsNonRoot: true, runAsUser: user, runAsGroup: user, seccompProfile: { type: "RuntimeDefault" } },
    automountServiceAccountToken: false,
    enableServiceLinks: false,
    terminationGracePeriodSeconds: 10,
    containers: [container],
    volumes: [{ name: "data", persistentVolumeClaim: { claimName: claim } }],
  };
  return [
    {
      apiVersion: "v1",
      kind: "PersistentVolume",
      metadata: { name: volume },
      spec: { capacity: { storage: "1Gi" }, accessModes, storageClassName, claimRef: { name: claim, namespace }, hostPath: { path: directory, type: "Directory" } },
    },
    {
      apiVersion: "v1",
      kind: "PersistentVolumeClaim",
      metadata: { name: claim, namespace },
      spec: { accessModes, storageClassName, volumeName: volume, resources: { requests: { storage: "1Gi" } } },
    },
    {
      apiVersion: "apps/v1",
      kind: "Deployment",
      metadata: { name, namespace, ...{ labels } },
      spec: { replicas: 1, strategy: { type: "Recreate" }, selector: { matchLabels: labels }, template: { metadata: { labels }, spec } },
    },
    ...(port === undefined
      ? []
      : [
          {
            apiVersion: "v1",
            kind: "Service",
            metadata: { name, namespace },
            spec: { selector: labels, ports: [{ port: port.service, targetPort: port.pod }] },
          },
        ]),
  ];
}
