import type { Report } from "./result";
import { benchPostgres, benchPostgresRestore } from "./postgres";
import { benchRto } from "./rto";
import { renderReport } from "./result";
import { benchSynth } from "./synth";

const HELP = `usage: npm run bench -- [--only postgres|postgres-restore|rto|synth] [--json] [--help]

  postgres          a backup of about 1 GB of PostgreSQL, the whole pod, against pg_dumpall | gzip -9 in the same run
                    (Linux, root; some minutes and 4 GB of disk below TMPDIR)
  postgres-restore  the restore of one database of twelve, the whole pod, against gunzip | psql in the same run (likewise)
  rto               a restore of each kind that the homelab promises a time for, on some hundred MB (likewise)
  synth             the homelab's synthesis against the same resources as bare provider classes, and 100 to 1,000 services

  --only            runs one of them
  --json            prints the reports as JSON

It prints ratios and what they are held to, and fails nothing. Other work on the machine shows in every figure but the ratios.
`;

const BENCHES: { readonly [name: string]: () => Promise<Report> } = {
  postgres: benchPostgres,
  "postgres-restore": benchPostgresRestore,
  rto: benchRto,
  synth: benchSynth,
};

async function main(args: readonly string[]): Promise<number> {
  const only = args.includes("--only") ? args[args.indexOf("--only") + 1] : undefined;
  const unknown = args.filter((argument) => !["--only", "--json", "--help", only].includes(argument));
  if (args.includes("--help")) {
    process.stdout.write(HELP);
    return 0;
  }
  if (unknown.length > 0 || (args.includes("--only") && (only === undefined || !(only in BENCHES)))) {
    process.stderr.write(HELP);
    return 64;
  }
  const reports: Report[] = [];
  for (const [name, bench] of Object.entries(BENCHES)) {
    if (only !== undefined && name !== only) continue;
    const report = await bench();
    reports.push(report);
    if (!args.includes("--json")) process.stdout.write(`${renderReport(report)}\n`);
  }
  if (args.includes("--json")) process.stdout.write(`${JSON.stringify(reports, undefined, 2)}\n`);
  return 0;
}

main(process.argv.slice(2)).then(
  (code) => (process.exitCode = code),
  (error: unknown) => {
    process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
    process.exitCode = 1;
  },
);
