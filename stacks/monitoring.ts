import type { Construct } from "constructs";
import { PrometheusBackup } from "../constructs/backup";
import { PodVolume } from "../constructs/storage";
import { Duration, Quantity, Retention } from "../lib";
import { ServiceStack } from "./service-stack";
import { site } from "./site";

/** Prometheus: long-term trends, once a month, two copies. */
export class MonitoringStack extends ServiceStack {
  public constructor(scope: Construct, id: string) {
    super(scope, id);
    const { prometheus, pushgateway } = site;

    new PrometheusBackup(this, "prometheus-backup", {
      namespace: prometheus.namespace,
      schedule: prometheus.schedule,
      image: prometheus.image,
      endpoint: prometheus.endpoint,
      data: PodVolume.fromClaim(prometheus.claim, { readOnly: false }),
      colocateWith: { labels: prometheus.labels },
      // Up to 200 GiB have to be read and compressed, and to be unpacked again.
      deadline: Duration.hours(6),
      drill: { size: Quantity.gibibytes(220), deadline: Duration.hours(6) },
      volume: this.backupVolume("prometheus-volume", prometheus.namespace, prometheus.volume),
      retention: Retention.keepLast(2),
      pushgateway,
    });
  }
}
