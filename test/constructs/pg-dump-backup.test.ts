import { PgDumpBackup, SecretRef, type PgDumpBackupProps } from "../../constructs/backup";
import { ImageReference } from "../../lib/image-reference";
import { ServiceEndpoint } from "../../lib/service-endpoint";
import { Template, at, testStack, type Attributes } from "../helpers/template";
import { POSTGRES, PUSHGATEWAY, required } from "./fixtures";

const CONTAINERS = "spec.job_template.spec.template.spec.container";
const CRON_JOB = "kubernetes_cron_job_v1";
const RESTORE = { user: "restorer", password: SecretRef.of("pg-restore", "password") };

function props(overrides: Partial<PgDumpBackupProps>): PgDumpBackupProps {
  return {
    ...required("pg"),
    image: POSTGRES,
    endpoint: ServiceEndpoint.of("pg-cluster-rw.dbaas:5432"),
    user: "backup",
    password: SecretRef.of("pg-backup", "password"),
    pushgateway: PUSHGATEWAY,
    ...overrides,
  };
}

const synthesise = (overrides: Partial<PgDumpBackupProps> = {}): Template =>
  Template.of((stack) => new PgDumpBackup(stack, "pg", props(overrides)));

function engine(template: Template, name: string): Attributes {
  const containers = template.value(CRON_JOB, CONTAINERS, name) as readonly Attributes[];
  return containers.find((container) => container.name === "engine") ?? {};
}

function environment(container: Attributes): { readonly [name: string]: unknown } {
  const variables = container.env as readonly Attributes[];
  return Object.fromEntries(variables.map(({ name, value, value_from: from }) => [name, value ?? at(from, "secret_key_ref")]));
}

const egress = (template: Template, name: string): string => JSON.stringify(template.value("kubernetes_network_policy_v1", "spec.egress", name));

describe("the drill", () => {
  test("knows neither the server nor any password, and cannot reach it", () => {
    const template = synthesise({ restore: RESTORE });
    const container = engine(template, "pg-drill");
    expect(environment(container)).toEqual({
      ENGINE_SCRIPT: "/etc/cdktf-backup/postgres-drill.sh",
      EXCHANGE: "/exchange",
      TMPDIR: "/work",
      WORK: "/work",
    });
    expect(container.image).toBe(POSTGRES.toString());
    expect(JSON.stringify(template.resource(CRON_JOB, "pg-drill"))).not.toMatch(/secret|pg-cluster/i);
    expect(egress(template, "pg-drill")).not.toContain("5432");
    expect(egress(template, "pg-drill")).toContain("9091");
  });

  test("has an image and libraries of its own where it is told so", () => {
    const image = ImageReference.parse(`ghcr.io/immich-app/postgres:15-vectorchord0.4.3@sha256:${"a".repeat(64)}`);
    const container = engine(synthesise({ drill: { image, preloadLibraries: ["vchord", "vectors.so"] } }), "pg-drill");
    expect(container.image).toBe(image.toString());
    expect(environment(container).PRELOAD_LIBRARIES).toBe("vchord, vectors.so");
  });

  test.each<[string, Partial<PgDumpBackupProps>, RegExp]>([
    ["a library that is more than a name", { drill: { preloadLibraries: ["x' \n evil = '"] } }, /'drill\.preloadLibraries' must be names of libraries/],
    ["a library with a dollar sign", { drill: { preloadLibraries: ["$libdir/vchord"] } }, /drill\.preloadLibraries/],
    ["an assertion of no database", { drill: { assertions: [{ query: "SELECT 1", expect: "1" }] } }, /'drill\.assertions' must be assertions that name their 'database'/],
    ["a user with a dollar sign", { restore: { ...RESTORE, user: "$(PGPASSWORD)" } }, /restore\.user/],
  ])("refuses %s", (_, overrides, message) => {
    expect(() => new PgDumpBackup(testStack(), "pg", props(overrides))).toThrow(message);
  });
});

describe("the restore", () => {
  test("is made only where somebody may restore", () => {
    expect(synthesise().addresses.filter((address) => address.includes("restore"))).toEqual([]);
  });

  test("has the role that may, and waits for a person", () => {
    const template = synthesise({ restore: RESTORE });
    expect(template.value(CRON_JOB, "spec.suspend", "pg-restore")).toBe(true);
    expect(environment(engine(template, "pg-restore"))).toMatchObject({
      ENGINE_SCRIPT: "/etc/cdktf-backup/postgres-restore.sh",
      PGHOST: "pg-cluster-rw.dbaas",
      PGPORT: "5432",
      PGUSER: "restorer",
      PGPASSWORD: { name: "pg-restore", key: "password" },
      PGDATABASE: "template1",
    });
    expect(environment(engine(template, "pg"))).toMatchObject({ PGUSER: "backup", PGPASSWORD: { name: "pg-backup", key: "password" } });
    expect(egress(template, "pg-restore")).toContain("5432");
  });
});
