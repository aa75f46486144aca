import { createHash } from "node:crypto";
import { chmodSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { createServer } from "node:http";
import { gunzipSync, gzipSync } from "node:zlib";
import { flip, forge, OWN_VOLUMES, proven, reachOfDrill, red, runDrill, TWENTIETHS, withoutLastByte, type DrillResult, type Forgery } from "../helpers/drill";
import type { CronJobOptions } from "../helpers/pod";
import type { FoundGeneration } from "../helpers/pod/target";
import { temporaryDirectory } from "../helpers/process";
import { VAULT_IMAGE, vaultProgram } from "../helpers/servers/vault";
import { makeSnapshot, stateOf, tarOf } from "../helpers/vault-snapshot";
import { NAME, startDouble, startPrepared, synthesise, type Source } from "./vault-setup";

const REAL = vaultProgram();
const json = synthesise();
const SNAPSHOT = "vault.snap";

process.stderr.write(`vault: the double${REAL === undefined ? " alone, no vault or bao is on PATH" : ` and ${REAL}`}\n`);

const kinds: [string, () => Promise<Source>][] = [["a double", startDouble]];
if (REAL !== undefined) kinds.push([REAL, () => startPrepared({ program: REAL })]);

describe.each(kinds)("with %s", (_name, start) => {
  let source: Source;
  let generation: FoundGeneration;
  beforeAll(async () => {
    source = await start();
    generation = await source.backUp();
    // The drill needs nothing of it.
    await source.stop();
  });

  async function drill(forgery: Forgery = {}, options: CronJobOptions = {}): Promise<DrillResult> {
    const { target } = forge(json, generation, forgery, NAME);
    return runDrill(json, target, { backup: NAME, images: { [VAULT_IMAGE.repository]: source.profile }, ...options });
  }
  const stored = (): Buffer => readFileSync(join(generation.path, SNAPSHOT));

  test.each(["dash", "busybox"] as const)("a node of its own takes the snapshot, is sealed as the source is, and has every entry, by %s", async (shell) => {
    const checks = proven(await drill({}, { shell }));
    const { entries, index, seal } = generation.manifest.fingerprint;
    expect(seal).toEqual({ type: "shamir", threshold: 3, shares: 5 });
    expect(entries).toBeGreaterThan(2);
    expect(checks).toEqual([
      expect.stringMatching(new RegExp(`^a node of its own took the snapshot, and sealed itself: ${String(entries)} entries, each as it was sent, at index \\d+$`)),
      "it was started again on them: initialised, and sealed as the source is, by 3 of 5 keys",
      "what is in the entries stays sealed, and nobody has looked at it",
    ]);
    expect(Number(/index (\d+)$/.exec(checks[0] ?? "")?.[1])).toBeGreaterThanOrEqual(Number(index));
  });

  test("no key and no token is in the log", async () => {
    const { logs } = await drill();
    expect(JSON.stringify(logs)).not.toMatch(/hvs\.|s\.[A-Za-z0-9]{20}|of the double/);
  });

  describe("is red when", () => {
    test("one bit is flipped at any twentieth of the snapshot, though the manifest has its hash", async () => {
      for (const fraction of TWENTIETHS) {
        const reason = red(await drill({ change: { [SNAPSHOT]: flip(fraction) } }));
        // Of gzip's header the decoder ignores the time and the system.
        expect(reason).toMatch(/^the snapshot cannot be restored: |^what came back is not what was backed up: the snapshot: /);
      }
    });

    test.each<[string, Forgery, RegExp]>([
      ["the last byte is missing", { change: { [SNAPSHOT]: withoutLastByte } }, /^the snapshot cannot be restored: unexpected end of file$/],
      ["it is empty", { change: { [SNAPSHOT]: () => Buffer.alloc(0) } }, /^the snapshot cannot be restored: /],
      ["it is that of another cluster", { change: { [SNAPSHOT]: () => makeSnapshot() } }, /^what came back is not what was backed up: the snapshot: .*sha256 is/],
      [
        "it is that of an empty one",
        { change: { [SNAPSHOT]: () => makeSnapshot({ state: stateOf({ "core/seal-config": Buffer.from("{}") }) }) } },
        /^what came back is not what was backed up: the snapshot: /,
      ],
      ["one entry is missing", { change: { [SNAPSHOT]: withoutOneEntry } }, /^what came back is not what was backed up: the snapshot: .*entries is \d+, but was \d+/],
      ["it is from the week before", { hoursOlder: 8 * 24 }, /^the newest generation is 192\.\d h old, but may be 17\d\.\d h at most$/],
      ["the source was sealed by other keys", sealed({ type: "shamir", threshold: 2, shares: 3 }), /the seal: threshold is 3, but was 2, the seal: shares is 5, but was 3$/],
      ["the source was sealed by a service", sealed({ type: "awskms", threshold: 3, shares: 5 }), /the seal: type is "shamir", but was "awskms"$/],
    ])("%s", async (_when, forgery, expected) => {
      expect(red(await drill(forgery))).toMatch(expected);
    });

    test("what the node has is not what it was given", async () => {
      const directory = temporaryDirectory("double");
      const [name = "", program = ""] = Object.entries(source.profile.programs ?? {})[0] ?? [];
      // It starts anew with nothing, where it should start on what it took.
      const double = join(directory, name);
      writeFileSync(
        double,
        `#!/bin/sh
if [ -e "$WORK/was-here" ]; then for path in "$WORK"/drill-*/*; do mv "$path" "$WORK/lost-\${path##*/}"; done; fi
: > "$WORK/was-here"
exec ${name}.real "$@"
`,
      );
      chmodSync(double, 0o755);
      const programs = { ...source.profile.programs, [name]: double, [`${name}.real`]: program };
      const images = { [VAULT_IMAGE.repository]: { ...source.profile, tools: ["sleep", "mv"], programs } };
      expect(red(await drill({}, { images }))).toBe("the node is not initialised, or not sealed, once it has the snapshot");
    });

    test("the server does not start, and its last words are the reason", async () => {
      const double = join(temporaryDirectory("double"), "vault");
      writeFileSync(double, "#!/bin/sh\necho starting\necho Error: no room left on the node >&2\nexit 1\n");
      chmodSync(double, 0o755);
      const images = { [VAULT_IMAGE.repository]: { tools: ["sleep"], programs: { vault: double } } };
      expect(red(await drill({}, { images }))).toBe("running failed (exit status 1): Error: no room left on the node");
    });

    test("another server answers in the node's place, which is given nothing", async () => {
      const asked: string[] = [];
      const other = createServer((request, response) => {
        asked.push(`${request.method} ${request.url}`);
        response.end(JSON.stringify({ type: "shamir", initialized: true, sealed: false, t: 3, n: 5 }));
      });
      await new Promise<void>((resolve) => other.listen(18_200, "127.0.0.1", resolve));
      const reason = red(await drill());
      await new Promise((resolve) => other.close(resolve));
      expect(reason).toMatch(/^the server at http:\/\/127\.0\.0\.1:18200 is not the scratch node drill-[0-9a-f]{16}: it has data already$/);
      expect(new Set(asked)).toEqual(new Set(["GET /v1/sys/seal-status"]));
    });
  });

  /** The same snapshot, as a server would have made it without one of its entries. */
  function withoutOneEntry(snapshot: Buffer): Buffer {
    const archive = gunzipSync(snapshot);
    const members = new Map<string, Buffer>();
    for (let at = 0; archive[at] !== 0;) {
      const size = parseInt(archive.toString("latin1", at + 124, at + 135), 8);
      const name = archive.toString("latin1", at, at + 100).replace(/\0.*$/s, "");
      members.set(name, archive.subarray(at + 512, at + 512 + size));
      at += 512 + 512 * Math.ceil(size / 512);
    }
    const state = members.get("state.bin") ?? Buffer.alloc(0);
    let [length, at, factor] = [0, 0, 1];
    for (let more = true; more; factor *= 128) {
      const byte = state[at++] ?? 0;
      length += (byte & 127) * factor;
      more = byte > 127;
    }
    members.set("state.bin", state.subarray(at + length));
    const meta = JSON.parse(String(members.get("meta.json"))) as { Size: number };
    members.set("meta.json", Buffer.from(JSON.stringify({ ...meta, Size: state.length - at - length })));
    const sum = (name: string): string => `${createHash("sha256").update(members.get(name) ?? "").digest("hex")}  ${name}\n`;
    members.set("SHA256SUMS", Buffer.from(sum("meta.json") + sum("state.bin")));
    return gzipSync(tarOf(members));
  }

  test("what was stored is a snapshot as the server sent it", () => {
    expect(stored().subarray(0, 2)).toEqual(Buffer.from([0x1f, 0x8b]));
  });
});

function sealed(seal: object): Forgery {
  return { manifest: (manifest) => ({ ...manifest, fingerprint: { ...manifest.fingerprint, seal: seal as never } }) };
}

const real = (program: string): void => {
  test("that a service unseals is proven as far as that goes without the service", async () => {
    const source = await startPrepared({ program, seal: "static" });
    try {
      const generation = await source.backUp();
      expect(generation.manifest.fingerprint.seal).toEqual({ type: "static", threshold: 3, shares: 5 });
      await source.stop();
      const { target } = forge(json, generation, {}, NAME);
      const result = await runDrill(json, target, { backup: NAME, images: { [VAULT_IMAGE.repository]: source.profile } });
      expect(proven(result)[1]).toBe("its seal is static: whether that still unseals it, only that service can show");
    } finally {
      await source.stop();
    }
  });
};
if (REAL !== undefined) describe("a real server", () => real(REAL));

test("is red when a node keeps less than it was given", async () => {
  const source = await startDouble();
  const generation = await source.backUp();
  await source.stop();
  const losing = join(temporaryDirectory("double"), "vault");
  writeFileSync(losing, '#!/bin/sh\nexec node /usr/bin/vault.js "$@" -loses-one\n', { mode: 0o755 });
  const images = { [VAULT_IMAGE.repository]: { ...source.profile, programs: { ...source.profile.programs, vault: losing } } };
  const reason = red(await runDrill(json, forge(json, generation, {}, NAME).target, { backup: NAME, images }));
  expect(reason).toMatch(/^what came back is not what was backed up: the node: entries is 2, but was 3, the node: sha256 is /);
});

test("the drill's pod has nothing that leads to the live server: no token, no address that it may reach", () => {
  const { volumes, egress } = reachOfDrill(json, NAME);
  expect(volumes).toEqual(OWN_VOLUMES);
  expect(egress).not.toContain("8200");
});
