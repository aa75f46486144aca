import { CommandBackup, type CommandBackupProps } from "../../constructs/backup";
import { NfsBackupVolume, PodVolume } from "../../constructs/storage";
import { ImageReference } from "../../lib/image-reference";
import { Retention } from "../../lib/retention";
import { Schedule } from "../../lib/schedule";
import { runCronJob, type CronJobOptions } from "../helpers/pod";
import { succeeded } from "../helpers/pod/backup";
import { generationsOn, makeTarget, type FoundGeneration } from "../helpers/pod/target";
import { chownTree, run, temporaryDirectory } from "../helpers/process";
import { Template } from "../helpers/template";

const REPOSITORY = "registry.example.com/tools/notes";
const USER = 1234;

/** An application with a database that only its own program can dump and load: here, SQLite's shell. */
export const IMAGES: NonNullable<CronJobOptions["images"]> = { [REPOSITORY]: { tools: ["sh", "sleep", "cat", "cp", "mv", "rm", "sqlite3"] } };

const BACKUP = `case $1 in
  notes.sql) sqlite3 -readonly -cmd '.timeout 10000' /data/notes.db .dump ;;
  pictures) cp /data/pictures/* "$OUT" ;;
esac
`;

export const DRILL = `sqlite3 -bail "$SCRATCH/notes.db" < "$IN/notes.sql"
sqlite3 "$SCRATCH/notes.db" 'PRAGMA integrity_check' > "$SCRATCH/verdict"
read -r verdict < "$SCRATCH/verdict"
[ "$verdict" = ok ] || { echo "the restored database is broken: $verdict" >&2; exit 1; }
echo "the restored database is sound"
notes=$(sqlite3 "$SCRATCH/notes.db" 'SELECT count(*) FROM note')
[ "$notes" -gt 0 ] || { echo "no note came back" >&2; exit 1; }
echo "$notes notes came back"
`;

export const RESTORE = `case $1 in
  target) if [ -e /data/notes.db ]; then echo notes.db; fi ;;
  restore)
    rm -f /data/new.db
    sqlite3 -bail /data/new.db < "$IN/notes.sql"
    mv /data/new.db /data/notes.db
    rm -f /data/pictures/*
    cp "$IN"/pictures/* /data/pictures
    echo "loaded"
    ;;
  check) echo "$(sqlite3 -readonly /data/notes.db 'SELECT count(*) FROM note') notes are there" ;;
esac
`;

export function synthesise(props: Partial<CommandBackupProps> = {}): string {
  const template = Template.of((stack) => {
    new CommandBackup(stack, "notes", {
      namespace: "app",
      volume: new NfsBackupVolume(stack, "volume", { name: "notes-backup", namespace: "app", server: "10.0.10.15", path: "/mnt/main/notes" }),
      schedule: Schedule.cron("0 3 * * *"),
      retention: Retention.keepDays(30),
      image: ImageReference.parse(`${REPOSITORY}:1.2.3`),
      runAs: { uid: USER, gid: USER },
      script: BACKUP,
      artefacts: [{ name: "notes.sql", trailer: "COMMIT;" }, { name: "pictures", from: "directory" }],
      mounts: [{ volume: PodVolume.fromClaim("data", { accessMode: "ReadWriteMany", readOnly: false }), path: "/data" }],
      drill: { script: DRILL },
      restore: { script: RESTORE },
      ...props,
    });
  });
  return JSON.stringify(template.json);
}

/** The application's data. */
export async function makeData(notes = 500): Promise<string> {
  const data = temporaryDirectory("notes", USER);
  const rows = `WITH n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ${notes}) INSERT INTO note SELECT i, 'note ' || i || ' ' || hex(randomblob(40)) FROM n`;
  await run("sqlite3", [`${data}/notes.db`, `CREATE TABLE note (id INTEGER PRIMARY KEY, text TEXT NOT NULL); ${notes === 0 ? "" : rows};`]);
  await run("sh", ["-ec", `mkdir '${data}/pictures' && head -c 100000 /dev/urandom > '${data}/pictures/one' && echo two > '${data}/pictures/two'`]);
  chownTree(data, USER);
  return data;
}

/** All that is in them. */
export async function contentOf(data: string): Promise<string> {
  const dump = await run("sqlite3", ["-readonly", `${data}/notes.db`, ".dump"]);
  return dump.stdout + (await run("sh", ["-ec", `cd '${data}/pictures' && sha256sum *`])).stdout;
}

export async function backUp(json: string, data: string, target = makeTarget(json)): Promise<FoundGeneration> {
  const result = await runCronJob(json, { name: "notes", images: IMAGES, volumes: { data, "notes-backup": target } });
  return succeeded({ ...result, generations: generationsOn(json, target, "notes") });
}
