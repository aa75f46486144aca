import { execFileSync } from "node:child_process";
import {
  chmodSync,
  chownSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { createServer } from "node:net";
import { randomBytes } from "node:crypto";
import { join } from "node:path";
import fc from "fast-check";
import type { FileBackupProps } from "../../constructs/backup";
import { excluder } from "../../lib/runtime/glob";
import { runCronJob, startCronJob, type CronJobOptions, type PodResult } from "../helpers/pod";
import { generationsDirectory, generationsOn, makeTarget, type FoundGeneration, type TargetOptions } from "../helpers/pod/target";
import { chownTree, run, startProcess, temporaryDirectory, waitFor } from "../helpers/process";
import { manifoldTree, MIB, NAME, synthesise, USER } from "./files-setup";

/** A backup with a target of its own, to be run once or often. */
class Subject {
  public readonly json: string;
  public readonly target: string;

  public constructor(
    private readonly data: string,
    props: Partial<FileBackupProps> = {},
    options: TargetOptions = {},
  ) {
    this.json = synthesise({ drill: { none: "what is kept is counted here without one" }, ...props });
    this.target = makeTarget(this.json, options);
  }

  public get options(): CronJobOptions {
    return { volumes: { data: this.data, [NAME]: this.target } };
  }

  public get generations(): readonly FoundGeneration[] {
    return generationsOn(this.json, this.target);
  }

  public run(): Promise<PodResult> {
    return runCronJob(this.json, this.options);
  }

  /** @throws the log of a run that fails @returns the generation it made */
  public async succeed(): Promise<FoundGeneration> {
    const before = this.generations.map(({ name }) => name);
    const { ok, logs } = await this.run();
    const generation = this.generations.find(({ name }) => !before.includes(name));
    if (!ok || generation === undefined) throw new Error(logs.runner);
    // Generations of one second are in no order.
    await waitFor(() => Math.floor(Date.now() / 1000) * 1000 > Date.parse(generation.manifest.startedAt), "the next second");
    return generation;
  }

  /** The reason of a run that fails, after which nothing is on the target. */
  public async fail(): Promise<string> {
    const { exitCodes, logs } = await this.run();
    expect({ code: exitCodes.runner, generations: this.generations }).toEqual({ code: 1, generations: [] });
    const reasons = (logs.runner ?? "").split("\n").filter((line) => line.includes("backup failed: "));
    expect(reasons).toHaveLength(1);
    expect(readdirSync(generationsDirectory(this.json, this.target)).filter((name) => !name.startsWith(".lock"))).toEqual([]);
    return (reasons[0] ?? "").replace(/^.*backup failed: /, "");
  }
}

/** Extracts an archive as an administrator would. */
async function extract({ path }: FoundGeneration): Promise<string> {
  const directory = temporaryDirectory("restored");
  await run("sh", ["-ec", `zstd -q -dc '${join(path, "data.tar.zst")}' | tar -x -p -C '${directory}'`]);
  return directory;
}

/** One line for everything in a tree: kind, mode, owner, time, number of names, where it links to. */
async function listing(root: string, fields: string): Promise<readonly string[]> {
  const { stdout } = await run("find", [".", "-printf", `${fields} %p\\0`], { cwd: root });
  return stdout.split("\0").sort();
}

describe("layout archive", () => {
  let data: string;
  let generation: FoundGeneration;
  let restored: string;
  beforeAll(async () => {
    data = manifoldTree();
    generation = await new Subject(data).succeed();
    restored = await extract(generation);
  });

  test("GNU tar brings back every content, mode, owner, time and link", async () => {
    await run("diff", ["-r", "--no-dereference", data, restored]);
    const fields = "%y %#m %U:%G %Ts %n %l";
    expect(await listing(restored, fields)).toEqual(await listing(data, fields));
    expect(lstatSync(join(restored, "same")).ino).toBe(lstatSync(join(restored, "plain.txt")).ino);
  });

  test("the manifest says what there is, as find counts it", async () => {
    const count = async (...test: string[]): Promise<number> => (await run("find", [data, ...test, "-printf", "x"])).stdout.length;
    const bytes = await run("sh", ["-c", 'find "$0" -type f ! -name same -printf "%s\\n" | awk "{ n += \\$1 } END { print n }"', data]);
    expect(generation.manifest.fingerprint.data).toMatchObject({
      files: await count("-type", "f"),
      directories: await count("-type", "d"),
      symlinks: await count("-type", "l"),
      bytes: Number(bytes.stdout),
    });
  });

  test("a copy that was restored has the same facts as the source", async () => {
    const again = await new Subject(restored).succeed();
    expect(again.manifest.fingerprint).toEqual(generation.manifest.fingerprint);
  });

  test("what is neither file nor directory nor link is skipped and counted", async () => {
    const odd = temporaryDirectory("odd", USER);
    writeFileSync(join(odd, "file"), "x");
    execFileSync("mkfifo", [join(odd, "pipe")]);
    execFileSync("mknod", [join(odd, "device"), "c", "1", "3"]);
    const server = createServer().listen(join(odd, "socket"));
    await waitFor(() => server.listening, "the socket");
    const subject = new Subject(odd);
    const { logs } = await subject.run();
    server.close();
    expect(logs.runner).toMatch(/data: 1 files, 1 B, 3 sockets, pipes or devices skipped\n/);
    expect(readdirSync(await extract(subject.generations[0] as FoundGeneration))).toEqual(["file"]);
  });

  test("a sparse file is no larger for it, and its content comes back", async () => {
    const sparse = temporaryDirectory("sparse", USER);
    writeFileSync(join(sparse, "image"), "beginning");
    truncateSync(join(sparse, "image"), 200 * MIB);
    const found = await new Subject(sparse).succeed();
    expect(statSync(join(found.path, "data.tar.zst")).size).toBeLessThan(MIB);
    expect(readFileSync(join(await extract(found), "image")).equals(readFileSync(join(sparse, "image")))).toBe(true);
  });
});

describe("layout hard-linked", () => {
  const disk = async (...paths: string[]): Promise<number> =>
    Number((await run("sh", ["-c", 'du -sck "$@" | tail -n 1 | cut -f 1', "sh", ...paths])).stdout);

  test("every generation is a whole tree, and costs what changed", async () => {
    const data = manifoldTree();
    const subject = new Subject(data, { layout: "hard-linked" });
    const first = await subject.succeed();
    writeFileSync(join(data, "plain.txt"), "other content, in place");
    rmSync(join(data, "secret"));
    renameSync(join(data, "many"), join(data, "many more"));
    chownTree(data, USER);
    const before = readFileSync(join(first.path, "data", "plain.txt"), "utf8");
    const second = await subject.succeed();
    await run("diff", ["-r", "--no-dereference", data, join(second.path, "data")]);
    expect(readFileSync(join(first.path, "data", "plain.txt"), "utf8")).toBe(before);
    expect(statSync(join(first.path, "data", "secret")).size).toBe(1);
    expect(lstatSync(join(second.path, "data", "large.bin")).ino).toBe(lstatSync(join(first.path, "data", "large.bin")).ino);
    expect(lstatSync(join(second.path, "data", "same")).ino).toBe(lstatSync(join(second.path, "data", "plain.txt")).ino);
    // The large file is there once.
    expect((await disk(first.path, second.path)) - (await disk(first.path))).toBeLessThan(2500);
    const fields = "%y %Ts %l";
    const directoriesAside = (lines: readonly string[]): readonly string[] => lines.filter((line) => !line.startsWith("d "));
    expect(directoriesAside(await listing(join(second.path, "data"), fields))).toEqual(directoriesAside(await listing(data, fields)));
  });

  test("a file that is gone from the source is in the generations before, and retention takes no other's files", async () => {
    const data = temporaryDirectory("mail", USER);
    writeFileSync(join(data, "kept"), "k");
    writeFileSync(join(data, "deleted"), "d");
    chownTree(data, USER);
    const subject = new Subject(data, { layout: "hard-linked" });
    await subject.succeed();
    rmSync(join(data, "deleted"));
    const second = await subject.succeed();
    const [first] = subject.generations;
    expect(readFileSync(join(first?.path ?? "", "data", "deleted"), "utf8")).toBe("d");
    const third = await subject.succeed();
    expect(subject.generations.map(({ name }) => name)).toEqual([second.name, third.name]);
    expect(readFileSync(join(third.path, "data", "kept"), "utf8")).toBe("k");
    expect(statSync(join(third.path, "data", "kept")).nlink).toBe(2);
  });

  test("fails when the target is full, and leaves nothing", async () => {
    const data = temporaryDirectory("data", USER);
    for (let file = 0; file < 40; file++) writeFileSync(join(data, `${file}`), randomBytes(MIB / 2));
    chownTree(data, USER);
    const subject = new Subject(data, { layout: "hard-linked" }, { bytes: 8 * MIB });
    expect(await subject.fail()).toMatch(/^cannot write the backup: no space left \(ENOSPC\); on the file server run: /);
  });
});

describe.each(["archive", "hard-linked"] as const)("layout %s, of files that the pod may not read,", (layout) => {
  test("fails when there are some, names the first, and gives the command that mends all", async () => {
    const data = temporaryDirectory("data", USER);
    for (const name of ["a", "b", "d/c"]) {
      mkdirSync(join(data, name, ".."), { recursive: true });
      writeFileSync(join(data, name), name);
    }
    mkdirSync(join(data, "closed"), { mode: 0o700 });
    chownTree(data, USER);
    chownSync(join(data, "closed"), 0, 0);
    for (const name of ["b", "d/c"]) {
      chownSync(join(data, name), 0, 0);
      chmodSync(join(data, name), 0o600);
    }
    const subject = new Subject(data, { layout });
    const reason = await subject.fail();
    expect(reason).toMatch(
      /^\/source\/data\/\S+ \(owner 0:0, mode \d+\), and 2 more paths below \/source\/data, cannot be read by uid 1000, gid 1000; /,
    );
    const [, command = ""] = /run: (chgrp .*)$/.exec(reason) ?? [];
    await run("sh", ["-ec", command.replaceAll("/source/data", data)]);
    await subject.succeed();
  });
});

describe("of an application that goes on", () => {
  /** Changes files of all kinds all the time: rewrites, appends, makes, removes, replaces by renaming. */
  const WRITER = `cd "$0" && i=0 && while :; do i=$((i + 1))
    echo "$i" >rewritten; echo "$i" >>appended; echo "$i" >new.tmp; mv new.tmp replaced
    echo x >"made-$((i % 50))"; rm -f "made-$(((i + 25) % 50))"
    mkdir -p "dir-$((i % 5))"; echo y >"dir-$((i % 5))/f"; rm -rf "dir-$(((i + 3) % 5))"; done`;

  test.each(["archive", "hard-linked"] as const)(
    "layout %s is crash-consistent: each file is one that was there at some moment",
    async (layout) => {
      const data = temporaryDirectory("busy", USER);
      for (let file = 0; file < 2000; file++) writeFileSync(join(data, `still-${file}`), `${file}\n`);
      writeFileSync(join(data, "large"), randomBytes(8 * MIB));
      chownTree(data, USER);
      const writer = await startProcess({ command: "sh", args: ["-c", WRITER, data], uid: USER });
      await waitFor(() => readdirSync(data).includes("replaced"), "the writer");
      const generation = await new Subject(data, { consistency: "crash-consistent", layout }).succeed();
      await writer.stop("SIGKILL");
      const restored = layout === "archive" ? await extract(generation) : join(generation.path, "data");
      for (const name of ["rewritten", "replaced"]) expect(readFileSync(join(restored, name), "utf8")).toMatch(/^(\d+\n)?$/);
      expect(readFileSync(join(restored, "appended"), "utf8")).toMatch(/^(\d+\n)+$/);
      expect(readdirSync(restored).filter((name) => name.startsWith("still-"))).toHaveLength(2000);
      await run("cmp", [join(data, "large"), join(restored, "large")]);
    },
  );

  test("that says it is quiesced, fails and names what changed", async () => {
    const data = temporaryDirectory("busy", USER);
    for (let file = 0; file < 200; file++) writeFileSync(join(data, `still-${file}`), `${file}\n`);
    chownTree(data, USER);
    const writer = await startProcess({ command: "sh", args: ["-c", 'while :; do date +%N >"$0/ticker"; done', data], uid: USER });
    await waitFor(() => readdirSync(data).includes("ticker"), "the writer");
    const reason = await new Subject(data).fail();
    await writer.stop("SIGKILL");
    expect(reason).toMatch(
      /^(the source data was not quiet during the backup, these changed: ticker|\/source\/data\/ticker changed while it was read: .*)$/,
    );
  });
});

test("is told to stop in the middle of a tree, and ends", async () => {
  const data = temporaryDirectory("data", USER);
  writeFileSync(join(data, "large"), randomBytes(256 * MIB));
  chownTree(data, USER);
  const subject = new Subject(data);
  const pod = startCronJob(subject.json, subject.options);
  const directory = generationsDirectory(subject.json, subject.target);
  await waitFor(
    () => readdirSync(directory, { recursive: true, encoding: "utf8" }).some((name) => name.endsWith("data.tar.zst")),
    "the archive",
  );
  const at = Date.now();
  pod.kill({ container: "runner", signal: "SIGTERM" });
  const { exitCodes, logs } = await pod.done;
  expect(Date.now() - at).toBeLessThan(5000);
  expect(exitCodes.runner).toBe(143);
  expect(logs.runner).toMatch(/backup failed: stopped by SIGTERM\n/);
  expect(readdirSync(directory).filter((name) => !name.startsWith(".lock"))).toEqual([]);
});

test("patterns leave out what rclone leaves out", () => {
  const root = temporaryDirectory("patterns");
  const names = ["a", "b", "ab", "a.b", ".a", "a-b", "b[a]", "ä"];
  const paths: string[] = [];
  const fill = (at: string, depth: number): void => {
    for (const name of names) {
      const path = at === "" ? name : `${at}/${name}`;
      // Some are directories, the others files.
      if (depth > 0 && names.indexOf(name) % 2 === 0) {
        mkdirSync(join(root, path));
        fill(path, depth - 1);
      } else {
        writeFileSync(join(root, path), "");
        paths.push(path);
      }
    }
  };
  fill("", 2);
  const ours = (patterns: readonly string[]): string[] => {
    const excluded = excluder(patterns);
    const kept = (path: string): boolean =>
      path.split("/").every((_, at, parts) => !excluded(parts.slice(0, at + 1).join("/"), at < parts.length - 1));
    return paths.filter(kept).sort();
  };
  const theirs = (patterns: readonly string[]): string[] => {
    // Its patterns name files, or with a slash at the end directories; ours without one name both.
    const rules = patterns
      .map((pattern) => pattern.replace(/[[\]{}\\]/g, "\\$&"))
      .flatMap((pattern) => (pattern.endsWith("/") ? [pattern] : [pattern, `${pattern}/`]));
    const list = execFileSync("rclone", ["lsf", "-R", "--files-only", ...rules.map((rule) => `--exclude=${rule}`), root], {
      encoding: "utf8",
    });
    return list
      .split("\n")
      .filter((line) => line !== "")
      .sort();
  };
  const letters = fc.constantFrom("a", "b", ".", "*", "**", "?", "/", "-", "[a]", "ä", "a/", "/a");
  const pattern = fc
    .array(letters, { minLength: 1, maxLength: 5 })
    .map((parts) => parts.join(""))
    .filter((text) => !/\/\/|\*\*\*|^\/?$/.test(text));
  fc.assert(
    fc.property(fc.array(pattern, { minLength: 1, maxLength: 3 }), (patterns) => {
      expect(ours(patterns)).toEqual(theirs(patterns));
    }),
    { numRuns: 60 },
  );
});
