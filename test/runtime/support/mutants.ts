import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, resolve } from "node:path";
import * as ts from "typescript";

/** A program with one thing changed. */
export interface Mutant {
  /** What was changed, and where: `retention.ts:57: room > 0 -> room >= 0`. */
  readonly what: string;
  readonly text: string;
}

const OPERATORS: { readonly [operator: string]: readonly string[] } = {
  "<": ["<=", ">="],
  "<=": ["<", ">"],
  ">": [">=", "<="],
  ">=": [">", "<"],
  "===": ["!=="],
  "!==": ["==="],
  "&&": ["||"],
  "||": ["&&"],
  "+": ["-"],
  "-": ["+"],
  "*": ["/"],
};
/** Calls that can be left out of a chain. */
const LINKS = ["filter", "slice", "sort", "map"];

/** Every change of one comparison, condition, filter, sign or number of a TypeScript file. */
export function mutantsOf(path: string): readonly Mutant[] {
  const text = readFileSync(path, "utf8");
  const tree = ts.createSourceFile(path, text, ts.ScriptTarget.ES2023, true);
  const found: Mutant[] = [];
  const replace = (node: ts.Node, by: string): void => {
    const [start, end] = [node.getStart(), node.getEnd()];
    const line = tree.getLineAndCharacterOfPosition(start).line + 1;
    const statement = `${path.split("/").at(-1)}:${line}: ${text.slice(start, end).replace(/\s+/g, " ")} -> ${by.replace(/\s+/g, " ")}`;
    found.push({ what: statement, text: text.slice(0, start) + by + text.slice(end) });
  };
  const visit = (node: ts.Node): void => {
    if (ts.isTypeNode(node) || ts.isImportDeclaration(node) || ts.isInterfaceDeclaration(node)) return;
    if (ts.isBinaryExpression(node)) {
      const [left, right] = [node.left.getText(), node.right.getText()];
      for (const other of OPERATORS[node.operatorToken.getText()] ?? []) replace(node, `${left} ${other} ${right}`);
      if (node.operatorToken.kind === ts.SyntaxKind.QuestionQuestionToken) replace(node, left);
    }
    if (ts.isPrefixUnaryExpression(node) && node.operator !== ts.SyntaxKind.PlusToken) replace(node, node.operand.getText());
    if (ts.isNumericLiteral(node)) replace(node, String(Number(node.text) + 1));
    if (ts.isIfStatement(node) || ts.isConditionalExpression(node)) {
      for (const value of ["true", "false"]) replace(ts.isIfStatement(node) ? node.expression : node.condition, value);
    }
    if (ts.isCallExpression(node) && ts.isPropertyAccessExpression(node.expression)) {
      const { expression, name } = node.expression;
      if (LINKS.includes(name.text)) replace(node, expression.getText());
      if (["max", "min"].includes(name.text)) replace(name, name.text === "max" ? "min" : "max");
      if (name.text === "findLast") replace(name, "find");
    }
    ts.forEachChild(node, visit);
  };
  visit(tree);
  return found;
}

/** What a module exports, made from its text; `replaced` stands for modules that it imports, by the name it does that by. */
export function load<T>(path: string, text: string, replaced: { readonly [name: string]: unknown } = {}): T {
  const options = { compilerOptions: { module: ts.ModuleKind.CommonJS, target: ts.ScriptTarget.ES2023 } };
  const program = ts.transpileModule(text, options).outputText;
  const module = { exports: {} };
  const builtin = createRequire(path);
  const use = (name: string): unknown =>
    replaced[name] ?? (name.startsWith(".") ? jest.requireActual(resolve(dirname(path), name)) : builtin(name));
  new Function("module", "exports", "require", program)(module, module.exports, use);
  return module.exports as T;
}
