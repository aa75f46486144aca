import { mkdirSync } from "node:fs";
import { join } from "node:path";
import type { Sources } from "./environment";
import type { ImageProfile, Shell } from "./image";
import type { PodContext, PodOptions } from "./options";
import type { Mount, SandboxSpec } from "./sandbox";
import type { Block } from "./terraform";
import type { PreparedVolume } from "./volumes";
import { declaredEnvironment, expand } from "./environment";
import { declaredTools, home, NODE_ALPINE, prepareImage, writeEtc } from "./image";
import { makePipes } from "./sandbox";
import { block, blocks, number, refuseUnknown, text, textList, textMap } from "./terraform";
import { prepareVolumes, subPath } from "./volumes";

const CONTAINER_KEYS = `name image image_pull_policy command args working_dir env env_from volume_mount security_context resources
  termination_message_path termination_message_policy port`;
const SECURITY_KEYS = `run_as_user run_as_group run_as_non_root read_only_root_filesystem allow_privilege_escalation capabilities
  privileged seccomp_profile`;
const MOUNT_KEYS = "name mount_path sub_path read_only mount_propagation";

const SERVICE_ACCOUNT_PATH = "/var/run/secrets/kubernetes.io/serviceaccount";
const CLUSTER_CA = "kube-root-ca.crt";
const SERVICE_ACCOUNT_VOLUME: Block = {
  name: "kube-api-access",
  projected: {
    sources: [
      { service_account_token: { path: "token" } },
      { config_map: { name: CLUSTER_CA } },
      { downward_api: { items: [{ path: "namespace", field_ref: { field_path: "metadata.namespace" } }] } },
    ],
  },
};

/** Turns a pod's containers into what a sandbox runs: what a kubelet does between the API and the container runtime. */
export class Kubelet {
  private readonly sources: Sources;
  private readonly volumes: ReadonlyMap<string, PreparedVolume>;

  /** Makes the pod's volumes and log pipes. @param root directory on the host for them */
  public constructor(
    private readonly pod: Block,
    private readonly options: PodContext,
    private readonly podName: string,
    private readonly root: string,
  ) {
    this.sources = {
      configMap: this.dataOf("kubernetes_config_map_v1", { [CLUSTER_CA]: { "ca.crt": "" }, ...options.configMaps }),
      secret: this.dataOf("kubernetes_secret_v1", options.secrets ?? {}),
      metadata: {
        name: podName,
        namespace: this.namespace,
        uid: "00000000-0000-0000-0000-000000000002",
        labels: options.labels ?? {},
        annotations: options.annotations ?? {},
      },
      serviceAccount: text(pod.service_account_name) ?? "default",
    };
    const containers = [...blocks(pod.init_container), ...blocks(pod.container)];
    const users = new Set(containers.map((container) => this.identity(container).uid));
    this.volumes = prepareVolumes([...blocks(pod.volume), ...(this.hasToken() ? [SERVICE_ACCOUNT_VOLUME] : [])], {
      root: join(root, "volumes"),
      given: options.volumes ?? {},
      sources: this.sources,
      fsGroup: number(this.security.fs_group),
      commonUser: users.size === 1 ? [...users][0] : undefined,
      token: options.serviceAccountToken ?? "service-account-token",
    });
    mkdirSync(join(root, "pipes"));
    makePipes(containers.map(({ name }) => this.logPipe(String(name))));
  }

  /** @throws Error where a cluster would never start the container */
  public sandbox(container: Block): SandboxSpec {
    const name = String(container.name);
    refuseUnknown(container, `container ${name}`, CONTAINER_KEYS);
    const security = block(container.security_context);
    refuseUnknown(security, `container ${name} security_context`, SECURITY_KEYS);
    const identity = this.identity(container);
    const { profile, shell } = this.image(container);
    const own = { ...this.serviceLinks(), ...declaredEnvironment(container, this.sources, this.serviceLinks()) };
    const set = Object.entries((name === "runner" && this.options.env) || {}).map(([key, value]) => [key, expand(value, own)] as const);
    const declared = { ...own, ...Object.fromEntries(set) };
    const expanded = (value: unknown): readonly string[] => textList(value).map((item) => expand(item, declared));
    const command = container.command === undefined ? (profile.entrypoint ?? []) : expanded(container.command);
    const argv = [...command, ...expanded(container.args)];
    if (argv.length === 0) throw new Error(`container ${name} has no command, and its image's profile no entry point`);
    const mounts = this.mounts(container);
    const etc = join(this.root, "etc", name);
    const files = writeEtc(etc, profile, this.hosts()).filter((file) => !mounts.some(({ at }) => at === `/etc/${file}`));
    return {
      name,
      hostname: this.podName.slice(0, 63),
      argv,
      env: {
        PATH: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        HOME: home(identity.uid),
        HOSTNAME: this.podName,
        ...profile.env,
        ...declared,
      },
      cwd: text(container.working_dir) ?? "/",
      ...identity,
      readOnlyRoot: security.read_only_root_filesystem === true,
      drop: textList(block(security.capabilities).drop),
      add: textList(block(security.capabilities).add),
      image: prepareImage({ ...profile, programs: { ...profile.programs, ...this.options.programs } }, shell),
      etc: { directory: etc, files },
      mounts,
      logPipe: this.logPipe(name),
    };
  }

  private get namespace(): string {
    return this.options.namespace ?? "default";
  }

  private get security(): Block {
    return block(this.pod.security_context);
  }

  private logPipe(container: string): string {
    return join(this.root, "pipes", container);
  }

  private hasToken(): boolean {
    return this.pod.automount_service_account_token !== false;
  }

  private dataOf(type: string, given: NonNullable<PodOptions["secrets"]>) {
    return (name: string): { readonly [key: string]: string } | undefined => {
      const found = given[name] === undefined ? this.options.resources?.find(type, name, this.namespace) : undefined;
      return found === undefined ? given[name] : textMap(found.data);
    };
  }

  private mounts(container: Block): readonly Mount[] {
    const name = String(container.name);
    const mounts = blocks(container.volume_mount).map((mount): Mount => {
      refuseUnknown(mount, `container ${name} volume_mount`, MOUNT_KEYS);
      const volume = this.volumes.get(String(mount.name));
      if (volume === undefined) throw new Error(`container ${name} mounts ${String(mount.name)}, which the pod does not have`);
      const sub = text(mount.sub_path) ?? "";
      return {
        at: String(mount.mount_path),
        from: volume.path === undefined || sub === "" ? volume.path : subPath(volume.path, sub),
        readOnly: volume.readOnly || mount.read_only === true,
      };
    });
    const token = this.volumes.get(String(SERVICE_ACCOUNT_VOLUME.name));
    if (token !== undefined && !mounts.some(({ at }) => at === SERVICE_ACCOUNT_PATH)) {
      mounts.push({ at: SERVICE_ACCOUNT_PATH, from: token.path, readOnly: true });
    }
    return mounts.sort((a, b) => a.at.split("/").length - b.at.split("/").length);
  }

  private identity(container: Block): Pick<SandboxSpec, "uid" | "gid" | "groups"> {
    const security = block(container.security_context);
    const uid = number(security.run_as_user) ?? number(this.security.run_as_user) ?? this.givenProfile(container)?.user ?? 0;
    if ((security.run_as_non_root ?? this.security.run_as_non_root) === true && uid === 0) {
      throw new Error(`CreateContainerConfigError: container ${String(container.name)} has runAsNonRoot and would run as root`);
    }
    const fsGroup = number(this.security.fs_group);
    return {
      uid,
      gid: number(security.run_as_group) ?? number(this.security.run_as_group) ?? 0,
      groups: [...textList(this.security.supplemental_groups).map(Number), ...(fsGroup === undefined ? [] : [fsGroup])],
    };
  }

  private givenProfile(container: Block): ImageProfile | undefined {
    const repository = String(container.image).replace(/@.*$/, "").replace(/:[^/:]*$/, "");
    return this.options.images?.[repository] ?? (/\/node$/.test(repository) ? NODE_ALPINE : undefined);
  }

  private image(container: Block): { readonly profile: ImageProfile; readonly shell: Shell } {
    const profile = this.givenProfile(container) ?? { tools: this.toolsOfScripts(container), users: { user: this.identity(container).uid } };
    return { profile, shell: profile.shell ?? this.options.shell ?? "dash" };
  }

  /** Programs in the `# tools:` lines of the scripts that the container runs out of its ConfigMaps. */
  private toolsOfScripts(container: Block): readonly string[] {
    const env = declaredEnvironment(container, this.sources, {});
    const paths = [...textList(container.command), ...textList(container.args), env.ENGINE_SCRIPT ?? ""];
    const scripts = blocks(container.volume_mount).flatMap((mount) => {
      const volume = blocks(this.pod.volume).find(({ name }) => name === mount.name);
      const data = volume?.config_map === undefined ? undefined : this.sources.configMap(String(block(volume.config_map).name));
      const files = Object.entries(data ?? {});
      return files.flatMap(([file, content]) => (paths.includes(`${String(mount.mount_path)}/${file}`) ? [content] : []));
    });
    const tools = scripts.flatMap(declaredTools);
    if (tools.length === 0) {
      const image = String(container.image);
      throw new Error(`container ${String(container.name)}: options.images lacks ${image}, and no script it runs has a "# tools:" line`);
    }
    return [...new Set(tools)];
  }

  /** `<SERVICE>_SERVICE_HOST` and `<SERVICE>_PORT`, which disturb programs that read e.g. `REDIS_PORT`. */
  private serviceLinks(): Record<string, string> {
    const own = this.services().filter(({ namespace }) => namespace === this.namespace);
    const linked = this.pod.enable_service_links === false ? [] : own.map(({ name }) => name);
    return Object.fromEntries(
      ["kubernetes", ...linked].flatMap((name) => {
        const prefix = name.toUpperCase().replaceAll("-", "_");
        return [
          [`${prefix}_SERVICE_HOST`, "127.0.0.1"],
          [`${prefix}_SERVICE_PORT`, "443"],
          [`${prefix}_PORT`, "tcp://127.0.0.1:443"],
        ];
      }),
    );
  }

  private services(): readonly { readonly name: string; readonly namespace: string }[] {
    return (this.options.services ?? []).map((service) => {
      const [name, namespace, ...more] = service.split(".");
      if (name === undefined || namespace === undefined || more.length > 0) throw new Error(`service ${service}: expected name.namespace`);
      return { name, namespace };
    });
  }

  private hosts(): string {
    const names = this.services().flatMap(({ name, namespace }) => [
      ...(namespace === this.namespace ? [name] : []),
      `${name}.${namespace}`,
      `${name}.${namespace}.svc`,
      `${name}.${namespace}.svc.cluster.local`,
    ]);
    const own = "127.0.0.1 localhost\n::1 localhost ip6-localhost\n";
    return own + [this.podName, ...names].map((name) => `127.0.0.1 ${name}\n`).join("");
  }
}
