import { RESTORE_FUNCTION } from "./common";
import { block, document } from "./markdown";
import type { ProtectedService } from "./service";

/** The runbook for the loss of everything but the offsite copy. */
export function fullCluster(services: readonly ProtectedService[]): string {
  return document("# Restore everything", block(RESTORE_FUNCTION), services.map(({ name }) => name).join(", "));
}
