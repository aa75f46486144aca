import type { Readable } from "node:stream";
import type { Agent } from "./agent";
import type { Fingerprint, Manifest, ManifestFile } from "./manifest";

/** How an engine adds an artefact to the generation that is being written. */
export interface StoreOptions {
  /** Compress with zstd; `.zst` is appended to the name. @default true */
  readonly compress?: boolean;
  /** Sees every chunk before compression, in order (a parser, a trailer check). @default - nothing */
  readonly inspect?: (chunk: Buffer) => void;
}

/** A generation that exists, to be read only. */
export interface Previous {
  readonly directory: string;
  readonly manifest: Manifest;
}

/** What the core hands an engine for one run. */
export interface Run {
  /** The partial generation's directory; everything an engine writes goes here. */
  readonly directory: string;
  /** Scratch space that is emptied after the run (an `emptyDir`). */
  readonly scratch: string;
  /** Aborted on TERM, on a lost lock, and when the engine's container dies. */
  readonly signal: AbortSignal;
  readonly log: (message: string) => void;
  /**
   * Streams `source` into an artefact, hashing and (by default) compressing on the way; encrypting, where the backup is told to.
   * The promise fails if the source fails, and nothing counts that was not stored whole.
   */
  store(name: string, source: Readable, options?: StoreOptions): Promise<ManifestFile>;
  /** Reads an artefact back from the target, decrypted and decompressed; fails unless every byte decodes and nothing follows. */
  open(file: ManifestFile): Readable;
  /** The newest valid generation of this backup, where there is one: unchanged files can be links to its files. */
  readonly previous?: Previous;
  /** The engine's container. Engines that have none must not touch it. */
  readonly agent: Agent;
}

/** What `dump` reports. */
export interface Dump {
  readonly files: readonly ManifestFile[];
  readonly fingerprint: Fingerprint;
}

/**
 * One kind of data source. The core owns the order, the lock, the target, the manifest, publication,
 * retention and reporting; an engine knows its source and its artefacts alone.
 */
export interface Engine {
  /** Looks at the source before anything is written; throws with the reason where it cannot be backed up. */
  preflight(run: Run): Promise<{ readonly versions: { readonly [tool: string]: string } }>;
  dump(run: Run): Promise<Dump>;
  /** Decodes every artefact to its last byte; returns the checks that passed, in words. */
  verify(run: Run, dump: Dump): Promise<readonly string[]>;
}
