import type { Readable } from "node:stream";
import type { Agent } from "./agent";
import type { Manifest, ManifestFile } from "./manifest";

/** What the core hands an engine for one restore. */
export interface Restore {
  /** The generation's directory, to be read only. */
  readonly directory: string;
  readonly manifest: Manifest;
  /** Scratch space of the runner that is emptied after the restore (an `emptyDir`). */
  readonly scratch: string;
  readonly signal: AbortSignal;
  readonly log: (message: string) => void;
  /** What the person who started the restore chose, by the name of the variable; undefined where it is unset or empty. */
  option(name: string): string | undefined;
  /** Reads an artefact, decrypted and decompressed; fails unless every byte decodes, has the SHA-256 of the manifest, and nothing follows. */
  open(file: ManifestFile): Readable;
  /** The engine's container. Engines that have none must not touch it. */
  readonly agent: Agent;
}

/** What a restore is going to do. Making it changes nothing. */
export interface RestorePlan {
  /** In words, one line each, in order. */
  readonly steps: readonly string[];
  /** Name of what is there and would be replaced, which a person must confirm; undefined where the target is empty. */
  readonly replaces?: string;
  /** Where all that is replaced stays as it is; undefined where it would be gone, so that it is backed up first. */
  readonly aside?: string;
}

/** Puts one kind of data back where it came from. */
export interface RestoreEngine<Plan extends RestorePlan = RestorePlan> {
  /** Variables that it understands besides those of every restore, and what they mean. */
  readonly options: { readonly [name: string]: string };
  /** Looks at the generation, the choices and the target. @throws Error with the reason where this cannot be restored */
  plan(restore: Restore): Promise<Plan>;
  /** @throws Error at the first thing that goes wrong; nothing is ignored */
  apply(restore: Restore, plan: Plan): Promise<void>;
  /** Compares the target with the fingerprint; returns the checks that passed, in words. @throws Error that names what differs */
  verify(restore: Restore, plan: Plan): Promise<readonly string[]>;
}
