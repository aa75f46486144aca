import { DRILL_ROUNDS, proven, runDrill } from "../helpers/drill";
import { makeTarget } from "../helpers/pod/target";
import { Postgres } from "../helpers/servers/postgres";
import { backUp, databasesOf, fillShop, SHOP_ONLY, succeeded, synthesise } from "./postgres-setup";

const json = synthesise(SHOP_ONLY);
let server: Postgres;

beforeAll(async () => {
  server = await Postgres.start();
  fillShop(server);
  server.sql("CREATE TABLE log (id bigserial PRIMARY KEY, at timestamptz DEFAULT now(), t text); CREATE TABLE scratch (a int)", "shop");
  server.sql("CREATE SEQUENCE down INCREMENT BY -1", "shop");
});

afterAll(() => server?.stop());

/** Sessions that never stop writing. @returns what stops them */
function writers(): () => Promise<void> {
  const stops = [
    "INSERT INTO log (t) SELECT md5(i::text) FROM generate_series(1, 50) i; SELECT nextval('down');",
    "DELETE FROM log WHERE id <= (SELECT max(id) - 5000 FROM log); UPDATE item SET name = md5(name) WHERE id % 100 = 1;",
    "BEGIN; TRUNCATE scratch; INSERT INTO scratch SELECT i FROM generate_series(1, 100) i; COMMIT; SELECT lo_unlink(lo_create(0));",
    "CREATE TEMPORARY TABLE own (a int); INSERT INTO own VALUES (1); DROP TABLE own; INSERT INTO sale VALUES (1);",
  ].map((statements) => {
    const session = server.session("shop");
    const ended = new Promise((resolve) => session.once("exit", resolve));
    let writing = true;
    const write = (): void => {
      // As busy as an application, and no busier: the drills need the machine, too.
      setTimeout(() => (writing ? session.stdin?.write(`${statements} \\echo\n`) : session.stdin?.end()), 50);
    };
    session.stdout?.on("data", write);
    write();
    return async (): Promise<void> => {
      writing = false;
      await ended;
    };
  });
  return async () => {
    for (const stop of stops) await stop();
  };
}

test(`${DRILL_ROUNDS} of ${DRILL_ROUNDS} backups that were made while everything was written to are proven`, async () => {
  const stop = writers();
  const seen = new Set<string>();
  try {
    let rounds = DRILL_ROUNDS;
    await Promise.all(
      [1, 2].map(async () => {
        while (rounds-- > 0) {
          const target = makeTarget(json);
          const generation = succeeded(await backUp({ json, target }));
          proven(await runDrill(json, target));
          seen.add(JSON.stringify(databasesOf(generation).shop?.tables));
        }
      }),
    );
  } finally {
    await stop();
  }
  expect(seen.size).toBeGreaterThan(DRILL_ROUNDS * 0.9);
}, 900_000);
