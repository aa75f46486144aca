/** A block or attribute map of Terraform's JSON syntax. */
export interface Block {
  readonly [key: string]: unknown;
}

/** What `cdktf` writes for one stack, parsed (or as text): `{ resource: { <type>: { <id>: { ... } } } }`. */
export interface Synthesised {
  readonly resource?: { readonly [type: string]: { readonly [id: string]: Block } };
}

/** The one object of a block that occurs at most once; Terraform accepts it bare or as a list of one. */
export function block(value: unknown, what = "block"): Block {
  const all = blocks(value);
  if (all.length > 1) throw new Error(`${what}: expected one block, found ${all.length}`);
  return all[0] ?? {};
}

/** All objects of a block that may repeat. */
export function blocks(value: unknown): readonly Block[] {
  if (value === undefined || value === null) return [];
  return (Array.isArray(value) ? value : [value]) as readonly Block[];
}

/** A string attribute, `undefined` where absent. Terraform takes numbers and booleans for strings. */
export function text(value: unknown): string | undefined {
  return value === undefined || value === null ? undefined : String(value);
}

/** A number attribute; the provider writes some of them as strings (`run_as_user`). */
export function number(value: unknown): number | undefined {
  return value === undefined || value === null || value === "" ? undefined : Number(value);
}

/** A map attribute with string values. */
export function textMap(value: unknown): Record<string, string> {
  return Object.fromEntries(Object.entries(block(value)).map(([key, item]) => [key, String(item)]));
}

/** A list attribute with string values. */
export function textList(value: unknown): readonly string[] {
  return ((value ?? []) as readonly unknown[]).map(String);
}

/** Fails on a key that the harness neither applies nor knowingly leaves aside, so that nothing is ignored by accident. */
export function refuseUnknown(of: Block, what: string, known: string): void {
  const names = new Set(known.split(/\s+/));
  const unknown = Object.keys(of).filter((key) => !names.has(key));
  if (unknown.length > 0) throw new Error(`${what}: the pod harness does not know ${unknown.join(", ")}`);
}

/** The resources of one stack as the provider would send them: escapes undone, references to names replaced. */
export class Resources {
  private readonly all: { readonly [type: string]: { readonly [id: string]: Block } };

  public constructor(synthesised: Synthesised | string) {
    const parsed = typeof synthesised === "string" ? (JSON.parse(synthesised) as Synthesised) : synthesised;
    this.all = parsed.resource ?? {};
  }

  /** The resource with that `metadata.name`, evaluated; `undefined` if there is none. */
  public find(type: string, name: string, namespace?: string): Block | undefined {
    const found = this.list(type).filter(({ metadata }) => {
      const of = block(metadata);
      return this.evaluate(of.name) === name && (namespace === undefined || this.evaluate(of.namespace ?? "default") === namespace);
    });
    if (found.length > 1) throw new Error(`${type} ${name}: ${found.length} resources of that name`);
    return found[0] === undefined ? undefined : (this.evaluate(found[0]) as Block);
  }

  /** `metadata.name` of every resource of a type. */
  public names(type: string): readonly string[] {
    return this.list(type).map(({ metadata }) => String(this.evaluate(block(metadata).name)));
  }

  /** Every resource of a type, evaluated. */
  public evaluated(type: string): readonly Block[] {
    return this.list(type).map((resource) => this.evaluate(resource) as Block);
  }

  private list(type: string): readonly Block[] {
    return Object.values(this.all[type] ?? {});
  }

  private evaluate(value: unknown): unknown {
    if (typeof value === "string") return this.template(value);
    if (Array.isArray(value)) return value.map((item) => this.evaluate(item));
    if (typeof value === "object" && value !== null) {
      return Object.fromEntries(Object.entries(value).map(([key, item]) => [this.template(key), this.evaluate(item)]));
    }
    return value;
  }

  private template(source: string): string {
    return source.replace(/\$\$\{|%%\{|\$\{([^}]*)\}?|%\{/g, (found, expression: string | undefined) => {
      if (found === "$${" || found === "%%{") return found.slice(1);
      if (expression === undefined) throw new Error(`a Terraform directive in ${JSON.stringify(source.slice(0, 80))}`);
      return this.reference(expression);
    });
  }

  private reference(expression: string): string {
    const [, type, id, attribute] = /^(\w+)\.([\w-]+)\.metadata(?:\[0\]|\.0)\.(name|namespace)$/.exec(expression) ?? [];
    const value = block(block(this.all[type ?? ""]?.[id ?? ""]).metadata)[attribute ?? ""];
    if (value === undefined) throw new Error(`cannot resolve the Terraform expression \${${expression}}`);
    return String(this.evaluate(value));
  }
}
