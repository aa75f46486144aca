/** Runs only where run.sh could fetch the provider; it says whether it could. */
import { Cluster } from "./cluster";
import { apply } from "./homelab";
import { mebibytes, namespacesOfServices, objectsOfJson, Peaks, SERVICES, synthesiseServices, timed } from "./scale";
import { TerraformFolder } from "./terraform";

describe(`${SERVICES} services, all in one state`, () => {
  let cluster: Cluster;
  beforeAll(async () => {
    cluster = await Cluster.start();
    await apply(cluster, namespacesOfServices);
  });
  afterAll(() => cluster?.stop());

  test("are synthesised, planned and applied by Terraform, and a second plan is empty", async () => {
    const { stacks, seconds, bytes } = await synthesiseServices("together");
    const json = stacks.get("services") ?? "";
    const objects = objectsOfJson(json).length;
    const folder = new TerraformFolder(cluster, "services", json);
    await folder.init();

    const peaks = new Peaks(["terraform", "tofu", "kube-apiserver"]);
    let changes = {};
    const planned = await timed(async () => (changes = await folder.plan()));
    expect(new Set(Object.values(changes))).toEqual(new Set(["create"]));
    expect(Object.keys(changes)).toHaveLength(objects);
    const applied = await timed(() => folder.apply());
    const again = await timed(async () => (changes = await folder.plan()));
    expect(changes).toEqual({});
    process.stderr.write(
      `${SERVICES} services, Terraform: synthesised in ${seconds.toFixed(1)} s, ${mebibytes(bytes)}; ${objects} resources planned in ${planned}, ` +
        `applied in ${applied}, planned again in ${again}; at most ${peaks.end()}\n`,
    );
  }, 900_000);
});
