import { block } from "./markdown";
import { titleOf, type ProtectedService } from "./service";

/** The sections of a runbook that tell how a service is restored. */
export function restoreSteps(service: ProtectedService): readonly string[] {
  return STEPS[service.engine](service);
}

/** One call of the function that runbooks begin with. */
export function restoreCall({ namespace, restore }: ProtectedService, ...settings: readonly string[]): string {
  return ["restore", namespace, restore ?? "", ...(settings.length === 0 ? ["DRY_RUN=false"] : settings)].join(" ");
}

/** Ends and starts the application, found by the labels of its pods. */
export function scale({ namespace, application }: ProtectedService, replicas: 0 | 1): string {
  const labels = Object.entries(application ?? {}).map(([name, value]) => `${name}=${value}`);
  const selector = labels.join(",");
  const command = `kubectl scale deployment,statefulset -n ${namespace} -l ${selector} --replicas=${replicas}`;
  return replicas === 1 ? command : `${command}\nkubectl wait -n ${namespace} --for=delete pod -l ${selector} --timeout=5m`;
}

const STEPS: { readonly [engine in ProtectedService["engine"]]: (service: ProtectedService) => readonly string[] } = {
  postgres: (service) => {
    const [database = "DATABASE"] = service.databases;
    return [
      "## One database",
      "The old database is not touched until the new one was restored and compared; then the two change names.",
      block(restoreCall(service, `DATABASE=${database}`, "DRY_RUN=true")),
      block(restoreCall(service, `DATABASE=${database}`, `CONFIRM=${database}`)),
      "Beside it, under another name, to look into it first:",
      block(restoreCall(service, `DATABASE=${database}`, `INTO=${database}_restored`)),
      "## The whole server",
      "Roles come first, then every database; roles that exist stay as they are. Passwords are in no backup: set them again from where " +
        "they are kept.",
      block(restoreCall(service, "DRY_RUN=true")),
    ];
  },
  mysql: (service) => {
    const [database = "DATABASE"] = service.databases;
    return [
      "## One database",
      block(restoreCall(service, `DATABASE=${database}`, "DRY_RUN=true")),
      block(restoreCall(service, `DATABASE=${database}`, `CONFIRM=${database}`)),
      "## The whole server",
      block(restoreCall(service, "DRY_RUN=true")),
    ];
  },
  sqlite: applicationData,
  files: applicationData,
  redis: (service) => ["## The whole server", block(restoreCall(service, "DRY_RUN=true"))],
  prometheus: applicationData,
  vault: (service) => ["## The whole of it", block(restoreCall(service, "DRY_RUN=true"))],
  etcd: () => ["## On the control plane node"],
  command: (service) => ["## All of it", block(restoreCall(service, "DRY_RUN=true"))],
};

/** What lies on an application's own volume, which can be in one place at a time. */
function applicationData(service: ProtectedService): readonly string[] {
  return [
    `## Stop ${titleOf(service)}`,
    block(scale(service, 0)),
    "## Restore",
    block(restoreCall(service, "DRY_RUN=true")),
    `## Start ${titleOf(service)}`,
    block(scale(service, 1)),
  ];
}
