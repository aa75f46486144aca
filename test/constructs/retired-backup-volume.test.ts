import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { TerraformStack } from "cdktf";
import { Construct } from "constructs";
import { NfsBackupVolume, removedWithoutTombstone, RetiredBackupVolume } from "../../constructs/storage";
import type { SynthesisedStack } from "../../constructs/storage";
import { ValidationError } from "../../lib/errors";
import { Template, testStack } from "../helpers/template";

const PROPS = { name: "redis-backup", namespace: "redis", server: "10.0.10.15", path: "/mnt/main/redis-backup" };
const WHY = { reason: "Redis holds a cache only", since: "2026-11-23" };

/** With its comments. */
function synthesise(build: (stack: TerraformStack) => void): SynthesisedStack {
  const stack = testStack();
  build(stack);
  return JSON.parse(JSON.stringify(stack.toTerraform())) as SynthesisedStack;
}

const withVolume = synthesise((stack) => new NfsBackupVolume(stack, "volume", PROPS));
const withTombstone = synthesise((stack) => new RetiredBackupVolume(stack, "volume", WHY));

describe("RetiredBackupVolume", () => {
  test("has the addresses of the volume in whose place it is", () => {
    const places: readonly (readonly [string, (stack: TerraformStack) => Construct])[] = [
      ["volume", (stack) => stack],
      ["redis-volume", (stack) => new Construct(new Construct(stack, "dbaas"), "redis")],
      ["Volume", (stack) => new Construct(stack, "Default")],
    ];
    for (const [id, place] of places) {
      const live = Template.of((stack) => new NfsBackupVolume(place(stack), id, PROPS)).addresses;
      expect([...new RetiredBackupVolume(place(testStack()), id, WHY).addresses].sort()).toEqual(live);
    }
  });

  test("renders no resource, lets go of the volume and its claim without destroying them, and says why and since when", () => {
    const comment = { "//": "retired on 2026-11-23: Redis holds a cache only" };
    expect(withTombstone.resource).toBeUndefined();
    expect(withTombstone.removed).toEqual([
      { ...comment, from: "kubernetes_persistent_volume_v1.volume_Volume_33B7C845", lifecycle: { destroy: false } },
      { ...comment, from: "kubernetes_persistent_volume_claim_v1.volume_Claim_6B83B8D4", lifecycle: { destroy: false } },
    ]);
  });

  test("stands beside other tombstones and volumes of the stack", () => {
    const { removed = [], resource = {} } = synthesise((stack) => {
      new RetiredBackupVolume(stack, "a", WHY);
      new RetiredBackupVolume(stack, "b", WHY);
      new NfsBackupVolume(stack, "volume", PROPS);
    });
    expect(removed.map(({ from }) => from.replace(/^.*\.([ab]_.*)_.*$/, "$1"))).toEqual(["a_Volume", "a_Claim", "b_Volume", "b_Claim"]);
    expect(Object.values(resource).flatMap(Object.keys).sort()).toEqual(["volume_Claim_6B83B8D4", "volume_Volume_33B7C845"]);
  });

  test("refuses to stand beside the volume that it retires", () => {
    const stack = testStack();
    new NfsBackupVolume(stack, "volume", PROPS);
    expect(() => new RetiredBackupVolume(stack, "volume", WHY)).toThrow("There is already a Construct with name 'volume'");
  });

  test.each([
    ["an empty reason", { ...WHY, reason: " " }, `'reason' must be one line that says why it is no longer needed, but got " "`],
    ["a reason of two lines", { ...WHY, reason: "a\nb" }, `'reason' must be one line that says why it is no longer needed, but got "a\\nb"`],
    ["a time", { ...WHY, since: "2026-11-23T00:00" }, `'since' must be a day, as in 2026-11-23, but got "2026-11-23T00:00"`],
    ["a day in another notation", { ...WHY, since: "23.11.2026" }, `'since' must be a day, as in 2026-11-23, but got "23.11.2026"`],
    ["a day that no month has", { ...WHY, since: "2026-02-30" }, `'since' must be a day, as in 2026-11-23, but got "2026-02-30"`],
  ])("refuses %s", (_description, props, problem) => {
    expect(() => new RetiredBackupVolume(testStack(), "volume", props)).toThrow(`test/volume: ${problem}`);
  });

  test("reports everything that is wrong at once", () => {
    try {
      new RetiredBackupVolume(testStack(), "the volume", { reason: "", since: "" });
      throw new Error("accepted");
    } catch (error) {
      if (!ValidationError.is(error)) throw error;
      expect(error.problems.map(({ property }) => property)).toEqual(["id", "reason", "since"]);
    }
  });
});

describe("removedWithoutTombstone", () => {
  const addresses = ["kubernetes_persistent_volume_claim_v1.volume_Claim_6B83B8D4", "kubernetes_persistent_volume_v1.volume_Volume_33B7C845"];
  const nothing = synthesise(() => undefined);

  test("names a volume and its claim that are gone", () => {
    expect([...removedWithoutTombstone(withVolume, nothing)].sort()).toEqual(addresses);
  });

  test("names both where the id was changed", () => {
    const renamed = synthesise((stack) => new NfsBackupVolume(stack, "another", PROPS));
    expect([...removedWithoutTombstone(withVolume, renamed)].sort()).toEqual(addresses);
  });

  test("names what a block destroys", () => {
    const removed = (withTombstone.removed ?? []).map(({ from }) => ({ from, lifecycle: { destroy: true } }));
    expect([...removedWithoutTombstone(withVolume, { removed })].sort()).toEqual(addresses);
  });

  test("names nothing where the volume is there, or its tombstone is, or nothing protected it", () => {
    expect(removedWithoutTombstone(withVolume, withVolume)).toEqual([]);
    expect(removedWithoutTombstone(withVolume, withTombstone)).toEqual([]);
    expect(removedWithoutTombstone({ resource: { kubernetes_cron_job_v1: { backup: {} } } }, nothing)).toEqual([]);
  });
});

/** Terraform's own resource type stands in for those of the provider: what is kept and what goes does not depend on the type. */
describe("read by Terraform", () => {
  const directory = mkdtempSync(join(tmpdir(), "retired-"));
  afterAll(() => rmSync(directory, { recursive: true }));

  /** Plans a stack's JSON, over what was applied before, and gives what becomes of each resource. */
  function plan({ resource = {}, removed = [] }: SynthesisedStack): { readonly [id: string]: string } {
    const data = Object.values(resource).flatMap((all) => Object.entries(all).map(([id, { lifecycle = {} }]) => [id, { lifecycle }] as const));
    const stack = {
      ...(data.length === 0 ? {} : { resource: { terraform_data: Object.fromEntries(data) } }),
      removed: removed.map((block) => ({ ...block, from: block.from.replace(/^\w+/, "terraform_data") })),
    };
    writeFileSync(join(directory, "main.tf.json"), JSON.stringify(stack));
    terraform("init", "-input=false", "-no-color");
    terraform("plan", "-input=false", "-no-color", "-out=plan");
    const { resource_changes: changes = [] } = JSON.parse(terraform("show", "-json", "plan")) as {
      readonly resource_changes?: readonly { readonly name: string; readonly change: { readonly actions: readonly string[] } }[];
    };
    return Object.fromEntries(changes.map(({ name, change }) => [name, change.actions.join()]));
  }

  function terraform(...args: readonly string[]): string {
    const env = { ...process.env, TF_IN_AUTOMATION: "1", CHECKPOINT_DISABLE: "1" };
    return execFileSync(program(), [`-chdir=${directory}`, ...args], { encoding: "utf8", stdio: "pipe", env });
  }

  test("it forgets what has a tombstone, destroys what has none, and is done once that is applied", () => {
    const backup = { kubernetes_cron_job_v1: { backup: {} } };
    const before = { resource: { ...withVolume.resource, ...backup } };
    expect(plan(before)).toEqual({ backup: "create", volume_Volume_33B7C845: "create", volume_Claim_6B83B8D4: "create" });
    terraform("apply", "-input=false", "-no-color", "plan");

    expect(() => terraform("destroy", "-auto-approve", "-input=false", "-no-color")).toThrow("prevent_destroy");
    // The reason for the tombstone.
    expect(plan({ resource: backup })).toEqual({ backup: "no-op", volume_Volume_33B7C845: "delete", volume_Claim_6B83B8D4: "delete" });

    expect(plan(withTombstone)).toEqual({ backup: "delete", volume_Volume_33B7C845: "forget", volume_Claim_6B83B8D4: "forget" });
    terraform("apply", "-input=false", "-no-color", "plan");
    expect(plan(withTombstone)).toEqual({});
    expect(plan({})).toEqual({});
  });

  test("it refuses a tombstone beside the volume that it is for", () => {
    expect(() => plan({ ...withTombstone, ...withVolume })).toThrow("still exists");
  });
});

/** The binary that reads the blocks in the end; its absence is a failure. */
function program(): string {
  for (const name of ["terraform", "tofu"]) {
    try {
      execFileSync(name, ["version"], { stdio: "ignore" });
      return name;
    } catch {
      // not there, or not usable; the next one may be
    }
  }
  throw new Error("neither 'terraform' nor 'tofu' runs from PATH; these tests cannot do without");
}
