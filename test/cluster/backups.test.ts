import { Homelab, jobsOf, synthesiseHomelab } from "./homelab";
import { endOfJob, startJob, succeeded, type FinishedJob } from "./jobs";

const stacks = synthesiseHomelab();
const jobs = jobsOf(stacks);
const backups = jobs.filter(({ settings }) => settings.target !== undefined);

describe("every backup under a real kubelet", () => {
  let homelab: Homelab;
  const ended = new Map<string, FinishedJob>();

  beforeAll(async () => {
    homelab = await Homelab.start();
    const names = await Promise.all(jobs.map(({ name, namespace }) => startJob(homelab.cluster, namespace, name)));
    const all = await Promise.all(jobs.map(({ namespace }, index) => endOfJob(homelab.cluster, namespace, names[index] ?? "", 200)));
    jobs.forEach(({ name }, index) => ended.set(name, all[index] as FinishedJob));
  }, 400_000);
  afterAll(() => homelab?.stop());

  test.each(jobs)("$namespace/$name: its Job completes", ({ name }) => {
    expect(succeeded(ended.get(name)).log).not.toContain("not pushed");
  });

  test.each(backups)("$namespace/$name: one generation is on the volume, whole, and nothing else", ({ name }) => {
    const job = homelab.job(name);
    expect(homelab.generations(job)).toHaveLength(1);
    expect(homelab.leftovers(job)).toEqual([]);
  });

  test.each(backups)("$namespace/$name: its metrics are in the Pushgateway", async ({ name }) => {
    const job = homelab.job(name);
    const [generation] = homelab.generations(job);
    expect(await homelab.metric("backup_last_exit_code", job)).toBe(0);
    expect(await homelab.metric("backup_last_success_timestamp", job)).toBe(Math.floor(Date.parse(generation?.manifest.finishedAt ?? "") / 1000));
    expect(await homelab.metric("backup_generations", job)).toBe(1);
  });

  test("the integrity check of Vaultwarden's database reports that it is sound", async () => {
    const check = homelab.job("vaultwarden-integrity-check");
    expect(await homelab.metric("vaultwarden_sqlite_integrity_ok", check)).toBe(1);
  });
});
