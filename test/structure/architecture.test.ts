import { readFileSync, readdirSync } from "node:fs";
import { dirname, join, relative, resolve } from "node:path";
import * as ts from "typescript";

const root = resolve(__dirname, "../..");
const layers = ["lib", "constructs", "stacks", "main.ts"];

interface Source {
  readonly file: string;
  readonly tree: ts.SourceFile;
  readonly imports: readonly string[];
}

const sources: readonly Source[] = [...["lib", "constructs", "stacks"].flatMap(typescriptFiles), "main.ts"].map((file) => {
  const tree = ts.createSourceFile(file, readFileSync(join(root, file), "utf8"), ts.ScriptTarget.ES2023, true);
  const imports = tree.statements.flatMap((statement) =>
    (ts.isImportDeclaration(statement) || ts.isExportDeclaration(statement)) &&
    statement.moduleSpecifier !== undefined &&
    ts.isStringLiteral(statement.moduleSpecifier)
      ? [statement.moduleSpecifier.text]
      : [],
  );
  return { file, tree, imports };
});

describe("architecture", () => {
  test("every layer has sources", () => {
    for (const layer of layers) expect(sources.some(({ file }) => layerOf(file) === layer)).toBe(true);
  });

  test("imports point one way: main, stacks, constructs, lib", () => {
    const wrong = sources.flatMap(({ file, imports }) =>
      imports
        .filter((specifier) => specifier.startsWith("."))
        .map((specifier) => relative(root, resolve(root, dirname(file), specifier)))
        .filter((target) => layers.indexOf(layerOf(target)) > layers.indexOf(layerOf(file)))
        .map((target) => `${file} imports ${target}`),
    );
    expect(wrong).toEqual([]);
  });

  test("lib imports no provider", () => {
    expect(importsOf(/^lib\//, /^@cdktf\/provider-/)).toEqual([]);
  });

  test("the runner imports Node's built-ins and its own modules alone", () => {
    const foreign = importsOf(/^lib\/runtime\//, /^(?!node:|\.)/);
    const outside = sources
      .filter(({ file }) => file.startsWith("lib/runtime/"))
      .flatMap(({ file, imports }) =>
        imports
          .filter((specifier) => specifier.startsWith("."))
          .map((specifier) => relative(root, resolve(root, dirname(file), specifier)))
          .filter((target) => !target.startsWith("lib/runtime"))
          .map((target) => `${file} imports ${target}`),
      );
    expect([...foreign, ...outside]).toEqual([]);
  });

  test("providers are imported by deep path, and of Kubernetes the versioned classes alone", () => {
    const specifiers = sources.flatMap(({ imports }) => imports).filter((name) => name.startsWith("@cdktf/provider-"));
    expect(specifiers.length).toBeGreaterThan(0);
    expect(specifiers.filter((name) => !/^@cdktf\/provider-[a-z]+\/lib\/(provider|[a-z-]+-v[0-9]+)$/.test(name))).toEqual([]);
  });

  test("cdktf is imported under that name, so that an alias is all an exit needs", () => {
    expect(importsOf(/./, /^cdktn/)).toEqual([]);
  });

  test("no instanceof on framework classes", () => {
    const framework = /^(Construct|App|Terraform\w+|Kubernetes\w+|\w+V1)$/;
    const found: string[] = [];
    for (const { file, tree } of sources) {
      visit(tree, (node) => {
        if (ts.isBinaryExpression(node) && node.operatorToken.kind === ts.SyntaxKind.InstanceOfKeyword && framework.test(node.right.getText())) {
          found.push(`${file}: ${node.getText()}`);
        }
      });
    }
    expect(found).toEqual([]);
  });

  test("main.ts is a composition root: short, and without resources of its own", () => {
    const main = readFileSync(join(root, "main.ts"), "utf8");
    expect(main.split("\n").length).toBeLessThan(60);
    expect(main).not.toMatch(/@cdktf\/provider-/);
  });
});

describe("documentation", () => {
  const declared = sources
    .filter(({ file }) => !file.startsWith("lib/runtime/"))
    .flatMap(({ file, tree }) =>
      tree.statements
        .filter((node) => ts.isInterfaceDeclaration(node))
        .filter((node) => /(Props|Options)$/.test(node.name.text))
        .flatMap((node) => node.members.filter((member) => ts.isPropertySignature(member)).map((member) => ({ file, owner: node.name.text, member }))),
    );

  test("every property of a Props or Options interface is readonly and documented", () => {
    expect(declared.length).toBeGreaterThan(20);
    const wrong = declared.filter(
      ({ member }) => !member.modifiers?.some(({ kind }) => kind === ts.SyntaxKind.ReadonlyKeyword) || ts.getJSDocCommentsAndTags(member).length === 0,
    );
    expect(wrong.map(({ file, owner, member }) => `${file}: ${owner}.${member.name.getText()}`)).toEqual([]);
  });

  test("every optional one states its default", () => {
    const wrong = declared.filter(
      ({ member }) => member.questionToken !== undefined && !ts.getJSDocTags(member).some((tag) => tag.tagName.text === "default" && text(tag) !== ""),
    );
    expect(wrong.map(({ file, owner, member }) => `${file}: ${owner}.${member.name.getText()}`)).toEqual([]);
  });

  test("every exported class and function is documented", () => {
    const wrong = sources.flatMap(({ file, tree }) =>
      tree.statements
        .filter((node) => ts.isClassDeclaration(node) || ts.isFunctionDeclaration(node) || ts.isInterfaceDeclaration(node))
        .filter((node) => node.modifiers?.some(({ kind }) => kind === ts.SyntaxKind.ExportKeyword))
        .filter((node) => ts.getJSDocCommentsAndTags(node).length === 0)
        .map((node) => `${file}: ${node.name?.text}`),
    );
    expect(wrong).toEqual([]);
  });
});

function typescriptFiles(folder: string): readonly string[] {
  return readdirSync(join(root, folder), { recursive: true, encoding: "utf8" })
    .filter((file) => file.endsWith(".ts"))
    .map((file) => join(folder, file))
    .sort();
}

function layerOf(file: string): string {
  const first = file.split("/")[0] ?? "";
  return first === "main" ? "main.ts" : first;
}

function importsOf(files: RegExp, specifiers: RegExp): readonly string[] {
  return sources
    .filter(({ file }) => files.test(file))
    .flatMap(({ file, imports }) => imports.filter((name) => specifiers.test(name)).map((name) => `${file} imports ${name}`));
}

function visit(node: ts.Node, see: (node: ts.Node) => void): void {
  see(node);
  ts.forEachChild(node, (child) => visit(child, see));
}

function text(tag: ts.JSDocTag): string {
  return (ts.getTextOfJSDocComment(tag.comment) ?? "").trim();
}
