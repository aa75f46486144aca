import type { Readable } from "node:stream";
import type { Agent } from "./agent";
import type { Manifest, ManifestFile } from "./manifest";
import type { Assertion } from "./settings";

/** What the core hands an engine for one drill. */
export interface Drill {
  /** The generation's directory, to be read only. */
  readonly directory: string;
  readonly manifest: Manifest;
  /** Name of the scratch instance, made up for this drill, which no live server has. */
  readonly name: string;
  /** Scratch space of the runner that is emptied after the drill (an `emptyDir`). */
  readonly scratch: string;
  /** Bytes that the scratch space may hold. @default - as many as its file system has */
  readonly scratchBytes?: number;
  /** Shared with the engine's container, for what the two cannot hand over in a stream (an `emptyDir`). */
  readonly work: string;
  readonly assertions: readonly Assertion[];
  /** Aborted on TERM and when the engine's container dies. */
  readonly signal: AbortSignal;
  readonly log: (message: string) => void;
  /** Reads an artefact, decrypted and decompressed; fails unless every byte decodes, has the SHA-256 of the manifest, and nothing follows. */
  open(file: ManifestFile): Readable;
  /** The engine's container. Engines that have none must not touch it. */
  readonly agent: Agent;
}

/** Restores one kind of data into a scratch instance and finds out whether it is what was backed up. */
export interface DrillEngine {
  /**
   * Prepares, in a container that ends before all others begin, what the engine's own programs restore from: for an engine whose image
   * has no shell, and so no agent. What it writes to the shared directory stays. @throws Error with the reason where that fails
   *
   * @default - the drill needs no preparation
   */
  stage?(drill: Drill): Promise<void>;
  /** From artefacts to a scratch instance that can be used. @throws Error with the reason where that fails */
  restore(drill: Drill): Promise<void>;
  /**
   * Compares the scratch instance with the fingerprint, to the last fact, and asks it the assertions.
   *
   * @returns the checks that passed, in words
   * @throws Error that names what differs
   */
  compare(drill: Drill): Promise<readonly string[]>;
  /**
   * Ends the scratch instance of the name, where it runs beside the runner and not under it; however the drill ended, and also where it
   * did not begin. @throws Error where it may still run
   *
   * @default - nothing is left to end
   */
  release?(name: string, signal: AbortSignal): Promise<void>;
}
