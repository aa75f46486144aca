import { execFileSync, spawnSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { copyFileSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { PassThrough, Readable } from "node:stream";
import { buffer } from "node:stream/consumers";
import { pipeline } from "node:stream/promises";
import { SecretRef } from "../../constructs/backup";
import { decrypter, encrypter, newFileKey } from "../../lib/runtime/age";
import { identitiesIn } from "../../lib/runtime/age-identity";
import { proven, red, runDrill, runRestore, targetVolume } from "../helpers/drill";
import { runCronJob } from "../helpers/pod";
import { generationsOn, makeTarget, type FoundGeneration } from "../helpers/pod/target";
import { temporaryDirectory } from "../helpers/process";
import { examples } from "../helpers/readme";
import { backUp, DATABASE, synthesise, vault } from "./sqlite-setup";

const BLOCK = 65_536;
const SEALED = BLOCK + 16;
const SIZES = [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK, 10 * 2 ** 20];
const keys = temporaryDirectory("keys");

interface Key {
  readonly path: string;
  readonly recipient: string;
  readonly text: string;
}

function makeKey(name: string): Key {
  const path = join(keys, name);
  execFileSync("age-keygen", ["-o", path], { stdio: "pipe" });
  return { path, recipient: execFileSync("age-keygen", ["-y", path], { encoding: "utf8" }).trim(), text: readFileSync(path, "utf8") };
}

const [anne, bert, carl] = [makeKey("anne"), makeKey("bert"), makeKey("carl")];

/** What the real program makes of its input. @throws what it says where it refuses */
function age(args: readonly string[], input: Buffer): Buffer {
  const { status, stdout, stderr } = spawnSync("age", args, { input, maxBuffer: 2 ** 26 });
  if (status !== 0) throw new Error(stderr.toString());
  return stdout;
}

async function through(data: Buffer, stream: ReturnType<typeof encrypter>): Promise<Buffer> {
  const [out] = await Promise.all([buffer(stream.pipe(new PassThrough())), pipeline(Readable.from([data], { objectMode: false }), stream)]);
  return out;
}

const encrypt = (data: Buffer, ...to: readonly Key[]): Promise<Buffer> =>
  through(data, encrypter(to.map(({ recipient }) => recipient), newFileKey()));
const decrypt = (file: Buffer, { path, recipient }: Key): Promise<Buffer> =>
  through(file, decrypter(identitiesIn(path)({ path: "file", bytes: 0, sha256: "", recipients: [recipient] })));

describe("the program age and the runner", () => {
  test.each(SIZES)("read what the other encrypted: %i bytes", async (size) => {
    const data = randomBytes(size);
    expect(age(["-d", "-i", anne.path], await encrypt(data, anne)).equals(data)).toBe(true);
    expect((await decrypt(age(["-r", anne.recipient], data), anne)).equals(data)).toBe(true);
  });

  test("agree on several recipients, and on who is none", async () => {
    const data = Buffer.from("for two");
    const files = [await encrypt(data, anne, bert), age(["-r", anne.recipient, "-r", bert.recipient], data)];
    for (const file of files) {
      for (const key of [anne, bert]) {
        expect(age(["-d", "-i", key.path], file).equals(data)).toBe(true);
        expect((await decrypt(file, key)).equals(data)).toBe(true);
      }
      expect(() => age(["-d", "-i", carl.path], file)).toThrow("no identity matched any of the recipients");
      await expect(decrypt(file, carl)).rejects.toThrow("the file's key for none of its recipients");
    }
  });

  test("refuse what is cut, at each boundary and beside it", async () => {
    const data = randomBytes(3 * BLOCK + 7);
    for (const file of [await encrypt(data, anne), age(["-r", anne.recipient], data)]) {
      const payload = file.indexOf("\n--- ") + 49 + 16;
      const ends = [0, 1, 2, 3].map((block) => payload + block * SEALED);
      for (const at of [0, 1, 30, payload - 17, payload - 1, ...ends.flatMap((end) => [end, end + 1, end + 16]), ends[1] ?? 0, file.length - 1]) {
        const part = file.subarray(0, at);
        expect(() => age(["-d", "-i", anne.path], part)).toThrow("age: error");
        await expect(decrypt(part, anne)).rejects.toThrow();
      }
    }
  });

  test("refuse one bit that is flipped: in the version, a recipient's part, the seal, the nonce, a block, its tag", async () => {
    const data = randomBytes(2 * BLOCK);
    for (const file of [await encrypt(data, anne), age(["-r", anne.recipient], data)]) {
      const seal = file.indexOf("\n--- ");
      const payload = seal + 49 + 16;
      const places = [20, 24, 35, 70, 80, seal + 2, seal + 10, seal + 48, payload - 16, payload, payload + BLOCK + 3, payload + SEALED, file.length - 1];
      for (const at of places) {
        const changed = Buffer.from(file);
        changed.writeUInt8(changed.readUInt8(at) ^ 2, at);
        expect(() => age(["-d", "-i", anne.path], changed)).toThrow("age: error");
        await expect(decrypt(changed, anne)).rejects.toThrow();
      }
    }
  });
});

describe("an encrypted backup", () => {
  const SECRET = "the only secret that is worth a backup";
  const json = synthesise({ encryption: { recipients: [anne.recipient, bert.recipient], identity: SecretRef.of("backup-escrow", "age.txt") } });
  const holding = (key: Key, name = "age.txt") => ({ secrets: { "backup-escrow": { [name]: key.text } } });
  let target: string;
  let volume: string;
  let generation: FoundGeneration;

  beforeAll(async () => {
    target = makeTarget(json, { name: "backup" });
    volume = await vault(`sql("INSERT INTO owner VALUES (77, '${SECRET}')")`);
    generation = await backUp(json, volume, target);
  });

  const drill = (options: Parameters<typeof runDrill>[2] = {}): ReturnType<typeof runDrill> => runDrill(json, target, { backup: "backup", ...options });

  test("has nothing that can be read on its target but the manifest", () => {
    expect(readdirSync(generation.path).sort()).toEqual(["db.sqlite3.zst.age", "files.tar.zst.age", "manifest.json"]);
    for (const { path } of generation.manifest.files) {
      expect(readFileSync(join(generation.path, path)).toString("latin1", 0, 22)).toBe("age-encryption.org/v1\n");
    }
    const plain = temporaryDirectory("plain");
    for (const { path } of generation.manifest.files) {
      execFileSync("sh", ["-c", 'age -d -i "$0" "$1" | zstd -dq > "$2"', anne.path, join(generation.path, path), join(plain, path)]);
    }
    // Words of the database, of its schema, and of the files beside it.
    for (const word of [SECRET, "SQLite format 3", "CREATE TABLE", "private"]) {
      const found = (directory: string): string => spawnSync("grep", ["-rlaF", word, directory], { encoding: "utf8" }).stdout;
      expect({ word, onTarget: found(target), inContent: found(plain) !== "" }).toEqual({ word, onTarget: "", inContent: true });
    }
    const { files } = generation.manifest;
    expect(files.map(({ recipients }) => recipients)).toEqual(files.map(() => [anne.recipient, bert.recipient]));
    const manifest = readFileSync(join(generation.path, "manifest.json"), "utf8");
    expect(manifest).not.toContain("AGE-SECRET-KEY");
  });

  test("is read by hand, as the README says, with either key", () => {
    const [, byHand = ""] = examples("constructs/backup/README.md", "sh");
    expect(byHand).toContain("age -d -i safe.txt");
    for (const key of [anne, bert]) {
      const directory = temporaryDirectory("by-hand");
      for (const { path } of generation.manifest.files) copyFileSync(join(generation.path, path), join(directory, path));
      copyFileSync(key.path, join(directory, "safe.txt"));
      execFileSync("sh", ["-ec", byHand], { cwd: directory, stdio: "pipe" });
      const name = execFileSync("sqlite3", [join(directory, DATABASE), "SELECT name FROM owner WHERE id = 77"], { encoding: "utf8" });
      expect(name.trim()).toBe(SECRET);
    }
  });

  test.each([["one", anne], ["the other", bert]])("is proven by a drill that has the key of %s recipient", async (_, key) => {
    expect(proven(await drill(holding(key)))).toContain("integrity_check: ok; foreign_key_check as in the backup: 0 violations");
  });

  const sealed = /^db\.sqlite3\.zst\.age is encrypted to age1\w{58}, age1\w{58}, /;
  test.each<readonly [string, Parameters<typeof runDrill>[2], RegExp]>([
    ["without its Secret", {}, /but the Secret at \/identity\/backup-escrow\/age\.txt has no identity: ENOENT/],
    ["whose Secret has another key", holding(anne, "other.txt"), /but the Secret at \/identity\/backup-escrow\/age\.txt has no identity: ENOENT/],
    ["with somebody else's key", holding(carl), new RegExp(`which no identity in .*/age\\.txt opens: those are of ${carl.recipient}$`)],
    ["with a public key", { secrets: { "backup-escrow": { "age.txt": anne.recipient } } }, /line 1 is no identity of the kind AGE-SECRET-KEY-1\.\.\.$/],
  ])("makes a drill %s red, which says why", async (_, options, reason) => {
    const found = red(await drill(options));
    expect(found).toMatch(sealed);
    expect(found).toMatch(reason);
  });

  test("is put back by a restore that has a key, which encrypts what it replaces; without one nothing is touched", async () => {
    const other = await vault(`sql("INSERT INTO owner VALUES (78, 'replaced')")`);
    const env = { GENERATION: generation.name, CONFIRM: DATABASE };
    const restore = (options: Parameters<typeof runRestore>[2]) =>
      runRestore(json, target, { backup: "backup", volumes: { "app-data": other }, env, ...options });
    const ask = (database: string): string =>
      execFileSync("sqlite3", ["-readonly", database, "SELECT group_concat(id) FROM owner WHERE id > 70"], { encoding: "utf8" }).trim();
    expect((await restore({})).failure).toMatch(/has no identity: ENOENT/);
    expect(ask(join(other, DATABASE))).toBe("78");
    const { ok, logs } = await restore(holding(bert));
    if (!ok) throw new Error(logs.runner);
    expect(ask(join(other, DATABASE))).toBe("77");
    for (const { path, manifest } of generationsOn(json, target, "backup")) {
      expect(readdirSync(path).filter((name) => !name.endsWith(".age"))).toEqual(["manifest.json"]);
      expect(manifest.files.every(({ recipients }) => recipients?.length === 2)).toBe(true);
    }
  });
});

test("the commands of the README make the keys and the Secret that a drill needs", async () => {
  const [setUp = ""] = examples("constructs/backup/README.md", "sh");
  const directory = temporaryDirectory("set-up");
  // There is no cluster here: what kubectl would be told is written down.
  const kubectl = `kubectl() { printf '%s\\n' "$@" > kubectl.txt; }`;
  const { status, stderr } = spawnSync("sh", ["-ec", `${kubectl}\n${setUp}`], { cwd: directory, encoding: "utf8" });
  if (status !== 0) throw new Error(stderr);
  const told = readFileSync(join(directory, "kubectl.txt"), "utf8").trim().split("\n");
  expect(told.slice(0, 4)).toEqual(["create", "secret", "generic", "backup-escrow"]);
  const [, key = "", file = ""] = /^--from-file=(.*)=(.*)$/.exec(told.at(-1) ?? "") ?? [];
  const recipients = stderr.match(/age1\w+/g) ?? [];
  expect(recipients).toHaveLength(2);
  const json = synthesise({ encryption: { recipients, identity: SecretRef.of("backup-escrow", "age.txt") } });
  const target = makeTarget(json, { name: "backup" });
  await backUp(json, await vault(), target);
  const secrets = { "backup-escrow": { [key]: readFileSync(join(directory, file), "utf8") } };
  proven(await runDrill(json, target, { backup: "backup", secrets }));
});

test("no container of a backup has the Secret, though it is there", async () => {
  const json = synthesise({ encryption: { recipients: [anne.recipient], identity: SecretRef.of("backup-escrow", "age.txt") } });
  const target = makeTarget(json, { name: "backup" });
  const spy = join(temporaryDirectory("spy"), "node");
  // The runner's program looks around before it begins.
  writeFileSync(spy, `#!/bin/sh\ncat /proc/self/mountinfo; env; exec node.real "$@"\n`, { mode: 0o755 });
  const volumes = { "app-data": await vault(), [targetVolume(json, "backup")]: target };
  const options = { volumes, secrets: { "backup-escrow": { "age.txt": anne.text } }, programs: { node: spy, "node.real": process.execPath } };
  const backup = await runCronJob(json, { name: "backup", ...options });
  if (!backup.ok) throw new Error(backup.logs.runner);
  const drilled = await runDrill(json, target, { backup: "backup", ...options });
  proven(drilled);
  expect(drilled.logs.runner).toContain("/identity/backup-escrow");
  expect(backup.logs.runner).not.toContain("identity");
  for (const { logs } of [backup, drilled]) expect(JSON.stringify(logs)).not.toContain("AGE-SECRET-KEY");
});
