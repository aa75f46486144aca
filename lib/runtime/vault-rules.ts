/** What the token of a backup needs, each in the language of policies. */
export const VAULT_RULES = {
  snapshot: 'path "sys/storage/raft/snapshot" { capabilities = ["read"] }',
  revoke: 'path "auth/token/revoke-self" { capabilities = ["update"] }',
} as const;
