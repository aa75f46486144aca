import { setTimeout as sleep } from "node:timers/promises";
import { reasonOf } from "./log";
import { renderMetrics, type Sample } from "./metrics";
import type { Settings } from "./settings";

/** How long a push is tried. */
export interface PushOptions {
  /** For each attempt. @default 10000 */
  readonly timeoutMs?: number;
  /** @default 3 */
  readonly attempts?: number;
  /** Before the second attempt; doubled before each further one. @default 1000 */
  readonly pauseMs?: number;
}

/**
 * Sends samples to the Pushgateway, into the backup's own group. What the group holds under other names stays.
 * @throws Error with the gateway's own words where it refuses, or the reason where it cannot be reached
 */
export async function push(settings: Settings, samples: readonly Sample[], options: PushOptions = {}): Promise<void> {
  const { pushgateway, namespace, backup } = settings;
  if (pushgateway === undefined) return;
  const { timeoutMs = 10_000, attempts = 3, pauseMs = 1000 } = options;
  const url = `${pushgateway.replace(/\/+$/, "")}/metrics/job/backup/namespace/${namespace}/backup/${backup}`;
  for (let attempt = 1; ; attempt++) {
    const failure = await post(url, renderMetrics(samples), timeoutMs);
    if (failure === undefined) return;
    if (failure.final || attempt >= attempts) throw new Error(`${failure.reason} (${url})`);
    await sleep(pauseMs * 2 ** (attempt - 1));
  }
}

async function post(url: string, body: string, timeoutMs: number): Promise<{ reason: string; final: boolean } | undefined> {
  try {
    const headers = { "content-type": "text/plain; version=0.0.4" };
    const response = await fetch(url, { method: "POST", body, headers, redirect: "error", signal: AbortSignal.timeout(timeoutMs) });
    const text = (await response.text()).slice(0, 500);
    if (response.ok) return undefined;
    // What the gateway finds wrong with the metrics it will find wrong again.
    return { reason: `HTTP ${response.status}: ${reasonOf(text)}`, final: response.status < 500 };
  } catch (error) {
    const { cause } = error as Error;
    return { reason: reasonOf(cause ?? error), final: false };
  }
}
