import { spawnSync } from "node:child_process";
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { addForged, cut, decompressed, flip, forge, type Forgery, overwrite, red, redInPairs, runDrill, TWENTIETHS, withoutLastByte } from "../helpers/drill";
import { makeTarget } from "../helpers/pod/target";
import { run, temporaryDirectory } from "../helpers/process";
import { backedUpLayouts } from "./files-setup";

const { jsonOf, generation, drill } = backedUpLayouts();

/** Forged by a command in the generation's directory, after which the listing is what it was. */
async function tampered(command: string): Promise<string> {
  const json = jsonOf["hard-linked"];
  const target = makeTarget(json);
  const { path } = addForged(json, target, generation("hard-linked"), {});
  await run("sh", ["-ec", command], { cwd: join(path, "data") });
  return red(await runDrill(json, target));
}

test("damage at every twentieth of an archive is red, though all hashes are right", async () => {
  const damages = TWENTIETHS.flatMap((at) => [overwrite(at), decompressed(cut(at)), decompressed(overwrite(at))]);
  const all = [...damages, decompressed(withoutLastByte), flip(0.37), decompressed(flip(0.61))];
  for (const found of await redInPairs(all.map((damage) => ({ change: { "data.tar.zst": damage } })), (forgery) => drill("archive", forgery))) {
    expect(found).toMatch(/damaged: |^the archive |^something follows|: data: sha256 is /);
  }
});

test("damage at every twentieth of a tree's listing is red, though all hashes are right", async () => {
  const damages = TWENTIETHS.flatMap((at) => [overwrite(at), decompressed(cut(at)), decompressed(overwrite(at))]);
  const all = [...damages, flip(0.37), decompressed(withoutLastByte)];
  const found = await redInPairs(all.map((damage) => ({ change: { "data.tree.jsonl.zst": damage } })), (forgery) => drill("hard-linked", forgery));
  for (const reason of found) expect(reason).not.toMatch(/undefined/);
  expect(found).toHaveLength(all.length);
});

test.each([
  ["one bit of a file", "printf '\\001' | dd of=large.bin bs=1 seek=2500000 conv=notrunc 2>/dev/null", /^large\.bin is damaged: its SHA-256 /],
  ["one bit of a small file", "chmod u+w secret && printf t >secret", /^secret is damaged: its SHA-256 /],
  ["the last byte of a file", "truncate -s -1 large.bin", /^large\.bin is damaged: 5242896 bytes instead of 5242897$/],
  ["one byte more", "echo >>plain.txt", /^plain\.txt is damaged: 6 bytes instead of 5$/],
  ["a file", "rm many/3/3.txt", /ENOENT: .*data\/many\/3\/3\.txt'$/],
  ["a file that is a link now", "mv secret other && ln -s other secret", /ELOOP: .*data\/secret'$/],
])("damage of a stored tree that no manifest tells is red: %s", async (_, command, expected) => {
  expect(await tampered(command)).toMatch(expected);
});

describe("is red when the archive", () => {
  /** The archive after a command in a directory with what it holds. */
  const changed = (command: string): Forgery => ({
    change: {
      "data.tar.zst": decompressed((archive) => {
        const directory = temporaryDirectory("files");
        writeFileSync(`${directory}.tar`, archive);
        mkdirSync(join(directory, "t"));
        const script = `tar -x -p -f ../${directory.split("/").at(-1)}.tar -C t && (cd t && ${command})
          (cd t && find . -print0 | LC_ALL=C sort -z >../list && tar -c --no-recursion --null -T ../list --transform='s,^\\./,,' --format=pax --numeric-owner -f ../out)`;
        const { status, stderr } = spawnSync("sh", ["-ec", script], { cwd: directory, encoding: "utf8" });
        if (status !== 0) throw new Error(stderr);
        const made = readFileSync(join(directory, "out"));
        rmSync(directory, { recursive: true });
        return made;
      }),
    },
  });

  test.each([
    ["has one file less", "rm plain.txt", /: data: files is 309, but was 310/],
    ["has one file more", "echo >more", /: data: files is 311, but was 310/],
    ["has other modes", "chmod 640 secret", /: data: sha256 is /],
    ["has a file in a directory's place", "rmdir no-files && echo >no-files", /: data: files is 311, but was 310, data: directories is /],
  ])("%s", async (_, command, expected) => {
    const forgery = changed(command);
    expect(red(await drill("archive", forgery))).toMatch(expected);
  });
});

test("paths that lead out of the scratch space are refused", async () => {
  const listing = (line: object): Forgery => ({
    change: { "data.tree.jsonl.zst": decompressed((content) => Buffer.concat([content, Buffer.from(`${JSON.stringify(line)}\n`)])) },
  });
  const link = { path: "link-out", type: "symlink", mode: 0o777, uid: 0, gid: 0, mtimeMs: 0, size: 0, target: "/tmp" };
  const [out, through, name] = ["../out", "link/x", "many/0/7.txt/x"].map((path) => ({ ...link, path }));
  expect(await redInPairs([out, through, name].map((line) => listing(line ?? {})), (forgery) => drill("hard-linked", forgery))).toEqual([
    'the stored tree has "../out", which is no path below it',
    expect.stringMatching(/^EEXIST: file already exists, mkdir '.*\/data\/link'$/),
    expect.stringMatching(/^EEXIST: file already exists, mkdir '.*\/data\/many\/0\/7\.txt'$/),
  ]);
});

test("a byte that is missing, or one bit, is red where the manifest tells", async () => {
  const json = jsonOf.archive;
  const of = (damage: (content: Buffer) => Buffer) => runDrill(json, forge(json, generation("archive"), { change: { "data.tar.zst": damage }, rehash: false }).target);
  const { exitCodes, failure, verdict } = await of(withoutLastByte);
  expect([exitCodes.runner, failure, verdict]).toEqual([1, expect.stringMatching(/data\.tar\.zst has \d+ bytes instead of \d+$/), undefined]);
  expect(red(await of(flip(0.5)))).toMatch(/^data\.tar\.zst is damaged: /);
});
