import type { Problems } from "./errors";
import { isToken } from "./terraform-text";

const DNS_LABEL = /^[a-z0-9](?:[-a-z0-9]*[a-z0-9])?$/;
const SERVICE_NAME = /^[a-z](?:[-a-z0-9]*[a-z0-9])?$/;
const LABEL_VALUE = /^(?:[A-Za-z0-9](?:[-A-Za-z0-9_.]*[A-Za-z0-9])?)?$/;
const CONSTRUCT_ID = /^[A-Za-z0-9_-]+$/;

/** Kubernetes' own limits (`k8s.io/apimachinery/pkg/util/validation`). */
const LABEL_LENGTH = 63;
const SUBDOMAIN_LENGTH = 253;
/**
 * Longest name of a CronJob: Kubernetes keeps 11 characters for what it adds to make a Job's name, and a Job's name becomes
 * a label value, which holds 63.
 */
const CRON_JOB_LENGTH = LABEL_LENGTH - 11;

const LABEL_RULE = "lower-case letters, digits and '-', beginning and ending with a letter or digit";

/** Whether `text` is an RFC 1123 label: the name of a namespace, a container or a volume in a pod. */
export function isDnsLabel(text: string): boolean {
  return text.length <= LABEL_LENGTH && DNS_LABEL.test(text);
}

/** Whether `text` is an RFC 1123 subdomain, labels joined by dots: the name of most Kubernetes objects. */
export function isDnsSubdomain(text: string): boolean {
  return text.length <= SUBDOMAIN_LENGTH && text.split(".").every((label) => DNS_LABEL.test(label));
}

/** Records a problem unless `value` is an RFC 1123 label, or unknown until Terraform runs. */
export function checkDnsLabel(problems: Problems, property: string, value: string): boolean {
  return check(problems, property, value, isDnsLabel, `at most ${LABEL_LENGTH} ${LABEL_RULE}`);
}

/** Records a problem unless `value` is an RFC 1123 subdomain, or unknown until Terraform runs. */
export function checkDnsSubdomain(problems: Problems, property: string, value: string): boolean {
  return check(problems, property, value, isDnsSubdomain, `at most ${SUBDOMAIN_LENGTH} ${LABEL_RULE}; parts joined by '.'`);
}

/** Records a problem unless `value` can name a CronJob, or is unknown until Terraform runs. */
export function checkCronJobName(problems: Problems, property: string, value: string): boolean {
  const ok = (text: string): boolean => text.length <= CRON_JOB_LENGTH && isDnsSubdomain(text);
  return check(problems, property, value, ok, `at most ${CRON_JOB_LENGTH} ${LABEL_RULE}; parts joined by '.'`);
}

/** Records a problem unless `value` can name a Service (an RFC 1035 label), or is unknown until Terraform runs. */
export function checkServiceName(problems: Problems, property: string, value: string): boolean {
  const ok = (text: string): boolean => text.length <= LABEL_LENGTH && SERVICE_NAME.test(text);
  return check(problems, property, value, ok, `at most ${LABEL_LENGTH} lower-case letters, digits and '-', beginning with a letter`);
}

/** Records a problem unless `value` can be the value of a label, or is unknown until Terraform runs. */
export function checkLabelValue(problems: Problems, property: string, value: string): boolean {
  const ok = (text: string): boolean => text.length <= LABEL_LENGTH && LABEL_VALUE.test(text);
  const allowed = `at most ${LABEL_LENGTH} letters, digits, '-', '_' and '.', beginning and ending with a letter or digit`;
  return check(problems, property, value, ok, allowed);
}

/**
 * Records a problem unless `value` can be a construct's id. cdktf drops other characters from Terraform addresses, so that
 * `A.B` and `AB` would be one resource, silently. An id is never a token: it must be known to make an address.
 */
export function checkConstructId(problems: Problems, property: string, value: string): boolean {
  const ok = typeof value === "string" && !isToken(value) && CONSTRUCT_ID.test(value);
  return problems.check(ok, property, value, "letters, digits, '-' and '_'");
}

/** What the standard labels of an object say about it. */
export interface StandardLabels {
  /** The application: `postgresql`. */
  readonly name: string;
  /** Which one of them: `postgresql-backup`. */
  readonly instance: string;
  /** The role of the object: `backup`. */
  readonly component: string;
}

/**
 * The labels that Kubernetes recommends for every object, from one place.
 *
 * @see https://kubernetes.io/docs/concepts/overview/working-with-objects/common-labels/
 */
export function standardLabels({ name, instance, component }: StandardLabels): { readonly [label: string]: string } {
  return {
    "app.kubernetes.io/name": name,
    "app.kubernetes.io/instance": instance,
    "app.kubernetes.io/component": component,
    "app.kubernetes.io/managed-by": "cdktf-backup",
  };
}

function check(problems: Problems, property: string, value: string, ok: (text: string) => boolean, allowed: string): boolean {
  return problems.check(isToken(value) || (typeof value === "string" && ok(value)), property, value, allowed);
}
