/** Values as lines of JSON. */
export async function* jsonLines(values: AsyncIterable<object>): AsyncGenerator<Buffer> {
  for await (const value of values) yield Buffer.from(`${JSON.stringify(value)}\n`);
}

/** The values of {@link jsonLines}. @throws Error where the last line is cut */
export async function* parseJsonLines<T>(chunks: AsyncIterable<Buffer>): AsyncGenerator<T> {
  let rest: Buffer = Buffer.alloc(0);
  for await (const chunk of chunks) {
    rest = rest.length === 0 ? chunk : Buffer.concat([rest, chunk]);
    let start = 0;
    // Not readline: it ends lines at U+2028 too, which a file's name may have.
    for (let end = rest.indexOf(10); end >= 0; end = rest.indexOf(10, start)) {
      yield JSON.parse(rest.toString("utf8", start, end)) as T;
      start = end + 1;
    }
    rest = rest.subarray(start);
  }
  if (rest.length > 0) throw new Error("the last line is cut");
}
