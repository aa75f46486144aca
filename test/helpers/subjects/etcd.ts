import type { Subject } from "./subject";
import { randomBytes } from "node:crypto";
import { renameSync } from "node:fs";
import { join } from "node:path";
import { isDeepStrictEqual } from "node:util";
import { EtcdSnapshotBackup } from "../../../constructs/backup";
import { run, temporaryDirectory } from "../process";
import { Etcd, ETCD_IMAGE, Pki } from "../servers/etcd";
import { COMMON_SERVICES, synthesise } from "./subject";

/** A member of etcd with a kubeadm PKI. */
export async function startEtcd(): Promise<Subject> {
  const pki = await Pki.make();
  const data = join(temporaryDirectory("etcd-source"), "data");
  let server = await Etcd.start(pki, { data });
  const random = randomBytes(400_000).toString("base64");
  await server.fill(1500, (index) => [`/registry/pods/pod-${index}`, random.slice(index * 50, index * 50 + 1000)]);
  const wanted = await server.content();
  let port = 12_379;
  return {
    name: "etcd",
    synthesised: synthesise((stack, common) => {
      new EtcdSnapshotBackup(stack, "etcd", { ...common, image: ETCD_IMAGE });
    }),
    options: {
      volumes: { "/etc/kubernetes/pki": pki.path },
      services: COMMON_SERVICES,
      images: { [ETCD_IMAGE.repository]: { tools: ["etcd", "etcdctl"] } },
    },
    sourceFaults: [
      {
        name: "missing",
        reason: /etcd at https:\/\/127\.0\.0\.1:2379: .*ECONNREFUSED/,
        inject: async () => {
          await server.stop();
          return async () => {
            server = await Etcd.start(pki, { data });
          };
        },
      },
      {
        name: "without its certificate",
        reason: /healthcheck-client\.crt/,
        inject: () => {
          const path = pki.file("etcd/healthcheck-client.crt");
          renameSync(path, `${path}.away`);
          return Promise.resolve(() => renameSync(`${path}.away`, path));
        },
      },
    ],
    load: {
      write: (round) => server.put(`/load/${round % 500}`, random.slice(0, 1000)),
      undo: () => server.removeAll("/load/"),
    },
    restoreEqual: async ({ path }) => {
      const restored = await Etcd.restore(pki, join(path, "snapshot.db"), (port += 10));
      const found = await restored.content();
      await restored.stop("SIGKILL");
      if (!isDeepStrictEqual({ ...found, revision: 0 }, { ...wanted, revision: 0 })) {
        throw new Error("the keys that were restored differ from the source");
      }
      const directory = temporaryDirectory("restored-pki");
      await run("sh", ["-c", 'tar -xf "$0" -C "$1"', join(path, "pki.tar"), directory]);
      await run("diff", ["-r", pki.path, directory]);
    },
    stop: () => server.stop(),
  };
}
