import { execFileSync } from "node:child_process";
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Fn, TerraformVariable } from "cdktf";
import { InlineNfsVolume, NfsBackupVolume, NfsExport, PodVolume } from "../../constructs/storage";
import { Quantity } from "../../lib/quantity";
import { Template, at, testStack } from "../helpers/template";

const PV = "kubernetes_persistent_volume_v1";
const PVC = "kubernetes_persistent_volume_claim_v1";
const PROPS = { name: "redis-backup", namespace: "redis", server: "10.0.10.15", path: "/mnt/main/redis-backup" };

describe("NfsBackupVolume", () => {
  test("by default is a retained volume that its claim alone can bind, protected from destruction", () => {
    const stack = testStack();
    const volume = new NfsBackupVolume(stack, "volume", PROPS);
    expect(volume.claimName).toBe("redis-backup");
    expect(volume.volumeHandle).toBe("redis-backup");
    expect(volume.capacity.toString()).toBe("10Gi");
    expect(volume.storageClassName).toBe("nfs-static");
    expect(volume.mountOptions).toEqual(["hard", "nfsvers=4.1"]);
    expect(volume.nfs.toString()).toBe("10.0.10.15:/mnt/main/redis-backup");
    expect(volume.sentinel).toBe("redis-backup");

    const template = Template.fromStack(stack);
    expect(template.addresses).toEqual([`${PVC}.volume_Claim_6B83B8D4`, `${PV}.volume_Volume_33B7C845`]);
    expect(template.resource(PV)).toEqual({
      metadata: { name: "redis-backup" },
      spec: [
        {
          access_modes: ["ReadWriteMany"],
          capacity: { storage: "10Gi" },
          claim_ref: { name: "redis-backup", namespace: "redis" },
          mount_options: ["hard", "nfsvers=4.1"],
          persistent_volume_reclaim_policy: "Retain",
          persistent_volume_source: {
            csi: {
              driver: "nfs.csi.k8s.io",
              volume_attributes: { server: "10.0.10.15", share: "/mnt/main/redis-backup" },
              volume_handle: "redis-backup",
            },
          },
          storage_class_name: "nfs-static",
          volume_mode: "Filesystem",
        },
      ],
      lifecycle: { prevent_destroy: true },
    });
    expect(template.resource(PVC)).toEqual({
      metadata: { name: "redis-backup", namespace: "redis" },
      spec: {
        access_modes: ["ReadWriteMany"],
        resources: { requests: { storage: "10Gi" } },
        storage_class_name: "nfs-static",
        volume_name: "redis-backup",
      },
      lifecycle: { prevent_destroy: true },
    });
  });

  test("renders a volume that exists exactly as it is", () => {
    // What the homelab's own module wrote: another class, soft mounts, no reference to the claim.
    const template = Template.of((stack) => {
      new NfsBackupVolume(stack, "volume", {
        ...PROPS,
        name: "vault-backup",
        namespace: "vault",
        path: "/mnt/main/vault-backup",
        capacity: Quantity.gibibytes(5),
        storageClassName: "nfs-truenas",
        mountOptions: ["nfsvers=4", "soft", "timeo=30", "retrans=3", "actimeo=5"],
        claimRef: false,
      });
    });
    expect(template.resource(PV)).toEqual({
      metadata: { name: "vault-backup" },
      spec: [
        {
          access_modes: ["ReadWriteMany"],
          capacity: { storage: "5Gi" },
          mount_options: ["nfsvers=4", "soft", "timeo=30", "retrans=3", "actimeo=5"],
          persistent_volume_reclaim_policy: "Retain",
          persistent_volume_source: {
            csi: {
              driver: "nfs.csi.k8s.io",
              volume_attributes: { server: "10.0.10.15", share: "/mnt/main/vault-backup" },
              volume_handle: "vault-backup",
            },
          },
          storage_class_name: "nfs-truenas",
          volume_mode: "Filesystem",
        },
      ],
      lifecycle: { prevent_destroy: true },
    });
    expect(template.value(PVC, "spec")).toEqual({
      access_modes: ["ReadWriteMany"],
      resources: { requests: { storage: "5Gi" } },
      storage_class_name: "nfs-truenas",
      volume_name: "vault-backup",
    });
  });

  test("takes every name, labels and annotations apart from each other", () => {
    const template = Template.of((stack) => {
      const volume = new NfsBackupVolume(stack, "volume", {
        ...PROPS,
        claimName: "backup",
        volumeHandle: "nas#redis",
        labels: { team: "infra" },
        annotations: { note: "x" },
      });
      expect(volume.sentinel).toBe("backup");
      expect(volume.source).toEqual({ persistentVolumeClaim: { claimName: "backup" } });
    });
    const metadata = { labels: { team: "infra" }, annotations: { note: "x" } };
    expect(template.value(PV, "metadata")).toEqual({ name: "redis-backup", ...metadata });
    expect(template.value(PVC, "metadata")).toEqual({ name: "backup", namespace: "redis", ...metadata });
    expect(at(template.resource(PV), "spec.0.claim_ref")).toEqual({ name: "backup", namespace: "redis" });
    expect(at(template.resource(PV), "spec.0.persistent_volume_source.csi.volume_handle")).toBe("nas#redis");
    expect(template.value(PVC, "spec.volume_name")).toBe("redis-backup");
  });

  test("passes references through every check", () => {
    const template = Template.of((stack) => {
      const reference = (id: string): string => new TerraformVariable(stack, id, { type: "string" }).stringValue;
      new NfsBackupVolume(stack, "volume", {
        name: reference("name"),
        namespace: reference("namespace"),
        server: reference("server"),
        path: Fn.join("/", ["", "mnt", reference("pool")]),
        capacity: Quantity.parse(reference("capacity")),
        storageClassName: reference("class"),
        mountOptions: [reference("option")],
      });
    });
    expect(template.value(PVC, "metadata.namespace")).toBe("${var.namespace}");
    expect(at(template.resource(PV), "spec.0.persistent_volume_source.csi.volume_attributes")).toEqual({
      server: "${var.server}",
      share: '${join("/", ["", "mnt", var.pool])}',
    });
    expect(JSON.stringify(template.json)).not.toContain("TfToken");
  });

  test("makes two volumes in one stack", () => {
    const template = Template.of((stack) => {
      new NfsBackupVolume(stack, "redis", PROPS);
      new NfsBackupVolume(stack, "vault", { ...PROPS, name: "vault-backup", namespace: "vault", path: "/mnt/main/vault-backup" });
    });
    expect(template.addresses).toHaveLength(4);
    expect(template.value(PVC, "spec.volume_name", "vault-backup")).toBe("vault-backup");
  });

  test("fromClaimName makes nothing and mounts the claim", () => {
    const template = Template.of((stack) => {
      const volume = NfsBackupVolume.fromClaimName(stack, "existing", "vault-backup");
      expect(volume.source).toEqual({ persistentVolumeClaim: { claimName: "vault-backup" } });
      expect(volume.sentinel).toBe("vault-backup");
      expect(volume.nfs).toBeUndefined();
      expect(volume.prepareCommand(1000, 1000, "vault")).toMatch(/ # in the directory behind claim vault-backup$/);
    });
    expect(template.addresses).toEqual([]);
  });

  test("fromClaimName with the export asks for the same preparation as the volume itself", () => {
    const stack = testStack();
    const own = new NfsBackupVolume(stack, "own", PROPS);
    const existing = NfsBackupVolume.fromClaimName(stack, "existing", "redis-backup", { nfs: NfsExport.of(PROPS.server, PROPS.path) });
    expect(existing.prepareCommand(999, 999, "redis")).toBe(own.prepareCommand(999, 999, "redis"));
  });
});

describe("InlineNfsVolume", () => {
  test("is mounted without a claim", () => {
    const volume = InlineNfsVolume.of("10.0.10.15", "/mnt/main/broker-backup");
    expect(volume.source).toEqual({ nfs: { server: "10.0.10.15", path: "/mnt/main/broker-backup" } });
    expect(volume.sentinel).toBe("/mnt/main/broker-backup");
  });
});

describe("prepareCommand", () => {
  const directory = mkdtempSync(join(tmpdir(), "prepare-"));
  afterAll(() => rmSync(directory, { recursive: true }));

  /** Runs the command of a volume whose export is a directory of this machine. */
  function prepare(path: string, below?: string): void {
    const { uid, gid } = statSync(directory);
    execFileSync("/bin/sh", ["-euc", InlineNfsVolume.of("localhost", path).prepareCommand(uid, gid, below)]);
  }

  test("makes the directory, its mode and the sentinel", () => {
    const root = join(directory, "new");
    prepare(root, "redis/daily");
    expect(statSync(join(root, "redis/daily")).mode & 0o777).toBe(0o750);
    expect(statSync(root).mode & 0o555).toBe(0o555);
    expect(readFileSync(join(root, ".cdktf-backup-target"), "utf8")).toBe(root);
    expect(statSync(join(root, ".cdktf-backup-target")).mode & 0o777).toBe(0o444);
  });

  test("opens a root that only its owner could enter, and can be run twice", () => {
    const root = join(directory, "closed");
    mkdirSync(root);
    chmodSync(root, 0o700);
    prepare(root, "redis");
    // Whoever prepares an export is root, and root writes to it as it is.
    if (process.getuid?.() !== 0) chmodSync(join(root, ".cdktf-backup-target"), 0o644);
    prepare(root, "redis");
    expect(statSync(root).mode & 0o777).toBe(0o755);
  });

  test("prepares the root itself where the backup has no directory of its own", () => {
    const root = join(directory, "root");
    prepare(root);
    expect(statSync(root).mode & 0o777).toBe(0o750);
  });

  test("quotes what a shell would take apart", () => {
    const root = join(directory, "it's $HOME; `x`");
    prepare(root, "a b");
    expect(readFileSync(join(root, ".cdktf-backup-target"), "utf8")).toBe(root);
    expect(statSync(join(root, "a b")).isDirectory()).toBe(true);
  });

  test("is one line with the path, the owner and the sentinel", () => {
    const command = InlineNfsVolume.of("nas", "/mnt/main/redis-backup").prepareCommand(999, 1000, "redis");
    expect(command).toBe(
      "mkdir -p /mnt/main/redis-backup/redis && chown 999:1000 /mnt/main/redis-backup/redis && chmod 750 /mnt/main/redis-backup/redis && " +
        "chmod a+rx /mnt/main/redis-backup && printf %s /mnt/main/redis-backup > /mnt/main/redis-backup/.cdktf-backup-target && " +
        "chmod 444 /mnt/main/redis-backup/.cdktf-backup-target",
    );
  });
});

describe("NfsExport", () => {
  const data = NfsExport.of("nas", "/mnt/main/immich");

  test.each([
    ["/mnt/main/immich", true],
    ["/mnt/main/immich/backup", true],
    ["/mnt/main", true],
    ["/mnt/main/immich-backup", false],
    ["/mnt/other", false],
  ])("overlaps with %s: %s", (path, expected) => {
    expect(data.overlaps(NfsExport.of("nas", path))).toBe(expected);
    expect(NfsExport.of("nas", path).overlaps(data)).toBe(expected);
  });

  test("does not overlap with another server's, nor with what is not known yet", () => {
    expect(data.overlaps(NfsExport.of("other", "/mnt/main/immich"))).toBe(false);
    const path = new TerraformVariable(testStack(), "path", { type: "string" }).stringValue;
    expect(data.overlaps(NfsExport.of("nas", path))).toBe(false);
  });
});

describe("PodVolume", () => {
  test("is read-only and, for a claim, bound to one node unless told otherwise", () => {
    const claim = PodVolume.fromClaim("data");
    expect(claim).toMatchObject({ source: { persistentVolumeClaim: { claimName: "data" } }, readOnly: true, singleNode: true });
    expect(PodVolume.fromClaim("data", { accessMode: "ReadWriteMany" }).singleNode).toBe(false);
    expect(PodVolume.fromClaim("data", { readOnly: false, subPath: "a/b" })).toMatchObject({ readOnly: false, subPath: "a/b" });
  });

  test("comes from a host path that must exist, an export, a ConfigMap or a Secret", () => {
    expect(PodVolume.fromHostPath("/etc/kubernetes/pki").source).toEqual({ hostPath: { path: "/etc/kubernetes/pki", type: "Directory" } });
    expect(PodVolume.fromNfs("nas", "/mnt/a").source).toEqual({ nfs: { server: "nas", path: "/mnt/a" } });
    expect(PodVolume.fromConfigMap("scripts", { mode: "0555" }).source).toEqual({ configMap: { name: "scripts", defaultMode: "0555" } });
    expect(PodVolume.fromSecret("ca").source).toEqual({ secret: { secretName: "ca", defaultMode: "0444" } });
    const volumes = [PodVolume.fromHostPath("/a"), PodVolume.fromNfs("nas", "/a"), PodVolume.fromConfigMap("a"), PodVolume.fromSecret("a")];
    for (const volume of volumes) {
      expect(volume).toMatchObject({ readOnly: true, singleNode: false });
    }
  });

  test("knows where on the file server its data is", () => {
    expect(PodVolume.fromNfs("nas", "/mnt/a", { subPath: "b" }).nfs?.toString()).toBe("nas:/mnt/a/b");
    expect(PodVolume.fromClaim("data", { nfs: NfsExport.of("nas", "/mnt/a") }).nfs?.toString()).toBe("nas:/mnt/a");
    expect(PodVolume.fromClaim("data").nfs).toBeUndefined();
  });
});
