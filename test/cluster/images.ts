import { createHash } from "node:crypto";
import { createReadStream, chmodSync, copyFileSync, existsSync, mkdirSync, realpathSync, renameSync, rmSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { pipeline } from "node:stream/promises";
import { prepareImage, writeEtc, type ImageProfile, type Shell } from "../helpers/pod/image";
import { run, temporaryDirectory } from "../helpers/process";

/** An image to assemble. */
export interface ImageSpec {
  /** Full name with its tag, as pods declare it. */
  readonly reference: string;
  readonly profile: ImageProfile;
  /** `/bin/sh` in it. */
  readonly shell: Shell;
  /** Files and directories of the host that its programs read: message catalogues, libraries that are loaded at run time. */
  readonly data?: readonly string[];
}

/**
 * Assembles images under their declared names from programs and libraries of this machine's packages, and gives them to containerd.
 * An image holds the tools of its profile and none besides, so that a pod that calls for more fails here as it would in the real one.
 */
export async function importImages(containerdSocket: string, specs: readonly ImageSpec[]): Promise<void> {
  // The files of one run of the tier share what the first of them assembled.
  const archive = join(tmpdir(), `images-${createHash("sha256").update(JSON.stringify(specs)).digest("hex").slice(0, 16)}.tar`);
  if (!existsSync(archive)) await assembleAll(archive, specs);
  await run("ctr", ["--address", containerdSocket, "--namespace", "k8s.io", "images", "import", archive]);
}

/** A docker archive of images with one layer each. */
async function assembleAll(archive: string, specs: readonly ImageSpec[]): Promise<void> {
  const directory = temporaryDirectory("images");
  const manifest = [];
  for (const spec of specs) manifest.push(await assembleImage(directory, spec));
  writeFileSync(join(directory, "manifest.json"), JSON.stringify(manifest));
  await run("tar", ["--create", "--file", `${archive}.partial`, "-C", directory, "."]);
  renameSync(`${archive}.partial`, archive);
  rmSync(directory, { recursive: true, force: true });
}

async function assembleImage(directory: string, spec: ImageSpec): Promise<object> {
  const rootfs = temporaryDirectory("rootfs");
  await assembleRoot(rootfs, spec);
  const layer = join(directory, "layer");
  await run("tar", ["--create", "--file", layer, "--numeric-owner", "--owner=0", "--group=0", "-C", rootfs, "."]);
  rmSync(rootfs, { recursive: true, force: true });
  const digest = await sha256(layer);
  renameSync(layer, join(directory, `${digest}.tar`));
  const { profile, reference } = spec;
  const config = JSON.stringify({
    architecture: process.arch === "arm64" ? "arm64" : "amd64",
    os: "linux",
    config: {
      Env: ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", ...Object.entries(profile.env ?? {}).map(([name, value]) => `${name}=${value}`)],
      User: profile.user === undefined ? undefined : String(profile.user),
      Entrypoint: profile.entrypoint,
    },
    rootfs: { type: "layers", diff_ids: [`sha256:${digest}`] },
  });
  const configName = `${createHash("sha256").update(config).digest("hex")}.json`;
  writeFileSync(join(directory, configName), config);
  return { Config: configName, RepoTags: [reference], Layers: [`${digest}.tar`] };
}

async function assembleRoot(rootfs: string, { profile, shell, data = [] }: ImageSpec): Promise<void> {
  // As a Debian image has it: the old directories are links, and libraries are named by either path.
  for (const name of ["bin", "lib", "lib64", "sbin"]) {
    mkdirSync(join(rootfs, "usr", name), { recursive: true });
    symlinkSync(`usr/${name}`, join(rootfs, name));
  }
  for (const name of ["etc", "proc", "sys", "dev", "tmp", "var", "root", "run"]) mkdirSync(join(rootfs, name), { recursive: true });
  chmodSync(join(rootfs, "tmp"), 0o1777);
  writeEtc(join(rootfs, "etc"), profile, "127.0.0.1 localhost\n");
  const { bin, binds } = prepareImage(profile, shell);
  const linked = new Set<string>();
  for (const [name, source] of binds) {
    copyFileSync(source, join(rootfs, "usr/bin", name));
    chmodSync(join(rootfs, "usr/bin", name), 0o755);
    linked.add(source);
  }
  // Links to busybox; programs are there already.
  await run("cp", ["--recursive", "--no-dereference", "--no-clobber", `${bin}/.`, join(rootfs, "usr/bin")]);
  for (const path of data) {
    mkdirSync(dirname(join(rootfs, path)), { recursive: true });
    await run("cp", ["--archive", path, dirname(join(rootfs, path))]);
    if (statSync(path).isFile()) linked.add(path);
  }
  for (const library of await librariesOf([...linked])) {
    const target = join(rootfs, library);
    if (existsSync(target)) continue;
    mkdirSync(dirname(target), { recursive: true });
    copyFileSync(realpathSync(library), target);
  }
}

/** Paths by which the loader finds what programs are linked with. */
async function librariesOf(programs: readonly string[]): Promise<ReadonlySet<string>> {
  // It fails where one of them is linked statically.
  const { stdout } = await run("ldd", programs, { mayFail: true });
  return new Set([...stdout.matchAll(/(?:=> |^\s+)(\/\S+) \(0x/gm)].map(([, path]) => path ?? ""));
}

async function sha256(file: string): Promise<string> {
  const hash = createHash("sha256");
  await pipeline(createReadStream(file), hash);
  return hash.digest("hex");
}
