import { createHash } from "node:crypto";
import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { PassThrough, Readable } from "node:stream";
import { buffer, text } from "node:stream/consumers";
import { zstdDecompressSync } from "node:zlib";
import { decrypter } from "../../lib/runtime/age";
import { identitiesIn } from "../../lib/runtime/age-identity";
import { backup } from "../../lib/runtime/backup-run";
import { drill } from "../../lib/runtime/drill-run";
import type { Engine } from "../../lib/runtime/engine";
import { listGenerations, PARTIAL } from "../../lib/runtime/generation";
import { MANIFEST, type Manifest, type ManifestFile } from "../../lib/runtime/manifest";
import type { RestoreEngine } from "../../lib/runtime/restore";
import { restore, type RestoreContext } from "../../lib/runtime/restore-run";
import type { Settings } from "../../lib/runtime/settings";
import { artefactName, openFile, storeFile } from "../../lib/runtime/store";
import { readVerdict } from "../../lib/runtime/verdict";
import { ANNE, BERT } from "./support/age";
import { fakeEngine, prepared, temporary } from "./support";

const mounted = (): Promise<boolean> => Promise.resolve(true);
const signal = new AbortController().signal;
const RECIPIENTS = [ANNE.recipient, BERT.recipient];

interface Stage {
  readonly directory: string;
  readonly place: string;
  readonly log: string[];
  /** Makes a generation. @param changes of the settings */
  readonly back: (changes?: Partial<Settings>, engine?: Partial<Engine>) => Promise<Manifest>;
  /** @param identity content of the identity's file; null: there is none, undefined: the job knows of none */
  readonly drill: (identity: string | null | undefined) => Promise<void>;
  readonly restore: (identity: string | null, options?: RestoreContext["options"]) => Promise<unknown>;
}

/** A backup of one file, encrypted, stored once compressed and once as it is. */
function stage(): Stage {
  const { root, directory, settings: base } = prepared();
  const settings: Settings = { ...base, drill: { maxAgeSeconds: 3600, assertions: [] }, encryption: { recipients: RECIPIENTS } };
  const [place, secret] = [join(root, "place"), join(root, "secret")];
  const log: string[] = [];
  const own = { scratch: join(root, "scratch"), mounted, log: (message: string) => void log.push(message) };
  const engine = (changes: Partial<Engine> = {}): Engine =>
    fakeEngine({
      dump: async (run) => ({
        files: [
          await run.store("content", Readable.from([readFileSync(place)])),
          await run.store("sub/raw", Readable.from([readFileSync(place)]), { compress: false }),
        ],
        fingerprint: { sha256: createHash("sha256").update(readFileSync(place)).digest("hex") },
      }),
      ...changes,
    });
  const artefact = ({ files }: Manifest): ManifestFile => files.find((file) => artefactName(file) === "content") as ManifestFile;
  const restorer: RestoreEngine = {
    options: {},
    plan: async () => ({ steps: ["write it"], replaces: existsSync(place) ? "the place" : undefined }),
    apply: async ({ manifest, open }) => writeFileSync(place, await text(open(artefact(manifest)))),
    verify: async () => [],
  };
  const withKey = (content: string | null | undefined): Settings => {
    rmSync(secret, { force: true });
    if (content !== null && content !== undefined) writeFileSync(secret, content);
    return content === undefined ? settings : { ...settings, identity: secret };
  };
  writeFileSync(place, "the content ".repeat(20_000));
  return {
    directory,
    place,
    log,
    back: async (changes, other) => {
      await backup({ ...own, settings: { ...settings, ...changes }, engine: engine(other), control: new AbortController() });
      const { manifest } = (await listGenerations(directory, settings, (message) => log.push(message))).at(-1) ?? {};
      return manifest as Manifest;
    },
    drill: (identity) =>
      drill({
        ...own,
        settings: withKey(identity),
        signal,
        work: join(root, "work"),
        engine: {
          restore: async () => undefined,
          compare: async ({ manifest, open }) => {
            const found = createHash("sha256").update(await buffer(open(artefact(manifest)))).digest("hex");
            return found === manifest.fingerprint.sha256 ? ["equal"] : Promise.reject(new Error("it differs"));
          },
        },
      }),
    restore: (identity, options = { GENERATION: "newest" }) =>
      restore({ ...own, settings: withKey(identity), engine: engine(), restorer, options, control: new AbortController() }),
  };
}

describe("a backup", () => {
  test("encrypts every artefact, after compression, and says to whom", async () => {
    const { back, directory, place } = stage();
    const manifest = await back();
    expect(manifest.files.map(({ path }) => path)).toEqual(["content.zst.age", "sub/raw.age"]);
    expect(manifest.files.map(artefactName)).toEqual(["content", "sub/raw"]);
    for (const { path, bytes, sha256, recipients } of manifest.files) {
      const stored = readFileSync(join(directory, manifest.generation, path));
      expect({ bytes, sha256 }).toEqual({ bytes: stored.length, sha256: createHash("sha256").update(stored).digest("hex") });
      expect(recipients).toEqual(RECIPIENTS);
      expect(stored.includes("content")).toBe(false);
      // Neither can the one be read as the other, nor is one key for both.
      for (const who of [ANNE, BERT]) {
        const plain = await buffer(Readable.from([stored]).pipe(decrypter(keyOf(who.identity, { path, bytes, sha256, recipients }))));
        expect((path.includes("zst") ? zstdDecompressSync(plain) : plain).equals(readFileSync(place))).toBe(true);
      }
    }
    expect(manifest.files[0]?.uncompressedBytes).toBe(readFileSync(place).length);
  });

  test("has nothing of a key in its manifest, which anybody can read", async () => {
    const { back, directory, log } = stage();
    const { generation } = await back();
    const known = ["path", "bytes", "sha256", "recipients", "uncompressedBytes"];
    const { files } = JSON.parse(readFileSync(join(directory, generation, MANIFEST), "utf8")) as Manifest;
    for (const file of files) expect(Object.keys(file).filter((name) => !known.includes(name))).toEqual([]);
    expect(log.join("\n")).not.toMatch(/[0-9a-f]{32}|[A-Za-z0-9+/]{22}==/);
  });

  test("without recipients stores as it always did", async () => {
    const { back } = stage();
    const { files } = await back({ encryption: undefined });
    expect(files.map(({ path }) => path)).toEqual(["content.zst", "sub/raw"]);
    for (const file of files) expect("recipients" in file).toBe(false);
  });

  test.each(["content.zst.age", "sub/raw.age"])("reads %s back to its last byte, though it has no private key", async (path) => {
    const { back, directory } = stage();
    const checked = jest.fn();
    const verify: Engine["verify"] = async (run, { files }) => {
      const [partial = ""] = readdirSync(directory).filter((name) => name.startsWith(PARTIAL));
      const stored = join(directory, partial, path);
      const bytes = readFileSync(stored);
      bytes.writeUInt8(bytes.readUInt8(bytes.length - 20) ^ 1, bytes.length - 20);
      writeFileSync(stored, bytes);
      for (const file of files) await buffer(run.open(file));
      checked();
      return [];
    };
    await expect(back({}, { verify })).rejects.toThrow(`${path} is damaged: block `);
    expect(checked).not.toHaveBeenCalled();
    expect(readdirSync(directory).filter((name) => !name.startsWith(".lock"))).toEqual([]);
  });

  test("lists, keeps and removes generations without any key", async () => {
    const { back, directory } = stage();
    const retention = { keepLast: 2, proof: "verification", removeAtMost: 1, freezeBelow: 0 } as const;
    const names: string[] = [];
    for (let run = 0; run < 4; run++) names.push((await back({ retention })).generation);
    expect(readdirSync(directory).filter((name) => !name.startsWith(".lock")).sort()).toEqual(names.slice(-2));
  });

  test("to a recipient who is none fails, and leaves nothing", async () => {
    const { back, directory } = stage();
    await expect(back({ encryption: { recipients: ["age1nobody"] } })).rejects.toThrow("age1nobody is no age recipient");
    expect(readdirSync(directory).filter((name) => !name.startsWith(".lock"))).toEqual([]);
  });
});

describe("a drill", () => {
  test.each([
    ["of one recipient", ANNE.identity],
    ["of the other", `# kept by Bert\n${BERT.identity}\n`],
  ])("with the identity %s is green", async (_, identity) => {
    const { back, directory, drill } = stage();
    const { generation } = await back();
    await drill(identity);
    expect(await readVerdict(directory, generation)).toMatchObject({ green: true, checks: ["equal"] });
  });

  const to = RECIPIENTS.join(", ");
  test.each<readonly [string, string | null | undefined, RegExp]>([
    ["without an identity", undefined, new RegExp(`^content.zst.age is encrypted to ${to}, and this job was given no identity$`)],
    ["whose Secret is gone", null, new RegExp(`^content.zst.age is encrypted to ${to}, but the Secret at /.*/secret has no identity: ENOENT`)],
    ["whose Secret is empty", "", new RegExp(`^content.zst.age is encrypted to ${to}, but the Secret at /.*/secret has no identity: it is empty$`)],
  ])("%s is red, and says why", async (_, identity, reason) => {
    const { back, directory, drill } = stage();
    const { generation } = await back();
    await expect(drill(identity)).rejects.toThrow(reason);
    const verdict = await readVerdict(directory, generation);
    expect(verdict?.green).toBe(false);
    expect(verdict?.reason).toMatch(reason);
  });

  test("with somebody else's identity is red, and names both keys", async () => {
    const { back, directory, drill } = stage();
    const { generation } = await back({ encryption: { recipients: [BERT.recipient] } });
    await expect(drill(ANNE.identity)).rejects.toThrow(
      new RegExp(`is encrypted to ${BERT.recipient}, which no identity in .*/secret opens: those are of ${ANNE.recipient}$`),
    );
    expect((await readVerdict(directory, generation))?.green).toBe(false);
  });

  test("of a generation whose manifest names the wrong recipients calls that damage", async () => {
    const { back, directory, drill } = stage();
    const { generation } = await back({ encryption: { recipients: [BERT.recipient] } });
    const path = join(directory, generation, MANIFEST);
    writeFileSync(path, readFileSync(path, "utf8").replaceAll(BERT.recipient, ANNE.recipient));
    await expect(drill(ANNE.identity)).rejects.toThrow("content.zst.age is damaged: its age header has the file's key for none of its recipients");
  });

  test("reads what was stored before there was encryption", async () => {
    const { back, directory, drill } = stage();
    const { generation } = await back({ encryption: undefined });
    await drill(ANNE.identity);
    expect((await readVerdict(directory, generation))?.green).toBe(true);
  });
});

describe("a restore", () => {
  test("with an identity brings back what was encrypted, and encrypts what it replaces", async () => {
    const { back, place, directory, restore } = stage();
    const before = readFileSync(place, "utf8");
    await back();
    writeFileSync(place, "what is replaced");
    await restore(ANNE.identity, { GENERATION: "newest", CONFIRM: "the place" });
    expect(readFileSync(place, "utf8")).toBe(before);
    const safety = readdirSync(directory).filter((name) => !name.startsWith(".lock")).sort().at(-1) ?? "";
    const { purpose, files } = JSON.parse(readFileSync(join(directory, safety, MANIFEST), "utf8")) as Manifest;
    expect({ purpose, recipients: files.map(({ recipients }) => recipients) }).toEqual({ purpose: "safety", recipients: [RECIPIENTS, RECIPIENTS] });
    await restore(BERT.identity, { GENERATION: safety, CONFIRM: "the place" });
    expect(readFileSync(place, "utf8")).toBe("what is replaced");
  });

  test("without it fails before anything is touched", async () => {
    const { back, place, restore } = stage();
    await back();
    writeFileSync(place, "live");
    await expect(restore(null, { GENERATION: "newest", CONFIRM: "the place" })).rejects.toThrow("has no identity: ENOENT");
    expect(readFileSync(place, "utf8")).toBe("live");
  });
});

test("what is encrypted cannot be read where nothing can find its key", async () => {
  const directory = temporary();
  const encryption = { recipients: RECIPIENTS, fileKey: Buffer.alloc(16) };
  const file = await storeFile(directory, "a", Readable.from([Buffer.from("a")]), { level: 3, signal, encryption });
  await expect(buffer(openFile(directory, file))).rejects.toThrow("a.zst.age is encrypted");
});

test("a stream that is told to stop while it is encrypted fails", async () => {
  const control = new AbortController();
  const endless = new PassThrough();
  const encryption = { recipients: RECIPIENTS, fileKey: Buffer.alloc(16) };
  const stored = storeFile(temporary(), "a", endless, { level: 3, signal: control.signal, compress: false, encryption });
  endless.write(Buffer.alloc(1_000_000));
  setTimeout(() => control.abort(new Error("stop")), 20);
  await expect(stored).rejects.toThrow("abort");
});

function keyOf(identity: string, file: ManifestFile): ReturnType<ReturnType<typeof identitiesIn>> {
  const path = join(temporary(), "identity");
  writeFileSync(path, identity);
  return identitiesIn(path)(file);
}
