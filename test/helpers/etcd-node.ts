/** A node to follow etcd's runbook on. */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { commandsOf } from "../../lib/runbooks";
import { run, temporaryDirectory } from "./process";

/** The commands that the homelab's runbook has for the node. */
export const COMMANDS = commandsOf(readFileSync(join(__dirname, "../../docs/generated/restore-etcd.md"), "utf8"), "node").join("\n");
/** So that nobody mistakes the restored data for those that he remembers. */
export const BUMP = " \\\n  --bump-revision 1000000000 --mark-compacted";
const PEER = "http://127.0.0.1:2380";

/** A node in a directory: its paths lie below that, and what it runs besides etcd's own tools is not here. */
export function makeNode(generation: string, programs: string): { readonly root: string; readonly commands: string } {
  const root = temporaryDirectory("node");
  for (const directory of ["etc/kubernetes/manifests", "bin", "var/lib"]) mkdirSync(join(root, directory), { recursive: true });
  const flags = [`--name=k8s-master`, `--initial-advertise-peer-urls=${PEER}`, "--data-dir=/var/lib/etcd"];
  const pod = ["spec:", "  containers:", "  - command:", "    - etcd", ...flags.map((flag) => `    - ${flag}`), ""].join("\n");
  writeFileSync(join(root, "etc/kubernetes/manifests/etcd.yaml"), pod);
  writeFileSync(join(root, "etc/kubernetes/manifests/kube-apiserver.yaml"), "");
  const script = (name: string, text: string): void => writeFileSync(join(root, "bin", name), `#!/bin/sh\n${text}\n`, { mode: 0o755 });
  // No container runs any more.
  for (const name of ["crictl", "systemctl", "kubectl", "mount"]) script(name, "exit 0");
  // Before release 3.5 it is etcdctl that restores, with fewer flags.
  const etcdutl = join(programs, "etcdutl");
  const known = existsSync(etcdutl);
  script("etcdutl", known ? `exec ${etcdutl} "$@"` : `ETCDCTL_API=3 exec ${join(programs, "etcdctl")} "$@"`);
  const commands = (known ? COMMANDS : COMMANDS.replace(BUMP, "")).replace(/^cd \/mnt\/\S+\/GENERATION$/m, `cd ${generation}`)
    .replaceAll("/etc/kubernetes", `${root}/etc/kubernetes`)
    .replaceAll("/var/lib/etcd", `${root}/var/lib/etcd`);
  return { root, commands };
}

/** Runs the commands there. */
export const execute = (root: string, commands: string): Promise<unknown> =>
  run("sh", ["-eu", "-c", commands], { env: { ...process.env, PATH: `${join(root, "bin")}:${process.env.PATH ?? ""}` } });
