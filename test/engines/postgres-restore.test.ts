import { forge } from "../helpers/drill";
import type { FoundGeneration } from "../helpers/pod/target";
import { Postgres } from "../helpers/servers/postgres";
import { addRestorer, backUp, fill, restoreFrom, succeeded, synthesise } from "./postgres-setup";

let source: Postgres;
let generation: FoundGeneration;
const json = synthesise();

beforeAll(async () => {
  source = await Postgres.start();
  fill(source);
  addRestorer(source);
  generation = succeeded(await backUp({ json }));
});

afterAll(() => source?.stop());

test("dev", async () => {
  const { target } = forge(json, generation);
  const one = await restoreFrom(json, target, { GENERATION: "newest", DATABASE: "app", DRY_RUN: "true" });
  console.log(one.plan, one.failure, one.durationMs, one.logs.runner);
  const two = await restoreFrom(json, target, { GENERATION: "newest", DATABASE: "app", CONFIRM: "app" });
  console.log(two.plan, two.failure, two.durationMs, two.logs.runner);
  const three = await restoreFrom(json, target, { GENERATION: "newest", CONFIRM: "pg-cluster-rw.dbaas:5432" });
  console.log(three.plan, three.failure, three.durationMs, three.logs.runner);
  const four = await restoreFrom(json, target, { GENERATION: "newest", DATABASE: "app", TABLE: "public.child" });
  console.log(four.plan, four.failure, four.durationMs, four.logs.runner);
  console.log(source.sql("SELECT datname FROM pg_database"));
});
