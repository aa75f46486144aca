import { Lazy, Token } from "cdktf";
import { withoutCreationStacks } from "../../lib";

test("values carry no creation stack, and still resolve", () => {
  const create = (): { readonly creationStack: readonly string[] } =>
    Lazy.anyValue({ produce: () => ({ answer: 42 }) }) as unknown as { readonly creationStack: readonly string[] };
  expect(create().creationStack.length).toBeGreaterThan(0);
  withoutCreationStacks();
  expect(create().creationStack).toEqual([]);
  expect(Token.isUnresolved(create())).toBe(true);
});
