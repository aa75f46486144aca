import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { loadPackageDefinition, Server, ServerCredentials, status, type GrpcObject, type handleUnaryCall, type ServiceClientConstructor } from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";

const NAME = "nfs.csi.k8s.io";

export interface DriverOptions {
  /** The kubelet's root directory. */
  readonly kubelet: string;
  readonly nodeName: string;
  /** The directory of this machine that stands for the file server's root: an export `/mnt/main/x` is `<root>/mnt/main/x`. */
  readonly root: string;
}

/**
 * Stands in for the NFS CSI driver on a machine without an NFS client: an export is a directory, and mounting it is a bind mount.
 * All else is as with the real driver: PersistentVolumes name it, and the kubelet asks it to publish and unpublish.
 */
export class NfsDriverDouble {
  private readonly servers: Server[] = [];

  public constructor(private readonly options: DriverOptions) {}

  public async start(): Promise<void> {
    const { kubelet, nodeName, root } = this.options;
    const folder = join(kubelet, "plugins", NAME);
    const registry = join(kubelet, "plugins_registry");
    for (const path of [folder, registry]) mkdirSync(path, { recursive: true });
    const endpoint = join(folder, "csi.sock");

    const csi = packageOf("csi.proto")["csi"] as GrpcObject;
    const { Identity, Node } = csi["v1"] as { Identity: ServiceClientConstructor; Node: ServiceClientConstructor };
    await this.listen(endpoint, [
      [Identity, { getPluginInfo: () => ({ name: NAME, vendor_version: "0" }), getPluginCapabilities: () => ({}), probe: () => ({}) }],
      [
        Node,
        {
          nodeGetInfo: () => ({ node_id: nodeName }),
          nodeGetCapabilities: () => ({}),
          nodePublishVolume: ({ target_path, readonly, volume_context }) => {
            const share = join(root, (volume_context as { readonly [key: string]: string })["share"] ?? "");
            if (!existsSync(share)) throw new Error(`mount.nfs: mounting failed, reason given by server: No such file or directory: ${share}`);
            mkdirSync(String(target_path), { recursive: true });
            execFileSync("mount", ["--bind", share, String(target_path)]);
            if (readonly === true) execFileSync("mount", ["-o", "remount,bind,ro", String(target_path)]);
            return {};
          },
          nodeUnpublishVolume: ({ target_path }) => {
            // Asked again until it succeeds, so what is unmounted already is no failure.
            if (existsSync(String(target_path))) {
              execFileSync("sh", ["-c", 'umount "$1" 2>/dev/null; ! mountpoint -q "$1"', "sh", String(target_path)]);
              rmSync(String(target_path), { recursive: true, force: true });
            }
            return {};
          },
        },
      ],
    ]);

    const { Registration } = packageOf("registration.proto")["pluginregistration"] as { Registration: ServiceClientConstructor };
    await this.listen(join(registry, `${NAME}-reg.sock`), [
      [
        Registration,
        {
          getInfo: () => ({ type: "CSIPlugin", name: NAME, endpoint, supported_versions: ["1.0.0"] }),
          notifyRegistrationStatus: ({ plugin_registered, error }) => {
            if (plugin_registered !== true) throw new Error(`the kubelet refuses the driver: ${String(error)}`);
            return {};
          },
        },
      ],
    ]);
  }

  public stop(): void {
    for (const server of this.servers) server.forceShutdown();
  }

  private async listen(socket: string, services: readonly (readonly [ServiceClientConstructor, Handlers])[]): Promise<void> {
    rmSync(socket, { force: true });
    const server = new Server();
    for (const [{ service }, handlers] of services) {
      server.addService(service, Object.fromEntries(Object.entries(handlers).map(([name, handle]) => [name, unary(handle)])));
    }
    await new Promise<void>((resolve, reject) => {
      server.bindAsync(`unix://${socket}`, ServerCredentials.createInsecure(), (error) => (error === null ? resolve() : reject(error)));
    });
    this.servers.push(server);
  }
}

type Message = { readonly [field: string]: unknown };
type Handlers = { readonly [method: string]: (request: Message) => Message };

function unary(handle: (request: Message) => Message): handleUnaryCall<Message, Message> {
  return ({ request }, answer) => {
    try {
      answer(null, handle(request));
    } catch (error) {
      answer({ code: status.INTERNAL, details: (error as Error).message });
    }
  };
}

function packageOf(file: string): GrpcObject {
  return loadPackageDefinition(loadSync(join(__dirname, file), { keepCase: true }));
}
