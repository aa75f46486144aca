import { KubernetesProvider } from "@cdktf/provider-kubernetes/lib/provider";
import { dependable, LocalBackend, TerraformResource, TerraformStack } from "cdktf";
import type { Construct, IConstruct } from "constructs";
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

  /** Makes every resource below a construct wait for another one. The framework renders no `depends_on` for `node.addDependency`. */
  protected waitFor(resource: TerraformResource, ...constructs: readonly IConstruct[]): void {
    for (const each of constructs.flatMap((construct) => construct.node.findAll())) {
      if (TerraformResource.isTerraformResource(each)) each.dependsOn = [...(each.dependsOn ?? []), dependable(resource)];
    }
  }

  /** The export `<root>/<directory>` of the file server, as volume and claim. */
  protected backupVolume(id: string, namespace: string, { name, directory }: SiteVolume): NfsBackupVolume {
    const { server, root, storageClassName } = site.nfs;
    return new NfsBackupVolume(this, id, { name, namespace, server, path: `${root}/${directory}`, storageClassName });
  }
}
