// The provider's names of the parts of a CronJob's pod, shortened.
export type {
  CronJobV1SpecJobTemplateSpecTemplateSpec as PodSpec,
  CronJobV1SpecJobTemplateSpecTemplateSpecAffinity as Affinity,
  CronJobV1SpecJobTemplateSpecTemplateSpecContainer as Container,
  CronJobV1SpecJobTemplateSpecTemplateSpecContainerEnv as ContainerEnv,
  CronJobV1SpecJobTemplateSpecTemplateSpecContainerSecurityContext as ContainerSecurityContext,
  CronJobV1SpecJobTemplateSpecTemplateSpecContainerVolumeMount as VolumeMount,
  CronJobV1SpecJobTemplateSpecTemplateSpecSecurityContext as PodSecurityContext,
  CronJobV1SpecJobTemplateSpecTemplateSpecVolume as Volume,
} from "@cdktf/provider-kubernetes/lib/cron-job-v1";
