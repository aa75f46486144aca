import fc from "fast-check";
import { fileName } from "../../lib/runtime/file-name";

describe("a file's name for a database", () => {
  test.each([
    ["app", "app"],
    ["my_app-2.0", "my_app-2.0"],
    ["größe", "größe"],
    ["データ", "データ"],
    ["a b/c", "a%20b%2Fc"],
    ["..", "%2E."],
    ["-rf", "%2Drf"],
    [".partial", "%2Epartial"],
    ["100%", "100%25"],
    ["€", "%E2%82%AC"],
  ])("of %j is %j", (name, expected) => {
    expect(fileName(name)).toBe(expected);
  });

  test("can be read back, is one plain name, and is no other database's", () => {
    fc.assert(
      fc.property(fc.string({ unit: "grapheme", minLength: 1 }), (name) => {
        const file = fileName(name);
        expect(decodeURIComponent(file)).toBe(name);
        expect(file).toMatch(/^[\p{L}\p{N}_%][\p{L}\p{N}_.%-]*$/u);
      }),
    );
  });
});
