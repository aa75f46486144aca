import type { ImageReference } from "../../lib/image-reference";
import type { Quantity } from "../../lib/quantity";
import type { Resources } from "./resources";

/** Options of the engines that work in a container of their own, with the tools of their own image. */
export interface EngineContainerProps {
  /** Image with the engine's client tools, at least as new as the server. */
  readonly image: ImageReference;
  /** What the engine's container may use. @default - see {@link Resources} */
  readonly engineResources?: Resources;
  /** Largest size of the directory that the engine's container and the runner share. @default Quantity.gibibytes(1) */
  readonly exchangeSize?: Quantity;
}
