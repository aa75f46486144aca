/**
 * A file name for something whose name is not ours to choose (a database): letters and digits of any script, `_`, `-` and `.`
 * stay, every other character and a leading `.` or `-` become `%XX` for each byte of UTF-8. `decodeURIComponent` gives the name back,
 * so two names never share a file.
 */
export function fileName(name: string): string {
  return name.replace(/^[.-]|[^\p{L}\p{N}_.-]/gu, (character) =>
    [...Buffer.from(character)].map((byte) => `%${byte.toString(16).toUpperCase().padStart(2, "0")}`).join(""),
  );
}
