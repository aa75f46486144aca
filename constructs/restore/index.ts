export { RestoreDrill } from "./restore-drill";
export type { DrillProps, NoDrill, RestoreDrillProps } from "./restore-drill";
export { RestoreJob } from "./restore-job";
export type { RestoreJobProps, VolumeRestoreProps } from "./restore-job";
