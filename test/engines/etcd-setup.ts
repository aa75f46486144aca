import { existsSync } from "node:fs";
import { join } from "node:path";
import { EtcdSnapshotBackup, type EtcdSnapshotBackupProps } from "../../constructs/backup";
import { NfsBackupVolume } from "../../constructs/storage";
import { ImageReference } from "../../lib/image-reference";
import { Retention } from "../../lib/retention";
import { Schedule } from "../../lib/schedule";
import { runCronJob, type CronJobOptions, type ImageProfile } from "../helpers/pod";
import type { Backup } from "../helpers/pod/backup";
import { generationsOn, makeTarget } from "../helpers/pod/target";
import { type Etcd, ETCD_IMAGE, type Pki } from "../helpers/servers/etcd";
import { Template } from "../helpers/template";

export const NAME = "etcd-backup";
export const KUBEADM_PKI = "/etc/kubernetes/pki";

/** An etcd image, as a test can have it. */
export interface EtcdImage {
  readonly image: ImageReference;
  /** No shell and no other program is asked for. */
  readonly profile: ImageProfile;
  /** Directory of its programs on this machine. */
  readonly programs: string;
}

/** Where programs of a newer etcd are: on PATH, or where the cluster tests build them. */
const BUILT = join(process.env.XDG_CACHE_HOME ?? join(process.env.HOME ?? "/root", ".cache"), "cdktf-backup/cluster");

/** Debian's etcd 3.4, whose etcdctl restores; and 3.6, which has etcdutl for that, where its programs are found. */
export const IMAGES: readonly EtcdImage[] = [
  { image: ETCD_IMAGE, programs: "/usr/bin", profile: { tools: ["etcd", "etcdctl"] } },
  ...[...(process.env.PATH ?? "").split(":"), BUILT]
    .filter((directory) => existsSync(join(directory, "etcdutl")))
    .slice(0, 1)
    .map((programs) => ({
      image: ImageReference.parse("registry.k8s.io/etcd:3.6.16-0"),
      programs,
      profile: { tools: [], programs: { etcd: join(programs, "etcd"), etcdutl: join(programs, "etcdutl") } },
    })),
];
process.stderr.write(`etcd: ${IMAGES.map(({ image }) => image.tag).join(" and ")}${IMAGES.length === 1 ? ", no etcdutl is on PATH or built" : ""}\n`);

export function synthesise(props: Partial<EtcdSnapshotBackupProps> = {}): string {
  const target = { name: NAME, namespace: "kube-backup", server: "10.0.10.15", path: "/mnt/main/etcd-backup" };
  const template = Template.of((stack) => {
    new EtcdSnapshotBackup(stack, NAME, {
      image: ETCD_IMAGE,
      namespace: "kube-backup",
      volume: new NfsBackupVolume(stack, "volume", target),
      schedule: Schedule.cron("0 1 * * 0"),
      retention: Retention.keepDays(30),
      ...props,
    });
  });
  return JSON.stringify(template.json);
}

/** Backs up the member at the standard port. */
export async function backUp(pki: Pki, json = synthesise(), options: CronJobOptions = {}): Promise<Backup> {
  const target = makeTarget(json, { name: NAME });
  const result = await runCronJob(json, { name: NAME, volumes: { [KUBEADM_PKI]: pki.path, [NAME]: target }, ...options });
  return { ...result, generations: generationsOn(json, target, NAME) };
}

/** What a control plane's etcd has, in small. */
export async function fill(etcd: Etcd, keys = 400): Promise<void> {
  await etcd.fill(keys, (index) => [`/registry/pods/default/pod-${index}`, `first version of ${index} `.repeat(20)]);
  await etcd.fill(keys / 4, (index) => [`/registry/pods/default/pod-${index}`, `second version of ${index}`]);
  await etcd.put("/registry/empty", "");
  await etcd.put("key with \u0000 and ü", "value");
  await etcd.call("/v3/kv/deleterange", { key: base64("/registry/pods/default/pod-1"), range_end: base64("/registry/pods/default/pod-2") });
  const { revision } = await etcd.content();
  await etcd.call("/v3/kv/compaction", { revision: String(revision - 3), physical: true });
}

export function base64(text: string): string {
  return Buffer.from(text).toString("base64");
}
