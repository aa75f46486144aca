import { forge } from "../helpers/drill";
import type { FoundGeneration } from "../helpers/pod/target";
import { MariaDb } from "../helpers/servers/mariadb";
import { addRestorer, backUp, contentOf, fill, RESTORER, restoreFrom, succeeded, synthesise } from "./mysql-setup";

let server: MariaDb;
let generation: FoundGeneration;
const json = synthesise({ restore: RESTORER });

beforeAll(async () => {
  server = await MariaDb.start({ args: ["--local-infile=0", "--event-scheduler=OFF"] });
  fill(server);
  addRestorer(server);
  generation = succeeded(await backUp({ json }));
});

afterAll(() => server?.stop("SIGKILL"));

test("x", async () => {
  const before = contentOf(server, "app");
  const { target } = forge(json, generation);
  const dry = await restoreFrom(json, target, { GENERATION: "newest", DRY_RUN: "true" });
  console.log(dry.logs.runner);
  server.sql("DROP TABLE child; DELETE FROM parent WHERE id > 10; DROP VIEW above", "app");
  const result = await restoreFrom(json, target, { GENERATION: "newest", CONFIRM: "mysql.dbaas:3306" });
  console.log(result.logs.runner);
  expect(contentOf(server, "app")).toEqual(before);
});
