export type { IBackupVolume, VolumeSource } from "./backup-volume";
export { InlineNfsVolume } from "./inline-nfs-volume";
export { NfsBackupVolume } from "./nfs-backup-volume";
export type { ExistingClaimOptions, NfsBackupVolumeProps } from "./nfs-backup-volume";
export { NfsExport } from "./nfs-export";
export { PodVolume } from "./pod-volume";
export type { ClaimVolumeOptions, KeyedVolumeOptions, PodVolumeOptions } from "./pod-volume";
export { removedWithoutTombstone, RetiredBackupVolume } from "./retired-backup-volume";
export type { RetiredBackupVolumeProps, SynthesisedStack } from "./retired-backup-volume";
