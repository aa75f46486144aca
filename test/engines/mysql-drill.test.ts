import { forge, proven, runDrill } from "../helpers/drill";
import type { FoundGeneration } from "../helpers/pod/target";
import { MariaDb } from "../helpers/servers/mariadb";
import { backUp, DRILL, fill, succeeded, synthesise } from "./mysql-setup";

let server: MariaDb;
let generation: FoundGeneration;
const json = synthesise();
const images = { "docker.io/library/mariadb": DRILL };

beforeAll(async () => {
  server = await MariaDb.start({ args: ["--local-infile=0", "--event-scheduler=OFF"] });
  fill(server);
  generation = succeeded(await backUp({ json }));
});

afterAll(() => server?.stop("SIGKILL"));

test.each(["dash", "busybox", "bash"] as const)("x %s", async (shell) => {
  const t = Date.now();
  const result = await runDrill(json, forge(json, generation).target, { shell, images });
  console.log(Date.now() - t, result.logs.runner, result.verdict);
  proven(result);
});
