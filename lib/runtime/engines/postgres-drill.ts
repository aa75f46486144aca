import { Readable } from "node:stream";
import type { Drill, DrillEngine } from "../drill";
import { fileOf } from "../store";
import { artefact, ask, compare, explain, factsIn, factsOf, GLOBALS, list, quoted, serverOf, some } from "./postgres-facts";
import { globalsOf, readGlobals } from "./postgres-statements";

const LOCATION = / LOCATION +E?'(?:[^']|'')*';$/;

/**
 * Restores globals and databases into a server of its own, by the programs of the backup's image, and compares each database with
 * what its snapshot held: by the very script that described the source.
 */
export class PostgresDrill implements DrillEngine {
  public async restore(drill: Drill): Promise<void> {
    const { agent, manifest, name } = drill;
    const { superuser, databases } = factsIn(manifest);
    await agent.text("start", `${name} ${superuser}`).catch(explain);
    const answers = await ask(drill, "SELECT current_setting('cluster_name');\n");
    if (answers !== name) throw new Error(`the server that answers is ${JSON.stringify(answers)}, and not the scratch instance ${name}`);
    drill.log(`started ${name}`);

    const globals = await readGlobals(drill.open(fileOf(manifest.files, GLOBALS)));
    await agent.text("query", "", Readable.from([scratchGlobals(globals, superuser)])).catch(explain);
    // Made by initdb, and in the way of the one that was dumped.
    await ask(drill, "DROP DATABASE postgres;\n");
    for (const database of Object.keys(databases)) {
      await agent.text("restore", "", drill.open(fileOf(manifest.files, artefact(database)))).catch(explain);
    }
  }

  public async compare(drill: Drill): Promise<readonly string[]> {
    const facts = factsIn(drill.manifest);
    const server = await serverOf(drill);
    const names = server.databases.map(({ name }) => name);
    const missing = Object.keys(facts.databases).filter((name) => !names.includes(name));
    const strange = names.filter((name) => !(name in facts.databases));
    if (missing.length > 0) throw new Error(`databases are missing from what was restored: ${list(missing)}; there is ${list(names)}`);
    if (strange.length > 0) throw new Error(`databases were restored that were not backed up: ${list(strange)}`);

    const checks = [`${GLOBALS} and ${names.length} databases restored by PostgreSQL ${server.version} without an error`];
    for (const database of server.databases) {
      const wanted = facts.databases[database.name];
      if (wanted === undefined) continue;
      const compared = compare(database.name, wanted, facts, await factsOf(drill, database), server);
      if (compared.wrong.length > 0) throw new Error(`database ${quoted(database.name)} is not what was backed up: ${some(compared.wrong)}`);
      checks.push(...compared.checks);
    }
    return [...checks, ...(await assertions(drill, names))];
  }
}

/** The globals for a server that has its first role, and none of the directories of tablespaces. */
function scratchGlobals(globals: string, superuser: string): string {
  const own = `CREATE ROLE ${quoted(superuser)};`;
  return globalsOf(globals)
    .filter(({ sql }) => sql !== own)
    .map(({ sql, tablespace }) => (tablespace === undefined ? sql : sql.replace(LOCATION, " LOCATION '';")))
    .join("\n");
}

async function assertions(drill: Drill, names: readonly string[]): Promise<readonly string[]> {
  const passed: string[] = [];
  for (const { database = names.length === 1 ? names[0] : undefined, query, expect } of drill.assertions) {
    if (database === undefined || !names.includes(database)) {
      throw new Error(`the assertion ${JSON.stringify(query)} needs its 'database', one of ${list(names)}`);
    }
    const answer = await drill.agent.text("query", database, Readable.from([query])).catch(explain);
    if (answer !== expect) {
      const [got, wanted] = [answer, expect].map((text) => JSON.stringify(text.slice(0, 200)));
      throw new Error(`database ${quoted(database)} answers ${got} instead of ${wanted} to ${JSON.stringify(query)}`);
    }
    passed.push(`database ${quoted(database)} answers ${JSON.stringify(expect)} to ${JSON.stringify(query)}`);
  }
  return passed;
}
