/** Name of the manifest in a generation's directory. A directory without a valid one is no generation. */
export const MANIFEST = "manifest.json";
export const MANIFEST_FORMAT = 1;

/** A value of a fingerprint: JSON, compared structurally. */
export type Fact = string | number | boolean | null | readonly Fact[] | { readonly [key: string]: Fact };

/**
 * What the source held when it was dumped, in the engine's own terms (tables and rows, keys, revision, ...).
 * Comparable with what a restored copy holds.
 */
export type Fingerprint = { readonly [key: string]: Fact };

/** One file of a generation. */
export interface ManifestFile {
  /** Path below the generation's directory, `/`-separated. */
  readonly path: string;
  /** Size on disk. */
  readonly bytes: number;
  /** SHA-256 of what is on disk, hex. */
  readonly sha256: string;
  /** Size after decompression, where the runner compressed it. */
  readonly uncompressedBytes?: number;
  /** The age recipients that it is encrypted to, after compression: the identity of any of them opens it. Absent where it is not. */
  readonly recipients?: readonly string[];
  /**
   * Where the file lists a tree that is stored beside it, too large to be named here: bytes of those of its files that this
   * generation does not share with the one before.
   */
  readonly treeBytes?: number;
}

/** The record that makes a directory a generation: written last, fsynced, then the directory is renamed. */
export interface Manifest {
  readonly formatVersion: typeof MANIFEST_FORMAT;
  readonly backup: string;
  readonly namespace: string;
  /** `<UTC time>-<id>`, also the directory's name. */
  readonly generation: string;
  /** ISO 8601, UTC. The data is as of a moment between the two. */
  readonly startedAt: string;
  readonly finishedAt: string;
  readonly engine: string;
  /** `safety`: what a restore was about to replace. Absent for a backup. */
  readonly purpose?: "safety";
  /** Versions of the tools and servers involved, by name. */
  readonly versions: { readonly [tool: string]: string };
  readonly fingerprint: Fingerprint;
  /** Bytes of content that were usual when it was made, by which its own are measured. Absent where it was the first. */
  readonly usualBytes?: number;
  readonly files: readonly ManifestFile[];
  /** The checks that passed, in words, in order. */
  readonly checks: readonly string[];
}
