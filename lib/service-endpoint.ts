import { Problems } from "./errors";
import { checkDnsLabel, checkServiceName } from "./names";
import { isToken } from "./terraform-text";

/** The parts of a {@link ServiceEndpoint}; each may be a value that Terraform computes. */
export interface ServiceEndpointParts {
  /** Name of the Kubernetes Service. */
  readonly service: string;
  /** Its namespace. */
  readonly namespace: string;
  /** The Service's port, 1 to 65535. */
  readonly port: number;
  /** The port that the pods behind it listen on (`targetPort`), which a NetworkPolicy must name. @default - `port` */
  readonly podPort?: number;
}

const FORM = '"<service>.<namespace>:<port>"';

/** A port of a Service inside the cluster. Its namespace is known, so a NetworkPolicy can be derived from it. */
export class ServiceEndpoint {
  /**
   * @param endpoint `"pg-cluster-rw.dbaas:5432"` (`.svc` and `.svc.<cluster domain>` may follow the namespace), or the parts;
   *   values that Terraform computes can be given as parts only
   * @throws ValidationError for anything else: no namespace, no port, a name that no Service can have
   */
  public static of(endpoint: string | ServiceEndpointParts): ServiceEndpoint {
    const problems = new Problems("ServiceEndpoint");
    if (typeof endpoint === "string") {
      const known = problems.check(!isToken(endpoint), "endpoint", endpoint, "{ service, namespace, port } where a part is a reference");
      const parts = known ? /^([^.:]+)\.([^.:]+)((?:\.svc(?:\.[a-z0-9.-]*[a-z0-9])?)?):(\d+)$/.exec(endpoint) : undefined;
      if (known) problems.check(parts !== null, "endpoint", endpoint, `${FORM}, a Service of this cluster`);
      problems.throwIfAny();
      const [, service = "", namespace = "", suffix = "", port = ""] = parts ?? [];
      return ServiceEndpoint.checked(problems, { service, namespace, port: Number(port) }, suffix);
    }
    return ServiceEndpoint.checked(problems, endpoint, "");
  }

  private static checked(problems: Problems, parts: ServiceEndpointParts, suffix: string): ServiceEndpoint {
    const { service, namespace, port, podPort = port } = parts;
    checkServiceName(problems, "service", service);
    checkDnsLabel(problems, "namespace", namespace);
    const isPort = (value: number): boolean => isToken(value) || (Number.isInteger(value) && value >= 1 && value <= 65535);
    problems.check(isPort(port), "port", port, "a whole number from 1 to 65535");
    if (parts.podPort !== undefined) problems.check(isPort(podPort), "podPort", podPort, "a whole number from 1 to 65535");
    problems.throwIfAny();
    return new ServiceEndpoint(`${service}.${namespace}${suffix}`, service, namespace, port, podPort);
  }

  private constructor(
    /** The name that pods look up: `<service>.<namespace>`, with the suffix it was given with. */
    public readonly host: string,
    /** Name of the Service. */
    public readonly service: string,
    /** Namespace of the Service and of the pods behind it. */
    public readonly namespace: string,
    /** The Service's port, which is not always the pods' port. */
    public readonly port: number,
    /** The port of the pods behind the Service. */
    public readonly podPort: number,
  ) {}

  /** `<host>:<port>` */
  public toString(): string {
    return `${this.host}:${this.port}`;
  }
}
