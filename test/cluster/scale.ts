import { readdirSync, readFileSync, rmSync } from "node:fs";
import { join, resolve } from "node:path";
import { buildSync } from "esbuild";
import type { Synthesised } from "../helpers/pod/terraform";
import { run, temporaryDirectory } from "../helpers/process";
import { objectsOf, type KubernetesObject } from "./direct";

/** How many services. */
export const SERVICES = Number(process.env["SCALE_SERVICES"] ?? "500");
const NAMESPACES = 10;
const PROJECT = resolve(__dirname, "../..");

/** The namespaces that the services are in. */
export const namespacesOfServices: readonly KubernetesObject[] = Array.from({ length: NAMESPACES }, (_, n) => ({
  apiVersion: "v1",
  kind: "Namespace",
  metadata: { name: `namespace-${n}` },
}));

/** Many services, synthesised by a process of its own. */
export interface SynthesisedServices {
  /** The JSON of each stack, by id. */
  readonly stacks: ReadonlyMap<string, string>;
  readonly seconds: number;
  /** Largest memory of the process. */
  readonly bytes: number;
}

/** Synthesises {@link SERVICES}, a stack for each. */
export async function synthesiseServices(): Promise<SynthesisedServices> {
  const directory = temporaryDirectory("scale");
  // Two directories below the project, from where it finds what the library reads, as from the library's own.
  const program = join(PROJECT, "dist/scale/synth.js");
  buildSync({ entryPoints: [join(__dirname, "scale-synth.ts")], outfile: program, bundle: true, platform: "node", packages: "external", logLevel: "error" });
  try {
    const { stdout } = await run(process.execPath, [program, directory, String(SERVICES), String(NAMESPACES)]);
    const stacks = readdirSync(join(directory, "stacks")).map((id) => [id, readFileSync(join(directory, "stacks", id, "cdk.tf.json"), "utf8")] as const);
    return { stacks: new Map(stacks), ...(JSON.parse(stdout) as { readonly seconds: number; readonly bytes: number }) };
  } finally {
    rmSync(join(program, ".."), { recursive: true });
    rmSync(directory, { recursive: true });
  }
}

/** The objects of a stack's JSON. */
export function objectsOfJson(json: string): readonly KubernetesObject[] {
  return objectsOf(JSON.parse(json) as Synthesised);
}

/** `kind namespace/name` of objects, to be compared. */
export function namesOf(objects: readonly KubernetesObject[]): readonly string[] {
  return objects.map(({ kind, metadata }) => `${kind} ${metadata.namespace ?? ""}/${metadata.name}`).sort();
}

/** The largest memory that programs have had since this was made. */
export class Peaks {
  private readonly bytes = new Map<string, number>();
  private readonly timer = setInterval(() => this.look(), 200).unref();

  /** @param programs beginnings of their names */
  public constructor(private readonly programs: readonly string[]) {}

  /** `name 12 MiB, name 34 MiB` */
  public end(): string {
    clearInterval(this.timer);
    this.look();
    return [...this.bytes].map(([name, bytes]) => `${name} ${mebibytes(bytes)}`).join(", ");
  }

  private look(): void {
    for (const pid of readdirSync("/proc").filter((entry) => /^\d+$/.test(entry))) {
      const status = statusOf(pid);
      const [, name = ""] = /^Name:\s+(.*)$/m.exec(status) ?? [];
      if (!this.programs.some((program) => name.startsWith(program))) continue;
      const bytes = Number(/^VmHWM:\s+(\d+) kB$/m.exec(status)?.[1] ?? 0) * 1024;
      this.bytes.set(name, Math.max(bytes, this.bytes.get(name) ?? 0));
    }
  }
}

function statusOf(pid: string): string {
  try {
    return readFileSync(`/proc/${pid}/status`, "utf8");
  } catch {
    return ""; // it has ended
  }
}

/** Calls work, and says how long it took. */
export async function timed(work: () => Promise<unknown>): Promise<string> {
  const began = performance.now();
  await work();
  return `${((performance.now() - began) / 1000).toFixed(1)} s`;
}

export function mebibytes(bytes: number): string {
  return `${Math.round(bytes / 2 ** 20)} MiB`;
}
