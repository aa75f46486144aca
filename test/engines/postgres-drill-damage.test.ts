import { cut, decompressed, flip, forge, overwrite, redInPairs, runDrill, TWENTIETHS, withoutLastByte } from "../helpers/drill";
import type { FoundGeneration } from "../helpers/pod/target";
import { Postgres } from "../helpers/servers/postgres";
import { backUp, fillShop, SHOP_ONLY, succeeded, synthesise } from "./postgres-setup";

const json = synthesise(SHOP_ONLY);
let server: Postgres;
let generation: FoundGeneration;

beforeAll(async () => {
  server = await Postgres.start();
  fillShop(server);
  generation = succeeded(await backUp({ json }));
});

afterAll(() => server?.stop());

test("damage at every twentieth of a dump is red, though all hashes are right", async () => {
  const damages = TWENTIETHS.flatMap((at) => [overwrite(at), decompressed(cut(at))]);
  const all = [...damages, withoutLastByte, decompressed(withoutLastByte), flip(0.37)];
  const reasons = await redInPairs(all, (damage) =>
    runDrill(json, forge(json, generation, { change: { "databases/shop.dump.zst": damage } }).target),
  );
  expect(reasons).toHaveLength(43);
  for (const reason of reasons) expect(reason).toMatch(/^(databases\/shop\.dump\.zst is damaged: |restore failed: )/);
}, 240_000);
