import { KubernetesProvider } from "@cdktf/provider-kubernetes/lib/provider";
import { LocalBackend, TerraformStack } from "cdktf";
import type { Construct } from "constructs";
import { NfsBackupVolume } from "../constructs/storage";
import { site, type SiteVolume } from "./site";

/** One service of the homelab: one Terraform state, with the provider and the state's place set. */
export abstract class ServiceStack extends TerraformStack {
  /** @param id the stack's name, and that of its folder and its state */
  public constructor(scope: Construct, id: string) {
    super(scope, id);
    // Relative, so that the JSON is the same wherever it is synthesised.
    new LocalBackend(this, { path: `${site.states}/${id}/terraform.tfstate` });
    new KubernetesProvider(this, "kubernetes", { configPath: site.kubeconfig });
  }

  /** The export `<root>/<directory>` of the file server, as volume and claim. */
  protected backupVolume(id: string, namespace: string, { name, directory }: SiteVolume): NfsBackupVolume {
    const { server, root, storageClassName } = site.nfs;
    return new NfsBackupVolume(this, id, { name, namespace, server, path: `${root}/${directory}`, storageClassName });
  }
}
