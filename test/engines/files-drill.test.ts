import { chmodSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { FileBackupProps } from "../../constructs/backup";
import { PodVolume } from "../../constructs/storage";
import type { Fingerprint, Manifest } from "../../lib/runtime/manifest";
import { DRILL_ROUNDS, forge, proven, red, runDrill } from "../helpers/drill";
import { makeTarget, withSettings } from "../helpers/pod/target";
import { chownTree, run, startProcess, temporaryDirectory, waitFor } from "../helpers/process";
import { backedUpLayouts, backUp, LAYOUTS, NAME, synthesise, USER } from "./files-setup";

const { jsonOf, generation, drill } = backedUpLayouts();

const room = (json: string, scratchBytes: number): string =>
  withSettings(json, (settings) => ({ ...settings, drill: { ...settings.drill, scratchBytes } as never }), `${NAME}-drill`);

describe.each(LAYOUTS)("a drill of the layout %s", (layout) => {
  test("restores all kinds of files as a whole, and reads them back", async () => {
    const result = await drill(layout);
    expect(proven(result)).toEqual([
      expect.stringMatching(/^data: 310 files, \d+ directories, 3 symbolic links, \d+ bytes restored as a whole and read back$/),
      "data: equal to the fingerprint in paths, modes, times, links and contents",
      "data: owners as they were",
    ]);
    expect(result.verdict).toMatchObject({ generation: generation(layout).name, restoreSeconds: expect.any(Number) as number });
  });

  test("restores a tree that is larger than its scratch space file by file", async () => {
    expect(proven(await drill(layout, {}, room(jsonOf[layout], 5_700_000)))[0]).toMatch(
      /bytes restored and read back file by file, as the scratch space is smaller$/,
    );
    expect(red(await drill(layout, {}, room(jsonOf[layout], 5_000_000)))).toMatch(
      /^the scratch space has room for 4\.5 MiB, and 5\.0 MiB are restored: enlarge the drill's size$/,
    );
  });

  test("is red when the fingerprint says something else in any of its facts", async () => {
    for (const fact of ["files", "directories", "symlinks", "bytes", "sha256", "attributes"]) {
      const change = ({ fingerprint, ...rest }: Manifest): Manifest => {
        const { [fact]: value, ...others } = fingerprint.data as Fingerprint;
        return { ...rest, fingerprint: { data: { ...others, [fact]: typeof value === "number" ? value + 1 : `${String(value)}0` } } };
      };
      expect(red(await drill(layout, { manifest: change }))).toMatch(new RegExp(`: data: ${fact} is .*, but was [^,]*$`));
    }
  });

  test("is red when a source is missing, or the generation is yesterday's", async () => {
    const more = synthesise({
      layout,
      sources: ["data", "mail"].map((name) => ({ name, volume: PodVolume.fromClaim(name, { accessMode: "ReadWriteMany" }) })),
    });
    expect(red(await drill(layout, {}, more))).toBe("the generation has no source mail");
    expect(red(await drill(layout, { hoursOlder: 27 }))).toMatch(/^the newest generation is 27\.0 h old, but may be \d+\.\d h at most$/);
  });

  test("is red when the generation is of another tree, or of an empty one", async () => {
    const other = temporaryDirectory("other", USER);
    writeFileSync(join(other, "file"), "other");
    chownTree(other, USER);
    const found = await backUp(jsonOf[layout], { data: other });
    const name = found.manifest.files[0]?.path ?? "";
    expect(red(await drill(layout, { change: { [name]: () => readFileSync(join(found.path, name)) } }))).toMatch(
      layout === "archive" ? /: data: files is 1, but was 310, / : /ENOENT: no such file or directory, open '.*\/data\/file'$/,
    );
    const none = { files: 0, directories: 1, symlinks: 0, bytes: 0, sha256: "", attributes: "" };
    expect(red(await drill(layout, { manifest: (manifest) => ({ ...manifest, fingerprint: { data: none } }) }))).toBe(
      "the source data is empty in the generation",
    );
  });

  test("is red where the data that are backed up can be reached", async () => {
    const sources = [{ name: "data", path: "/etc/cdktf-backup" }];
    const reaching = withSettings(jsonOf[layout], (settings) => ({ ...settings, engine: { ...settings.engine, sources } as never }), `${NAME}-drill`);
    expect(red(await drill(layout, {}, reaching))).toBe("/etc/cdktf-backup exists: a drill must not reach the data that is backed up");
  });
});

test("says which owners only root could give", async () => {
  const tree = temporaryDirectory("owners", USER);
  for (const name of ["a", "b"]) writeFileSync(join(tree, name), name);
  chownTree(tree, 0);
  const found = await backUp(jsonOf.archive, { data: tree });
  const { target } = forge(jsonOf.archive, found, {});
  expect(proven(await runDrill(jsonOf.archive, target)).at(-1)).toBe(
    "data: 3 paths belonged to other users and groups than 1000:1000, to whom they belong now; one is a (0:0)",
  );
});

test("a sparse file is restored with its holes", async () => {
  const sparse = temporaryDirectory("sparse", USER);
  writeFileSync(join(sparse, "image"), "beginning");
  await run("truncate", ["-s", "400M", join(sparse, "image")]);
  chownTree(sparse, USER);
  chmodSync(join(sparse, "image"), 0o600);
  const found = await backUp(jsonOf.archive, { data: sparse });
  const { target } = forge(jsonOf.archive, found, {});
  expect(proven(await runDrill(jsonOf.archive, target))[0]).toMatch(/1 files, 1 directories, 0 symbolic links, 419430400 bytes/);
});

/** Changes files of all kinds all the time: rewrites, appends, makes, removes, replaces by renaming. */
const WRITER = `cd "$0" && i=0 && while :; do i=$((i + 1))
  echo "$i" >rewritten; echo "$i" >>appended; echo "$i" >new.tmp; mv new.tmp replaced
  echo x >"made-$((i % 50))"; rm -f "made-$(((i + 25) % 50))"
  mkdir -p "dir-$((i % 5))"; echo y >"dir-$((i % 5))/f"; rm -rf "dir-$(((i + 3) % 5))"; done`;

const ROUNDS = Math.ceil(DRILL_ROUNDS / LAYOUTS.length);
test.each(LAYOUTS)(`under a busy writer all of ${ROUNDS} drills of the layout %s are green`, async (layout) => {
  const props: Partial<FileBackupProps> = { consistency: "crash-consistent", layout };
  const json = synthesise(props);
  const tree = temporaryDirectory("busy", USER);
  for (let file = 0; file < 100; file++) writeFileSync(join(tree, `still-${file}`), `${file}\n`);
  chownTree(tree, USER);
  const writer = await startProcess({ command: "sh", args: ["-c", WRITER, tree], uid: USER });
  await waitFor(() => readFileSync(join(tree, "still-0"), "utf8") === "0\n", "the writer");
  const states = new Set<string>();
  for (let round = 0; round < ROUNDS; round++) {
    const target = makeTarget(json);
    const { manifest } = await backUp(json, { data: tree }, target);
    proven(await runDrill(json, target));
    states.add(JSON.stringify(manifest.fingerprint));
  }
  await writer.stop("SIGKILL");
  // It did write meanwhile.
  expect(states.size).toBe(ROUNDS);
});
