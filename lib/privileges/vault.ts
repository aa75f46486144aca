import { Duration } from "../duration";
import { Problems } from "../errors";
import { VAULT_RULES } from "../runtime/vault-rules";

/**
 * Policy of a backup's token, for Vault and OpenBao: it reads snapshots, and gives itself back at the end. The snapshot has every secret,
 * encrypted by keys that are not in it.
 */
export const vaultSnapshotPolicy = `${VAULT_RULES.snapshot}\n${VAULT_RULES.revoke}\n`;

/** What a backup logs in as, in the terms of the Kubernetes auth method. */
export interface VaultBackupRole {
  /** Name of the role; the policy has it too. */
  readonly role: string;
  /** The ServiceAccount of the backup's pods, and its namespace. */
  readonly serviceAccount: string;
  readonly namespace: string;
  /** Audience of the ServiceAccount's token. @default "vault" */
  readonly audience?: string;
  /** Path of the auth method. @default "kubernetes" */
  readonly authMount?: string;
  /** How long Vault's token is valid; must be longer than a backup takes. @default Duration.hours(1) */
  readonly tokenLifetime?: Duration;
}

/**
 * The shell commands, for an administrator's terminal, that make the policy and the role of a backup. The role's tokens have the policy
 * and nothing else, not even the default one. Running them again changes nothing.
 *
 * @throws ValidationError
 */
export function vaultBackupRoleCommands(options: VaultBackupRole): string {
  const { role, serviceAccount, namespace, audience = "vault", authMount = "kubernetes", tokenLifetime = Duration.hours(1) } = options;
  const problems = new Problems("vaultBackupRoleCommands");
  const words = { role, serviceAccount, namespace, audience, authMount };
  // Nothing here needs to be quoted for a shell.
  for (const [property, value] of Object.entries(words)) {
    problems.check(/^[\w.:/-]+$/.test(value) && !value.startsWith("-"), property, value, "letters, digits, '_', '.', ':', '/' and '-'");
  }
  problems.check(!role.includes("/"), "role", role, "a name without '/'");
  problems.throwIfAny();
  const seconds = tokenLifetime.toSeconds();
  return [
    `vault policy write ${role} - <<'EOF'`,
    `${vaultSnapshotPolicy}EOF`,
    `vault write auth/${authMount}/role/${role} \\`,
    `  bound_service_account_names=${serviceAccount} bound_service_account_namespaces=${namespace} audience=${audience} \\`,
    `  token_policies=${role} token_no_default_policy=true token_ttl=${seconds}s token_max_ttl=${seconds}s`,
    "",
  ].join("\n");
}
