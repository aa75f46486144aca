import { candidatesOf, removeGenerations, removeStrayVerdicts } from "../../lib/runtime/prune";
import { planRetention, usualSize } from "../../lib/runtime/retention";
import { promises } from "./support/retention-promises";

describe("the retention", () => {
  test.each(Object.entries(promises(10_000)))("%s", async (_, promise) => {
    await promise({ planRetention, usualSize, candidatesOf, removeGenerations, removeStrayVerdicts });
  }, 120_000);
});
