import { restoreCall } from "./common";
import { etcdRestoreSteps } from "./etcd";
import { CHECK_FILES } from "./common";
import { block } from "./markdown";
import { placeOf, titleOf, type ProtectedService } from "./service";
import { vaultRestoreSteps } from "./vault";

/** The sections of a runbook that tell how a service is restored. */
export function restoreSteps(service: ProtectedService): readonly string[] {
  const { backup, stack, restore } = service;
  if (service.engine === "etcd") return etcdRestoreSteps(service);
  if (restore !== undefined) return STEPS[service.engine](service);
  return [
    "## Restore",
    `No job restores \`${backup}\`; where its class has a \`restore\` option, setting it in the stack \`${stack}\` makes one. Until then a ` +
      "generation is restored by hand: copy it from the file server, compare its files with the SHA-256 in its manifest, decompress what " +
      "ends in `.zst` with `zstd -d`, and load it with the engine's own tools.",
    block(`cd ${placeOf(service)}/GENERATION\n${CHECK_FILES}`, "file server"),
  ];
}

/** Ends and starts the application, found by the labels of its pods. */
export function scale({ namespace, application }: ProtectedService, replicas: 0 | 1): string {
  const labels = Object.entries(application ?? {}).map(([name, value]) => `${name}=${value}`);
  const selector = labels.join(",");
  const command = `kubectl scale deployment,statefulset -n ${namespace} -l ${selector} --replicas=${replicas}`;
  return replicas === 1 ? command : `${command}\nkubectl wait -n ${namespace} --for=delete pod -l ${selector} --timeout=5m`;
}

const STEPS: { readonly [engine in Exclude<ProtectedService["engine"], "etcd">]: (service: ProtectedService) => readonly string[] } = {
  postgres: (service) => {
    const [database = "DATABASE"] = service.databases;
    return [
      "## One database",
      "It is restored beside the old one and compared; then the two change names. The old one stays, under the name that the plan says.",
      block(restoreCall(service, `DATABASE=${database}`, "DRY_RUN=true")),
      block(restoreCall(service, `DATABASE=${database}`, `CONFIRM=${database}`)),
      "Under another name, to look into it first:",
      block(restoreCall(service, `DATABASE=${database}`, `INTO=${database}_restored`)),
      "## One table",
      "It comes back in a schema of its own, beside what there is.",
      block(restoreCall(service, `DATABASE=${database}`, "TABLE=public.TABLE", "DRY_RUN=true")),
      "## The whole server",
      "Roles come first, then every database; roles that exist stay as they are. Passwords are in no backup: set them again from where " +
        "they are kept.",
      block(restoreCall(service, "DRY_RUN=true")),
      block(restoreCall(service, `CONFIRM=${service.endpoint}`)),
    ];
  },
  mysql: (service) => {
    const [database = "DATABASE"] = service.databases;
    return [
      "## One database",
      "Its tables are restored beside the old ones and compared; then the old database is dropped, of which a backup is made first.",
      block(restoreCall(service, `DATABASE=${database}`, "DRY_RUN=true")),
      block(restoreCall(service, `DATABASE=${database}`, `CONFIRM=${database}`)),
      "Under another name, to look into it first:",
      block(restoreCall(service, `DATABASE=${database}`, `INTO=${database}_restored`)),
      "## One table",
      "It comes back in a database of its own, whose name the log says, without its triggers.",
      block(restoreCall(service, `DATABASE=${database}`, "TABLE=TABLE", "DRY_RUN=true")),
      "## The whole server",
      "Accounts that are missing are made with their passwords; those that exist stay as they are.",
      block(restoreCall(service, "DRY_RUN=true")),
      block(restoreCall(service, `CONFIRM=${service.endpoint}`)),
    ];
  },
  sqlite: (service) => [
    ...applicationData(service, "The old database, with the log that SQLite would otherwise apply to the new one, is kept aside."),
    "## A look at it first",
    "Into a new directory beside the data; what is in place stays, and the application may run:",
    block(restoreCall(service, "INTO=restored")),
  ],
  files: (service) => [
    ...applicationData(service, "What is replaced is kept aside, in a directory that the plan names."),
    "## One file or directory",
    block(restoreCall(service, "ONLY=PATH", "DRY_RUN=true")),
  ],
  redis: (service) => ["## The whole server", ...planned(service)],
  prometheus: (service) => [
    ...applicationData(
      service,
      "What is replaced is kept aside, what was in no block yet included: the volume needs room for both. Blocks in it that are newer than " +
        "the snapshot can be moved back beside the others before the server is started; samples that two blocks have are shown once.",
    ),
    "When all is well, remove the directory that the log's last line names.",
  ],
  vault: vaultRestoreSteps,
  command: (service) => ["## All of it", ...planned(service)],
};

/** What to type where the name to confirm is known from the plan alone. */
function planned(service: ProtectedService): readonly string[] {
  return [
    block(restoreCall(service, "DRY_RUN=true")),
    "Then again without `DRY_RUN`, and where the target is not empty with `CONFIRM` set to the name that the plan says.",
  ];
}

/** What lies on an application's own volume, which can be in one place at a time. */
function applicationData(service: ProtectedService, kept: string): readonly string[] {
  const known = service.application !== undefined;
  const by = (replicas: 0 | 1): string => (known ? block(scale(service, replicas)) : "By the means of its own stack.");
  return [
    `## Stop ${titleOf(service)}`,
    by(0),
    "## Restore",
    kept,
    ...planned(service),
    `## Start ${titleOf(service)}`,
    by(1),
  ];
}
