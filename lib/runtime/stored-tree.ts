import { createWriteStream } from "node:fs";
import { constants, open } from "node:fs/promises";
import { join } from "node:path";
import { pipeline } from "node:stream/promises";
import type { Drill } from "./drill";
import { parseJsonLines } from "./lines";
import { abreast, type StoredRecord } from "./linked-tree";
import { artefactName } from "./store";
import { readTar, type TarEntry } from "./tar";
import { plain, SMALL_BYTES, type TreeFacts, type TreeRecord } from "./tree";
import { type ArchiveSource, TreeArchive } from "./tree-archive";
import type { StoredMember, TreeWriter } from "./tree-writer";

/** No link is followed that took the file's place. */
const FLAGS = constants.O_RDONLY | constants.O_NOFOLLOW;

/** Name of the artefact with a tree as an archive. */
export function archiveOf(name: string): string {
  return `${name}.tar`;
}

/** Name of the artefact that lists a tree which is stored as one. */
export function listingOf(name: string): string {
  return `${name}.tree.jsonl`;
}

/** What a generation can be read by. */
type Generation = Pick<Drill, "manifest" | "directory" | "open">;

/** The members of a tree in a generation, in either layout. @throws Error where it has no such tree */
export function treeMembers({ manifest, directory, open }: Generation, name: string): AsyncIterable<StoredMember> {
  for (const file of manifest.files) {
    const artefact = artefactName(file);
    if (artefact === archiveOf(name)) return archiveMembers(open(file));
    if (artefact === listingOf(name)) return linkedMembers(open(file), join(directory, name));
  }
  throw new Error(`the generation has no source ${name}`);
}

/** The members of a tree that is stored as an archive. */
export function archiveMembers(archive: AsyncIterable<Buffer>): AsyncIterable<StoredMember> {
  return readTar(archive);
}

/** The members of a tree that is stored as a tree, as its listing names them. Small files are read several at a time. */
export async function* linkedMembers(listing: AsyncIterable<Buffer>, directory: string): AsyncGenerator<StoredMember> {
  const load = async (record: StoredRecord): Promise<StoredMember> => {
    const path = join(directory, record.path);
    if (record.type !== "file") return { ...record, content: none() };
    if (record.size > SMALL_BYTES) return { ...record, content: large(path) };
    const file = await open(path, FLAGS);
    try {
      return { ...record, content: one(await file.readFile()) };
    } finally {
      await file.close();
    }
  };
  yield* abreast(parseJsonLines<StoredRecord>(listing), load);
}

/** A part of a stored tree. */
export interface Selection {
  /** The path: a file, or a directory with all that is in it. The directories above it belong to it, for their modes. */
  readonly path: string;
  /** How many files there are, other names of files included. */
  readonly files: number;
  readonly bytes: number;
  /** Files outside of which there is another name inside: the first such name. */
  readonly twins: ReadonlyMap<string, string>;
}

/** Looks for a path in a stored tree. @throws Error where there is none */
export async function select(entries: AsyncIterable<TarEntry>, path: string): Promise<Selection> {
  const twins = new Map<string, string>();
  let [files, bytes, found] = [0, 0, false];
  for await (const entry of entries) {
    if (!isWithin(entry.path, path)) continue;
    found = true;
    if (entry.type === "file" || entry.type === "link") files++;
    bytes += entry.size;
    const { target = "" } = entry;
    if (entry.type === "link" && !isWithin(target, path) && !twins.has(target)) twins.set(target, entry.path);
  }
  if (!found) throw new Error(`there is no ${JSON.stringify(path)} in the generation`);
  return { path, files, bytes, twins };
}

/**
 * The members of a selection. What is another name of a file outside becomes a file of its own.
 *
 * @param spare a directory for such files, which come before their other names
 */
export async function* selected(
  members: AsyncIterable<StoredMember>,
  { path, twins }: Selection,
  spare: string,
): AsyncGenerator<StoredMember> {
  const kept = new Map<string, TreeRecord & { readonly copy: string }>();
  for await (const member of members) {
    if (twins.has(member.path)) {
      const copy = join(spare, String(kept.size));
      await pipeline(member.content, createWriteStream(copy));
      const { sha256 } = member;
      kept.set(member.path, { ...plain(member), ...(sha256 === undefined ? {} : { sha256 }), copy });
    }
    if (isWithin(path, member.path) && path !== member.path) yield member;
    if (!isWithin(member.path, path)) continue;
    const { target = "" } = member;
    const first = member.type === "link" ? twins.get(target) : undefined;
    const twin = kept.get(target);
    if (first === undefined) yield member;
    else if (first !== member.path) yield { ...member, target: first };
    else if (twin === undefined) throw new Error(`${member.path} is another name of ${target}, which does not come before it`);
    else yield { ...twin, path: first, content: large(twin.copy) };
  }
}

/** Whether a path is another, or is in it. */
export function isWithin(path: string, directory: string): boolean {
  return directory === "." || path === directory || path.startsWith(`${directory}/`);
}

/**
 * Reads trees back that were written, every file to its last byte. What the writer was given is returned as their owners and times: it saw
 * to them, and said which it could not give.
 */
export async function readBack(writer: TreeWriter, sources: readonly ArchiveSource[], signal: AbortSignal): Promise<TreeFacts> {
  const archive = new TreeArchive(sources, { signal });
  for await (const chunk of archive.stream()) void chunk;
  return { ...archive.facts(), attributes: writer.facts().attributes };
}

async function* large(path: string): AsyncGenerator<Buffer> {
  const file = await open(path, FLAGS);
  yield* file.createReadStream({ highWaterMark: SMALL_BYTES }) as AsyncIterable<Buffer>;
}

async function* one(content: Buffer): AsyncGenerator<Buffer> {
  yield await Promise.resolve(content);
}

async function* none(): AsyncGenerator<never> {
  // Only files have content.
}
