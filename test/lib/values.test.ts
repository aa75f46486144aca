import { readFileSync } from "node:fs";
import { join } from "node:path";
import { Fn } from "cdktf";
import * as fc from "fast-check";
import {
  Duration, ImageReference, Problems, Quantity, Retention, ServiceEndpoint, ValidationError, checkConstructId, checkCronJobName,
  checkDnsLabel, checkDnsSubdomain, checkLabelValue, checkServiceName, isDnsLabel, isDnsSubdomain, standardLabels,
} from "../../lib";

/** What Kubernetes' own libraries answer; see the README beside the file. */
const { quantities } = JSON.parse(readFileSync(join(__dirname, "data/kubernetes.json"), "utf8")) as {
  readonly quantities: readonly (readonly [text: string, canonical: string | null])[];
};

const digest = `sha256:${"0123456789abcdef".repeat(4)}`;

describe("Duration", () => {
  test("counts whole seconds in every unit", () => {
    const durations = [Duration.seconds(90), Duration.minutes(90), Duration.hours(36), Duration.days(14), Duration.hours(1.5)];
    expect(durations.map((duration) => duration.toSeconds())).toEqual([90, 5400, 129600, 1209600, 5400]);
  });

  test.each([
    [0, "0s"], [45, "45s"], [60, "1m"], [90, "1m30s"], [5400, "1h30m"], [86400, "24h"], [90000, "25h"], [129600, "36h"],
    [172800, "2d"], [172801, "48h1s"], [2678400, "31d"], [1206000, "335h"], [3661, "1h1m1s"],
  ])("writes %d seconds as %s", (seconds, text) => {
    expect(Duration.seconds(seconds).toHuman()).toBe(text);
    expect(`${Duration.seconds(seconds)}`).toBe(text);
  });

  test("its text is a Prometheus duration of the same length", () => {
    const units: { readonly [unit: string]: number } = { d: 86400, h: 3600, m: 60, s: 1 };
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 100_000_000 }), (seconds) => {
        const text = Duration.seconds(seconds).toHuman();
        expect(text).toMatch(/^(?:\d+d|(?:\d+h)?(?:\d+m)?(?:\d+s)?)$/);
        const parts = [...text.matchAll(/(\d+)([dhms])/g)].map(([, amount, unit]) => Number(amount) * (units[unit ?? ""] ?? Number.NaN));
        expect(parts.reduce((sum, part) => sum + part, 0)).toBe(seconds);
      }),
    );
  });
});

describe("Retention", () => {
  test("by age keeps at least three generations unless told otherwise", () => {
    const { keepDays, keepLast } = Retention.keepDays(14);
    expect({ keepDays, keepLast }).toEqual({ keepDays: 14, keepLast: 3 });
    expect(Retention.keepDays(30, { atLeast: 2 }).keepLast).toBe(2);
  });

  test("by count has no age", () => {
    const { keepDays, keepLast } = Retention.keepLast(2);
    expect({ keepDays, keepLast }).toEqual({ keepDays: undefined, keepLast: 2 });
  });

  test("removes a quarter at once and freezes at half, unless told otherwise", () => {
    const shares = ({ removeAtMost, freezeBelow }: Retention): readonly number[] => [removeAtMost, freezeBelow];
    expect(shares(Retention.keepDays(14))).toEqual([0.25, 0.5]);
    expect(shares(Retention.keepLast(2))).toEqual([0.25, 0.5]);
    expect(shares(Retention.keepDays(14, { removeAtMost: 1, freezeBelow: 0 }))).toEqual([1, 0]);
    expect(shares(Retention.keepLast(2, { removeAtMost: 0.1, freezeBelow: 0.99 }))).toEqual([0.1, 0.99]);
  });

  test("says what it keeps", () => {
    expect([Retention.keepDays(30), Retention.keepDays(1, { atLeast: 2 }), Retention.keepLast(2)].map(String)).toEqual([
      "30 days, at least 3 proven generations",
      "1 day, at least 2 proven generations",
      "the last 2 proven generations",
    ]);
  });
});

describe("Quantity", () => {
  test.each(quantities)("of %j is what Kubernetes makes of it: %j", (text, canonical) => {
    if (canonical === null) expect(() => Quantity.parse(text)).toThrow(ValidationError);
    else expect(Quantity.parse(text).toString()).toBe(canonical);
  });

  test("has makers for what is asked for most", () => {
    expect([64, 2048].map((amount) => Quantity.mebibytes(amount).toString())).toEqual(["64Mi", "2Gi"]);
    expect([10, 0].map((amount) => Quantity.gibibytes(amount).toString())).toEqual(["10Gi", "0"]);
    expect([250, 2000].map((amount) => Quantity.millicores(amount).toString())).toEqual(["250m", "2"]);
  });

  test("canonical text stays as it is", () => {
    const suffix = fc.constantFrom("", "m", "k", "M", "G", "T", "Ki", "Mi", "Gi", "Ti");
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 100_000 }), suffix, (amount, unit) => {
        const canonical = Quantity.parse(`${amount}${unit}`).toString();
        expect(Quantity.parse(canonical).toString()).toBe(canonical);
      }),
    );
  });
});

describe("ImageReference", () => {
  test("is taken apart", () => {
    const { repository, tag, digest: pinned } = ImageReference.parse(`docker.io/library/postgres:16.4-bullseye@${digest}`);
    expect({ repository, tag, pinned }).toEqual({ repository: "docker.io/library/postgres", tag: "16.4-bullseye", pinned: digest });
  });

  test.each([
    "docker.io/library/postgres:16.4-bullseye", "docker.io/library/redis:7.4.1-alpine3.20", "docker.io/library/mysql:8.4.3",
    "registry.k8s.io/etcd:3.5.21-0",
    "quay.io/prometheus/prometheus:v2.53.1", "quay.io/minio/minio:RELEASE.2024-01-16T16-07-38Z",
    "docker.io/library/debian:bookworm-20241016-slim",
    "ghcr.io/immich-app/immich-server:release-1.120.2", "localhost/tool:sha-9c0f1e2",
    "docker.io/library/debian:stable-20240812-slim", "docker.io/jenkins/jenkins:2.462.3-lts-jdk17",
    "registry.example.com:5000/a/b_c/d__e/f-g:1.0",
    `docker.io/library/postgres@${digest}`, `docker.io/library/postgres:16@${digest}`, `docker.io/library/alpine:latest@${digest}`,
  ])("accepts %s and gives it back unchanged", (text) => {
    expect(ImageReference.parse(text).toString()).toBe(text);
  });

  test.each([
    ["latest", "'latest' is moved to newer images"], ["stable", "'stable' is moved to newer images"],
    ["edge", "'edge' is moved to newer images"],
    ["main", "'main' is moved to newer images"], ["master", "'master' is moved to newer images"],
    ["lts-alpine3.20", "'lts' is moved to newer images"],
    ["Nightly-2024", "'Nightly' is moved to newer images"], ["alpine", "it has no version"], ["bookworm-slim", "it has no version"],
    ["16", "'16' is a major version alone"], ["v2", "'v2' is a major version alone"], ["24-alpine", "'24' is a major version alone"],
    ["8-alpine3.20", "'8' is a major version alone"], ["alpine3.20", "it does not begin with a version, but with 'alpine3.20'"],
    ["pg16", "it does not begin with a version, but with 'pg16'"],
  ])("refuses the floating tag %s and says why", (tag, reason) => {
    const text = `docker.io/library/image:${tag}`;
    expect(() => ImageReference.parse(text)).toThrow(
      `ImageReference: 'image' must be an image with an exact tag or a digest (tag '${tag}' floats: ${reason}), but got "${text}"`,
    );
  });
});

describe("ServiceEndpoint", () => {
  test("is read from text or made of parts", () => {
    const read = ServiceEndpoint.of("pg-cluster-rw.dbaas:5432");
    const made = ServiceEndpoint.of({ service: "pg-cluster-rw", namespace: "dbaas", port: 5432 });
    for (const { host, service, namespace, port } of [read, made]) {
      expect([host, service, namespace, port]).toEqual(["pg-cluster-rw.dbaas", "pg-cluster-rw", "dbaas", 5432]);
    }
    expect([`${read}`, `${made}`]).toEqual(["pg-cluster-rw.dbaas:5432", "pg-cluster-rw.dbaas:5432"]);
  });

  test("knows the pods' port, which is the Service's unless told otherwise", () => {
    expect(ServiceEndpoint.of("redis.redis:6379").podPort).toBe(6379);
    expect(ServiceEndpoint.of({ service: "prometheus", namespace: "monitoring", port: 80, podPort: 9090 }).podPort).toBe(9090);
  });

  test("keeps the longer names that certificates may need", () => {
    expect(ServiceEndpoint.of("vault-active.vault.svc:8200").host).toBe("vault-active.vault.svc");
    const { host, namespace } = ServiceEndpoint.of("vault-active.vault.svc.cluster.local:8200");
    expect({ host, namespace }).toEqual({ host: "vault-active.vault.svc.cluster.local", namespace: "vault" });
  });
});

describe("names", () => {
  const found = (check: typeof checkDnsLabel, value: string): boolean => check(new Problems("x"), "name", value);

  test.each([
    // text, RFC 1123 label, RFC 1123 subdomain, Service, label value, construct id
    ["postgresql", true, true, true, true, true],
    ["pg-cluster-rw", true, true, true, true, true],
    ["0", true, true, false, true, true],
    ["9lives", true, true, false, true, true],
    ["a.b", false, true, false, true, false],
    ["", false, false, false, true, false],
    ["A", false, false, false, true, true],
    ["a_b", false, false, false, true, true],
    ["-a", false, false, false, false, true],
    ["a-", false, false, false, false, true],
    ["a..b", false, false, false, true, false],
    ["a.-b", false, false, false, true, false],
    ["a\n", false, false, false, false, false],
    ["é", false, false, false, false, false],
    ["a".repeat(63), true, true, true, true, true],
    ["a".repeat(64), false, true, false, false, true],
    ["a".repeat(253), false, true, false, false, true],
    ["a".repeat(254), false, false, false, false, true],
  ] as const)("%j can be: label %s, subdomain %s, Service %s, label value %s, construct id %s", (text, ...expected) => {
    const checks = [checkDnsLabel, checkDnsSubdomain, checkServiceName, checkLabelValue, checkConstructId];
    expect(checks.map((check) => found(check, text))).toEqual(expected);
    expect([isDnsLabel(text), isDnsSubdomain(text)]).toEqual(expected.slice(0, 2));
  });

  test("a CronJob's name leaves room for what its Jobs add", () => {
    expect(found(checkCronJobName, "a".repeat(52))).toBe(true);
    expect(found(checkCronJobName, "a".repeat(53))).toBe(false);
    expect(found(checkCronJobName, "Backup")).toBe(false);
  });

  test("the standard labels are Kubernetes' own", () => {
    expect(standardLabels({ name: "postgresql", instance: "postgresql-backup", component: "backup" })).toEqual({
      "app.kubernetes.io/name": "postgresql",
      "app.kubernetes.io/instance": "postgresql-backup",
      "app.kubernetes.io/component": "backup",
      "app.kubernetes.io/managed-by": "cdktf-backup",
    });
  });
});

describe("values that Terraform computes", () => {
  const text = Fn.upper("x") as string;
  const port = Fn.abs(1) as number;

  test("pass every check of a name, alone and inside other text", () => {
    for (const check of [checkDnsLabel, checkDnsSubdomain, checkCronJobName, checkServiceName, checkLabelValue]) {
      const problems = new Problems("x");
      expect([check(problems, "name", text), check(problems, "name", `A ${text}`)]).toEqual([true, true]);
      expect(() => problems.throwIfAny()).not.toThrow();
    }
  });

  test("are taken for an image as they are", () => {
    for (const image of [text, `docker.io/library/postgres:${text}`]) {
      const reference = ImageReference.parse(image);
      expect([reference.toString(), reference.repository, reference.tag, reference.digest]).toEqual([image, image, undefined, undefined]);
    }
  });

  test("are taken for a quantity as they are", () => {
    expect(Quantity.parse(text).toString()).toBe(text);
  });

  test("can be any part of an endpoint", () => {
    const endpoint = ServiceEndpoint.of({ service: text, namespace: `${text}-db`, port });
    expect([endpoint.host, endpoint.namespace, endpoint.port]).toEqual([`${text}.${text}-db`, `${text}-db`, port]);
  });
});
