import { join } from "node:path";
import { addForged, cut, decompressed, flip, forge, overwrite, proven, red, runDrill, TWENTIETHS, type DrillResult, type Forgery } from "../helpers/drill";
import type { FoundGeneration } from "../helpers/pod/target";
import { temporaryDirectory } from "../helpers/process";
import { makeBlocks, Prometheus } from "../helpers/servers/prometheus";
import { ARCHIVE, backUp, MADE, succeeded, synthesise } from "./prometheus-setup";

const json = synthesise();
let generation: FoundGeneration;

beforeAll(async () => {
  const data = join(temporaryDirectory("prometheus"), "data");
  makeBlocks(data, MADE);
  const server = await Prometheus.start({ data });
  try {
    await server.scraped();
    generation = succeeded(await backUp(data));
  } finally {
    // The drill needs nothing of it.
    await server.stop();
  }
});

/** Started by hand, as it is not always the first Sunday of a month. */
const jobName = "prometheus-drill-manual";
const drill = (forgery: Forgery = {}, synthesised = json): Promise<DrillResult> =>
  runDrill(synthesised, forge(synthesised, generation, forgery).target, { jobName });
const reason = async (forgery: Forgery, synthesised = json): Promise<string> => red(await drill(forgery, synthesised));

test.each(["dash", "busybox"] as const)("a server of its own gives back every sample, by %s", async (shell) => {
  const checks = proven(await runDrill(json, forge(json, generation).target, { shell, jobName }));
  expect(checks.join("\n")).toMatch(/samples/);
  expect(checks.length).toBeGreaterThan(1);
});

test("asks what it is told to", async () => {
  const asking = (expected: string): string => synthesise({ drill: { assertions: [{ query: "count(up)", expect: expected }] } });
  expect(proven(await drill({}, asking("1"))).at(-1)).toContain("count(up)");
  expect(await reason({}, asking("2"))).toContain("count(up)");
});

describe("is red where", () => {
  test("the snapshot is damaged at any twentieth, though the manifest has its hash", async () => {
    for (const at of TWENTIETHS) expect(await reason({ change: { [ARCHIVE]: overwrite(at) } })).not.toBe("");
  });

  test.each<[string, Forgery]>([
    ["half of it is missing", { change: { [ARCHIVE]: decompressed(cut(0.5)) } }],
    ["it is empty", { change: { [ARCHIVE]: decompressed(() => Buffer.alloc(0)) } }],
    ["one bit is flipped", { change: { [ARCHIVE]: flip(0.4) } }],
    ["it is from two months ago", { hoursOlder: 24 * 60 }],
  ])("%s", async (_, forgery) => {
    expect(await reason(forgery)).not.toBe("");
  });

  test("the newest generation is damaged, though an older one restores", async () => {
    const { target } = forge(json, generation, { hoursOlder: 1 });
    addForged(json, target, generation, { change: { [ARCHIVE]: cut(0.5) } });
    expect(red(await runDrill(json, target, { jobName }))).toContain("damaged");
  });
});
