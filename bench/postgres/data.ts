import { seeded } from "../../test/helpers/random";

/**
 * About one gigabyte of PostgreSQL as a homelab has it, the same at every run. No data of anyone's: each table is generated in the
 * form that a known application gives it.
 *
 * | table                    | share of the rows' text | what it is                                                                |
 * |--------------------------|-------------------------|---------------------------------------------------------------------------|
 * | woodpecker.log_entries   | 30 %                    | lines of CI logs: 60 pipelines run again and again, a third of the lines  |
 * |                          |                         | with a number or a hash that is new each time; in bytea, so COPY has hex  |
 * | linkwarden.link          | 20 %                    | pages as text: words of a vocabulary of 6,000, the common ones often, no  |
 * |                          |                         | two pages alike                                                           |
 * | claude_memory.memory     | 15 %                    | JSON with the same keys in each row, a random UUID and SHA-256            |
 * | health.sample            | 15 %                    | measurements as phones export them: a number, three times, long names     |
 * | trading.tick             | 10 %                    | timestamps, prices that wander, volumes                                   |
 * | affine.update            | 10 %                    | random bytes, of which nothing compresses but the hex that COPY writes    |
 */
export interface Table {
  readonly database: string;
  readonly name: string;
  readonly ddl: string;
  /** Share of all text. */
  readonly share: number;
  /** Makes the rows, each a line of COPY's text format without its end. */
  readonly rows: (random: Random) => (id: number) => string;
}

export type Random = () => number;

const below = (random: Random, limit: number): number => Math.floor(random() * limit);

function hex(random: Random, bytes: number): string {
  let text = "";
  for (let word = 0; word < bytes / 4; word++) text += below(random, 2 ** 32).toString(16).padStart(8, "0");
  return text.slice(0, bytes * 2);
}

const time = (seconds: number): string => new Date((1_600_000_000 + seconds) * 1000).toISOString();

const PARTS = "ka lo mi ren ta shu ver no be stra qui pel on dar im fe gul han is".split(" ");
const VOCABULARY = ((): readonly string[] => {
  const random = seeded(1);
  const part = (): string => PARTS[below(random, PARTS.length)] ?? "";
  return Array.from({ length: 6000 }, () => Array.from({ length: 1 + below(random, 4) }, part).join(""));
})();

/** The square makes some words much more frequent than others, as in any language. */
const word = (random: Random): string => VOCABULARY[Math.floor(random() ** 2 * VOCABULARY.length)] ?? "";
const prose = (random: Random, words: number): string => Array.from({ length: words }, () => word(random)).join(" ");

/** A pipeline's log: 300 lines, in which `#` and `@` stand for a number and a hash of the run. */
function pipeline(random: Random): readonly string[] {
  return Array.from({ length: 300 }, () => {
    const line = `${["+ ", "  ", "npm info ", "#12 ", "level=info msg="][below(random, 5)]}${prose(random, 3 + below(random, 9))}`;
    return line + ["", "", "", "", " done in #.# s", " sha256:@"][below(random, 6)];
  });
}

const KINDS = [
  ["HeartRate", "count/min", 180],
  ["StepCount", "count", 300],
  ["OxygenSaturation", "%", 1],
  ["ActiveEnergyBurned", "kcal", 5],
  ["DistanceWalkingRunning", "km", 0.3],
] as const;

export const TABLES: readonly Table[] = [
  {
    database: "woodpecker",
    name: "log_entries",
    ddl: `CREATE TABLE log_entries (id bigint PRIMARY KEY, step_id bigint, time bigint, line int, data bytea, created bigint,
      type smallint)`,
    share: 0.3,
    rows: (random) => {
      const pipelines = Array.from({ length: 60 }, () => pipeline(random));
      let [current, line, step] = [pipelines[0] ?? [], 0, 0];
      return (id) => {
        if (line === current.length) [current, line, step] = [pipelines[below(random, pipelines.length)] ?? [], 0, step + 1];
        const text = (current[line++] ?? "").replace(/#/g, () => String(below(random, 100))).replace("@", () => hex(random, 32));
        const data = `\\\\x${Buffer.from(text).toString("hex")}`;
        return [id, step, Math.floor(line / 5), line, data, 1_600_000_000 + step * 300, 0].join("\t");
      };
    },
  },
  {
    database: "linkwarden",
    name: "link",
    ddl: "CREATE TABLE link (id int PRIMARY KEY, name text, url text, text_content text, created timestamptz)",
    share: 0.2,
    rows: (random) => (id) => {
      const url = `https://${word(random)}.example.org/${word(random)}/${id}`;
      return [id, prose(random, 6), url, prose(random, 100 + below(random, 900)), time(id * 3600)].join("\t");
    },
  },
  {
    database: "claude_memory",
    name: "memory",
    ddl: "CREATE TABLE memory (id uuid PRIMARY KEY, created timestamptz NOT NULL, checksum text NOT NULL, content jsonb NOT NULL)",
    share: 0.15,
    rows: (random) => (id) => {
      const content = {
        source: ["chat", "editor", "terminal", "browser"][below(random, 4)],
        project: `project-${below(random, 40)}`,
        importance: below(random, 100) / 100,
        tags: Array.from({ length: below(random, 5) }, () => word(random)),
        tokens: below(random, 4000),
        summary: prose(random, below(random, 30)),
        accessed: time(id * 900 + below(random, 900)),
      };
      const uuid = hex(random, 16).replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
      return `${uuid}\t${time(id * 900)}\t${hex(random, 32)}\t${JSON.stringify(content)}`;
    },
  },
  {
    database: "health",
    name: "sample",
    ddl: `CREATE TABLE sample (id bigint PRIMARY KEY, kind text, source text, source_version text, device text, unit text,
      created timestamptz, started timestamptz, ended timestamptz, value double precision)`,
    share: 0.15,
    rows: (random) => (id) => {
      const [kind, unit, scale] = KINDS[below(random, KINDS.length)] ?? KINDS[0];
      const version = below(random, 6);
      const device =
        `<<HKDevice: 0x28${below(random, 40)}>, name:Watch, manufacturer:Example Inc., ` +
        `model:Watch, hardware:Watch6,2, software:10.${version}>`;
      const started = id * 10 + below(random, 10);
      const value = (below(random, 1000) / 1000) * scale;
      const times = [time(started + 60), time(started), time(started + below(random, 60))];
      const source = ["Watch of the house", `10.${version}`, device];
      return [id, `HKQuantityTypeIdentifier${kind}`, ...source, unit, ...times, value.toFixed(2)].join("\t");
    },
  },
  {
    database: "trading",
    name: "tick",
    ddl: `CREATE TABLE tick (id bigint PRIMARY KEY, symbol text, at timestamptz, bid numeric(14,4), ask numeric(14,4),
      volume numeric(16,2))`,
    share: 0.1,
    rows: (random) => {
      const prices = Array.from({ length: 30 }, () => 10 + random() * 500);
      return (id) => {
        const symbol = below(random, prices.length);
        const bid = (prices[symbol] = Math.max(1, (prices[symbol] ?? 1) + random() - 0.5));
        const volume = (below(random, 100_000) / 100).toFixed(2);
        return [id, `SYM${symbol}`, time(id / 3), bid.toFixed(4), (bid + random() / 10).toFixed(4), volume].join("\t");
      };
    },
  },
  {
    database: "affine",
    name: "update",
    ddl: "CREATE TABLE update (id int PRIMARY KEY, document text, data bytea)",
    share: 0.1,
    rows: (random) => (id) => `${id}\tdocument-${below(random, 500)}\t\\\\x${hex(random, 100 + below(random, 4000))}`,
  },
];
