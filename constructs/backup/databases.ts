import type { Problems } from "../../lib/errors";
import { checkNoDollar } from "../runner/env";

/** Records a name that no user has. */
export function checkUser(problems: Problems, user: string, property = "user"): void {
  problems.check(user !== "" && !/\p{Cc}/u.test(user), property, user, "the name of a user, without control characters");
  checkNoDollar(problems, property, user);
}

/** Records names that no database has, and databases that are expected and left out at once. */
export function checkDatabases(problems: Problems, expected: readonly string[], excluded: readonly string[]): void {
  const isName = (name: string): boolean => name !== "" && !/\p{Cc}/u.test(name);
  for (const [property, names] of [["expectDatabases", expected], ["excludeDatabases", excluded]] as const) {
    problems.check(names.every(isName), property, names, "names of databases, without control characters");
    problems.check(new Set(names).size === names.length, property, names, "each database once");
  }
  const both = expected.filter((name) => excluded.includes(name));
  problems.check(both.length === 0, "excludeDatabases", both, "databases that are not in expectDatabases");
}
