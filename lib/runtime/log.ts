import { writeSync } from "node:fs";

/** Writes one line, `2026-11-23T19:00:00Z message`, to standard output. */
export function log(message: string): void {
  const line = `${isoSeconds(new Date())} ${oneLine(message)}\n`;
  try {
    writeSync(1, line);
  } catch {
    // Nobody reads; the work matters more than its log.
  }
}

/** ISO 8601 in UTC, to the second. */
export function isoSeconds(date: Date): string {
  return date.toISOString().replace(/\.\d+/, "");
}

/** Folds a text of several lines, as tools print them, into one. */
export function oneLine(text: string): string {
  return text.trim().replace(/\s*[\r\n]+\s*/g, " | ");
}

/** The reason in one line, whatever was thrown. */
export function reasonOf(error: unknown): string {
  const { message } = Object(error) as { readonly message?: unknown };
  return oneLine(String(message ?? error));
}
