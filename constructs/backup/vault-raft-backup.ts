import type { Construct } from "constructs";
import { posix } from "node:path";
import { Duration } from "../../lib/duration";
import type { ImageReference } from "../../lib/image-reference";
import type { EngineSettings } from "../../lib/runtime/engines";
import { isToken } from "../../lib/terraform-text";
import type { ServiceEndpoint } from "../../lib/service-endpoint";
import { isRelativePath } from "../storage/nfs-export";
import { PodVolume } from "../storage/pod-volume";
import type { BackupProps } from "./backup";
import { Backup } from "./backup";
import { NODE_USER } from "../runner/defaults";
import type { Mount } from "../runner/job-parts";
import type { SecretRef } from "../runner/secret-ref";

const TOKEN_DIRECTORY = "/var/run/secrets/vault";
const CA_DIRECTORY = "/source/ca";
const RESTORE_DIRECTORY = "/var/run/secrets/vault-restore";
/** The least that Kubernetes issues. */
const SHORTEST_TOKEN = Duration.minutes(10);
/** Long enough for any login at the start of a run, and no longer than it must be. */
const LONGEST_TOKEN = Duration.hours(1);

/** The authority that signed the server's certificate. */
export interface CertificateAuthority {
  /** A ConfigMap or Secret that holds the certificate. */
  readonly volume: PodVolume;
  /** Its file. @default "ca.crt" */
  readonly file?: string;
}

/** Options of {@link VaultRaftBackup}. */
export interface VaultRaftBackupProps extends BackupProps {
  /** The server's image, such as `docker.io/hashicorp/vault:1.18.1`, in which the drill starts a node of its own; OpenBao's will do too. */
  readonly image: ImageReference;
  /** The server: a Service that leads to the active node. */
  readonly endpoint: ServiceEndpoint;
  /** Role of Vault's Kubernetes auth method that the pod's ServiceAccount may log in with; it needs the snapshot policy alone. */
  readonly role: string;
  /** Path of the auth method in Vault. @default "kubernetes" */
  readonly authMount?: string;
  /** Audience of the ServiceAccount's token, which the role must ask for. @default "vault" */
  readonly audience?: string;
  /** How long the ServiceAccount's token is valid, 10 minutes to 1 hour. @default Duration.minutes(10) */
  readonly tokenLifetime?: Duration;
  /** Authority of the server's certificate; the connection is encrypted if it is given. @default - plain HTTP */
  readonly ca?: CertificateAuthority;
  /** What a restore needs that a backup does not have. @default - there is no restore job */
  readonly restore?: VaultRestoreProps;
}

/** What a restore of a Vault needs. */
export interface VaultRestoreProps {
  /** A root token of the server that takes the snapshot; the Secret need not exist before there is something to restore. */
  readonly token: SecretRef;
}

/**
 * Backs up Vault's (or OpenBao's) integrated storage: a raft snapshot, inspected. What is in it stays sealed.
 *
 * The drill gives the snapshot to a node of its own, which seals itself by it, and starts that again; then it compares what is on the
 * node's disk with the snapshot, entry by entry. That proves that the snapshot is whole, that a server takes it and starts with it, and
 * whose keys it asks for. It does not prove that anybody still has those keys, nor that what is sealed is what it should be.
 *
 * It logs in as a ServiceAccount of its own, with a short-lived token for Vault alone: no root token, no Secret. Creates what
 * {@link RunnerCronJob} creates, with the ServiceAccount, which is named like the CronJob. The pod runs as user 1000 unless told
 * otherwise.
 */
export class VaultRaftBackup extends Backup {
  public readonly endpoint: ServiceEndpoint;
  public readonly role: string;
  public readonly authMount: string;
  public readonly audience: string;
  public readonly tokenLifetime: Duration;
  /** Secret that the restore takes a root token from; undefined where there is no restore. */
  public readonly restoreToken?: SecretRef;

  /** @throws ValidationError */
  public constructor(scope: Construct, id: string, props: VaultRaftBackupProps) {
    const { endpoint, role, authMount = "kubernetes", audience = "vault", tokenLifetime = SHORTEST_TOKEN, ca, image, restore } = props;
    const caFile = ca?.file ?? "ca.crt";
    super(scope, id, props, (problems) => {
      problems.check(isToken(role) || /^[\w.-]+$/.test(role), "role", role, "letters, digits, '_', '.' and '-'");
      problems.check(isToken(authMount) || isRelativePath(authMount), "authMount", authMount, "a path without leading or trailing slash");
      problems.check(audience !== "", "audience", audience, "the audience that the role asks for");
      const seconds = tokenLifetime.toSeconds();
      const short = seconds >= SHORTEST_TOKEN.toSeconds() && seconds <= LONGEST_TOKEN.toSeconds();
      problems.check(short, "tokenLifetime", tokenLifetime.toHuman(), `${SHORTEST_TOKEN.toHuman()} to ${LONGEST_TOKEN.toHuman()}`);
      problems.check(isRelativePath(caFile), "ca.file", caFile, "the name of a file in the volume");
      const engine: EngineSettings = {
        kind: "vault",
        address: `${ca === undefined ? "http" : "https"}://${endpoint.toString()}`,
        ca: ca === undefined ? undefined : posix.join(CA_DIRECTORY, caFile),
        auth: { mount: authMount, role, tokenPath: `${TOKEN_DIRECTORY}/token` },
      };
      const mounts: readonly Mount[] = ca === undefined ? [] : [{ volume: ca.volume, path: CA_DIRECTORY }];
      return {
        application: "vault",
        engine,
        defaultRunAs: NODE_USER,
        mounts,
        endpoints: [endpoint],
        token: { audience, expirationSeconds: seconds, directory: TOKEN_DIRECTORY },
        drill: { container: { image, script: "vault-drill.sh", libraries: ["server.sh"], environment: {} }, assertions: false },
        restore: restore && {
          engine: { ...engine, restoreToken: `${RESTORE_DIRECTORY}/${restore.token.key}` },
          mounts: [...mounts, { volume: PodVolume.fromSecret(restore.token.name, { optional: true }), path: RESTORE_DIRECTORY }],
        },
      };
    });
    this.endpoint = endpoint;
    this.role = role;
    this.authMount = authMount;
    this.audience = audience;
    this.tokenLifetime = tokenLifetime;
    this.restoreToken = restore?.token;
  }
}
