import { posix } from "node:path";
import { Problems } from "../../lib/errors";
import { isToken } from "../../lib/terraform-text";

/** A directory that a file server exports, for example `/mnt/main/postgresql-backup` of `10.0.10.15`. */
export class NfsExport {
  /**
   * @param server address or host name of the file server
   * @param path absolute path on the server, without `..`, a trailing slash or control characters; not `/`
   * @throws ValidationError
   */
  public static of(server: string, path: string): NfsExport {
    const problems = new Problems("NfsExport");
    checkExport(problems, server, path);
    problems.throwIfAny();
    return new NfsExport(server, path);
  }

  private constructor(
    public readonly server: string,
    public readonly path: string,
  ) {}

  /** The directory `below` this export, on the same server; `""` is the export itself. */
  public at(below: string): NfsExport {
    return new NfsExport(this.server, posix.join(this.path, below));
  }

  /** True if one of the two directories is the other or lies in it. False where that is unknown before `terraform apply`. */
  public overlaps(other: NfsExport): boolean {
    if ([this.server, this.path, other.server, other.path].some((text) => isToken(text))) return false;
    return this.server === other.server && (contains(this.path, other.path) || contains(other.path, this.path));
  }

  /** `server:path`, as in a mount command. */
  public toString(): string {
    return `${this.server}:${this.path}`;
  }
}

/** Records what is wrong with an export's server and path; values that are unknown before `terraform apply` pass. */
export function checkExport(problems: Problems, server: string, path: string): void {
  problems.check(isToken(server) || /^[A-Za-z0-9.:_-]+$/.test(server), "server", server, "a host name or an IP address");
  problems.check(isToken(path) || isAbsolutePath(path), "path", path, "an absolute, normalised path below /");
}

/** True for an absolute path other than `/`, in its shortest form, of printable characters. */
export function isAbsolutePath(path: string): boolean {
  return path.length > 1 && path.startsWith("/") && !path.endsWith("/") && posix.normalize(path) === path && !/\p{Cc}/u.test(path);
}

/** True for a path below a directory, in its shortest form, that does not leave it. */
export function isRelativePath(path: string): boolean {
  return path !== "" && path !== "." && isAbsolutePath(`/${path}`);
}

function contains(directory: string, path: string): boolean {
  return path === directory || path.startsWith(`${directory}/`);
}
