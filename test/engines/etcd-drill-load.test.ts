import { DRILL_ROUNDS, proven, runDrill } from "../helpers/drill";
import { runCronJob } from "../helpers/pod";
import { succeeded } from "../helpers/pod/backup";
import { generationsOn, makeTarget } from "../helpers/pod/target";
import { Etcd, Pki } from "../helpers/servers/etcd";
import { base64, fill, IMAGES, KUBEADM_PKI, NAME, synthesise } from "./etcd-setup";

/** Clients that never stop writing. @returns what stops them */
function writers(etcd: Etcd): () => Promise<void> {
  let writing = true;
  const write = async (client: number): Promise<void> => {
    for (let round = 0; writing; round++) {
      await etcd.put(`/registry/leases/node-${client}`, `renewed ${round}`);
      await etcd.put(`/registry/pods/busy-${client}-${round % 50}`, "x".repeat(round % 4000));
      if (round % 10 === 9) await etcd.call("/v3/kv/deleterange", { key: base64(`/registry/pods/busy-${client}-${(round * 7) % 50}`) });
      // As busy as a cluster, and no busier: the drills need the machine, too.
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  };
  const clients = [0, 1, 2].map(write);
  return async () => {
    writing = false;
    await Promise.all(clients);
  };
}

test(`${DRILL_ROUNDS} of ${DRILL_ROUNDS} backups that were made while everything was written to are proven`, async () => {
  const pki = await Pki.make();
  const etcd = await Etcd.start(pki);
  await fill(etcd);
  const stop = writers(etcd);
  const revisions = new Set<unknown>();
  const backUp = async (round: number) => {
    const image = IMAGES[round % IMAGES.length] ?? IMAGES[0];
    const json = synthesise({ image: image?.image });
    const target = makeTarget(json, { name: NAME });
    const result = await runCronJob(json, { name: NAME, volumes: { [KUBEADM_PKI]: pki.path, [NAME]: target } });
    revisions.add(succeeded({ ...result, generations: generationsOn(json, target, NAME) }).manifest.fingerprint.revision);
    return { json, target, images: image && { [image.image.repository]: image.profile } };
  };
  try {
    // One drill at a time, as each has the same port of a pod of its own, and the next backup meanwhile.
    let next = backUp(0);
    for (let round = 1; round <= DRILL_ROUNDS; round++) {
      const { json, target, images } = await next;
      next = backUp(round);
      proven(await runDrill(json, target, { backup: NAME, pauseMs: 0, ...(images && { images }) }));
    }
    await next;
  } finally {
    await stop();
    await etcd.stop();
  }
  expect(revisions.size).toBe(DRILL_ROUNDS + 1);
}, 900_000);
