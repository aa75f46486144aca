import type { Agent } from "./agent";
import type { Previous, Run } from "./engine";
import { openFile, storeFile } from "./store";

/** What a run is made of. */
export interface RunOptions {
  /** The partial generation; exists. */
  readonly directory: string;
  /** Exists and is empty. */
  readonly scratch: string;
  readonly signal: AbortSignal;
  readonly log: (message: string) => void;
  /** zstd level. */
  readonly level: number;
  /** The newest valid generation, where there is one. */
  readonly previous?: Previous;
  /** Absent where the pod has no engine's container. */
  readonly agent?: Agent;
  /** Told the size of every chunk that is stored or read back. */
  readonly count?: (bytes: number) => void;
  /** Told the path of every artefact that was read back to its end and found whole. */
  readonly onWhole?: (path: string) => void;
}

/** Makes what an engine gets to work with. */
export function createRun(options: RunOptions): Run {
  const { directory, scratch, signal, log, level, previous, agent, count, onWhole } = options;
  return {
    directory,
    scratch,
    signal,
    log,
    previous,
    store: (name, source, how) => storeFile(directory, name, source, { ...how, level, signal, count }),
    open: (file) => openFile(directory, file, { signal, count, onWhole }),
    get agent(): Agent {
      if (agent === undefined) throw new Error("this backup's pod has no engine's container");
      return agent;
    },
  };
}
