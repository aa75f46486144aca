/** Most bytes of a number: 64 bits, seven in each. */
const MAX_DIGITS = 10;

/**
 * A number of variable length, as protocol buffers have it, and where it ends. Numbers of more than 53 bits lose some.
 *
 * @param max more than this is given as infinite, and not read to its end: what is damaged must not be waited for
 * @returns no value where the data end before the number does
 */
export function varint(data: Buffer, at: number, max = Infinity): readonly [value: number | undefined, next: number] {
  let value = 0;
  let factor = 1;
  for (const end = Math.min(data.length, at + MAX_DIGITS); at < end; factor *= 128) {
    const byte = data[at++] ?? 0;
    value += (byte & 127) * factor;
    if (value > max) return [Infinity, at];
    if (byte < 128) return [value, at];
  }
  return [at < data.length ? Infinity : undefined, at];
}
