import { spawnSync } from "node:child_process";
import { RedisBackup, SecretRef, type RedisBackupProps } from "../../constructs/backup";
import { NfsBackupVolume } from "../../constructs/storage";
import { ImageReference } from "../../lib/image-reference";
import { redisBackupUserCommand, redisRestoreUserCommand } from "../../lib/privileges/redis";
import { Retention } from "../../lib/retention";
import { Schedule } from "../../lib/schedule";
import { ServiceEndpoint } from "../../lib/service-endpoint";
import { hostProgram, runCronJob, type CronJobOptions, type PodResult } from "../helpers/pod";
import { generationsOn, makeTarget, type FoundGeneration } from "../helpers/pod/target";
import { Redis } from "../helpers/servers/redis";
import { Template } from "../helpers/template";

export const IMAGE = "docker.io/library/redis";
export const CLAIM = "redis-backup";
export const PASSWORD = "s3cr3t of the 'backup\\";
export const RESTORE_PASSWORD = 'of "the" restore';
/** What every pod of the backup needs. */
export const POD: CronJobOptions = {
  secrets: { "redis-backup": { password: PASSWORD }, "redis-restore": { password: RESTORE_PASSWORD } },
  services: ["redis.redis"],
};

/** Of server and tools. */
export const VERSION = /v=([\d.]+)/.exec(spawnSync(hostProgram("redis-server"), ["--version"], { encoding: "utf8" }).stdout)?.[1] ?? "";

/** A backup of the server at an endpoint. */
export function synthesise(endpoint = "redis.redis:6379", props: Partial<RedisBackupProps> = {}): string {
  const template = Template.of((stack) => {
    new RedisBackup(stack, "redis-backup", {
      namespace: "redis",
      volume: new NfsBackupVolume(stack, "volume", { name: CLAIM, namespace: "redis", server: "10.0.10.15", path: "/mnt/main/redis" }),
      schedule: Schedule.cron("0 3 * * 0"),
      retention: Retention.keepDays(30),
      image: ImageReference.parse(`${IMAGE}:7.0.15-bookworm`),
      endpoint: ServiceEndpoint.of(endpoint),
      user: "backup",
      password: SecretRef.of("redis-backup", "password"),
      restore: { user: "restore", password: SecretRef.of("redis-restore", "password") },
      ...props,
    });
  });
  return JSON.stringify(template.json);
}

/** A run of the backup, and all that is on its target then. */
export interface Backup extends PodResult {
  readonly target: string;
  readonly generations: readonly FoundGeneration[];
}

export async function backUp(
  options: CronJobOptions & { readonly json?: string; readonly password?: string; readonly target?: string } = {},
): Promise<Backup> {
  const { json = synthesise(), password = PASSWORD, target = makeTarget(json) } = options;
  const result = await runCronJob(json, { ...POD, volumes: { [CLAIM]: target }, secrets: { "redis-backup": { password } }, ...options });
  return { ...result, target, generations: generationsOn(json, target) };
}

/** The newest generation of a run that must have succeeded. @throws its logs where it did not */
export function succeeded(result: Backup): FoundGeneration {
  const generation = result.generations.at(-1);
  if (!result.ok || generation === undefined) throw new Error(JSON.stringify(result.logs, undefined, 2));
  return generation;
}

/** A server with nothing but its users. */
export async function start(settings: { readonly [name: string]: string } = {}, port = 6379): Promise<Redis> {
  const server = await Redis.start({ port, password: "of the owner", settings });
  server.pipe([
    redisBackupUserCommand({ user: "backup" }),
    `ACL SETUSER backup ${JSON.stringify(`>${PASSWORD}`)}`,
    redisRestoreUserCommand({ user: "restore" }),
    `ACL SETUSER restore ${JSON.stringify(`>${RESTORE_PASSWORD}`)}`,
  ]);
  return server;
}

/** Every type, several databases, keys that expire, functions. @param keys more than these few, of text */
export function fill(server: Redis, keys = 20_000): void {
  server.pipe([
    `DEBUG POPULATE ${keys} key 40`,
    String.raw`SET "odd \x00\xff key" "\xff\xfe"`,
    String.raw`SET "two\r\nlines" v`,
    "SETEX later 100000 v",
    "PSETEX soon 1 v",
    "HSET h a 1 b 2",
    "RPUSH l a b c",
    "SADD s a b",
    "SADD numbers 1 2 3",
    "ZADD z 1.5 a 2 b",
    "XADD x 1-1 a b",
    "XGROUP CREATE x g 0",
    "XREADGROUP GROUP g me STREAMS x >",
    "PFADD p a b c",
    "GEOADD geo 13.361389 38.115556 Palermo",
    "SETBIT bits 7 1",
    'FUNCTION LOAD "#!lua name=lib\\nredis.register_function(\'f\', function() return 1 end)"',
    "SELECT 3",
    "SETEX there 100000 v",
    "SET here v",
  ]);
}
