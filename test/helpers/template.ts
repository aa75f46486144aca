import { tmpdir } from "node:os";
import { join } from "node:path";
import { KubernetesProvider } from "@cdktf/provider-kubernetes/lib/provider";
import { App, LocalBackend, TerraformStack } from "cdktf";

/** Any JSON value, to be looked into by tests. */
export type Json = null | boolean | number | string | readonly Json[] | { readonly [key: string]: Json };
/** The attributes of one synthesised resource. */
export type Attributes = { readonly [attribute: string]: Json };

/** What comes with a backup, and is not meant where no name is given. */
const COMPANION = /-(drill|restore)$/;

/** A stack of an app of its own, with what every stack has: a backend and the provider. */
export function testStack(name = "test"): TerraformStack {
  const stack = new TerraformStack(new App({ outdir: join(tmpdir(), "cdktf-backup-test") }), name);
  new LocalBackend(stack, { path: `${name}.tfstate` });
  new KubernetesProvider(stack, "kubernetes", {});
  return stack;
}

/** What Terraform is given for one stack: the synthesised JSON without cdktf's own metadata, all validations passed. */
export class Template {
  /** @throws what a validation of the stack or of any construct in it reports */
  public static fromStack(stack: TerraformStack): Template {
    stack.prepareStack();
    stack.runAllValidations();
    const json = JSON.stringify(stack.toTerraform(), (key, value: unknown) => (key === "//" ? undefined : value));
    return new Template(JSON.parse(json) as Synthesised);
  }

  /** {@link fromStack} of a stack that `build` fills. */
  public static of(build: (stack: TerraformStack) => void): Template {
    const stack = testStack();
    build(stack);
    return Template.fromStack(stack);
  }

  private constructor(public readonly json: Synthesised) {}

  /** `type.name` of every resource, sorted. */
  public get addresses(): string[] {
    return Object.entries(this.json.resource ?? {})
      .flatMap(([type, resources]) => Object.keys(resources).map((name) => `${type}.${name}`))
      .sort();
  }

  /** All resources of a type. */
  public resources(type: string): Attributes[] {
    return Object.values(this.json.resource?.[type] ?? {});
  }

  /** The resource of a type whose Kubernetes name is `name`; the only one of its type, but for drills and restores, where none is given. */
  public resource(type: string, name?: string): Attributes {
    const found = this.resources(type).filter((attributes) => {
      const own = String(at(attributes, "metadata.name"));
      return name === undefined ? !COMPANION.test(own) : own === name;
    });
    const [only] = found;
    if (only === undefined || found.length > 1) {
      throw new Error(`${found.length} resources of type ${type} named ${name ?? "anything"} in: ${this.addresses.join(", ")}`);
    }
    return only;
  }

  /** A value of {@link resource}, by its path: `spec.job_template.spec.backoff_limit`. */
  public value(type: string, path: string, name?: string): Json | undefined {
    return at(this.resource(type, name), path);
  }
}

/** The value at a dotted path; indexes are parts too. Undefined where there is none. */
export function at(json: Json | undefined, path: string): Json | undefined {
  return path.split(".").reduce<Json | undefined>((value, part) => {
    if (typeof value !== "object" || value === null) return undefined;
    return (value as { readonly [key: string]: Json })[part];
  }, json);
}

interface Synthesised {
  readonly resource?: { readonly [type: string]: { readonly [name: string]: Attributes } };
  readonly [block: string]: unknown;
}
