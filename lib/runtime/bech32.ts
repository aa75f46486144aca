// Bech32 is defined by https://github.com/bitcoin/bips/blob/master/bip-0173.mediawiki; age has lifted its limit on the length.
const CHARACTERS = "qpzry9x8gf2tvdw0s3jn54khce6mua7l";
const GENERATORS = [0x3b6a57b2, 0x26508e6d, 0x1ea119fa, 0x3d4233dd, 0x2a1462b3];
const CHECKSUM_LENGTH = 6;

/** The bytes of a Bech32 text with this prefix, which is in lower case; undefined unless its checksum is right. */
export function fromBech32(prefix: string, text: string): Buffer | undefined {
  const [low, high] = [text.toLowerCase(), text.toUpperCase()];
  if ((text !== low && text !== high) || !low.startsWith(`${prefix}1`)) return undefined;
  const values = [...low.slice(prefix.length + 1)].map((character) => CHARACTERS.indexOf(character));
  if (values.includes(-1) || values.length < CHECKSUM_LENGTH || checksum(prefix, values) !== 1) return undefined;
  const bits = values.slice(0, -CHECKSUM_LENGTH).map((value) => value.toString(2).padStart(5, "0")).join("");
  const bytes = bits.match(/.{8}/g) ?? [];
  return /^0{0,4}$/.test(bits.slice(bytes.length * 8)) ? Buffer.from(bytes.map((byte) => Number.parseInt(byte, 2))) : undefined;
}

/** {@link fromBech32}, the other way round. */
export function toBech32(prefix: string, data: Buffer): string {
  const bits = [...data].map((byte) => byte.toString(2).padStart(8, "0")).join("");
  const values = (bits.match(/.{1,5}/g) ?? []).map((group) => Number.parseInt(group.padEnd(5, "0"), 2));
  const sum = checksum(prefix, [...values, 0, 0, 0, 0, 0, 0]) ^ 1;
  const end = [25, 20, 15, 10, 5, 0].map((shift) => (sum >>> shift) & 31);
  return `${prefix}1${[...values, ...end].map((value) => CHARACTERS[value]).join("")}`;
}

function checksum(prefix: string, values: readonly number[]): number {
  const codes = [...Buffer.from(prefix)];
  let sum = 1;
  for (const value of [...codes.map((code) => code >> 5), 0, ...codes.map((code) => code & 31), ...values]) {
    const top = sum >>> 25;
    sum = ((sum & 0x1ffffff) << 5) ^ value;
    for (const [bit, generator] of GENERATORS.entries()) if (((top >> bit) & 1) === 1) sum ^= generator;
  }
  return sum;
}
