import type { Subject } from "./subject";
import { createHash, randomBytes } from "node:crypto";
import { chmodSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { CommandBackup } from "../../../constructs/backup";
import { PodVolume } from "../../../constructs/storage";
import { ImageReference } from "../../../lib/image-reference";
import { run, temporaryDirectory } from "../process";
import { COMMON_SERVICES, hanging, synthesise } from "./subject";

const PRODUCER = { program: "cat" };
const ROWS = 20_000;

/** A program of the owner's that prints a list, of which half does not compress, and ends it with a trailer. */
export function startCommand(): Promise<Subject> {
  const data = temporaryDirectory("command-source");
  const rows = join(data, "rows");
  const content = Array.from({ length: ROWS }, (_, row) => `${row} ${randomBytes(60).toString("hex")}\n`).join("");
  writeFileSync(rows, content);
  const wanted = createHash("sha256").update(`${content}-- end of list\n`).digest("hex");
  return Promise.resolve({
    name: "command",
    synthesised: synthesise((stack, common) => {
      new CommandBackup(stack, "list", {
        ...common,
        image: ImageReference.parse("registry.example.org/lists:1.0.0"),
        script: 'cat "${ROWS:?}"\necho "-- end of list"\n',
        artefacts: [{ name: "list.txt", trailer: "-- end of list" }],
        env: { ROWS: "/data/rows" },
        mounts: [{ volume: PodVolume.fromClaim("data", { accessMode: "ReadWriteMany" }), path: "/data" }],
        runAs: { uid: 1234, gid: 1234 },
      });
    }),
    options: {
      volumes: { data },
      services: COMMON_SERVICES,
      images: { "registry.example.org/lists": { tools: ["sh", "sleep", "cat"] } },
    },
    producer: PRODUCER,
    sourceFaults: [
      {
        name: "missing",
        reason: /rows.*No such file/,
        inject: () => {
          renameSync(rows, `${rows}.away`);
          return Promise.resolve(() => renameSync(`${rows}.away`, rows));
        },
      },
      {
        name: "unreadable",
        reason: /rows.*Permission denied/,
        inject: () => {
          chmodSync(rows, 0o600);
          return Promise.resolve(() => chmodSync(rows, 0o644));
        },
      },
    ],
    stall: hanging(PRODUCER),
    restoreEqual: async ({ path }) => {
      const restored = join(temporaryDirectory("restored"), "list.txt");
      await run("zstd", ["-d", "-q", join(path, "list.txt.zst"), "-o", restored]);
      const { stdout } = await run("sha256sum", [restored]);
      rmSync(restored);
      if (!stdout.startsWith(wanted)) throw new Error("the list that was restored differs from the source");
    },
    stop: () => Promise.resolve(),
  });
}
