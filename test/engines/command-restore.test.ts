import { copyFileSync, rmSync } from "node:fs";
import { forge, flip, decompressed, proven, refused, restored, runDrill, runRestore, type CompanionOptions, type Forgery, type RestoreResult } from "../helpers/drill";
import { generationsOn, type FoundGeneration } from "../helpers/pod/target";
import { run } from "../helpers/process";
import { stateOf } from "../helpers/tree-state";
import { backUp, contentOf, IMAGES, makeData, RESTORE, synthesise } from "./command-setup";

const json = synthesise();
const CONFIRM = "notes.db";
let generation: FoundGeneration;
let wanted: string;

beforeAll(async () => {
  const data = await makeData();
  wanted = await contentOf(data);
  generation = await backUp(json, data);
});

interface Given {
  readonly env?: NonNullable<CompanionOptions["env"]>;
  readonly forgery?: Forgery;
  readonly synthesised?: string;
}

async function restore(data: string, { env = {}, forgery = {}, synthesised = json }: Given = {}) {
  const { target } = forge(synthesised, generation, forgery, "notes");
  const result: RestoreResult = await runRestore(synthesised, target, { backup: "notes", images: IMAGES, volumes: { data }, env: { GENERATION: "newest", ...env } });
  return { result, target, generations: generationsOn(synthesised, target, "notes") };
}

describe("a restore", () => {
  test("brings back what was there, says what it found, and backs up what is there first", async () => {
    const data = await makeData(40);
    const before = await contentOf(data);
    const { result, generations } = await restore(data, { env: { CONFIRM } });
    const log = restored(result);
    expect(await contentOf(data)).toBe(wanted);
    expect(log).toContain("restore: loaded\n");
    expect(log).toContain("500 notes are there");
    expect(generations.map(({ manifest }) => manifest.purpose)).toEqual([undefined, "safety"]);
    // From which what was there can be had again.
    const { path } = generations[1] ?? generation;
    await run("sh", ["-ec", `zstd -dcq '${path}/notes.sql.zst' > '${data}/dump' && rm '${data}/notes.db' && sqlite3 '${data}/notes.db' < '${data}/dump'`]);
    await run("sh", ["-ec", `cd '${path}/pictures' && for file in *; do zstd -dcqf "$file" > '${data}/pictures/'"\${file%.zst}"; done`]);
    expect(await contentOf(data)).toBe(before);
  });

  test("where nothing is there needs no word", async () => {
    const data = await makeData(1);
    rmSync(`${data}/notes.db`);
    const { result, generations } = await restore(data);
    expect(restored(result)).toContain("plan: nothing is there yet");
    expect(generations).toHaveLength(1);
    expect(await contentOf(data)).toBe(wanted);
  });

  test("is of the newest generation that a drill proved", async () => {
    const data = await makeData(1);
    rmSync(`${data}/notes.db`);
    const { target } = forge(json, generation, {}, "notes");
    const options = { backup: "notes", images: IMAGES, volumes: { data } };
    expect(refused(await runRestore(json, target, options))).toMatch(/^no drill has proven any generation/);
    proven(await runDrill(json, target, { backup: "notes", images: IMAGES }));
    restored(await runRestore(json, target, options));
    expect(await contentOf(data)).toBe(wanted);
  });
});

describe("refuses, and changes nothing,", () => {
  let data: string;
  let before: ReturnType<typeof stateOf>;
  beforeAll(async () => {
    data = await makeData(40);
    before = stateOf(data);
  });
  afterEach(() => expect(stateOf(data)).toEqual(before));

  test("when it is only to say what it would do", async () => {
    const { result } = await restore(data, { env: { DRY_RUN: "true" } });
    expect(restored(result)).toContain(`dry run: nothing was changed; without DRY_RUN it needs CONFIRM="${CONFIRM}"`);
    expect(result.plan).toEqual([
      "notes.db is there, and is replaced",
      "give notes.sql, pictures to the restore's script, and have it look at what it made",
      "back up what is there first",
    ]);
  });

  test("to replace anything without a word, or with the wrong one", async () => {
    const refusal = `the target is not empty, and nothing was changed; to replace it, set CONFIRM to "${CONFIRM}"`;
    expect(refused((await restore(data)).result)).toBe(refusal);
    expect(refused((await restore(data, { env: { CONFIRM: "notes" } })).result)).toBe(refusal);
  });

  test("when an artefact is not what the program gave, though the manifest has its hash", async () => {
    const forgery: Forgery = { change: { "notes.sql.zst": decompressed(flip(0.5)) } };
    expect(refused((await restore(data, { env: { CONFIRM }, forgery })).result)).toMatch(/^what came back is not what was backed up: the artefacts: notes\.sql sha256/);
  });

  test("when the program cannot tell what is there", async () => {
    const synthesised = synthesise({ restore: { script: "echo cannot look >&2; exit 3\n" } });
    expect(refused((await restore(data, { env: { CONFIRM }, synthesised })).result)).toBe("target failed (exit status 3): cannot look");
  });

  test("when what is there cannot be backed up first", async () => {
    const moved = await makeData(5);
    copyFileSync(`${moved}/pictures/two`, `${moved}/notes.db`);
    const content = stateOf(moved);
    expect(refused((await restore(moved, { env: { CONFIRM } })).result)).toMatch(/^1 of 2 artefacts failed: notes\.sql /);
    expect(stateOf(moved)).toEqual(content);
  });
});

test.each([
  ["fails", RESTORE.replace("check) echo", "check) echo broken >&2; exit 1; echo"), /^check_restored failed \(exit status 1\): broken$/],
  ["says nothing", RESTORE.replace(/check\) .*/, "check) ;;"), /^the restore's script, when it was called with 'check', printed nothing: /],
])("a look at what was restored that %s is a failure", async (_how, script, reason) => {
  const data = await makeData(5);
  const { result } = await restore(data, { env: { CONFIRM }, synthesised: synthesise({ restore: { script } }) });
  expect(refused(result)).toMatch(reason);
});
