import { Problems, ValidationError } from "../../lib/errors";

function messageOf(problems: Problems): string {
  try {
    problems.throwIfAny();
  } catch (error) {
    return (error as Error).message;
  }
  return "";
}

describe("Problems", () => {
  test("reports everything at once, with path, property, value and what is allowed", () => {
    const problems = new Problems("dbaas/postgresql");
    expect(problems.check(false, "port", 0, "from 1 to 65535")).toBe(false);
    expect(problems.check(true, "host", "x", "anything")).toBe(true);
    problems.check(false, "target.path", "/data", "outside '/data'");
    expect(messageOf(problems)).toBe(
      "dbaas/postgresql: 'port' must be from 1 to 65535, but got 0; 'target.path' must be outside '/data', but got \"/data\"",
    );
  });

  test("throws nothing where there is no problem", () => {
    expect(() => new Problems("x").throwIfAny()).not.toThrow();
  });

  test("takes over the problems of a value object under the property that holds it", () => {
    const problems = new Problems("dbaas/postgresql");
    const thrown = new ValidationError("Retention", [
      { property: "days", value: 0, allowed: "1 or more" },
      { property: "atLeast", value: 1, allowed: "2 or more" },
    ]);
    const fails = (): never => {
      throw thrown;
    };
    expect(problems.collect("retention", fails)).toBeUndefined();
    expect(problems.collect("schedule", () => "made")).toBe("made");
    expect(messageOf(problems)).toBe(
      "dbaas/postgresql: 'retention.days' must be 1 or more, but got 0; 'retention.atLeast' must be 2 or more, but got 1",
    );
  });

  test("lets errors of other kinds through", () => {
    const fails = (): never => {
      throw new TypeError("a defect");
    };
    expect(() => new Problems("x").collect("y", fails)).toThrow(new TypeError("a defect"));
  });

  test.each([
    ["text", '"text"'],
    ["two\nlines", '"two\\nlines"'],
    ["", '""'],
    [1.5, "1.5"],
    [Number.NaN, "NaN"],
    [-Infinity, "-Infinity"],
    [10n, "10"],
    [true, "true"],
    [undefined, "undefined"],
    [null, "null"],
    [["a", 1], '["a",1]'],
    [{ a: 1 }, '{"a":1}'],
    [Object.assign(Object.create(null), { a: 1 }), '{"a":1}'],
    [new Date(Number.NaN), "Invalid Date"],
    [{ toString: () => "64Mi" }, "64Mi"],
    ["x".repeat(300), `"${"x".repeat(199)}...`],
  ])("shows the value %p on one line", (value, shown) => {
    const problems = new Problems("x");
    problems.check(false, "value", value, "another");
    expect(messageOf(problems)).toBe(`x: 'value' must be another, but got ${shown}`);
  });

  test("shows a value that holds itself", () => {
    const loop: { self?: unknown } = {};
    loop.self = loop;
    const problems = new Problems("x");
    problems.check(false, "value", loop, "another");
    expect(messageOf(problems)).toBe("x: 'value' must be another, but got [object Object]");
  });
});

describe("ValidationError", () => {
  const problem = { property: "port", value: 0, allowed: "1 or more" };

  test("keeps path and problems for programs", () => {
    const { name, path, problems } = new ValidationError("stack/id", [problem]);
    expect({ name, path, problems }).toEqual({ name: "ValidationError", path: "stack/id", problems: [problem] });
  });

  test("is known also when another copy of the library made it", () => {
    let copy: unknown;
    jest.isolateModules(() => {
      // eslint-disable-next-line @typescript-eslint/no-require-imports -- a second copy can only be had this way
      const other = require("../../lib/errors") as { ValidationError: typeof ValidationError };
      copy = new other.ValidationError("stack/id", [problem]);
    });
    expect(copy instanceof ValidationError).toBe(false);
    expect(ValidationError.is(copy)).toBe(true);
    expect([ValidationError.is(new Error("x")), ValidationError.is(null), ValidationError.is("x")]).toEqual([false, false, false]);
  });
});
