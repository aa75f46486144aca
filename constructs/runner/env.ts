import type { Problems } from "../../lib/errors";
import { isToken } from "../../lib/terraform-text";
import { checkNoIdentity } from "./encryption";
import type { ContainerEnv } from "./pod-types";
import { SecretRef } from "./secret-ref";

/** Environment of a container: plain text, or a key of a Secret. */
export interface Environment {
  readonly [name: string]: string | SecretRef;
}

/** `env` of a container as the provider writes it: a Secret's key by reference, never by value. */
export function renderEnv(environment: Environment): ContainerEnv[] {
  return Object.entries(environment).map(([name, value]) =>
    typeof value === "string" ? { name, value } : { name, valueFrom: { secretKeyRef: { name: value.name, key: value.key } } },
  );
}

/**
 * Records what is wrong with variables that a user gave.
 *
 * The kubelet expands `$(NAME)` in values, and turns `$$` into `$`, by rules that differ from the shell's: so no value holds a `$`.
 */
export function checkEnvironment(problems: Problems, property: string, environment: Environment): void {
  for (const [name, value] of Object.entries(environment)) {
    problems.check(/^[A-Za-z_][A-Za-z0-9_]*$/.test(name), property, name, "names of letters, digits and '_'");
    if (typeof value === "string" && checkNoIdentity(problems, `${property}.${name}`, value)) {
      checkNoDollar(problems, `${property}.${name}`, value);
    }
  }
}

/** Records a `$` in text that the kubelet would expand. */
export function checkNoDollar(problems: Problems, property: string, value: string): void {
  problems.check(isToken(value) || !value.includes("$"), property, value, "text without '$', which the kubelet expands");
}
