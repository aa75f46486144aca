import type { Agent } from "./agent";
import { newFileKey } from "./age";
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
  /** Public keys that every artefact is encrypted to. @default - none is encrypted */
  readonly recipients?: readonly string[];
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
  const { directory, scratch, signal, log, level, recipients, previous, agent, count, onWhole } = options;
  // With these alone this run can read back what it wrote, though it has nobody's private key. They end with it.
  const keys = new Map<string, Buffer>();
  return {
    directory,
    scratch,
    signal,
    log,
    previous,
    store: async (name, source, how) => {
      const encryption = recipients && { recipients, fileKey: newFileKey() };
      const file = await storeFile(directory, name, source, { ...how, level, signal, count, encryption });
      if (encryption !== undefined) keys.set(file.path, encryption.fileKey);
      return file;
    },
    open: (file) => openFile(directory, file, { signal, count, onWhole, keyOf: ({ path }) => () => keyOf(keys, path) }),
    get agent(): Agent {
      if (agent === undefined) throw new Error("this backup's pod has no engine's container");
      return agent;
    },
  };
}

function keyOf(keys: ReadonlyMap<string, Buffer>, path: string): Buffer {
  const key = keys.get(path);
  if (key === undefined) throw new Error("this run did not write it");
  return key;
}
