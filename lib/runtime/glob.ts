/**
 * Says of a path, relative and `/`-separated, whether patterns leave it out.
 *
 * - A pattern matches whole path components, at any depth; one that begins with `/` matches from the root of the tree alone.
 * - One that ends with `/` matches directories only.
 * - `*` is any number of characters but `/`, `?` one of them, `**` any number of characters, `/` included.
 *   Every other character is itself: there are no classes, alternatives or escapes.
 * - A directory that matches is left out with all that is in it.
 *
 * `*.log`, `cache/` and `data/tmp-*` match at any depth; `/cache/` and `/data/*.tmp` at the root; `/logs/**.gz` anywhere below `logs`.
 */
export function excluder(patterns: readonly string[]): (path: string, isDirectory: boolean) => boolean {
  const rules = patterns.map((pattern) => ({ expression: expression(pattern), directories: pattern.endsWith("/") }));
  return (path, isDirectory) => rules.some(({ expression, directories }) => (isDirectory || !directories) && expression.test(path));
}

function expression(pattern: string): RegExp {
  const anchored = pattern.startsWith("/");
  const body = pattern.replace(/^\/|\/$/g, "").replace(/\*{2,}|[*?.+^{}$()|[\]\\]/g, (part) => {
    if (part === "?") return "[^/]";
    if (part === "*") return "[^/]*";
    return part.startsWith("*") ? ".*" : `\\${part}`;
  });
  return new RegExp(`${anchored ? "^" : "(?:^|/)"}${body}$`, "su");
}
