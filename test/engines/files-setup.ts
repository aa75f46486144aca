import { randomBytes } from "node:crypto";
import { chmodSync, linkSync, mkdirSync, symlinkSync, utimesSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { FileBackup, type FileBackupProps } from "../../constructs/backup";
import { NfsBackupVolume, PodVolume } from "../../constructs/storage";
import { Retention } from "../../lib/retention";
import { Schedule } from "../../lib/schedule";
import { forge, type DrillResult, type Forgery, runDrill } from "../helpers/drill";
import { runCronJob } from "../helpers/pod";
import { generationsOn, makeTarget, type FoundGeneration } from "../helpers/pod/target";
import { chownTree, temporaryDirectory } from "../helpers/process";
import { Template } from "../helpers/template";

export const NAME = "files-backup";
export const USER = 1000;
export const MIB = 1_048_576;

export const LAYOUTS = ["archive", "hard-linked"] as const;
export type Layout = (typeof LAYOUTS)[number];

/** A backup of the tree `data`. */
export function synthesise(props: Partial<FileBackupProps> = {}): string {
  const template = Template.of((stack) => {
    new FileBackup(stack, NAME, {
      namespace: "apps",
      volume: new NfsBackupVolume(stack, "volume", { name: NAME, namespace: "apps", server: "10.0.10.15", path: "/mnt/main/files-backup" }),
      schedule: Schedule.cron("0 3 * * *"),
      retention: Retention.keepLast(2),
      sources: [{ name: "data", volume: PodVolume.fromClaim("data", { accessMode: "ReadWriteMany" }) }],
      consistency: "quiesced",
      ...props,
    });
  });
  return JSON.stringify(template.json);
}

/** Everything that a tree of files can have, owned by the pod's user. */
export function manifoldTree(): string {
  const root = temporaryDirectory("data", USER);
  const long = "long-".repeat(40);
  const write = (path: string, content: string | Buffer, mode = 0o644): void => {
    mkdirSync(join(root, path, ".."), { recursive: true });
    writeFileSync(join(root, path), content);
    chmodSync(join(root, path), mode);
  };
  write("plain.txt", "plain");
  write("empty", "");
  write("secret", "s", 0o600);
  write("program", "#!/bin/sh\n", 0o4755);
  write("large.bin", randomBytes(5 * MIB + 17));
  write(`${long}/${long}/ünïcødé ${"😀".repeat(30)}`, "deep");
  write("new\nline\ttab \\ 'quote' \"double\" $x `y`", "odd");
  write(`${"d/".repeat(60)}bottom`, "bottom");
  for (let file = 0; file < 300; file++) write(`many/${file % 7}/${file}.txt`, `file ${file}\n`.repeat(file));
  write("closed/inside", "inside");
  mkdirSync(join(root, "no-files"));
  symlinkSync("plain.txt", join(root, "link"));
  symlinkSync("../../outside", join(root, "dangling"));
  symlinkSync(`/${long}${long}`, join(root, "far"));
  linkSync(join(root, "plain.txt"), join(root, "same"));
  chownTree(root, USER);
  utimesSync(join(root, "plain.txt"), 1_000_000_000, 1_000_000_000);
  utimesSync(join(root, "empty"), new Date(-86_400_000), new Date(-86_400_000));
  chmodSync(join(root, "no-files"), 0o750);
  chmodSync(join(root, "closed"), 0o555);
  return root;
}

/** Backs trees up to a target. @returns the new generation @throws the log of a run that fails */
export async function backUp(json: string, volumes: { readonly [claim: string]: string }, target = makeTarget(json)): Promise<FoundGeneration> {
  const { ok, logs } = await runCronJob(json, { volumes: { ...volumes, [NAME]: target }, pauseMs: 0 });
  const generation = generationsOn(json, target).at(-1);
  if (!ok || generation === undefined) throw new Error(logs.runner);
  return generation;
}

/** The tree of {@link manifoldTree} backed up in each layout, before the tests of a file. */
export function backedUpLayouts(): BackedUpLayouts {
  const jsonOf = { archive: synthesise(), "hard-linked": synthesise({ layout: "hard-linked" }) };
  const generationOf = new Map<Layout, FoundGeneration>();
  beforeAll(async () => {
    const data = manifoldTree();
    for (const layout of LAYOUTS) generationOf.set(layout, await backUp(jsonOf[layout], { data }));
  });
  const generation = (layout: Layout): FoundGeneration => {
    const found = generationOf.get(layout);
    if (found === undefined) throw new Error(`there is no generation with the layout ${layout}`);
    return found;
  };
  return {
    jsonOf,
    generation,
    drill: (layout, forgery = {}, json = jsonOf[layout]) => runDrill(json, forge(json, generation(layout), forgery).target),
  };
}

export interface BackedUpLayouts {
  readonly jsonOf: { readonly [layout in Layout]: string };
  generation(this: void, layout: Layout): FoundGeneration;
  /** Drills a copy of a layout's generation, forged. */
  drill(this: void, layout: Layout, forgery?: Forgery, json?: string): Promise<DrillResult>;
}
