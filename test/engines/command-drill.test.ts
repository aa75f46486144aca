import { createHash } from "node:crypto";
import { generationsOn, makeTarget, type FoundGeneration } from "../helpers/pod/target";
import {
  addForged, cut, decompressed, DRILL_ROUNDS, flip, forge, overwrite, proven, red, runDrill, TWENTIETHS, withoutLastByte, type DrillResult, type Forgery,
} from "../helpers/drill";
import { startProcess } from "../helpers/process";
import { backUp, DRILL, IMAGES, makeData, synthesise } from "./command-setup";

const json = synthesise();
const DUMP = "notes.sql.zst";
let generation: FoundGeneration;

beforeAll(async () => {
  generation = await backUp(json, await makeData());
});

const on = (target: string, synthesised = json): Promise<DrillResult> => runDrill(synthesised, target, { backup: "notes", images: IMAGES });
const drill = (forgery: Forgery = {}, synthesised = json): Promise<DrillResult> => on(forge(synthesised, generation, forgery, "notes").target, synthesised);

/** An artefact in the place of the dump, with everything in the manifest told as if it were the program's. */
function made(text: string): Forgery {
  return { change: { [DUMP]: decompressed(() => Buffer.from(text)) }, manifest: (manifest) => ({ ...manifest, fingerprint: told(manifest.fingerprint, text) }) };
}

function told(fingerprint: FoundGeneration["manifest"]["fingerprint"], text: string): FoundGeneration["manifest"]["fingerprint"] {
  const sha256 = createHash("sha256").update(text).digest("hex");
  return { ...fingerprint, "notes.sql": { bytes: Buffer.byteLength(text), sha256 } };
}

describe("the owner's program", () => {
  test("restores what was backed up, and its words are the checks", async () => {
    expect(proven(await drill())).toEqual([
      "every byte of 2 artefacts is as the program gave it",
      "the restored database is sound",
      "500 notes came back",
    ]);
  });

  test("finds what is no whole database, though everything else is as it should be", async () => {
    expect(red(await drill(made("BEGIN;\nCREATE TABLE other (id);\nCOMMIT;\n")))).toMatch(/^drill failed \(exit status 1\): .*no such table: note/);
    expect(red(await drill(made("BEGIN;\nCREATE TABLE note (id);\nCOMMIT;\n")))).toMatch(/^drill failed \(exit status 1\): no note came back$/);
    expect(red(await drill(made("BEGIN;\nthis is no SQL;\nCOMMIT;\n")))).toMatch(/^drill failed \(exit status 1\): .*error here/);
  });

  test("that says nothing has looked at nothing", async () => {
    const silent = synthesise({ drill: { script: "exit 0\n" } });
    expect(red(await drill({}, silent))).toBe("the drill's script printed nothing: it has to print a line for each thing that it found to be as it should");
  });

  test("that fails in the middle of a pipe, or uses what is unset, is red", async () => {
    expect(red(await drill({}, synthesise({ drill: { script: `${DRILL}echo "$UNSET"\n` } })))).toMatch(/UNSET/);
    expect(red(await drill({}, synthesise({ drill: { script: `${DRILL}false\n` } })))).toMatch(/^drill failed \(exit status 1\)/);
  });

  test("is given nothing that leads to the data", async () => {
    const looking = synthesise({ drill: { script: '[ ! -e /data ] || { echo "the data are here" >&2; exit 1; }\necho "no data are here"\n' } });
    expect(proven(await drill({}, looking))).toContain("no data are here");
  });
});

test("without a program every byte is read back, and the verdict says that nothing was restored", async () => {
  const plain = synthesise({ drill: undefined });
  expect(proven(await drill({}, plain))).toEqual([
    "every byte of 2 artefacts is as the program gave it",
    "nothing was restored from them, as the drill has no script",
  ]);
  expect(red(await drill({ change: { [DUMP]: decompressed(flip(0.5)) } }, plain))).toMatch(/the artefacts: notes\.sql sha256 is/);
});

describe("is red where", () => {
  test("the dump is damaged at any twentieth, though the manifest has its hash", async () => {
    for (const at of TWENTIETHS) expect(red(await drill({ change: { [DUMP]: overwrite(at) } }))).toMatch(/damaged|the artefacts: /);
  });

  test("one bit of it was flipped at any twentieth before it was compressed", async () => {
    for (const at of TWENTIETHS) {
      expect(red(await drill({ change: { [DUMP]: decompressed(flip(at)) } }))).toMatch(/the artefacts: notes\.sql sha256 is|does not end with/);
    }
  });

  test.each<[string, Forgery, RegExp]>([
    ["the last byte of it is missing", { change: { [DUMP]: decompressed(withoutLastByte) } }, /the artefacts: notes\.sql bytes is/],
    ["half of it is missing", { change: { [DUMP]: decompressed(cut(0.5)) } }, /^it does not end with "COMMIT;"$/],
    ["it is empty", { change: { [DUMP]: decompressed(() => Buffer.alloc(0)) } }, /^0 bytes, at least 1 expected$/],
    ["a picture is another", { change: { "pictures/one.zst": decompressed(flip(0.3)) } }, /the artefacts: pictures sha256 is/],
    ["it is yesterday's", { hoursOlder: 30 }, /^the newest generation is 30\.\d h old, but may be/],
  ])("%s", async (_where, forgery, reason) => {
    expect(red(await drill(forgery))).toMatch(reason);
  });

  test("a picture is missing, of which the manifest does not speak", async () => {
    const forgery: Forgery = { manifest: (manifest) => ({ ...manifest, files: manifest.files.filter(({ path }) => path !== "pictures/two.zst") }) };
    expect(red(await drill(forgery))).toMatch(/the artefacts: pictures /);
  });

  test("the newest generation is damaged, though an older one restores", async () => {
    const { target } = forge(json, generation, { hoursOlder: 1 }, "notes");
    addForged(json, target, generation, { change: { [DUMP]: cut(0.5) } }, "notes");
    expect(red(await on(target))).toContain("damaged");
  });
});

test(`is green ${DRILL_ROUNDS} of ${DRILL_ROUNDS} times while the source is written to`, async () => {
  const data = await makeData();
  const insert = "PRAGMA busy_timeout = 10000; INSERT INTO note (text) VALUES (hex(randomblob(30)))";
  const writer = await startProcess({ command: "sh", args: ["-c", `while :; do sqlite3 "$0" "${insert}" >/dev/null; done`, `${data}/notes.db`] });
  const sizes = new Set<unknown>();
  for (let round = 0; round < DRILL_ROUNDS; round++) {
    const target = makeTarget(json);
    await backUp(json, data, target);
    proven(await on(target));
    sizes.add(JSON.stringify(generationsOn(json, target, "notes")[0]?.manifest.fingerprint));
  }
  await writer.stop("SIGKILL");
  expect(sizes.size).toBe(DRILL_ROUNDS);
}, 600_000);
