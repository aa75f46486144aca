import { chmodSync, linkSync, mkdirSync, symlinkSync, utimesSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { SqliteBackup, type SqliteBackupProps } from "../../constructs/backup";
import { NfsBackupVolume, PodVolume } from "../../constructs/storage";
import { Retention } from "../../lib/retention";
import { Schedule } from "../../lib/schedule";
import { targetVolume } from "../helpers/drill";
import { runCronJob } from "../helpers/pod";
import { generationsOn, makeTarget, mountTmpfs, type FoundGeneration } from "../helpers/pod/target";
import { chownTree, temporaryDirectory } from "../helpers/process";
import { application } from "../helpers/sqlite-application";
import { SCHEMA } from "../helpers/sqlite-damage";
import { Template } from "../helpers/template";

export const USER = 1000;
export const DATABASE = "db.sqlite3";

/** A password vault's backup: the database and what belongs to it. */
export function synthesise(props: Partial<SqliteBackupProps> = {}): string {
  const template = Template.of((stack) => {
    const target = { name: "app-backup", namespace: "app", server: "10.0.10.15", path: "/mnt/main/app-backup" };
    new SqliteBackup(stack, "backup", {
      namespace: "app",
      data: PodVolume.fromClaim("app-data"),
      database: DATABASE,
      colocateWith: { labels: { app: "app" } },
      volume: new NfsBackupVolume(stack, "volume", target),
      schedule: Schedule.cron("0 */6 * * *"),
      retention: Retention.keepDays(30),
      files: ["rsa_key.pem", "attachments", "sends", "config.json"].map((path) => ({ path, required: path === "rsa_key.pem" })),
      ...props,
    });
  });
  return JSON.stringify(template.json);
}

/**
 * A volume with such a database, which a script made, and its files.
 * @param bytes size of a file system in memory, for writers that should not wait for a disk
 */
export async function vault(script = "", bytes?: number): Promise<string> {
  const volume = temporaryDirectory("data");
  if (bytes !== undefined) mountTmpfs(volume, bytes);
  await application(join(volume, DATABASE), SCHEMA + script);
  writeFileSync(join(volume, "rsa_key.pem"), "private");
  chmodSync(join(volume, "rsa_key.pem"), 0o600);
  mkdirSync(join(volume, "attachments", "cipher-1"), { recursive: true });
  for (let index = 0; index < 20; index++) writeFileSync(join(volume, "attachments", "cipher-1", `file-${index}`), `${index}`.repeat(5000));
  mkdirSync(join(volume, "attachments", "empty"));
  linkSync(join(volume, "attachments", "cipher-1", "file-7"), join(volume, "attachments", "twin"));
  symlinkSync("cipher-1/file-3", join(volume, "attachments", "link"));
  mkdirSync(join(volume, "sends"));
  writeFileSync(join(volume, "sends", "ü 'odd' name"), "sent");
  utimesSync(join(volume, "attachments", "cipher-1", "file-3"), 1_000_000_000, 1_000_000_000);
  chownTree(volume, USER);
  chmodSync(join(volume, "attachments", "empty"), 0o500);
  return volume;
}

/** Backs a volume up to a target. @returns the new generation @throws the log of a run that fails */
export async function backUp(json: string, volume: string, target = makeTarget(json, { name: "backup" })): Promise<FoundGeneration> {
  const volumes = { "app-data": volume, [targetVolume(json, "backup")]: target };
  const { ok, logs } = await runCronJob(json, { name: "backup", volumes, pauseMs: 0 });
  const generation = generationsOn(json, target, "backup").at(-1);
  if (!ok || generation === undefined) throw new Error(logs.runner);
  return generation;
}
