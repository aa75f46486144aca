import { Fn } from "cdktf";
import { createHash } from "node:crypto";
import type { Duty } from "../../lib/runner-bundle";
import type { Settings } from "../../lib/runtime/settings";
import { isToken, literal } from "../../lib/terraform-text";
import type { EngineContainer } from "./job-parts";
import type { ConfigFile } from "./scripts";
import { configFile, runnerFile, scriptFile } from "./scripts";

/** The data of a job's ConfigMap and a hash of all of it. */
export interface ConfigData {
  readonly data: { [file: string]: string };
  readonly checksum: string;
}

/** Everything that varies reaches the pod as a file, never inside text that a shell, the kubelet or Terraform reads. */
export function renderConfigData(settings: Settings, duty: Duty, container: EngineContainer | undefined): ConfigData {
  const files = { "runner.js": runnerFile(settings.engine.kind, duty), ...(container === undefined ? {} : engineFiles(container)) };
  const data: { [file: string]: string } = {};
  const hash = createHash("sha256");
  for (const [name, file] of Object.entries(files)) {
    data[name] = file.text;
    hash.update(`${name} ${file.sha256}\n`);
  }
  const json = `${JSON.stringify(settings, null, 2)}\n`;
  if (!isToken(json)) {
    const file = configFile(json);
    data["settings.json"] = file.text;
    return { data, checksum: hash.update(`settings.json ${file.sha256}\n`).digest("hex") };
  }
  const { text, unknown } = fillIn(json);
  data["settings.json"] = text;
  const known = hash.update(`settings.json ${json.replace(TOKEN, "")}`).digest("hex");
  return { data, checksum: Fn.sha256(Fn.join("\n", [known, ...unknown])) };
}

function engineFiles({ script, libraries = [], files = {} }: EngineContainer): { [name: string]: ConfigFile } {
  return {
    "agent.sh": scriptFile("agent.sh"),
    ...Object.fromEntries([script, ...libraries].map((name) => [name, scriptFile(name)])),
    ...Object.fromEntries(Object.entries(files).map(([name, text]) => [name, configFile(text)])),
  };
}

/** cdktf's stand-in for a value that Terraform computes. */
const TOKEN = /\$\{TfToken\[[^\]]*\]\}/g;

/** JSON text in which Terraform puts the values that it alone knows, quoted as JSON asks; and these values. */
function fillIn(json: string): { text: string; unknown: string[] } {
  const unknown: string[] = json.match(TOKEN) ?? [];
  const quote = Fn.rawString('"');
  const text = json
    .split(TOKEN)
    .map((piece, index) => {
      const value = unknown[index];
      return literal(piece) + (value === undefined ? "" : Fn.trimsuffix(Fn.trimprefix(Fn.jsonencode(value), quote), quote));
    })
    .join("");
  return { text, unknown };
}
