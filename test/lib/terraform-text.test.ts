import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { App, Fn, TerraformOutput, TerraformStack, TerraformVariable, Testing } from "cdktf";
import * as fc from "fast-check";
import { isToken, literal } from "../../lib/terraform-text";

/** The binary that reads the text in the end; without it there is nothing to prove, so its absence is a failure. */
function terraformBinary(): string {
  for (const name of ["terraform", "tofu"]) {
    try {
      execFileSync(name, ["version"], { stdio: "ignore" });
      return name;
    } catch {
      // not there, or not usable; the next one may be
    }
  }
  throw new Error("neither 'terraform' nor 'tofu' runs from PATH; these tests prove escaping through it and cannot do without");
}

/** Applies a stack without providers and returns the values of its outputs, as Terraform has them. */
function apply(stack: TerraformStack): { readonly [output: string]: unknown } {
  const binary = terraformBinary();
  const directory = mkdtempSync(join(tmpdir(), "terraform-text-"));
  try {
    writeFileSync(join(directory, "main.tf.json"), Testing.synth(stack));
    const env = { ...process.env, TF_IN_AUTOMATION: "1", CHECKPOINT_DISABLE: "1" };
    const run = (...args: string[]): string => execFileSync(binary, args, { cwd: directory, encoding: "utf8", stdio: "pipe", env });
    run("init", "-backend=false", "-input=false", "-no-color");
    run("apply", "-auto-approve", "-input=false", "-no-color");
    const outputs = JSON.parse(run("output", "-json")) as { readonly [output: string]: { readonly value: unknown } };
    return Object.fromEntries(Object.entries(outputs).map(([name, { value }]) => [name, value]));
  } finally {
    rmSync(directory, { recursive: true });
  }
}

const KNOWN = [
  "", "$", "%", "${", "%{", "$${", "%%{", "$$${", "$$$${three}", "${HOME}",
  "N=${NAME:-x}", "$${already}", "%{if true}", "$(cmd) $$ $1 %Y", "}{$", "$%{", "%${",
  "date +%{s}", "{{ $labels.job }}", "a\\${b}", 'say "${x}"', "line\nbreak\r\n\ttab", "\r\n$${",
  "\u0000\u0007\u2028\ufeff", "ünï ☃ 漢字 😀", "<a>&'",
];
const piece = fc.oneof(
  fc.constantFrom("$", "%", "{", "}", "\\", '"', "\n", "\r\n", "${", "%{", "$${", "~}", "a"),
  fc.string({ unit: "binary", minLength: 1, maxLength: 2 }),
);
/** Where one of these stands before a quote, Terraform's JSON scanner takes both for one character and fails, loudly. */
const PREPENDED = new RegExp(
  "[\\u0600-\\u0605\\u06dd\\u070f\\u0890\\u0891\\u08e2\\u0d4e\\u{110bd}\\u{110cd}\\u{111c2}\\u{111c3}" +
    "\\u{1193f}\\u{11941}\\u{11a3a}-\\u{11a89}\\u{11d46}\\u{11f02}]",
  "u",
);
const anyText = fc
  .array(piece, { maxLength: 14 })
  .map((pieces) => pieces.join("").normalize("NFC"))
  .filter((text) => !/^\ufeff|\r(?!\n)/.test(text) && !PREPENDED.test(text));

describe("literal", () => {
  test("text and object keys come out of Terraform as they went in, byte for byte", () => {
    const texts = [...KNOWN, ...fc.sample(anyText, { numRuns: 1500, seed: 20240107 })];
    const keys = [...new Set(texts)];
    const stack = new TerraformStack(new App(), "text");
    new TerraformOutput(stack, "texts", { staticId: true, value: texts.map(literal) });
    const byKey = Object.fromEntries(keys.map((key) => [literal(key), literal(`=${key}`)]));
    new TerraformOutput(stack, "keys", { staticId: true, value: byKey });

    const outputs = apply(stack);

    expect(outputs.texts).toEqual(texts);
    expect(outputs.keys).toEqual(Object.fromEntries(keys.map((key) => [key, `=${key}`])));
  });

  test("a literal part joined with a reference keeps both", () => {
    const stack = new TerraformStack(new App(), "text");
    const name = new TerraformVariable(stack, "name", { type: "string", default: "value" });
    new TerraformOutput(stack, "joined", { staticId: true, value: `${literal("${A} ")}${name.stringValue}${literal(" %{B}")}` });
    expect(apply(stack).joined).toBe("${A} value %{B}");
  });

  test("only the two template sequences change", () => {
    expect(literal("$HOME $(x) $$ %s {{ $v }} {}")).toBe("$HOME $(x) $$ %s {{ $v }} {}");
    expect(literal("${a}%{b}")).toBe("$${a}%%{b}");
  });

  test("refuses text that holds a token", () => {
    const token = Fn.upper("x") as string;
    expect(isToken(token)).toBe(true);
    const allowed = "text without references; escape each literal part, then join them";
    expect(() => literal(`a ${token}`)).toThrow(`literal: 'text' must be ${allowed}, but got "a ${token}"`);
  });

  test.each([
    ["a character that can be composed", "e\u0301"],
    ["a lone surrogate", "a\ud800"],
    ["a leading byte order mark", "\ufeffa"],
    ["a carriage return without a newline", "a\rb"],
  ])("refuses text that Terraform would change: %s", (_, text) => {
    expect(() => literal(text)).toThrow(
      "literal: 'text' must be well-formed Unicode in normal form C, without a leading byte order mark and without carriage returns that " +
        `no newline follows; Terraform changes other text, but got ${JSON.stringify(text)}`,
    );
  });

  test("what is refused is what Terraform really changes", () => {
    const stack = new TerraformStack(new App(), "text");
    const changed = ["e\u0301", "\ufeffa", "\r$$${"];
    new TerraformOutput(stack, "changed", { staticId: true, value: changed });
    expect(apply(stack).changed).toEqual(["\u00e9", "a", "\r$$${"]);
  });
});

describe("isToken", () => {
  test("sees tokens in text, numbers and lists, and nothing else", () => {
    const tokens: readonly unknown[] = [Fn.upper("x"), `a-${Fn.upper("x") as string}`, Fn.abs(1), Fn.sort(["a"])];
    const others: readonly unknown[] = ["${plain}", "", 5432, undefined, ["a"]];
    expect(tokens.filter((value) => !isToken(value))).toEqual([]);
    expect(others.filter(isToken)).toEqual([]);
  });
});
