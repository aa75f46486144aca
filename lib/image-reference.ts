import { Problems } from "./errors";
import { isToken } from "./terraform-text";

/** github.com/distribution/reference: one component of a repository's path, a registry, a tag, a digest. */
const PATH_COMPONENT = /^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*$/;
const REGISTRY = /^[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)*(?::\d+)?$/;
const TAG = /^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$/;
const DIGEST = /^sha256:[0-9a-f]{64}$/;

/** What counts as exact at the first number of a tag: a version with at least major.minor, a date, a commit or build id. */
const VERSION = /^v?\d+\.\d+/;
const DATE = /^(?:[A-Za-z]+\.)?(?:\d{4}-\d{2}-\d{2}|\d{8})(?!\d)/;
const BUILD_ID = /^(?=.*\d)[0-9a-f]{7,64}$/;
/** Names of tags that are moved on purpose; with a version, date or build id beside them they are part of an exact tag. */
const MOVING = /^(?:latest|stable|edge|nightly|rolling|main|master|lts)$/i;

/** A container image, pinned: the same text names the same image tomorrow. */
export class ImageReference {
  /**
   * @param text `docker.io/library/postgres:16.4-bullseye`, optionally with `@sha256:...`; with a digest the tag may be absent or
   *   floating. A value that Terraform computes is taken as it is.
   * @throws ValidationError for a missing registry, a missing tag, and a tag that floats: one without a digit (`latest`, `stable`,
   *   `alpine`), or with a bare major version (`16`, `24-alpine`). Whether `8.4` floats depends on the project: where versions have
   *   three parts, give all three
   */
  public static parse(text: string): ImageReference {
    if (isToken(text)) return new ImageReference(text, text);
    const problems = new Problems("ImageReference");
    const form = '"<registry>/<repository>:<tag>", with "@sha256:<digest>" if wanted';
    if (!problems.check(typeof text === "string" && text !== "", "image", text, form)) problems.throwIfAny();

    const [named = "", digest, ...moreDigests] = text.split("@");
    const colon = named.lastIndexOf(":");
    const hasTag = colon > named.lastIndexOf("/");
    const repository = hasTag ? named.slice(0, colon) : named;
    const tag = hasTag ? named.slice(colon + 1) : undefined;
    const [registry = "", ...path] = repository.split("/");

    const hasRegistry = path.length > 0 && (/[.:]/.test(registry) || registry === "localhost");
    const suggestion = path.length > 0 ? "docker.io/" : "docker.io/library/";
    problems.check(hasRegistry, "image", text, `an image with its registry, such as "${suggestion}${named}"`);
    if (hasRegistry) {
      const valid = REGISTRY.test(registry) && path.every((component) => PATH_COMPONENT.test(component));
      problems.check(valid, "image", text, "an image whose repository is of lower-case letters, digits and single separators");
    }
    const digestOk = digest === undefined || (moreDigests.length === 0 && DIGEST.test(digest));
    problems.check(digestOk, "image", text, 'an image whose digest is "sha256:" and 64 hex digits');
    if (tag === undefined) {
      problems.check(digest !== undefined, "image", text, "an image with an exact tag or a digest");
    } else {
      problems.check(TAG.test(tag), "image", text, "an image whose tag is of letters, digits, '_', '.' and '-', at most 128");
      const reason = digest === undefined && TAG.test(tag) ? whyFloating(tag) : undefined;
      problems.check(reason === undefined, "image", text, `an image with an exact tag or a digest (tag '${tag}' floats: ${reason})`);
    }
    problems.throwIfAny();
    return new ImageReference(text, repository, tag, digest);
  }

  private constructor(
    private readonly text: string,
    /** Registry and repository: `docker.io/library/postgres`. The whole text where Terraform computes it. */
    public readonly repository: string,
    /** The tag, where there is one. */
    public readonly tag?: string,
    /** The digest with its algorithm, where there is one. */
    public readonly digest?: string,
  ) {}

  /** The reference as it was given. */
  public toString(): string {
    return this.text;
  }
}

function whyFloating(tag: string): string | undefined {
  const words = tag.split(/[-_]/);
  const at = words.findIndex((word) => /\d/.test(word));
  const first = words[at] ?? "";
  if (VERSION.test(first) || BUILD_ID.test(first) || DATE.test(words.slice(Math.max(at, 0)).join("-"))) return undefined;

  const moving = words.find((word) => MOVING.test(word));
  if (moving !== undefined) return `'${moving}' is moved to newer images`;
  if (at < 0) return "it has no version";
  return /^v?\d+$/.test(first) ? `'${first}' is a major version alone` : `it does not begin with a version, but with '${first}'`;
}
