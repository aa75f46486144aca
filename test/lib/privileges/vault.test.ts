import { Duration } from "../../../lib/duration";
import { vaultBackupRoleCommands, vaultSnapshotPolicy } from "../../../lib/privileges/vault";

test("the policy allows snapshots to be read and its own token to be revoked, and nothing else", () => {
  expect(vaultSnapshotPolicy.trim().split("\n")).toEqual([
    'path "sys/storage/raft/snapshot" { capabilities = ["read"] }',
    'path "auth/token/revoke-self" { capabilities = ["update"] }',
  ]);
});

test("the commands make the policy and a role that has it alone", () => {
  expect(vaultBackupRoleCommands({ role: "raft-backup", serviceAccount: "vault-backup", namespace: "vault" }))
    .toBe(`vault policy write raft-backup - <<'EOF'
path "sys/storage/raft/snapshot" { capabilities = ["read"] }
path "auth/token/revoke-self" { capabilities = ["update"] }
EOF
vault write auth/kubernetes/role/raft-backup \\
  bound_service_account_names=vault-backup bound_service_account_namespaces=vault audience=vault \\
  token_policies=raft-backup token_no_default_policy=true token_ttl=3600s token_max_ttl=3600s
`);
});

test("everything in them can be set", () => {
  const text = vaultBackupRoleCommands({
    role: "r",
    serviceAccount: "sa",
    namespace: "ns",
    audience: "https://vault.example.org:8200",
    authMount: "clusters/home",
    tokenLifetime: Duration.minutes(20),
  });
  expect(text).toContain("vault write auth/clusters/home/role/r \\\n");
  expect(text).toContain(" audience=https://vault.example.org:8200 ");
  expect(text).toContain(" token_ttl=1200s token_max_ttl=1200s\n");
});

test("refuses whatever a shell could take for more than a word, all at once", () => {
  const names = { role: "a/b", serviceAccount: "$(id)", namespace: "", audience: "a b", authMount: "-x" };
  expect(() => vaultBackupRoleCommands(names)).toThrow(
    "vaultBackupRoleCommands: 'serviceAccount' must be letters, digits, '_', '.', ':', '/' and '-', but got \"$(id)\"; 'namespace' must be",
  );
  expect(() => vaultBackupRoleCommands(names)).toThrow(/'role' must be a name without '\/', but got "a\/b"$/);
});
