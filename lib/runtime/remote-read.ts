import { crc32c } from "./crc32c";
import { send } from "./http-client";
import { varint } from "./protobuf";

// Prometheus' remote read: https://prometheus.io/docs/prometheus/latest/querying/remote_read_api/ and prompb/remote.proto.
const [QUERIES, RESPONSE_TYPES] = [1, 2];
const [START, END, MATCHERS] = [1, 2, 3];
const [NAME] = [2];
const STREAMED_XOR_CHUNKS = 1;
const [SERIES, LABELS, CHUNKS, DATA] = [1, 1, 2, 4];
const [VARINT, BYTES] = [0, 2];
const CUT = "a message in the answer is cut";
/** More than any frame has (the server's own limit is 1 MiB): one that says more is damaged, and must not be waited for. */
const MAX_FRAME_BYTES = 67_108_864;
/** The server may have to look for long before the first chunk. */
const SILENCE_MS = 300_000;

/** How much a server has of a time. */
export interface Stored {
  readonly series: number;
  readonly samples: number;
}

/**
 * Asks a Prometheus (2.13 or later) for every sample between two times, both included, as the chunks in which it has them, and counts.
 *
 * @param from milliseconds since 1970
 * @throws Error where the server stops in the middle, as it does at a chunk that is damaged
 */
export async function countStored(address: string, from: number, to: number, signal: AbortSignal): Promise<Stored> {
  const headers = {
    "content-type": "application/x-protobuf",
    "content-encoding": "snappy",
    "x-prometheus-remote-read-version": "0.1.0",
  };
  const upload = snappy(request(from, to));
  const answer = await send(new URL("api/v1/read", address), { method: "POST", headers, upload, signal, silenceMs: SILENCE_MS });
  let [series, samples] = [0, 0];
  let last: Buffer | undefined;
  try {
    if (answer.statusCode !== 200) throw new Error(`HTTP ${answer.statusCode}`);
    for await (const frame of frames(answer as AsyncIterable<Buffer>)) {
      for (const one of fieldsOf(frame, SERIES)) {
        // One series may go on in the next frame, under the same labels.
        const labels = Buffer.concat(fieldsOf(one, LABELS));
        if (last === undefined || !labels.equals(last)) series++;
        last = labels;
        // Every encoding of a chunk begins with the number of its samples.
        for (const chunk of fieldsOf(one, CHUNKS)) samples += (fieldsOf(chunk, DATA)[0] ?? Buffer.alloc(2)).readUInt16BE(0);
      }
    }
  } catch (error) {
    throw new Error(`the server does not give all samples from ${new Date(from).toISOString()} on: ${(error as Error).message}`, { cause: error });
  } finally {
    answer.destroy();
  }
  return { series, samples };
}

/** For every series: no series has a label of that name, and so all have it empty. */
function request(from: number, to: number): Buffer {
  const matcher = bytes(NAME, Buffer.from("no_such_label"));
  const query = Buffer.concat([number(START, from), number(END, to), bytes(MATCHERS, matcher)]);
  return Buffer.concat([bytes(QUERIES, query), number(RESPONSE_TYPES, STREAMED_XOR_CHUNKS)]);
}

/** Frames: a length, a checksum, a message. */
async function* frames(answer: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  let rest: Buffer = Buffer.alloc(0);
  for await (const chunk of answer) {
    const data = rest.length === 0 ? chunk : Buffer.concat([rest, chunk]);
    let at = 0;
    for (;;) {
      const [length, start] = varint(data, at, MAX_FRAME_BYTES);
      if (length === undefined) break;
      if (length > MAX_FRAME_BYTES) throw new Error("a length in the answer is impossible");
      const end = start + 4 + length;
      if (end > data.length) break;
      const frame = data.subarray(start + 4, end);
      const view = new DataView(frame.buffer, frame.byteOffset, frame.length);
      if (crc32c(view, 0, frame.length) !== data.readUInt32BE(start)) throw new Error("a checksum in the answer is wrong");
      yield frame;
      at = end;
    }
    rest = data.subarray(at);
  }
  if (rest.length > 0) throw new Error(`it broke off: ${JSON.stringify(rest.toString("latin1", 0, 200))}`);
}

/** The byte fields of that number in a message. */
function fieldsOf(message: Buffer, wanted: number): Buffer[] {
  const found: Buffer[] = [];
  for (let at = 0; at < message.length;) {
    const [tag, after] = varint(message, at);
    const [value, next] = varint(message, after);
    if (tag === undefined || value === undefined) throw new Error(CUT);
    const [field, type] = [tag >> 3, tag & 7];
    if (type !== VARINT && type !== BYTES) throw new Error("a message in the answer has a field of another type");
    at = type === BYTES ? next + value : next;
    if (at > message.length) throw new Error(CUT);
    if (type === BYTES && field === wanted) found.push(message.subarray(next, at));
  }
  return found;
}

function number(field: number, value: number): Buffer {
  const digits: number[] = [];
  // A negative number is one of 64 bits.
  for (let left = BigInt.asUintN(64, BigInt(value)); digits.length === 0 || left > 0n; left >>= 7n) {
    digits.push(Number(left & 127n) | (left > 127n ? 128 : 0));
  }
  return Buffer.from([field << 3 | VARINT, ...digits]);
}

function bytes(field: number, content: Buffer): Buffer {
  return Buffer.concat([Buffer.from([field << 3 | BYTES, content.length]), content]);
}

/** Not compressed: a length, and one literal. */
function snappy(content: Buffer): Buffer {
  if (content.length > 60) throw new Error("a request of more than 60 bytes");
  return Buffer.concat([Buffer.from([content.length, (content.length - 1) << 2]), content]);
}
