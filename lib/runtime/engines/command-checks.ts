/** What a program of the owner's says that it found to be as it should, a line each. @throws Error where it says nothing: nothing was looked at then */
export function checksIn(output: string, whose: string): readonly string[] {
  const checks = output.split("\n").map((line) => line.trim()).filter((line) => line !== "");
  if (checks.length === 0) throw new Error(`${whose} printed nothing: it has to print a line for each thing that it found to be as it should`);
  return checks;
}
