import type { SqliteSettings } from "./engines/sqlite";
import { METRICS, type Sample } from "./metrics";
import type { Settings } from "./settings";

/** Exit codes of an integrity check, by its result; also the values of its metric. */
export const INTEGRITY = { ok: 0, corrupt: 1, unknown: 2 } as const;
export type IntegrityState = keyof typeof INTEGRITY;

/** Checks a live SQLite database without touching it; the detail says what is wrong. */
export type IntegrityCheck = (
  settings: SqliteSettings,
  log: (message: string) => void,
) => Promise<{ readonly state: IntegrityState; readonly detail: string }>;

/** Checks a live database. */
export async function integrity(
  settings: Settings,
  check: IntegrityCheck,
  log: (message: string) => void,
): Promise<{ readonly state: IntegrityState; readonly samples: readonly Sample[] }> {
  const { engine } = settings;
  if (engine.kind !== "sqlite") throw new Error(`an integrity check needs the engine 'sqlite', but the settings have '${engine.kind}'`);
  const { state, detail } = await check(engine, log);
  log(`${engine.database}: ${state}${detail === "" ? "" : `, ${detail}`}`);
  return { state, samples: integritySamples(state, engine.integrityMetric) };
}

/** What could not be checked is neither well nor corrupt: the database's own gauge stays as it is, and ages. */
export function integritySamples(state: IntegrityState, own?: string): readonly Sample[] {
  const gauge = own === undefined || state === "unknown" ? undefined : { name: own, help: "1 where the database was found whole, else 0" };
  return [
    [METRICS.integrityLastRun, Math.floor(Date.now() / 1000)],
    [METRICS.integrityState, INTEGRITY[state]],
    ...(gauge === undefined ? [] : [[gauge, state === "ok" ? 1 : 0] as const]),
  ];
}
