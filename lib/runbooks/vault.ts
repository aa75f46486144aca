import { restoreCall } from "./common";
import { block } from "./markdown";
import { placeOf, type ProtectedService } from "./service";

/**
 * How Vault is restored. What makes it unlike others: the snapshot is sealed by keys that no backup has, and a server takes it only while
 * it is unsealed by its own.
 */
export function vaultRestoreSteps(service: ProtectedService): readonly string[] {
  const { namespace, restoreToken } = service;
  const { name = "SECRET", key = "KEY" } = restoreToken ?? {};
  const vault = (command: string): string => `kubectl exec -n ${namespace} -it POD -- vault ${command}`;
  return [
    "## The keys",
    "A snapshot is sealed by the unseal keys that the server had when it was made. They are in no backup, and a green drill does not say that " +
      "anybody has them: whoever has none of those has no data. Have them at hand before anything is replaced; this many there are, and " +
      "this many it takes:",
    block(`jq .fingerprint.seal ${placeOf(service)}/GENERATION/manifest.json`, "file server"),
    "## A server that takes it",
    "It must be running, initialised and unsealed, by its own keys. A new one is given some first, which are needed until it has the " +
      "snapshot, and no longer (`POD` is any pod of the server; the images of OpenBao have `bao` in place of `vault`):",
    block([vault("operator init -key-shares=1 -key-threshold=1"), vault("operator unseal")].join("\n")),
    "Its root token goes into the Secret that the restore reads; it is typed here and ended by Ctrl-D, so that it is in no shell's history. " +
      "(Where there is none any more, `vault operator generate-root` makes one.)",
    block(
      `kubectl create secret generic ${name} -n ${namespace} --from-file=${key}=/dev/stdin --dry-run=client -o yaml | kubectl apply -f -`,
    ),
    "## Restore",
    block(restoreCall(service, "DRY_RUN=true")),
    "Then again without `DRY_RUN`. Where the server holds anything, set `CONFIRM` to the name that the plan says; all that it holds is " +
      "replaced, of which a backup is made first.",
    block(restoreCall(service)),
    "## Unseal",
    "Where the snapshot is of the same server, and its keys were not changed since, it goes on at once. Otherwise the log says that it is " +
      "sealed: by the keys of the server that was backed up. Start every node anew, as it would go on to ask for as many keys as it had, " +
      "and unseal each of them by as many of the old keys as it takes, one a call:",
    block([`kubectl delete pod -n ${namespace} POD`, vault("operator unseal"), vault("status")].join("\n")),
    "A server that a service unseals (`type` is not `shamir` above) needs that service, and the key that it had there, and no calls.",
    "From then on the tokens, users and auth methods are those of the snapshot. In a Kubernetes cluster that is a new one, pods can log in " +
      "once the auth method knows it:",
    block([vault("login"), vault("write auth/kubernetes/config kubernetes_host=https://kubernetes.default.svc:443")].join("\n")),
    "The token in the Secret is good for nothing where the keys are others now, and for everything where they are the same: revoke it there " +
      "(`vault token revoke -self`), unless others need it. Then remove the Secret:",
    block(`kubectl delete secret -n ${namespace} ${name}`),
  ];
}
