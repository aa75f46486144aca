import { isoSeconds, oneLine, reasonOf } from "../../lib/runtime/log";
import { humanBytes, Progress } from "../../lib/runtime/progress";
import { unlessAborted, within } from "../../lib/runtime/within";

test("bytes are said in a unit that fits", () => {
  expect([0, 1023, 1024, 1536 * 1024, 5 * 1024 ** 4, 5000 * 1024 ** 4].map(humanBytes)).toEqual([
    "0 B",
    "1023 B",
    "1.0 KiB",
    "1.5 MiB",
    "5.0 TiB",
    "5000.0 TiB",
  ]);
});

test("a reason is one line, whatever was thrown", () => {
  expect(reasonOf(new Error("a\n  b\r\nc\n"))).toBe("a | b | c");
  expect(reasonOf("text")).toBe("text");
  expect(reasonOf(undefined)).toBe("undefined");
  expect(oneLine("x")).toBe("x");
  expect(isoSeconds(new Date("2026-11-23T19:00:00.123Z"))).toBe("2026-11-23T19:00:00Z");
});

test("long work says how far it is and how fast, short work says nothing", () => {
  jest.useFakeTimers();
  const said: string[] = [];
  const progress = new Progress((message) => said.push(message), 50);
  progress.step("dumping");
  progress.count(10 * 1024 ** 2);
  jest.advanceTimersByTime(130);
  progress.stop();
  jest.advanceTimersByTime(130);
  jest.useRealTimers();
  expect(said).toEqual(["dumping: 10.0 MiB so far, 200.0 MiB/s", "dumping: 10.0 MiB so far, 0 B/s"]);
});

test("what takes too long fails with its message", async () => {
  await expect(within(20, "too long", new Promise(() => undefined))).rejects.toThrow("too long");
  await expect(within(1000, "too long", Promise.resolve(7))).resolves.toBe(7);
});

test("work that does not hear the signal is left behind after its grace, work that does is waited for", async () => {
  const control = new AbortController();
  const deaf = unlessAborted(control.signal, 30, new Promise(() => undefined));
  const hears = new Promise((resolve) => control.signal.addEventListener("abort", () => resolve("ended")));
  const good = unlessAborted(control.signal, 1000, hears);
  control.abort(new Error("stop"));
  await expect(good).resolves.toBe("ended");
  await expect(deaf).rejects.toThrow("stop");
  await expect(unlessAborted(control.signal, 0, new Promise(() => undefined))).rejects.toThrow("stop");
});
