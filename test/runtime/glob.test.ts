import fc from "fast-check";
import { excluder } from "../../lib/runtime/glob";

describe("a pattern", () => {
  test.each<readonly [pattern: string, path: string, isDirectory: boolean, out: boolean]>([
    ["*.log", "a.log", false, true],
    ["*.log", "deep/er/a.log", false, true],
    ["*.log", "a.logs", false, false],
    ["*.log", ".log", false, true],
    ["cache", "cache", true, true],
    ["cache", "x/cache", false, true],
    ["cache", "mycache", false, false],
    ["cache/", "x/cache", true, true],
    ["cache/", "x/cache", false, false],
    ["/cache", "cache", true, true],
    ["/cache", "x/cache", true, false],
    ["/data/*.tmp", "data/a.tmp", false, true],
    ["/data/*.tmp", "data/x/a.tmp", false, false],
    ["data/*.tmp", "x/data/a.tmp", false, true],
    ["data/tmp-?", "data/tmp-1", true, true],
    ["data/tmp-?", "data/tmp-12", true, false],
    ["tmp-?", "tmp-/", false, false],
    ["?", "ü", false, true],
    ["?", "😀", false, true],
    ["/logs/**.gz", "logs/a/b/c.gz", false, true],
    ["/logs/**.gz", "log/a.gz", false, false],
    ["a**b", "a/x/b", false, true],
    ["a.b", "axb", false, false],
    ["[ab]", "a", false, false],
    ["[ab]", "[ab]", false, true],
    ["{a,b}", "a", false, false],
    ["a\\*", "a*", false, false],
    ["(x)+|^$", "(x)+|^$", false, true],
    ["*", "new\nline", false, true],
    ["**/x", "x", false, false],
  ])("%s and %j (directory: %s): %s", (pattern, path, isDirectory, out) => {
    expect(excluder([pattern])(path, isDirectory)).toBe(out);
  });

  test("leaves nothing out where there is none, or one of no characters", () => {
    for (const patterns of [[], ["/"], [""]]) expect(excluder(patterns)("a", true)).toBe(false);
  });

  test("leaves out what any of several matches", () => {
    const excluded = excluder(["/a", "*.tmp", "b/"]);
    expect(["a", "x/a", "x.tmp", "b"].map((path) => excluded(path, false))).toEqual([true, false, true, false]);
  });
});

/** The rules as they are told, one character after the other. */
function matches(pattern: string, path: string): boolean {
  if (pattern.startsWith("**")) {
    const rest = pattern.replace(/^\*+/, "");
    return matches(rest, path) || (path !== "" && matches(pattern, path.slice(1)));
  }
  if (pattern.startsWith("*"))
    return matches(pattern.slice(1), path) || (path !== "" && path[0] !== "/" && matches(pattern, path.slice(1)));
  if (pattern === "" || path === "") return pattern === path;
  const same = pattern[0] === "?" ? path[0] !== "/" : pattern[0] === path[0];
  return same && matches(pattern.slice(1), path.slice(1));
}

test("matches as told, for any pattern and path", () => {
  const letters = fc.constantFrom("a", "b", ".", "*", "**", "?", "/", "-", "+", "[", "]");
  const pattern = fc.array(letters, { minLength: 1, maxLength: 7 }).map((parts) => parts.join(""));
  const path = fc
    .array(fc.constantFrom("a", "b", "ab", ".", "a.b", "-+", "[]"), { minLength: 1, maxLength: 4 })
    .map((parts) => parts.join("/"));
  fc.assert(
    fc.property(pattern, path, fc.boolean(), (text, at, isDirectory) => {
      const body = text.replace(/^\/|\/$/g, "");
      const from = text.startsWith("/") ? [at] : at.split("/").map((_, index, parts) => parts.slice(index).join("/"));
      const expected = (isDirectory || !text.endsWith("/")) && from.some((tail) => matches(body, tail));
      expect(excluder([text])(at, isDirectory)).toBe(expected);
    }),
    { numRuns: 3000 },
  );
});
