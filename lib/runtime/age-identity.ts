import { createPrivateKey, createPublicKey, type KeyObject } from "node:crypto";
import { readFileSync } from "node:fs";
import { bytesOfKey, fromBase64, type FileKeyOf, nonceOf, open, type Stanza, wrapKey } from "./age";
import { fromBech32, toBech32 } from "./bech32";
import type { ManifestFile } from "./manifest";

const PREFIX = "AGE-SECRET-KEY-";
/** In front of the bytes of an X25519 private key: makes it one that Node reads (RFC 8410). */
const PRIVATE_KEY = Buffer.from("302e020100300506032b656e04220420", "hex");

/** A private key. */
interface Identity {
  readonly key: KeyObject;
  readonly publicKey: Buffer;
  /** `age1...`, by which others encrypt to it. */
  readonly recipient: string;
}

/**
 * What opens artefacts by the identities in a file, which has a line for each, as `age-keygen` writes it.
 *
 * @param path undefined where the pod was given no identity
 * @returns a function that throws an Error with the reason where none of the identities is for the artefact
 */
export function identitiesIn(path: string | undefined): (file: ManifestFile) => FileKeyOf {
  return (file) => {
    const sealed = `${file.path} is encrypted to ${file.recipients?.join(", ")}`;
    if (path === undefined) throw new Error(`${sealed}, and this job was given no identity`);
    let identities: readonly Identity[];
    try {
      identities = parseIdentities(readFileSync(path, "utf8"));
    } catch (error) {
      throw new Error(`${sealed}, but the Secret at ${path} has no identity: ${(error as Error).message}`, { cause: error });
    }
    const fitting = identities.filter(({ recipient }) => file.recipients?.includes(recipient));
    const known = identities.map(({ recipient }) => recipient).join(", ");
    if (fitting.length === 0) throw new Error(`${sealed}, which no identity in ${path} opens: those are of ${known}`);
    return (stanzas) => unwrap(fitting, stanzas);
  };
}

/** @throws Error with the number of the line that is no identity, and none of its text, which may be a secret */
export function parseIdentities(text: string): readonly Identity[] {
  const identities = text.split("\n").flatMap((whole, index) => {
    const line = whole.trim();
    if (line === "" || line.startsWith("#")) return [];
    const bytes = line.startsWith(PREFIX) ? fromBech32(PREFIX.toLowerCase(), line) : undefined;
    if (bytes?.length !== 32) throw new Error(`line ${index + 1} is no identity of the kind ${PREFIX}1...`);
    const key = createPrivateKey({ key: Buffer.concat([PRIVATE_KEY, bytes]), format: "der", type: "pkcs8" });
    const publicKey = bytesOfKey(createPublicKey(key));
    return [{ key, publicKey, recipient: toBech32("age", publicKey) }];
  });
  if (identities.length === 0) throw new Error("it is empty");
  return identities;
}

function unwrap(identities: readonly Identity[], stanzas: readonly Stanza[]): Buffer {
  for (const { args: [type, text = "", ...more], body } of stanzas) {
    if (type !== "X25519") continue;
    const share = fromBase64(text);
    if (more.length > 0 || share.length !== 32 || body.length !== 32) throw new Error("its age header is not what was written");
    for (const { key, publicKey } of identities) {
      const fileKey = open(wrapKey(key, share, share, publicKey), nonceOf(0, false), body);
      if (fileKey !== undefined) return fileKey;
    }
  }
  throw new Error("its age header has the file's key for none of its recipients");
}
