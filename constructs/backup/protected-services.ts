import { TerraformStack } from "cdktf";
import type { IConstruct } from "constructs";
import type { ProtectedService } from "../../lib/runbooks";
import type { SecretRef } from "../runner/secret-ref";
import { Backup } from "./backup";

/** Every backup below a construct, as runbooks speak of it, in the tree's order. */
export function protectedServices(root: IConstruct): readonly ProtectedService[] {
  return root.node.findAll().flatMap((construct) => (Backup.isBackup(construct) ? [describe(construct)] : []));
}

function describe(backup: Backup): ProtectedService {
  const { engine, target } = backup.settings;
  const { uid, gid } = backup.runAs;
  return {
    name: backup.name.replace(/-backup$/, ""),
    engine: engine.kind,
    stack: TerraformStack.of(backup).node.id,
    namespace: backup.namespace,
    backup: backup.name,
    drill: backup.drill?.name,
    restore: backup.restore?.name,
    restoreToken: "restoreToken" in backup ? (backup.restoreToken as SecretRef | undefined) : undefined,
    schedule: backup.schedule.describe(),
    retention: `kept for ${backup.retention.describe()}`,
    nfs: backup.volume.nfs === undefined ? undefined : { server: backup.volume.nfs.server, path: backup.volume.nfs.path },
    directory: backup.directory,
    owner: `${uid}:${gid}`,
    prepare: target?.prepare,
    databases: "expectDatabases" in engine ? engine.expectDatabases : [],
    application: backup.application,
    endpoint: backup.address,
  };
}
