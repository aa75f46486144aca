import { execFileSync } from "node:child_process";
import { chmodSync, copyFileSync, mkdirSync, readdirSync, readFileSync, statSync } from "node:fs";
import { dirname, join } from "node:path";
import { zstdCompressSync } from "node:zlib";
import { artefactName, COMPRESSED } from "../../lib/runtime/store";
import { proven, red, runDrill, targetVolume } from "../helpers/drill";
import { findCronJob, runCronJob } from "../helpers/pod";
import { generationsOn, makeTarget, withSettings } from "../helpers/pod/target";
import { temporaryDirectory } from "../helpers/process";
import { SUBJECTS } from "../helpers/subjects";

const AGE = "age-encryption.org/v1\n";
const key = join(temporaryDirectory("key"), "age.txt");
execFileSync("age-keygen", ["-o", key], { stdio: "pipe" });
const recipient = execFileSync("age-keygen", ["-y", key], { encoding: "utf8" }).trim();

test.each(Object.entries(SUBJECTS))("a backup of %s is encrypted in all its files; age and the drill give back what restores", async (name, start) => {
  const subject = await start();
  try {
    const { name: backup, resources } = findCronJob(subject.synthesised);
    const hasDrill = resources.names("kubernetes_cron_job_v1").includes(`${backup}-drill`);
    const encrypting = withSettings(subject.synthesised, (settings) => ({ ...settings, encryption: { recipients: [recipient] } }));
    // Where the identity is found is the construct's doing; here it lies where every drill can read it.
    const json = hasDrill ? withSettings(encrypting, (settings) => ({ ...settings, identity: "/backup/age.txt" }), `${backup}-drill`) : encrypting;
    const target = makeTarget(json);
    const { options } = subject;
    const { ok, logs } = await runCronJob(json, { ...options, volumes: { ...options.volumes, [targetVolume(json)]: target } });
    const generation = generationsOn(json, target).at(-1);
    if (!ok || generation === undefined) throw new Error(logs.runner);

    const { path, manifest } = generation;
    const found = readdirSync(path, { recursive: true, encoding: "utf8" }).filter((entry) => statSync(join(path, entry)).isFile());
    expect(found.sort()).toEqual([...manifest.files.map((file) => file.path), "manifest.json"].sort());
    const plain = temporaryDirectory("plain");
    for (const file of manifest.files) {
      const stored = readFileSync(join(path, file.path));
      expect(stored.toString("latin1", 0, AGE.length)).toBe(AGE);
      // All but the header is without any order: nothing can be compressed.
      const payload = stored.subarray(stored.indexOf("\n--- ") + 49);
      expect(zstdCompressSync(payload).length).toBeGreaterThanOrEqual(payload.length);
      expect(file.path.endsWith(".age")).toBe(true);
      const decrypted = join(plain, file.path.slice(0, -".age".length));
      expect(decrypted).toBe(join(plain, artefactName(file)) + (file.uncompressedBytes === undefined ? "" : COMPRESSED));
      mkdirSync(dirname(decrypted), { recursive: true });
      execFileSync("age", ["-d", "-i", key, "-o", decrypted, join(path, file.path)], { stdio: "pipe" });
    }
    await subject.restoreEqual({ name, path: plain, manifest });

    if (!hasDrill) return;
    expect(red(await runDrill(json, target, options))).toContain(`${recipient}, but the Secret at /backup/age.txt has no identity`);
    copyFileSync(key, join(target, "age.txt"));
    chmodSync(join(target, "age.txt"), 0o444);
    expect(proven(await runDrill(json, target, options)).length).toBeGreaterThan(0);
  } finally {
    await subject.stop();
  }
});
