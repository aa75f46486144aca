import type { Subject } from "./subject";
import { randomBytes } from "node:crypto";
import { chmodSync, chownSync, mkdirSync, renameSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { FileBackup } from "../../../constructs/backup";
import { PodVolume } from "../../../constructs/storage";
import { chownTree, run, temporaryDirectory } from "../process";
import { COMMON_SERVICES, synthesise } from "./subject";

const USER = 1000;

/** A tree of small files, one large one that does not compress, and a link. */
export function startFiles(): Promise<Subject> {
  const data = temporaryDirectory("files-source");
  const tree = join(data, "tree");
  mkdirSync(join(tree, "notes"), { recursive: true });
  for (let file = 0; file < 200; file++) writeFileSync(join(tree, "notes", `${file}.txt`), `note ${file}\n`.repeat(file));
  const photo = join(tree, "photo.raw");
  writeFileSync(photo, randomBytes(8 << 20));
  symlinkSync("notes/7.txt", join(tree, "latest"));
  chownTree(data, USER);
  return Promise.resolve({
    name: "files",
    synthesised: synthesise((stack, common) => {
      const volume = PodVolume.fromClaim("data", { accessMode: "ReadWriteMany", subPath: "tree" });
      new FileBackup(stack, "tree", { ...common, sources: [{ name: "tree", volume }], consistency: "crash-consistent" });
    }),
    options: { volumes: { data }, services: COMMON_SERVICES },
    sourceFaults: [
      {
        name: "empty",
        reason: /source tree is empty/,
        inject: () => {
          renameSync(tree, `${tree}.away`);
          mkdirSync(tree);
          return Promise.resolve(() => {
            rmSync(tree, { recursive: true });
            renameSync(`${tree}.away`, tree);
          });
        },
      },
      {
        name: "unreadable",
        reason: /photo\.raw \(owner 0:0, mode 600\) cannot be read by uid 1000, gid 1000; .*run: chgrp/,
        inject: () => {
          chownSync(photo, 0, 0);
          chmodSync(photo, 0o600);
          return Promise.resolve(() => {
            chownSync(photo, USER, USER);
            chmodSync(photo, 0o644);
          });
        },
      },
    ],
    restoreEqual: async ({ path }) => {
      const restored = temporaryDirectory("restored");
      await run("sh", ["-c", 'zstd -dcq "$0" | tar -x -C "$1"', join(path, "tree.tar.zst"), restored]);
      await run("diff", ["-r", "--no-dereference", tree, restored]);
      rmSync(restored, { recursive: true });
    },
    stop: () => Promise.resolve(),
  });
}
