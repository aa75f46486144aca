import type { Construct } from "constructs";
import type { ImageReference } from "../../lib/image-reference";
import type { ServiceEndpoint } from "../../lib/service-endpoint";
import type { PodVolume } from "../storage/pod-volume";
import type { BackupProps } from "./backup";
import { Backup } from "./backup";
import { PROMETHEUS_USER } from "../runner/defaults";

const DATA = "/source/data";

/** Options of {@link PrometheusBackup}. */
export interface PrometheusBackupProps extends BackupProps {
  /** The server's image, such as `quay.io/prometheus/prometheus:v3.1.0`, in which the drill starts one of its own. It must have a shell. */
  readonly image: ImageReference;
  /** The server, started with `--web.enable-admin-api`. */
  readonly endpoint: ServiceEndpoint;
  /**
   * The server's data volume, whose root (or `subPath`) is `--storage.tsdb.path`. Mounted writable: the server makes snapshots in it, and
   * nobody else removes them.
   */
  readonly data: PodVolume;
}

/**
 * Backs up Prometheus: a snapshot that the server makes of its own blocks, archived.
 *
 * The drill starts a server on them, which gives back every sample; its assertions are PromQL, asked at the time of the newest sample
 * unless they say another by `@`, and must return one value. It needs room for all blocks, on the node: its `size`. The restore puts them
 * into the data volume while the server is stopped.
 *
 * Creates what {@link RunnerCronJob} creates. The pod runs as user 65534 unless told otherwise, that of the `prometheus` image.
 */
export class PrometheusBackup extends Backup {
  public readonly endpoint: ServiceEndpoint;

  /** @throws ValidationError */
  public constructor(scope: Construct, id: string, props: PrometheusBackupProps) {
    const { image, endpoint, data } = props;
    super(scope, id, props, (problems) => {
      problems.check(!data.readOnly, "data", data.description, "mounted with readOnly: false, so that snapshots can be removed again");
      return {
        application: "prometheus",
        engine: { kind: "prometheus", address: `http://${endpoint.toString()}`, data: DATA },
        defaultRunAs: PROMETHEUS_USER,
        mounts: [{ volume: data, path: DATA }],
        endpoints: [endpoint],
        drill: { container: { image, script: "prometheus-drill.sh", libraries: ["server.sh"], environment: {} }, assertions: true },
        restore: {},
      };
    });
    this.endpoint = endpoint;
  }
}
