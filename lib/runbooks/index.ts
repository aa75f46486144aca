export { type Offsite } from "./full-cluster";
export { block, commandsOf, document, table, type Place } from "./markdown";
export { runbooks, type Runbook } from "./runbooks";
export { fileOf, placeOf, titleOf, type ProtectedService } from "./service";
