import { Quantity } from "../../lib/quantity";

/** What a container may use. Requests and limits are always set, so that no namespace default applies. */
export interface Resources {
  /** CPU that the scheduler sets aside. @default Quantity.millicores(100) */
  readonly cpuRequest?: Quantity;
  /** CPU above which the container is slowed down. @default Quantity.millicores(2000) */
  readonly cpuLimit?: Quantity;
  /** Memory that the scheduler sets aside. @default Quantity.mebibytes(128) */
  readonly memoryRequest?: Quantity;
  /** Memory above which the container is killed. @default Quantity.mebibytes(512) */
  readonly memoryLimit?: Quantity;
}

const CPU_REQUEST = Quantity.millicores(100);
const CPU_LIMIT = Quantity.millicores(2000);
const MEMORY_REQUEST = Quantity.mebibytes(128);
const MEMORY_LIMIT = Quantity.mebibytes(512);

/** `resources` of a container as the provider writes it. */
export interface RenderedResources {
  readonly requests: { readonly [resource: string]: string };
  readonly limits: { readonly [resource: string]: string };
}

/** Fills in what is not set. */
export function renderResources(resources: Resources = {}): RenderedResources {
  return {
    requests: {
      cpu: (resources.cpuRequest ?? CPU_REQUEST).toString(),
      memory: (resources.memoryRequest ?? MEMORY_REQUEST).toString(),
    },
    limits: {
      cpu: (resources.cpuLimit ?? CPU_LIMIT).toString(),
      memory: (resources.memoryLimit ?? MEMORY_LIMIT).toString(),
    },
  };
}
