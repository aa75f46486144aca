import type { App } from "cdktf";
import { DbaasStack } from "./dbaas";
import { ImmichStack } from "./immich";
import { MonitoringStack } from "./monitoring";
import { NextcloudStack } from "./nextcloud";
import { PlatformStack } from "./platform";
import { PlottingBookStack } from "./plotting-book";
import { RedisStack } from "./redis";
import { VaultStack } from "./vault";
import { VaultwardenStack } from "./vaultwarden";
import type { ServiceStack } from "./service-stack";

/** All of the homelab, a stack for each service. A stack's id is part of every address in its state: changing one destroys. */
export function addStacks(app: App): readonly ServiceStack[] {
  return [
    new DbaasStack(app, "dbaas"),
    new ImmichStack(app, "immich"),
    new MonitoringStack(app, "monitoring"),
    new NextcloudStack(app, "nextcloud"),
    new PlatformStack(app, "platform"),
    new PlottingBookStack(app, "plotting-book"),
    new RedisStack(app, "redis"),
    new VaultStack(app, "vault"),
    new VaultwardenStack(app, "vaultwarden"),
  ];
}

export { site } from "./site";
