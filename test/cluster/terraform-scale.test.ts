/** Runs only where run.sh could fetch the provider; it says whether it could. */
import { availableParallelism } from "node:os";
import { Cluster } from "./cluster";
import { apply } from "./homelab";
import { namespacesOfServices, Peaks, synthesiseServices, timed } from "./scale";
import { TerraformFolder } from "./terraform";

/** How many of the services: each is a state of its own, so that the time grows with their number alone. */
const SERVICES = Number(process.env["SCALE_TERRAFORM"] ?? "10");
const AT_ONCE = availableParallelism();

describe(`${SERVICES} services, a state for each`, () => {
  let cluster: Cluster;
  beforeAll(async () => {
    cluster = await Cluster.start();
    await apply(cluster, namespacesOfServices);
  });
  afterAll(() => cluster?.stop());

  test("are planned and applied by Terraform, and a second plan is empty", async () => {
    const stacks = [...(await synthesiseServices()).stacks].slice(0, SERVICES);
    expect(stacks).toHaveLength(SERVICES);
    const folders = stacks.map(([id, json]) => new TerraformFolder(cluster, id, json));
    const peaks = new Peaks(["terraform", "tofu", "kube-apiserver"]);
    const all = (work: (folder: TerraformFolder) => Promise<unknown>): Promise<string> =>
      timed(async () => {
        const left = [...folders];
        await Promise.all(
          Array.from({ length: AT_ONCE }, async () => {
            for (let folder = left.pop(); folder !== undefined; folder = left.pop()) await work(folder);
          }),
        );
      });
    const initialised = await all((folder) => folder.init());
    const planned = await all(async (folder) => expect(new Set(Object.values(await folder.plan()))).toEqual(new Set(["create"])));
    const applied = await all((folder) => folder.apply());
    const again = await all(async (folder) => expect(await folder.plan()).toEqual({}));
    process.stderr.write(
      `${SERVICES} services, Terraform, ${AT_ONCE} at once: initialised in ${initialised}; planned in ${planned}; applied in ${applied}; ` +
        `planned again in ${again}; at most ${peaks.end()}\n`,
    );
  }, 900_000);
});
