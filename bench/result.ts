/** One line of a report: a ratio or a quantity, and what it is held to. */
export interface Figure {
  readonly name: string;
  readonly value: number;
  /** `x` for a ratio, `s`, `MB`, ... */
  readonly unit: string;
  /** The most that it should be. @default - reported only */
  readonly goal?: number;
}

export interface Report {
  readonly title: string;
  /** What was measured on what, in a sentence or two. */
  readonly about: readonly string[];
  /** Ratios first. */
  readonly figures: readonly Figure[];
}

/** A report as plain text. */
export function renderReport({ title, about, figures }: Report): string {
  const rows = figures.map(({ name, value, unit, goal }) => [
    name,
    `${format(value)} ${unit}`,
    goal === undefined ? "" : `${value <= goal ? "within" : "OVER  "} ${format(goal)} ${unit}`,
  ]);
  const widths = [0, 1, 2].map((column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)));
  const lines = rows.map(([name = "", value = "", verdict = ""]) =>
    `  ${name.padEnd(widths[0] ?? 0)}  ${value.padStart(widths[1] ?? 0)}  ${verdict}`.trimEnd(),
  );
  return [title, ...about.map((line) => `  ${line}`), "", ...lines, ""].join("\n");
}

function format(value: number): string {
  return value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(2);
}

/** The middle one of an odd number of values. */
export function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)] ?? NaN;
}
