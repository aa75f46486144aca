import { copyFileSync, existsSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { run, temporaryDirectory } from "../helpers/process";

const INSTALL = resolve(__dirname, "../install.sh");
const POLICY = "/usr/sbin/policy-rc.d";

interface Installed {
  readonly status: number | null;
  readonly said: string;
  /** What the policy was while apt-get ran; undefined where apt-get did not run. */
  readonly during?: string;
  /** What it is afterwards; undefined where there is none. */
  readonly after?: string;
}

interface Options {
  /** What apt-get does, a line of shell. @default - there is no apt-get */
  readonly aptGet?: string;
  /** Whether the file is there already. @default false */
  readonly there?: boolean;
  /** The machine's own policy. @default - none */
  readonly policy?: string;
  /** Who runs it. @default 0 */
  readonly uid?: number;
}

/** Runs install.sh for one file of one package, in a mount namespace with a /usr/sbin of its own. */
async function install(options: Options): Promise<Installed> {
  const directory = temporaryDirectory();
  const at = (name: string): string => join(directory, name);
  for (const program of ["sh", "cat", "chmod", "cp", "id", "rm"]) symlinkSync(join("/usr/bin", program), at(program));
  copyFileSync(INSTALL, at("install.sh")); // where any user may read it
  if (options.aptGet !== undefined) {
    writeFileSync(at("apt-get"), `#!/bin/sh\ncat ${POLICY} >${at("during")}\n${options.aptGet}\n`, { mode: 0o755 });
  }
  if (options.there === true) writeFileSync(at("file"), "");
  const { policy = "", uid = 0 } = options;
  const script = `
    mount -t tmpfs tmpfs /usr/sbin
    if [ -n "$1" ]; then printf '%s' "$1" >${POLICY}; fi
    status=0
    echo "${at("f*le")} the-package" | setpriv --reuid=${uid} --clear-groups env PATH=${directory} sh ${at("install.sh")} the-tier || status=$?
    if [ -e ${POLICY} ]; then cp ${POLICY} ${at("after")}; fi
    exit "$status"
  `;
  const { status, stdout, stderr } = await run("unshare", ["--mount", "sh", "-euc", script, "sh", policy], { mayFail: true });
  const read = (name: string): string | undefined => (existsSync(at(name)) ? readFileSync(at(name), "utf8") : undefined);
  return { status, said: stdout + stderr, during: read("during"), after: read("after") };
}

/** An apt-get that brings the file; it is in the directory of the programs on PATH. */
const BRINGS = ': >"${0%/*}/file"';

test("what is there is not installed", async () => {
  expect(await install({ there: true, aptGet: BRINGS })).toEqual({ status: 0, said: "" });
});

test("what is missing is installed, and no daemon may start meanwhile", async () => {
  const { status, said, during, after } = await install({ aptGet: BRINGS });
  expect({ status, said }).toEqual({ status: 0, said: "the-tier installs: the-package\n" });
  expect(during).toContain("exit 101");
  expect(after).toBeUndefined();
});

test.each([
  ["installed", BRINGS, 0],
  ["not installed", "exit 100", 1],
])("the machine's own policy stays where packages are %s", async (_, aptGet, expected) => {
  const policy = "#!/bin/sh\nexit 104\n";
  expect(await install({ aptGet, policy })).toMatchObject({ status: expected, during: policy, after: policy });
});

test.each([
  ["there is no apt-get", {}, "missing: the-package (Debian packages), and there is no apt-get to install them"],
  ["it does not run as root", { uid: 65534, aptGet: BRINGS }, "missing: the-package (Debian packages), and only root can install them"],
  ["apt-get fails", { aptGet: "exit 100" }, "apt-get could not install: the-package"],
  ["apt-get does not bring the file", { aptGet: "exit 0" }, "still missing after installation: the-package"],
])("fails when %s, and names the package", async (_, options, reason) => {
  const { status, said, after } = await install(options);
  expect(status).toBe(1);
  expect(said.split("\n")).toContain(`the-tier cannot run: ${reason}`);
  expect(after).toBeUndefined();
});
