import { createCipheriv, createHmac, hkdfSync, randomBytes } from "node:crypto";
import { join } from "node:path";
import { writeFileSync } from "node:fs";
import { PassThrough, Readable } from "node:stream";
import { buffer } from "node:stream/consumers";
import { pipeline } from "node:stream/promises";
import { decrypter, encrypter, type FileKeyOf, newFileKey, recipientKey } from "../../lib/runtime/age";
import { identitiesIn, parseIdentities } from "../../lib/runtime/age-identity";
import { fromBech32, toBech32 } from "../../lib/runtime/bech32";
import { ANNE, BERT } from "./support/age";
import { temporary } from "./support";

/** The bytes of a block in the payload, and what its encryption adds to it. */
const [BLOCK, TAG] = [65_536, 16];
const NONCE = 16;

/** What the identities in a file make of what is encrypted to recipients. */
function keyOf(lines: string, recipients: readonly string[]): FileKeyOf {
  const path = join(temporary(), "identity");
  writeFileSync(path, lines);
  return identitiesIn(path)({ path: "a.age", bytes: 0, sha256: "", recipients });
}

/** @param size of the chunks in which it passes */
async function through(data: Buffer, by: ReturnType<typeof encrypter>, size = 1 << 18): Promise<Buffer> {
  const chunks = Array.from({ length: Math.ceil(data.length / size) }, (_, index) => data.subarray(index * size, (index + 1) * size));
  const [out] = await Promise.all([buffer(by.pipe(new PassThrough())), pipeline(Readable.from(chunks, { objectMode: false }), by)]);
  return out;
}

function encrypt(data: Buffer, recipients = [ANNE.recipient], size?: number): Promise<Buffer> {
  return through(data, encrypter(recipients, newFileKey()), size);
}

function decrypt(file: Buffer, who = ANNE, size?: number): Promise<Buffer> {
  return through(file, decrypter(keyOf(who.identity, [who.recipient])), size);
}

describe("what age wrote", () => {
  const EMPTY = `YWdlLWVuY3J5cHRpb24ub3JnL3YxCi0+IFgyNTUxOSAxaDdwQythd2FLa05VbVFRZTA3UnJZV09jRWR0aENwZWpxUTRTS0dWdFNVCktZUTJhSFVvVjJyeFhV
    YTZlVWIwTm1UU3JzcEt0N0M0eEllTGJ0aUdCcFUKLS0tIHFwUUtxTUJGOU5kYS9MRWREZGxHMVhuRGlQMUFIMzhRZEpNdGxmY0VJNE0KovtPjBA6pBNaYb3FDvJsYhw3ag
    ACk4tnVMamrf7pKMw=`;
  const HELLO = `YWdlLWVuY3J5cHRpb24ub3JnL3YxCi0+IFgyNTUxOSB2Q2hzRlBkaUhsUXhsWWRRZDdQMzlONm5rY0p5K2JGNGdUbTdnSnY4L0VFCmdnalNIRW5ZU3JQTFJG
    cnVLMVJSejNBZkQxRnRSRjZ2Tm51bUhsNWxMdEkKLT4gWDI1NTE5IC9za1ZrTmVvb2JIRWEyQnQ0aWdnRllsbWVTUVB4dkRmcE9UNmJ3TzdIQWsKWk9Mb3dGcmVBUUM5Y1
    ZjOUtTZDZiSlJ1eDJnMHlaUHNSMXdydzVjaklHUQotLS0gQ0J1eWJMejNOSG5SVVlWT0dwRnZKVWZ5NE5nWjlQQXE3dkJoV1ZPMmRKMArMPRSY+J0vzc+/xjQlUiUM0666
    gBxV4FodD/D20xmzRCRNL4kf`;

  test("is read, an empty file and one for two recipients", async () => {
    expect((await decrypt(Buffer.from(EMPTY, "base64"))).length).toBe(0);
    for (const who of [ANNE, BERT]) expect((await decrypt(Buffer.from(HELLO, "base64"), who)).toString()).toBe("hello");
  });
});

/** What a writer makes that has the file's key, and its own idea of the format. */
function forged(fileKey: Buffer, stanzas: string, blocks: readonly (readonly [plain: Buffer, last: boolean])[]): Buffer {
  const text = `age-encryption.org/v1\n${stanzas}---`;
  const mac = createHmac("sha256", derive(fileKey, Buffer.alloc(0), "header")).update(text).digest();
  const nonce = randomBytes(NONCE);
  const key = derive(fileKey, nonce, "payload");
  const sealed = blocks.map(([plain, last], index) => seal(key, Buffer.from([...Buffer.alloc(10), index, last ? 1 : 0]), plain));
  return Buffer.concat([Buffer.from(`${text} ${raw64(mac)}\n`), nonce, ...sealed]);
}

function derive(key: Buffer, salt: Buffer, info: string): Buffer {
  return Buffer.from(hkdfSync("sha256", key, salt, info, 32));
}

function seal(key: Buffer, nonce: Buffer, plain: Buffer): Buffer {
  const cipher = createCipheriv("chacha20-poly1305", key, nonce, { authTagLength: TAG });
  return Buffer.concat([cipher.update(plain), cipher.final(), cipher.getAuthTag()]);
}

function raw64(bytes: Buffer): string {
  return bytes.toString("base64").replaceAll("=", "");
}

/** The part of a header that is for Anne. */
async function forAnne(fileKey: Buffer): Promise<string> {
  const file = await through(Buffer.alloc(0), encrypter([ANNE.recipient], fileKey));
  return file.toString("latin1", 22, file.indexOf("--- "));
}

describe("what another writer makes", () => {
  const fileKey = newFileKey();

  test("is read, also where it is for recipients of other kinds too", async () => {
    const other = `-> grease some arguments\n${"A".repeat(64)}\nAAAA\n-> x\n\n`;
    const file = forged(fileKey, other + (await forAnne(fileKey)) + other, [[Buffer.alloc(BLOCK, 7), false], [Buffer.from([7]), true]]);
    expect((await decrypt(file)).equals(Buffer.alloc(BLOCK + 1, 7))).toBe(true);
  });

  test("is refused where its last block is empty, though there are others", async () => {
    const file = forged(fileKey, await forAnne(fileKey), [[Buffer.alloc(BLOCK), false], [Buffer.alloc(0), true]]);
    await expect(decrypt(file)).rejects.toThrow("block 1 is not what was encrypted");
  });

  test("is refused where a block but the last is short", async () => {
    const file = forged(fileKey, await forAnne(fileKey), [[Buffer.alloc(BLOCK - 1), false], [Buffer.alloc(1), true]]);
    await expect(decrypt(file)).rejects.toThrow("block 0 is not what was encrypted");
  });

  test("is refused where it is sealed with a secret that everybody knows", async () => {
    // A share of zeros makes the shared secret zeros, whatever the private key.
    const share = Buffer.alloc(32);
    const recipient = recipientKey(ANNE.recipient) ?? Buffer.alloc(0);
    const wrap = derive(Buffer.alloc(32), Buffer.concat([share, recipient]), "age-encryption.org/v1/X25519");
    const stanza = `-> X25519 ${raw64(share)}\n${raw64(seal(wrap, Buffer.alloc(12), fileKey))}\n`;
    await expect(decrypt(forged(fileKey, stanza, [[Buffer.from("hello"), true]]))).rejects.toThrow(/derivation/);
  });
});

describe("what is encrypted", () => {
  const sizes = [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, 2 * BLOCK + 1, 1_000_003];
  test.each(sizes)("is read again: %i bytes", async (size) => {
    const data = randomBytes(size);
    const file = await encrypt(data);
    expect((await decrypt(file)).equals(data)).toBe(true);
    // The last block is shorter than the others, but not empty, unless all is.
    const header = file.indexOf("\n--- ") + 49;
    expect(file.length).toBe(header + NONCE + size + TAG * Math.max(1, Math.ceil(size / BLOCK)));
  });

  test.each([1, 77, BLOCK, BLOCK + TAG, 100_000])("does not depend on how it comes: in pieces of %i bytes", async (size) => {
    const data = randomBytes(3 * BLOCK + 5);
    expect((await decrypt(await encrypt(data, undefined, size), ANNE, size)).equals(data)).toBe(true);
  });

  test("is read by each recipient and by nobody else", async () => {
    const file = await encrypt(Buffer.from("both"), [ANNE.recipient, BERT.recipient]);
    for (const who of [ANNE, BERT]) expect((await decrypt(file, who)).toString()).toBe("both");
    await expect(decrypt(await encrypt(Buffer.from("one")), BERT)).rejects.toThrow("the file's key for none of its recipients");
  });

  test("is another each time, to its last byte", async () => {
    const [one, two] = [await encrypt(Buffer.alloc(1000)), await encrypt(Buffer.alloc(1000))];
    expect(one.subarray(0, 32)).toEqual(two.subarray(0, 32));
    let equal = 0;
    for (let at = 32; at < one.length; at++) if (one[at] === two[at]) equal++;
    expect(equal / one.length).toBeLessThan(0.1);
  });

  test("shows nothing of what it holds, nor of its key", async () => {
    const fileKey = newFileKey();
    const file = await through(Buffer.from("a secret ".repeat(20_000)), encrypter([ANNE.recipient], fileKey));
    expect(file.includes("a secret ")).toBe(false);
    for (const text of [fileKey, fileKey.toString("hex"), fileKey.toString("base64").replace(/=+$/, "")]) expect(file.includes(text)).toBe(false);
  });

  test("is for valid recipients alone", () => {
    expect(() => encrypter(["age1nobody"], newFileKey())).toThrow("age1nobody is no age recipient");
  });
});

describe("what is not as it was written is refused:", () => {
  const data = randomBytes(3 * BLOCK + 100);
  let file: Buffer;
  let payload: number;
  beforeAll(async () => {
    file = await encrypt(data, [ANNE.recipient, BERT.recipient]);
    payload = file.indexOf("\n--- ") + 49 + NONCE;
  });
  const block = (index: number): Buffer => file.subarray(payload + index * (BLOCK + TAG), payload + (index + 1) * (BLOCK + TAG));

  test("the end missing, at each boundary and beside it", async () => {
    const ends = [0, 1, 2, 3].map((index) => payload + index * (BLOCK + TAG));
    const cuts = [...ends.flatMap((end) => [end - 1, end, end + 1, end + TAG]), payload - NONCE, 100, 22, 1, 0, file.length - TAG, file.length - 1];
    for (const at of cuts) await expect(decrypt(file.subarray(0, at))).rejects.toThrow(/is not what was encrypted|not begin as an age file does|key/);
  });

  test("anything appended", async () => {
    for (const more of [Buffer.from([0]), Buffer.alloc(TAG), block(0), file]) {
      await expect(decrypt(Buffer.concat([file, more]))).rejects.toThrow("block 3 is not what was encrypted");
    }
    // Behind a whole block too, where an empty last one could be.
    const whole = await encrypt(randomBytes(BLOCK));
    await expect(decrypt(Buffer.concat([whole, Buffer.alloc(TAG)]))).rejects.toThrow("block 0 is not what was encrypted");
  });

  test("blocks in another order, twice, or left out", async () => {
    const [head, last] = [file.subarray(0, payload), block(3)];
    for (const order of [[1, 0, 2], [0, 1, 1], [0, 0, 1, 2], [0, 2], [1, 2], [0, 1]]) {
      await expect(decrypt(Buffer.concat([head, ...order.map(block), last]))).rejects.toThrow("is not what was encrypted");
    }
  });

  test("one bit, anywhere in the header", async () => {
    for (let at = 0; at < payload; at++) {
      const changed = Buffer.from(file);
      changed.writeUInt8(changed.readUInt8(at) ^ (1 << at % 7), at);
      await expect(decrypt(changed)).rejects.toThrow();
    }
  });

  test("one bit of the payload, in each block and its tag", async () => {
    for (let index = 0; index < 4; index++) {
      for (const at of [0, 50, block(index).length - TAG, block(index).length - 1]) {
        const changed = Buffer.from(file);
        const place = payload + index * (BLOCK + TAG) + at;
        changed.writeUInt8(changed.readUInt8(place) ^ 0x80, place);
        await expect(decrypt(changed)).rejects.toThrow(`block ${index} is not what was encrypted`);
      }
    }
  });

  test("text that is no age file", async () => {
    await expect(decrypt(Buffer.from("age-encryption.org/v2\n"))).rejects.toThrow("it does not begin as an age file does");
    await expect(decrypt(randomBytes(200_000))).rejects.toThrow("it does not begin as an age file does");
  });

  test.each<readonly [string, RegExp, string]>([
    ["of which there is none", /^-> X25519 .*\n.*\n/gm, ""],
    ["that has one argument more", /^(-> X25519 \S+)/gm, "$1 more"],
    ["with a short share", /^(-> X25519 \S+)\S{4}$/gm, "$1"],
    ["with a short body", /^(\S{40})\S{3}$/gm, "$1"],
    ["not in the shortest base64", /^(-> X25519 \S{43})$/gm, "$1="],
    ["of another kind", /X25519/g, "X25518"],
  ])("a part of the header for a recipient %s", async (_, found, instead) => {
    const header = file.toString("latin1", 0, payload);
    const changed = header.replace(found, instead);
    expect(changed).not.toBe(header);
    await expect(decrypt(Buffer.concat([Buffer.from(changed, "latin1"), file.subarray(payload)]))).rejects.toThrow(/header|begin as an age file/);
  });
});

describe("an identity file", () => {
  const file = { path: "rows.zst.age", bytes: 0, sha256: "", recipients: [ANNE.recipient, BERT.recipient] };

  test("is what age-keygen writes, or several of them", () => {
    const both = `# created: 2026-11-24\n# public key: ${ANNE.recipient}\n${ANNE.identity}\r\n\n  ${BERT.identity}  \n`;
    expect(parseIdentities(both).map(({ recipient }) => recipient)).toEqual([ANNE.recipient, BERT.recipient]);
  });

  test("may hold keys that are not for the file", async () => {
    const sealed = await encrypt(Buffer.from("hello"), [BERT.recipient]);
    const key = keyOf(`${ANNE.identity}\n${BERT.identity}\n`, [BERT.recipient]);
    expect((await through(sealed, decrypter(key))).toString()).toBe("hello");
  });

  const ask = (text: string | undefined, recipients = file.recipients): string => {
    const path = join(temporary(), "key.txt");
    if (text !== undefined) writeFileSync(path, text);
    try {
      identitiesIn(path)({ ...file, recipients });
      return "opened";
    } catch (error) {
      return (error as Error).message.replaceAll(path, "PATH");
    }
  };

  test("that is missing is told, with the keys that are needed", () => {
    expect(ask(undefined)).toBe(
      `rows.zst.age is encrypted to ${ANNE.recipient}, ${BERT.recipient}, ` +
        "but the Secret at PATH has no identity: ENOENT: no such file or directory, open 'PATH'",
    );
    expect(() => identitiesIn(undefined)(file)).toThrow(
      `rows.zst.age is encrypted to ${ANNE.recipient}, ${BERT.recipient}, and this job was given no identity`,
    );
  });

  test("of somebody else is told, with the key that it has", () => {
    expect(ask(ANNE.identity, [BERT.recipient])).toBe(
      `rows.zst.age is encrypted to ${BERT.recipient}, which no identity in PATH opens: those are of ${ANNE.recipient}`,
    );
  });

  test.each([
    ["", "it is empty"],
    ["# nothing\n\n", "it is empty"],
    [`\n${ANNE.identity.slice(0, -1)}Q`, "line 2 is no identity of the kind AGE-SECRET-KEY-1..."],
    [ANNE.identity.toLowerCase(), "line 1 is no identity of the kind AGE-SECRET-KEY-1..."],
    [ANNE.recipient, "line 1 is no identity of the kind AGE-SECRET-KEY-1..."],
    ["-----BEGIN AGE ENCRYPTED FILE-----", "line 1 is no identity of the kind AGE-SECRET-KEY-1..."],
  ])("%j is refused, without a word of what it says", (text, reason) => {
    expect(ask(text)).toBe(`rows.zst.age is encrypted to ${file.recipients.join(", ")}, but the Secret at PATH has no identity: ${reason}`);
  });
});

describe("Bech32", () => {
  // From BIP 173.
  test.each([
    ["a", "A12UEL5L", ""],
    ["an83characterlonghumanreadablepartthatcontainsthenumber1andtheexcludedcharactersbio", "an83characterlonghumanreadablepartthatcontainsthenumber1andtheexcludedcharactersbio1tt5tgs", ""],
    ["abcdef", "abcdef1qpzry9x8gf2tvdw0s3jn54khce6mua7lmqqqxw", "00443214c74254b635cf84653a56d7c675be77df"],
    ["split", "split1checkupstagehandshakeupstreamerranterredcaperred2y9e3w", "c5f38b70305f519bf66d85fb6cf03058f3dde463ecd7918f2dc743918f2d"],
  ])("with the prefix %s is read and written", (prefix, text, hex) => {
    expect(fromBech32(prefix, text)?.toString("hex")).toBe(hex);
    expect(toBech32(prefix, Buffer.from(hex, "hex"))).toBe(text.toLowerCase());
  });

  test.each([
    ["split", "split1checkupstagehandshakeupstreamerranterredcaperred2y9e2w"],
    ["split", "split1cheo2y9e2w"],
    ["a", "a12UEL5L"],
    ["a", "12uel5l"],
    ["de", "de1lg7wt"],
    ["age", "a12uel5l"],
    ["li", "li1dgmt3"],
    // Right checksums, but bits at the end that belong to no byte: some that are set, or enough for another character.
    ["a", "a1qpamnt9j"],
    ["a", "a1qqqd87cpp"],
    ["a", "a1q3g6mn3"],
  ])("with the prefix %s is refused: %s", (prefix, text) => {
    expect(fromBech32(prefix, text)).toBeUndefined();
  });

  test("finds each wrong, missing, added and exchanged character of a recipient", () => {
    const { recipient } = ANNE;
    expect(recipientKey(recipient)?.length).toBe(32);
    for (let at = 4; at < recipient.length; at++) {
      const [before, after] = [recipient.slice(0, at), recipient.slice(at + 1)];
      for (const other of "qpzry9x8gf2tvdw0s3jn54khce6mua7lB1 ") {
        if (other !== recipient[at]) expect(recipientKey(before + other + after)).toBeUndefined();
      }
      expect(recipientKey(before + after)).toBeUndefined();
      const next = recipient[at + 1] ?? "";
      if (next !== recipient[at] && next !== "") expect(recipientKey(before + next + recipient[at] + after.slice(1))).toBeUndefined();
    }
  });

  test("of another kind is no recipient", () => {
    for (const text of [ANNE.recipient.toUpperCase(), ANNE.identity, "age1", "", toBech32("age", Buffer.alloc(31)), toBech32("age1pq", Buffer.alloc(32))]) {
      expect(recipientKey(text)).toBeUndefined();
    }
  });
});
