import {
  appendFileSync,
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import type { FileBackupProps } from "../../constructs/backup";
import { PodVolume } from "../../constructs/storage";
import { forge, refused, restored, runRestore, type CompanionOptions, type Forgery, type RestoreResult } from "../helpers/drill";
import { Resources, startCronJob } from "../helpers/pod";
import { generationsDirectory, makeTarget, mountTmpfs, type FoundGeneration } from "../helpers/pod/target";
import { chownTree, startProcess, temporaryDirectory, waitFor } from "../helpers/process";
import { asideIn, partOf, stateOf, without } from "../helpers/tree-state";
import { backUp, LAYOUTS, manifoldTree, MIB, NAME, synthesise, USER, type Layout } from "./files-setup";

const COLOCATED: Partial<FileBackupProps> = { colocateWith: { labels: { app: "cloud" } } };
const jsonOf = { archive: synthesise(COLOCATED), "hard-linked": synthesise({ ...COLOCATED, layout: "hard-linked" }) };
const STOP = "stop its application first: kubectl scale deployment,statefulset -n apps -l app=cloud --replicas=0";
const generationOf: { [layout in Layout]?: FoundGeneration } = {};
/** What the tree was when it was backed up. */
let wanted: ReturnType<typeof stateOf>;
let rootTime: number;

beforeAll(async () => {
  const data = manifoldTree();
  wanted = stateOf(data);
  rootTime = Math.floor(statSync(data).mtimeMs / 1000);
  for (const layout of LAYOUTS) generationOf[layout] = await backUp(jsonOf[layout], { data });
});

type Chosen = NonNullable<CompanionOptions["env"]>;

/** Restores the generation of a layout to a volume. */
function restore(layout: Layout, data: string, env: Chosen = {}, json = jsonOf[layout], forgery: Forgery = {}): Promise<RestoreResult> {
  const generation = generationOf[layout];
  if (generation === undefined) throw new Error(`there is no generation with the layout ${layout}`);
  const { target } = forge(json, generation, forgery);
  return runRestore(json, target, { volumes: { data }, env: { GENERATION: "newest", ...env } });
}

/** A tree to which much happened since it was backed up. */
function later(): string {
  const data = manifoldTree();
  rmSync(join(data, "many"), { recursive: true });
  writeFileSync(join(data, "plain.txt"), "another");
  chmodSync(join(data, "secret"), 0o644);
  mkdirSync(join(data, "new", "deep"), { recursive: true });
  writeFileSync(join(data, "new", "deep", "file"), "new");
  rmSync(join(data, "link"));
  writeFileSync(join(data, "link"), "no link any more");
  chownTree(data, USER);
  chmodSync(join(data, "new"), 0o500);
  return data;
}

describe.each(LAYOUTS)("a restore of the layout %s", (layout) => {
  test("brings the tree back as it was, and keeps what was there", async () => {
    const data = later();
    const before = stateOf(data);
    const log = restored(await restore(layout, data, { CONFIRM: "data" }));
    const kept = asideIn(data);
    expect(without(stateOf(data), kept)).toEqual(wanted);
    expect(stateOf(join(data, kept))).toEqual(before);
    expect(log).toMatch(/data: 310 files, \d+ bytes, equal to what was backed up in paths, modes, times, links and contents, are in \/source\/data\n/);
    expect(log).toContain(`what was there is in /source/data/${kept}: remove it once the application works`);
  });

  test("needs no word to restore to an empty volume, and gives its root the mode and time that it had", async () => {
    const data = temporaryDirectory("empty", USER);
    chmodSync(data, 0o700);
    restored(await restore(layout, data));
    expect(stateOf(data)).toEqual(wanted);
    const { mode, mtimeMs } = statSync(data);
    expect([mode & 0o7777, Math.floor(mtimeMs / 1000)]).toEqual([0o755, rootTime]);
  });

  test("leaves the mode and time of a root that belongs to others", async () => {
    const data = temporaryDirectory("empty", 0);
    chownSync(data, 0, USER);
    chmodSync(data, 0o2775);
    const log = restored(await restore(layout, data));
    expect(log).toContain("/source/data keeps its mode 2775 and its time, as it belongs to another user; its mode was 755");
    expect(Object.keys(stateOf(data))).toEqual(Object.keys(wanted));
  });

  test.each([
    ["a file", "plain.txt"],
    ["a directory", "many/3"],
    ["a link", "link"],
    ["an empty directory", "no-files"],
  ])("brings %s back alone", async (_, only) => {
    const data = later();
    const before = stateOf(data);
    const there = existsSync(join(data, only));
    restored(await restore(layout, data, { ONLY: only, CONFIRM: there ? `data/${only}` : "" }));
    const kept = there ? [asideIn(data)] : [];
    const top = only.split("/")[0] ?? "";
    // The other name of the file is another file now.
    const alone = (state: ReturnType<typeof stateOf>) => JSON.parse(JSON.stringify(state).replaceAll(/ \d"/g, '"')) as typeof state;
    expect(alone(partOf(stateOf(data), only))).toEqual(alone(partOf(wanted, only)));
    expect(alone(without(stateOf(data), top, ...kept))).toEqual(alone(without(before, top)));
    if (there) expect(alone(stateOf(join(data, kept[0] ?? "")))).toEqual(alone(partOf(before, only)));
    // A directory that was not there any more has the mode and time that it had.
    if (only === "many/3") expect(stateOf(data).many).toBe(wanted.many);
  });

  test("makes a file of its own of another name of a file that is not in it", async () => {
    const data = temporaryDirectory("empty", USER);
    restored(await restore(layout, data, { ONLY: "same" }));
    expect(readdirSync(data)).toEqual(["same"]);
    const { mode, mtimeMs, nlink } = statSync(join(data, "same"));
    expect([readFileSync(join(data, "same"), "utf8"), mode & 0o777, mtimeMs, nlink]).toEqual(["plain", 0o644, 1_000_000_000_000, 1]);
  });

  test("goes to a directory beside while the application writes", async () => {
    const data = later();
    const writer = await startProcess({ command: "sh", args: ["-c", 'while :; do date >>"$0/ticker"; sleep 0.1; done', data], uid: USER });
    restored(await restore(layout, data, { INTO: "look" }));
    expect(stateOf(join(data, "look"))).toEqual(wanted);
    expect(refused(await restore(layout, data, { INTO: "look" }))).toBe("INTO must name a directory that is new or empty, but /source/data/look is not");
    restored(await restore(layout, data, { INTO: "look2", ONLY: "many/6" }));
    expect(stateOf(join(data, "look2", "many/6"))).toEqual(stateOf(join(data, "look", "many/6")));
    expect(readdirSync(join(data, "look2"))).toEqual(["many"]);
    await writer.stop("SIGKILL");
  });

  test("refuses, and changes nothing, without the right word", async () => {
    const data = later();
    const before = stateOf(data);
    for (const CONFIRM of ["", "files-backup", "data/plain.txt"]) {
      expect(refused(await restore(layout, data, { CONFIRM }))).toBe('the target is not empty, and nothing was changed; to replace it, set CONFIRM to "data"');
    }
    expect(refused(await restore(layout, data, { ONLY: "secret", CONFIRM: "data" }))).toMatch(/set CONFIRM to "data\/secret"$/);
    const { plan, ok } = await restore(layout, data, { DRY_RUN: "true" });
    expect([ok, plan]).toEqual([
      true,
      [
        "write data (310 files, 5.4 MiB) beside what is there, and compare it with what was backed up",
        STOP,
        expect.stringMatching(/^keep what is there in \/source\/data\/\.cdktf-backup-replaced-\d{8}T\d{6}Z: .* and \d more$/),
        "put it into its place in /source/data",
      ],
    ]);
    expect(stateOf(data)).toEqual(before);
  });

  test("refuses, and changes nothing, while something writes", async () => {
    const data = later();
    const writer = await startProcess({ command: "sh", args: ["-c", 'while :; do date >>"$0/ticker"; sleep 0.5; done', data], uid: USER });
    await waitFor(() => existsSync(join(data, "ticker")), "the writer");
    const before = stateOf(data);
    expect(refused(await restore(layout, data, { CONFIRM: "data" }))).toBe(`something writes to /source/data: ${STOP}; nothing was changed`);
    await writer.stop("SIGKILL");
    expect(without(stateOf(data), "ticker")).toEqual(without(before, "ticker"));
  });

  test("refuses, and changes nothing, when a part is not there, or in the way", async () => {
    const data = later();
    symlinkSync("/etc", join(data, "many"));
    const before = stateOf(data);
    expect(refused(await restore(layout, data, { ONLY: "none" }))).toBe('there is no "none" in the generation');
    expect(refused(await restore(layout, data, { ONLY: "../x" }))).toBe('ONLY must be a path below the tree\'s root, but is "../x"');
    expect(refused(await restore(layout, data, { SOURCE: "mail" }))).toBe('SOURCE must be one of data, but is "mail"');
    expect(refused(await restore(layout, data, { ONLY: "many/6/6.txt" }))).toBe(
      "/source/data/many is not a directory, and many/6/6.txt belongs into it",
    );
    expect(stateOf(data)).toEqual(before);
  });

  test("refuses, and changes nothing, when the volume has no room for both, or is another user's", async () => {
    const small = temporaryDirectory("small");
    mountTmpfs(small, 4 * MIB);
    chownSync(small, USER, USER);
    expect(refused(await restore(layout, small))).toMatch(/^\/source\/data has 4\.0 MiB free, and 5\.4 MiB are written beside what is there: /);
    expect(readdirSync(small)).toEqual([]);
    const data = later();
    chownTree(data, 0);
    const before = stateOf(data);
    expect(refused(await restore(layout, data, { CONFIRM: "data" }))).toBe(
      "/source/data (owner 0:0, mode 755) cannot be replaced by uid 1000, gid 1000: let the restore run as its owner (the backup's 'restore: { runAs }')",
    );
    expect(stateOf(data)).toEqual(before);
  });

  test("that is ended by TERM, or by a crash, leaves everything as it was; the next one clears up", async () => {
    const json = jsonOf[layout];
    const data = later();
    writeFileSync(join(data, "huge"), Buffer.alloc(150 * MIB, "x"));
    chownSync(join(data, "huge"), USER, USER);
    const target = makeTarget(json);
    await backUp(json, { data }, target);
    const before = stateOf(data);
    const start = () => startCronJob(json, { name: `${NAME}-restore`, volumes: { data, [NAME]: target }, env: { GENERATION: "newest", CONFIRM: "data" } });
    const left = (): string[] => readdirSync(data).filter((name) => name.startsWith(".cdktf-backup-"));
    const begun = (): boolean => left().some((name) => existsSync(join(data, name, "tree", "huge")));

    const told = start();
    await waitFor(begun, "the restore to have begun", 30, 2);
    told.delete();
    expect((await told.done).exitCodes.runner).toBe(143);
    expect(stateOf(data)).toEqual(before);

    const crashed = start();
    await waitFor(begun, "the restore to have begun", 30, 2);
    crashed.kill();
    await crashed.done;
    expect(left()).toHaveLength(1);
    expect(without(stateOf(data), ...left())).toEqual(before);
    const lock = readdirSync(generationsDirectory(json, target)).find((name) => name.startsWith(".lock.")) ?? "";
    rmSync(join(generationsDirectory(json, target), lock));
    expect((await start().done).ok).toBe(true);
    expect(without(stateOf(data), asideIn(data))).toEqual(before);
  });
});

test("what the backup leaves out stays in the root, and a restore's leavings are in no backup", async () => {
  const json = synthesise({ exclude: ["*.log", "/lost+found/", "cache/"] });
  const data = temporaryDirectory("data", USER);
  for (const name of ["kept", "app.log", "d/inner.log", "d/file", "cache/x"]) {
    mkdirSync(join(data, name, ".."), { recursive: true });
    writeFileSync(join(data, name), name);
  }
  chownTree(data, USER);
  mkdirSync(join(data, "lost+found"), { mode: 0o700 });
  const target = makeTarget(json);
  const first = await backUp(json, { data }, target);
  appendFileSync(join(data, "kept"), "changed");
  const env = { GENERATION: "newest", CONFIRM: "data" };
  restored(await runRestore(json, target, { volumes: { data }, env }));
  expect(readdirSync(data).sort()).toEqual([asideIn(data), "app.log", "cache", "d", "kept", "lost+found"]);
  expect(readdirSync(join(data, "d"))).toEqual(["file"]);
  expect(readdirSync(join(data, asideIn(data), "d")).sort()).toEqual(["file", "inner.log"]);
  const second = await backUp(json, { data }, target);
  // The root's own time is another.
  const facts = ({ manifest }: FoundGeneration): object => ({ ...(manifest.fingerprint.data as object), attributes: "" });
  expect(facts(second)).toEqual(facts(first));
});

describe("of several trees", () => {
  const claim = (name: string): PodVolume => PodVolume.fromClaim(name, { accessMode: "ReadWriteMany" });
  const json = synthesise({ sources: ["data", "mail"].map((name) => ({ name, volume: claim(name) })) });
  const tree = (content: string): string => {
    const root = temporaryDirectory(content, USER);
    writeFileSync(join(root, "file"), content);
    chownTree(root, USER);
    utimesSync(join(root, "file"), 1_000_000_000, 1_000_000_000);
    return root;
  };

  test("all or one are restored", async () => {
    const volumes = { data: tree("data"), mail: tree("mail") };
    const target = makeTarget(json);
    await backUp(json, volumes, target);
    const content = (name: keyof typeof volumes): string => readFileSync(join(volumes[name], "file"), "utf8");
    const change = (): void => Object.values(volumes).forEach((root) => writeFileSync(join(root, "file"), "changed"));
    const go = (env: Chosen) => runRestore(json, target, { volumes, env: { GENERATION: "newest", ...env } });
    change();
    expect(refused(await go({}))).toMatch(/set CONFIRM to "data,mail"$/);
    expect(refused(await go({ ONLY: "file" }))).toBe("ONLY needs SOURCE, one of data, mail");
    restored(await go({ SOURCE: "mail", CONFIRM: "mail" }));
    expect([content("data"), content("mail")]).toEqual(["changed", "mail"]);
    rmSync(join(volumes.mail, asideIn(volumes.mail)), { recursive: true });
    change();
    restored(await go({ CONFIRM: "data,mail" }));
    expect([content("data"), content("mail")]).toEqual(["data", "mail"]);
  });

  test("none is restored where one cannot be", async () => {
    const volumes = { data: tree("data"), mail: tree("mail") };
    const target = makeTarget(json);
    await backUp(json, volumes, target);
    writeFileSync(join(volumes.data, "file"), "changed");
    mkdirSync(join(volumes.mail, "of root"));
    writeFileSync(join(volumes.mail, "of root", "x"), "x");
    const env = { GENERATION: "newest", CONFIRM: "data,mail" };
    expect(refused(await runRestore(json, target, { volumes, env }))).toMatch(/^\/source\/mail\/of root \(owner 0:0, mode 755\) cannot be replaced/);
    expect(readFileSync(join(volumes.data, "file"), "utf8")).toBe("changed");
  });
});

test.each(LAYOUTS)("of a generation that is not what its fingerprint says, nothing is restored (%s)", async (layout) => {
  const data = later();
  const before = stateOf(data);
  const manifest: Forgery["manifest"] = ({ fingerprint, ...rest }) => ({ ...rest, fingerprint: { data: { ...(fingerprint.data as object), bytes: 7 } } });
  expect(refused(await restore(layout, data, { CONFIRM: "data" }, jsonOf[layout], { manifest }))).toMatch(
    /^what came back is not what was backed up: data: bytes is \d+, but was 7$/,
  );
  expect(stateOf(data)).toEqual(before);
});

test("of a damaged tree nothing is restored", async () => {
  const data = later();
  const before = stateOf(data);
  const json = jsonOf["hard-linked"];
  const generation = generationOf["hard-linked"];
  if (generation === undefined) throw new Error("there is no generation");
  const { target, generation: forged } = forge(json, generation);
  writeFileSync(join(forged.path, "data", "many", "3", "101.txt"), "damaged");
  const env = { GENERATION: "newest", CONFIRM: "data" };
  expect(refused(await runRestore(json, target, { volumes: { data }, env }))).toMatch(/^many\/3\/101\.txt is damaged: /);
  expect(stateOf(data)).toEqual(before);
});

test("a snapshot is restored to the volume that it was taken of, or has no restore", () => {
  const names = (props: Partial<FileBackupProps>): readonly string[] => new Resources(synthesise(props)).names("kubernetes_cron_job_v1");
  const volume = PodVolume.fromClaim("snapshot", { accessMode: "ReadWriteMany" });
  const sources = [{ name: "data", volume }];
  expect(names({ consistency: "snapshot", sources })).not.toContain(`${NAME}-restore`);
  const restoreTo = PodVolume.fromClaim("live", { accessMode: "ReadWriteMany" });
  const json = synthesise({ consistency: "snapshot", sources: [{ name: "data", volume, restoreTo }] });
  expect(new Resources(json).names("kubernetes_cron_job_v1")).toContain(`${NAME}-restore`);
});
