import type { Subject } from "../helpers/subjects/subject";
import type { Load } from "./episode";
import { Random } from "../helpers/random";
import { SUBJECTS } from "../helpers/subjects";
import { Stage } from "./episode";
import { FAULTS, type Fault } from "./faults";
import { HELP, readOptions, type Options } from "./options";

const LOADS: readonly Load[] = [
  { name: "none", pauseMs: 0 },
  { name: "light", pauseMs: 200 },
  { name: "heavy", pauseMs: 1 },
];

/** What happened so far, by fault. */
class Report {
  private readonly rows = new Map<string, { episodes: number; published: number; drilled: number }>();
  public episodes = 0;

  public add(fault: string, published: number, drilled: number): void {
    const row = this.rows.get(fault) ?? { episodes: 0, published: 0, drilled: 0 };
    this.rows.set(fault, { episodes: row.episodes + 1, published: row.published + published, drilled: row.drilled + drilled });
    this.episodes++;
  }

  public toString(): string {
    const lines = [...this.rows].map(([fault, { episodes, published, drilled }]) =>
      `${fault.padEnd(10)} ${String(episodes).padStart(8)} ${String(published).padStart(10)} ${String(drilled).padStart(8)}`,
    );
    return ["fault      episodes  published  drilled", ...lines.sort()].join("\n");
  }
}

/** Subjects are started when they are first needed, and stay. */
async function playAll(options: Options): Promise<number> {
  const { minutes, seed, from, episodes, engines, faults } = options;
  const stages = new Map<string, { subject: Subject; stage: Stage }>();
  const report = new Report();
  const end = Date.now() + minutes * 60_000;
  print(`faults: seed ${seed}, ${minutes} min, engines ${engines.join(",")}, faults ${faults.join(",")}`);
  try {
    for (let episode = from; episode < from + episodes && Date.now() < end; episode++) {
      const random = new Random(seed ^ Math.imul(episode, 0x9e3779b1));
      const engine = random.pick(engines);
      const name = random.pick(faults);
      const load = random.pick(LOADS);
      let on = stages.get(engine);
      if (on === undefined) {
        const subject = await (SUBJECTS[engine] as () => Promise<Subject>)();
        on = { subject, stage: new Stage(subject) };
        stages.set(engine, on);
      }
      const fault: Fault | undefined = FAULTS[name]?.(random, on.subject);
      if (fault === undefined) continue;
      const label = `#${episode} ${engine}, load ${on.subject.load === undefined ? "none" : load.name}, ${name}`;
      try {
        const { codes, published, drilled, detail } = await on.stage.play(fault, on.subject.load === undefined ? LOADS[0] as Load : load);
        report.add(name, published, drilled);
        print(`${label} ${detail}: exit ${codes.join(" and ")}, ${published} published${drilled > 0 ? ", judged by a drill" : ""}`);
      } catch (error) {
        print(`${label} ${fault.detail}: FAILED\n${error instanceof Error ? error.message : String(error)}`);
        print(`again: npm run test:faults -- --seed ${seed} --from ${episode} --episodes 1 --engines ${engines.join(",")} --faults ${faults.join(",")}`);
        return 1;
      }
    }
  } finally {
    for (const { subject, stage } of stages.values()) {
      stage.leave();
      await subject.stop();
    }
  }
  print(`${String(report)}\n${report.episodes} episodes without a broken promise, seed ${seed}`);
  return 0;
}

function print(line: string): void {
  process.stdout.write(`${line}\n`);
}

async function main(args: readonly string[]): Promise<number> {
  let options: Options | undefined;
  try {
    options = readOptions(args);
  } catch (error) {
    process.stderr.write(`${(error as Error).message}\n\n${HELP}`);
    return 64;
  }
  if (options === undefined) {
    print(HELP.trimEnd());
    return 0;
  }
  return playAll(options);
}

main(process.argv.slice(2)).then(
  (code) => process.exit(code),
  (error: unknown) => {
    process.stderr.write(`${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`);
    process.exit(1);
  },
);
