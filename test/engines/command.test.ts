import { createHash } from "node:crypto";
import { copyFileSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { CommandBackup, SecretRef, type Artefact } from "../../constructs/backup";
import { NfsBackupVolume } from "../../constructs/storage";
import { ImageReference } from "../../lib/image-reference";
import { Retention } from "../../lib/retention";
import { CommandEngine } from "../../lib/runtime/engines/command";
import type { CommandArtefact } from "../../lib/runtime/engines/command-artefacts";
import { Schedule } from "../../lib/schedule";
import { withAgent, type AgentRun } from "../helpers/agent-run";
import { runCronJob, type CronJobOptions, type PodResult } from "../helpers/pod";
import { generationsOn, makeTarget, type FoundGeneration } from "../helpers/pod/target";
import { run as runProgram, temporaryDirectory } from "../helpers/process";
import { Template } from "../helpers/template";

const REPOSITORY = "registry.example.com/tools/exporter";
const TOOLS = ["sh", "sleep", "cat", "mkdir", "ln", "seq", "sed"];

interface Backup extends PodResult {
  readonly generations: readonly FoundGeneration[];
}

interface Options extends CronJobOptions {
  /** Size of the target. @default - the host's */
  readonly targetBytes?: number;
}

async function backUp(script: string, artefacts: readonly Artefact[], options: Options = {}): Promise<Backup> {
  const template = Template.of((stack) => {
    new CommandBackup(stack, "export", {
      namespace: "app",
      volume: new NfsBackupVolume(stack, "volume", { name: "app-backup", namespace: "app", server: "10.0.10.15", path: "/mnt/main/app" }),
      schedule: Schedule.cron("0 3 * * 0"),
      retention: Retention.keepDays(30),
      image: ImageReference.parse(`${REPOSITORY}:1.2.3`),
      runAs: { uid: 1234, gid: 1234 },
      env: { GREETING: "hello", TOKEN: SecretRef.of("app", "token") },
      script,
      artefacts,
    });
  });
  const json = JSON.stringify(template.json);
  const target = makeTarget(json, { bytes: options.targetBytes });
  const result = await runCronJob(json, {
    volumes: { "app-backup": target },
    secrets: { app: { token: "t0ken" } },
    images: { [REPOSITORY]: { tools: TOOLS } },
    ...options,
  });
  return { ...result, generations: generationsOn(json, target) };
}

function succeeded({ ok, logs, generations }: Backup): FoundGeneration {
  const [generation] = generations;
  if (!ok || generation === undefined) throw new Error(JSON.stringify(logs, undefined, 2));
  return generation;
}

/** The reason of a failed run, after which nothing is on the target. */
function failure({ ok, logs, exitCodes, generations }: Backup): string {
  expect({ ok, runner: exitCodes.runner, generations }).toEqual({ ok: false, runner: 1, generations: [] });
  return /backup failed: (.*)\n/.exec(logs.runner ?? "")?.[1] ?? "";
}

async function contentOf({ path }: FoundGeneration, name: string): Promise<string> {
  if (!name.endsWith(".zst")) return readFileSync(join(path, name), "utf8");
  return (await runProgram("zstd", ["-dc", join(path, name)])).stdout;
}

const sha256 = (text: string): string => createHash("sha256").update(text).digest("hex");

describe("a program", () => {
  test("that writes to its standard output is backed up, with what it wrote as the fingerprint", async () => {
    const generation = succeeded(await backUp('echo "$GREETING"; seq 1 5000\n', [{ name: "numbers.txt" }]));
    const text = await contentOf(generation, "numbers.txt.zst");
    expect(text).toBe(`hello\n${Array.from({ length: 5000 }, (_, i) => `${i + 1}\n`).join("")}`);
    expect(generation.manifest.fingerprint).toEqual({ "numbers.txt": { bytes: text.length, sha256: sha256(text) } });
    expect(generation.manifest.checks).toEqual(["read back from the target and equal to what the program gave: 1 files"]);
  });

  test("arrives as it was written, whatever Terraform, the kubelet and a shell make of its characters", async () => {
    const script = "A='%{x} ${y} $${z} $(GREETING) $$ \\n'\nprintf '%s' \"$A ${1} $GREETING\"\n";
    const generation = succeeded(await backUp(script, [{ name: "text", compress: false }]));
    expect(await contentOf(generation, "text")).toBe("%{x} ${y} $${z} $(GREETING) $$ \\n text hello");
  });

  test.each(["dash", "busybox", "bash"] as const)("yields streams, files and directories in one run (%s)", async (shell) => {
    const script = `case $1 in
      stream) echo one ;;
      file.json) echo '{"two": 2}' > "$OUT" ;;
      tree) mkdir -p "$OUT/a/b" && echo three > "$OUT/a/b/c d" && echo four > "$OUT/e" && echo "made a tree" ;;
    esac`;
    const artefacts: readonly Artefact[] = [
      { name: "stream" },
      { name: "file.json", from: "file", compress: false },
      { name: "tree", from: "directory" },
    ];
    const result = await backUp(script, artefacts, { shell });
    const generation = succeeded(result);
    const files = generation.manifest.files.map(({ path }) => path);
    expect(files).toEqual(["stream.zst", "file.json", "tree/a/b/c d.zst", "tree/e.zst"]);
    const contents = await Promise.all(files.map((path) => contentOf(generation, path)));
    expect(contents).toEqual(["one\n", '{"two": 2}\n', "three\n", "four\n"]);
    const listing = `${sha256("three\n")}  tree/a/b/c d\n${sha256("four\n")}  tree/e\n`;
    expect(generation.manifest.fingerprint).toEqual({
      stream: { bytes: 4, sha256: sha256("one\n") },
      "file.json": { bytes: 11, sha256: sha256('{"two": 2}\n') },
      tree: { files: 2, bytes: 11, sha256: sha256(listing) },
    });
    expect(result.logs.runner).toMatch(/tree: made a tree\n/);
  });

  test("finds nothing on its standard input, and secrets only in its environment", async () => {
    const result = await backUp('cat; printf "%s %s" "${#TOKEN}" "$#"', [{ name: "text", compress: false }]);
    expect(await contentOf(succeeded(result), "text")).toBe("5 1");
    for (const log of Object.values(result.logs)) expect(log).not.toContain("t0ken");
  });

  test("may leave its own traps, options and exits behind without harm to the next artefact", async () => {
    const script = `set +e; trap 'exit 0' TERM; echo "$1"; exec 0<&-; if [ "$1" = first ]; then exit 0; fi`;
    const generation = succeeded(await backUp(script, [{ name: "first" }, { name: "second" }]));
    expect(await contentOf(generation, "second.zst")).toBe("second\n");
  });
});

describe("fails when", () => {
  test("one command of the program fails, though its last one does not", async () => {
    expect(failure(await backUp("echo before; false; echo after", [{ name: "text" }]))).toMatch(
      /^1 of 1 artefacts failed: text \(dump failed \(exit status 1\)\)$/,
    );
  });

  test("a variable is not set", async () => {
    expect(failure(await backUp('echo "$NO_SUCH"', [{ name: "text" }]))).toMatch(/NO_SUCH: parameter not set/);
  });

  test.each(["busybox", "bash"] as const)("a command in a pipe fails, where the shell can tell (%s)", async (shell) => {
    const reason = failure(await backUp("{ echo 'connection lost' >&2; false; } | cat", [{ name: "text", minBytes: 0 }], { shell }));
    expect(reason).toBe("1 of 1 artefacts failed: text (dump failed (exit status 1): connection lost)");
  });

  test("any artefact fails, and names every one that did, with its last words", async () => {
    const script = `case $1 in
      good) echo good ;;
      bad) echo "working" >&2; echo "no such table" >&2; exit 7 ;;
      missing) : ;;
      short) echo 123 ;;
      cut) echo "half of it" ;;
    esac`;
    const artefacts = [
      { name: "bad" },
      { name: "good" },
      { name: "missing", from: "file" },
      { name: "short", minBytes: 5 },
      { name: "cut", trailer: "-- end\n" },
    ] as const;
    expect(failure(await backUp(script, artefacts))).toBe(
      "4 of 5 artefacts failed: bad (dump failed (exit status 7): no such table), missing (the program left nothing at $OUT), " +
        'short (4 bytes, at least 5 expected), cut (it does not end with "-- end\\n")',
    );
  });

  test("nothing is written, by default", async () => {
    expect(failure(await backUp(":", [{ name: "text" }]))).toBe("1 of 1 artefacts failed: text (0 bytes, at least 1 expected)");
    expect(failure(await backUp(":", [{ name: "tree", from: "directory" }]))).toMatch(/tree \(0 bytes, at least 1 expected\)$/);
  });

  test("a directory holds what a copy of its files would lose", async () => {
    const script = 'mkdir "$OUT/empty" "$OUT/full" && echo x > "$OUT/full/file" && ln -s full/file "$OUT/link"';
    const reason = "tree (neither a regular file nor a directory with files: empty, link)";
    expect(failure(await backUp(script, [{ name: "tree", from: "directory" }]))).toContain(reason);
  });

  test("a link is left in the place of a file", async () => {
    const reason = failure(await backUp('ln -s /etc/passwd "$OUT"', [{ name: "passwd", from: "file" }]));
    expect(reason).toContain("passwd (the program left no regular file at $OUT)");
  });

  test("the program does not parse, before anything is run", async () => {
    const result = await backUp("echo started\nif true; then\n", [{ name: "text" }]);
    expect(failure(result)).toMatch(/^check failed \(exit status 2\): .*script\.sh: .*[Ss]yntax error/);
  });

  test("the target is full, and says so rather than that the program could not write", async () => {
    const artefacts = [{ name: "noise", compress: false }];
    const reason = failure(await backUp("cat /dev/urandom", artefacts, { targetBytes: 8_000_000 }));
    expect(reason).toMatch(/^cannot write the backup: no space left \(ENOSPC\)/);
  });

  test("the program is killed", async () => {
    const kill = { container: "engine", process: "cat" };
    const reason = failure(await backUp("echo begun; cat /dev/zero > /dev/null; echo ended", [{ name: "text" }], { kill }));
    expect(reason).toContain("text (dump failed (exit status 137)");
  });
});

describe("between the steps of a run", () => {
  /** A run with a program, in which a test can take part. */
  async function withProgram<T>(script: string, work: (run: AgentRun) => Promise<T>): Promise<T> {
    const directory = temporaryDirectory("program");
    writeFileSync(join(directory, "script.sh"), script);
    for (const name of ["command.sh", "program.sh"]) copyFileSync(resolve(__dirname, "../../lib/scripts", name), join(directory, name));
    return withAgent({ env: { ENGINE_SCRIPT: join(directory, "command.sh") } }, work);
  }
  const text: CommandArtefact = { name: "text", from: "stream", compress: true, minBytes: 1 };
  const tree: CommandArtefact = { ...text, name: "tree", from: "directory" };

  test("any exit status but 0 fails the run, whatever was written", async () => {
    // The stream's $OUT is free, and tells the program how to end.
    await withProgram('echo whole; exit "$(cat "$OUT")"', async ({ run, directory, out }) => {
      const engine = new CommandEngine({ kind: "command", artefacts: [text], drilled: false }, out);
      for (let status = 1; status <= 255; status++) {
        writeFileSync(join(out, "text"), String(status));
        await expect(engine.dump(run)).rejects.toThrow(`1 of 1 artefacts failed: text (dump failed (exit status ${status})`);
        rmSync(join(directory, "text.zst"), { force: true });
      }
      writeFileSync(join(out, "text"), "0");
      expect((await engine.dump(run)).files).toHaveLength(1);
    });
  });

  test.each(["text.zst", "tree/a.zst", "tree/b/c.zst"])("damage of %s on the target is found when it is read back", async (name) => {
    const script = '[ "$1" = text ] && exec seq 1 1000; mkdir "$OUT/b"; seq 1 10 > "$OUT/a"; seq 1 20 > "$OUT/b/c"';
    await withProgram(script, async ({ run, directory, out }) => {
      const engine = new CommandEngine({ kind: "command", artefacts: [text, tree], drilled: false }, out);
      const dump = await engine.dump(run);
      const path = join(directory, name);
      const whole = readFileSync(path);
      for (const damaged of [whole.subarray(0, -1), Buffer.concat([whole, whole]), Buffer.alloc(whole.length), Buffer.alloc(0)]) {
        writeFileSync(path, damaged);
        await expect(engine.verify(run, dump)).rejects.toThrow(`${name} is damaged`);
      }
      writeFileSync(path, whole);
      expect(await engine.verify(run, dump)).toEqual(["read back from the target and equal to what the program gave: 3 files"]);
    });
  });

  test("a file that is missing in the list is found when all is read back", async () => {
    await withProgram('mkdir "$OUT/b"; seq 1 10 > "$OUT/a"; seq 1 20 > "$OUT/b/c"', async ({ run, out }) => {
      const engine = new CommandEngine({ kind: "command", artefacts: [tree], drilled: false }, out);
      const dump = await engine.dump(run);
      const lacking = { ...dump, files: dump.files.slice(1) };
      await expect(engine.verify(run, lacking)).rejects.toThrow("what is on the target differs from what the program gave");
    });
  });
});
