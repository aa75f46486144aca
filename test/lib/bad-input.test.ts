import { Fn } from "cdktf";
import {
  Duration, ImageReference, Problems, Quantity, Retention, Schedule, ServiceEndpoint, ValidationError, checkConstructId,
  checkCronJobName, checkDnsLabel, checkDnsSubdomain, checkLabelValue, checkServiceName,
} from "../../lib";

const token = Fn.upper("x") as string;
const numberToken = Fn.abs(1) as number;

const FIELDS = "a cron expression of 5 fields: minute, hour, day of month, month, day of week";
const DESCRIPTORS = 'one of @yearly, @annually, @monthly, @weekly, @daily, @midnight, @hourly, "@every <duration>", or 5 fields';
const ZONE = 'an IANA time zone in its exact spelling, such as "Etc/UTC" or "Europe/London"';
const DELAY = '"@every <duration>", as in "@every 6h" or "@every 1h30m"';
const NO_TZ = "a cron expression without 'TZ', which Kubernetes refuses; use 'timeZone'";
const QUANTITY = "a Kubernetes quantity, 0 or more: a number with an optional suffix m, k, M, G, T, Ki, Mi, Gi or Ti";
const SECONDS = "0 or more, and a whole number of seconds";
const GENERATIONS = "a whole number of generations, 2 or more";
const DAYS = "a whole number of days, 1 or more";
const EXACT = "an image with an exact tag or a digest";
const ENDPOINT = '"<service>.<namespace>:<port>", a Service of this cluster';
const PORT = "a whole number from 1 to 65535";
const LABEL = "lower-case letters, digits and '-', beginning and ending with a letter or digit";

type Row = readonly [make: () => unknown, message: string];

/** A whole message: what it belongs to, the property, what is allowed, the value. */
const message = (path: string, property: string, allowed: string, value: string): string =>
  `${path}: '${property}' must be ${allowed}, but got ${value}`;
const expression = (allowed: string, value: string): Row => [
  () => Schedule.cron(value),
  message("Schedule", "expression", allowed, JSON.stringify(value)),
];
const field = (what: string, value: string): Row => expression(`a cron expression whose ${what} (Kubernetes dialect)`, value);
const image = (allowed: string, value: string): Row => [
  () => ImageReference.parse(value),
  message("ImageReference", "image", allowed, JSON.stringify(value)),
];
const name = (check: typeof checkDnsLabel, allowed: string, value: string): Row => [
  () => {
    const problems = new Problems("stack/backup");
    check(problems, "name", value);
    problems.throwIfAny();
  },
  message("stack/backup", "name", allowed, JSON.stringify(value)),
];

const rows: readonly Row[] = [
  expression(FIELDS, ""),
  expression(FIELDS, "0 0 * *"),
  expression(FIELDS, "0 0 0 * * *"),
  expression(FIELDS, "0 0 * * * 2026"),
  expression(DESCRIPTORS, "@reboot"),
  expression(DESCRIPTORS, "@Daily"),
  expression(DELAY, "@every "),
  expression(DELAY, "@every 1d"),
  expression("'@every' with 1m or more", "@every 30s"),
  expression("'@every' with 1m or more", "@every -6h"),
  expression(NO_TZ, "TZ=UTC 0 0 * * *"),
  expression(NO_TZ, "CRON_TZ=Europe/London 0 0 * * *"),
  field("minute is from 0 to 59", "60 0 * * *"),
  field("minute is from 0 to 59", "H 0 * * *"),
  field("hour is from 0 to 23", "0 24 * * *"),
  field("day of month is from 1 to 31", "0 0 0 * *"),
  field("day of month is from 1 to 31", "0 0 L * *"),
  field("day of month is from 1 to 31", "0 0 15W * *"),
  field("month is from 1 to 12 or jan to dec", "0 0 1 13 *"),
  field("month is from 1 to 12 or jan to dec", "0 0 1 january *"),
  field("day of week is from 0 to 6 or sun to sat", "0 0 * * 7"),
  field("day of week is from 0 to 6 or sun to sat", "0 0 * * 1#2"),
  field("day of week ranges run upwards", "0 0 * * sat-sun"),
  field("minute has a step of 1 or more", "*/0 * * * *"),
  field("hour has a step of 1 or more", "0 */x * * *"),
  field("minute is *, ?, a, a-b, */n, a/n or a-b/n", "1-2-3 * * * *"),
  field("minute is *, ?, a, a-b, */n, a/n or a-b/n", "*/5/5 * * * *"),
  expression("a cron expression that runs: with a minute, an hour, and a day that exists in a chosen month", "0 0 30 2 *"),
  expression("a cron expression that runs: with a minute, an hour, and a day that exists in a chosen month", ", 0 * * *"),
  expression("text that is known before Terraform runs", token),
  [() => Schedule.cron("@daily", { timeZone: "Local" }), message("Schedule", "timeZone", ZONE, '"Local"')],
  [() => Schedule.cron("@daily", { timeZone: "europe/london" }), message("Schedule", "timeZone", ZONE, '"europe/london"')],
  [() => Schedule.cron("@daily", { timeZone: "" }), message("Schedule", "timeZone", ZONE, '""')],
  [() => Schedule.cron("@every 6h", { timeZone: "+01:00" }), message("Schedule", "timeZone", ZONE, '"+01:00"')],
  [
    () => Schedule.cron("60 0 * * *", { timeZone: "Mars" }),
    `${message("Schedule", "expression", "a cron expression whose minute is from 0 to 59 (Kubernetes dialect)", '"60 0 * * *"')}; ` +
      `'timeZone' must be ${ZONE}, but got "Mars"`,
  ],
  [() => Schedule.firstSunday({ hour: 24, minute: 0 }), message("Schedule", "hour", "a whole number from 0 to 23", "24")],
  [() => Schedule.firstSunday({ hour: 4, minute: 0.5 }), message("Schedule", "minute", "a whole number from 0 to 59", "0.5")],
  [
    () => Schedule.firstSunday({ hour: -1, minute: 60, timeZone: "X" }),
    "Schedule: 'hour' must be a whole number from 0 to 23, but got -1; 'minute' must be a whole number from 0 to 59, but got 60; " +
      `'timeZone' must be ${ZONE}, but got "X"`,
  ],
  [
    () => Schedule.firstSunday({ hour: 2, minute: 0, timeZone: "Australia/Sydney" }),
    message("Schedule", "hour", "an hour that no change of the clock in Australia/Sydney skips or repeats on a first Sunday", "2"),
  ],
  [
    () => Schedule.firstSunday({ hour: 1, minute: 30, timeZone: "America/New_York" }),
    message("Schedule", "hour", "an hour that no change of the clock in America/New_York skips or repeats on a first Sunday", "1"),
  ],
  [() => Retention.keepLast(1), message("Retention", "generations", GENERATIONS, "1")],
  [() => Retention.keepLast(2.5), message("Retention", "generations", GENERATIONS, "2.5")],
  [() => Retention.keepLast(Number.NaN), message("Retention", "generations", GENERATIONS, "NaN")],
  [() => Retention.keepLast(numberToken), message("Retention", "generations", GENERATIONS, String(numberToken))],
  [() => Retention.keepDays(0), message("Retention", "days", DAYS, "0")],
  [() => Retention.keepDays(1.5), message("Retention", "days", DAYS, "1.5")],
  [
    () => Retention.keepDays(-1, { atLeast: 1 }),
    `${message("Retention", "days", DAYS, "-1")}; 'atLeast' must be ${GENERATIONS}, but got 1`,
  ],
  ...[0, -0.1, 1.01, Number.NaN, numberToken].flatMap((removeAtMost): (readonly [() => unknown, string])[] => [
    [() => Retention.keepDays(1, { removeAtMost }), message("Retention", "removeAtMost", "a share, more than 0 and at most 1", String(removeAtMost))],
    [() => Retention.keepLast(2, { removeAtMost }), message("Retention", "removeAtMost", "a share, more than 0 and at most 1", String(removeAtMost))],
  ]),
  ...[-0.1, 1, Number.NaN, numberToken].map((freezeBelow): readonly [() => unknown, string] => [
    () => Retention.keepLast(2, { freezeBelow }),
    message("Retention", "freezeBelow", "a share, 0 or more and less than 1", String(freezeBelow)),
  ]),
  [() => Duration.seconds(1.5), message("Duration", "seconds", "a whole number, 0 or more", "1.5")],
  [() => Duration.minutes(-1), message("Duration", "minutes", SECONDS, "-1")],
  [() => Duration.hours(Number.NaN), message("Duration", "hours", SECONDS, "NaN")],
  [() => Duration.days(Infinity), message("Duration", "days", SECONDS, "Infinity")],
  [() => Duration.hours(numberToken), message("Duration", "hours", SECONDS, String(numberToken))],
  [() => Quantity.parse(""), message("Quantity", "text", QUANTITY, '""')],
  [() => Quantity.parse("64MB"), message("Quantity", "text", QUANTITY, '"64MB"')],
  [() => Quantity.parse("1 Gi"), message("Quantity", "text", QUANTITY, '"1 Gi"')],
  [() => Quantity.parse("-1Gi"), message("Quantity", "text", QUANTITY, '"-1Gi"')],
  [() => Quantity.parse("8Ei"), message("Quantity", "text", QUANTITY, '"8Ei"')],
  [() => Quantity.mebibytes(0.5), message("Quantity", "mebibytes", "a whole number, 0 or more", "0.5")],
  [() => Quantity.gibibytes(-1), message("Quantity", "gibibytes", "a whole number, 0 or more", "-1")],
  [() => Quantity.millicores(numberToken), message("Quantity", "millicores", "a whole number, 0 or more", String(numberToken))],
  image('"<registry>/<repository>:<tag>", with "@sha256:<digest>" if wanted', ""),
  image('an image with its registry, such as "docker.io/library/postgres:16.4"', "postgres:16.4"),
  image('an image with its registry, such as "docker.io/bitnami/redis:7.4.1"', "bitnami/redis:7.4.1"),
  image(EXACT, "docker.io/library/postgres"),
  image(EXACT, "registry.example.com:5000/postgres"),
  image(`${EXACT} (tag 'latest' floats: 'latest' is moved to newer images)`, "docker.io/library/postgres:latest"),
  image(`${EXACT} (tag '16' floats: '16' is a major version alone)`, "docker.io/library/postgres:16"),
  image("an image whose tag is of letters, digits, '_', '.' and '-', at most 128", "docker.io/library/postgres:16.4+1"),
  image('an image whose digest is "sha256:" and 64 hex digits', "docker.io/library/postgres:16.4@sha256:abc"),
  image("an image whose repository is of lower-case letters, digits and single separators", "docker.io/Library/postgres:16.4"),
  image("an image whose repository is of lower-case letters, digits and single separators", "https://docker.io/library/postgres:16.4"),
  [
    () => ImageReference.parse("postgres"),
    `${message("ImageReference", "image", 'an image with its registry, such as "docker.io/library/postgres"', '"postgres"')}; ` +
      `'image' must be ${EXACT}, but got "postgres"`,
  ],
  [() => ServiceEndpoint.of("postgres:5432"), message("ServiceEndpoint", "endpoint", ENDPOINT, '"postgres:5432"')],
  [() => ServiceEndpoint.of("postgres.dbaas"), message("ServiceEndpoint", "endpoint", ENDPOINT, '"postgres.dbaas"')],
  [() => ServiceEndpoint.of("10.0.0.1:5432"), message("ServiceEndpoint", "endpoint", ENDPOINT, '"10.0.0.1:5432"')],
  [() => ServiceEndpoint.of("https://vault.vault:8200"), message("ServiceEndpoint", "endpoint", ENDPOINT, '"https://vault.vault:8200"')],
  [() => ServiceEndpoint.of("postgres.dbaas:70000"), message("ServiceEndpoint", "port", PORT, "70000")],
  [() => ServiceEndpoint.of({ service: "postgres", namespace: "dbaas", port: 0 }), message("ServiceEndpoint", "port", PORT, "0")],
  [
    () => ServiceEndpoint.of({ service: "postgres", namespace: "dbaas", port: 80, podPort: 1.5 }),
    message("ServiceEndpoint", "podPort", PORT, "1.5"),
  ],
  [
    () => ServiceEndpoint.of({ service: "1pg", namespace: "DB", port: 5432 }),
    "ServiceEndpoint: 'service' must be at most 63 lower-case letters, digits and '-', beginning with a letter, but got \"1pg\"; " +
      `'namespace' must be at most 63 ${LABEL}, but got "DB"`,
  ],
  [
    () => ServiceEndpoint.of(`${token}.dbaas:5432`),
    message("ServiceEndpoint", "endpoint", "{ service, namespace, port } where a part is a reference", `"${token}.dbaas:5432"`),
  ],
  name(checkDnsLabel, `at most 63 ${LABEL}`, "My_Namespace"),
  name(checkDnsSubdomain, `at most 253 ${LABEL}; parts joined by '.'`, "a..b"),
  name(checkCronJobName, `at most 52 ${LABEL}; parts joined by '.'`, "a".repeat(53)),
  name(checkServiceName, "at most 63 lower-case letters, digits and '-', beginning with a letter", "9lives"),
  name(checkLabelValue, "at most 63 letters, digits, '-', '_' and '.', beginning and ending with a letter or digit", "-x"),
  name(checkConstructId, "letters, digits, '-' and '_'", "a.b"),
  name(checkConstructId, "letters, digits, '-' and '_'", token),
];

describe("bad input", () => {
  test.each(rows.map(([make, text]) => [text, make] as const))("refuses: %s", (text, make) => {
    let thrown: unknown;
    try {
      make();
    } catch (error) {
      thrown = error;
    }
    expect(ValidationError.is(thrown)).toBe(true);
    expect((thrown as ValidationError).message).toBe(text);
  });

  test("every message is one line, begins in lower case after the path, and ends without a full stop", () => {
    for (const [, text] of rows) expect(text).toMatch(/^[\w/]+: '[a-z][A-Za-z]*' must be [^\n]*[^.\n]$/);
  });
});

describe("input of another type, as from JavaScript", () => {
  test.each([undefined, null, 5, {}])("refuses %p instead of failing on it", (value) => {
    const text = value as unknown as string;
    expect(() => Schedule.cron(text)).toThrow(ValidationError);
    expect(() => ImageReference.parse(text)).toThrow(ValidationError);
    expect(() => Quantity.parse(text)).toThrow(ValidationError);
    expect(() => Schedule.cron("@daily", { timeZone: text ?? "" })).toThrow(ValidationError);
    for (const check of [checkDnsLabel, checkDnsSubdomain, checkCronJobName, checkServiceName, checkLabelValue, checkConstructId]) {
      expect(check(new Problems("x"), "name", text)).toBe(false);
    }
  });
});
