/** Where a block's commands are typed; the first word is what readers' highlighters know. */
export type Place = "cluster" | "file server" | "node" | "sql";

const INFO: { readonly [place in Place]: string } = {
  cluster: "sh",
  "file server": "sh file-server",
  node: "sh node",
  sql: "sql",
};

/** A fenced block of commands. */
export function block(commands: string, place: Place = "cluster"): string {
  return `\`\`\`${INFO[place]}\n${commands.trim()}\n\`\`\``;
}

/** Paragraphs, blocks and headings, one empty line between two. */
export function document(...parts: readonly (string | undefined)[]): string {
  return `${parts.filter((part) => part !== undefined && part !== "").join("\n\n")}\n`;
}

/** The commands of a document's blocks of one place, in order. */
export function commandsOf(markdown: string, place: Place = "cluster"): readonly string[] {
  const fence = new RegExp(`^\`\`\`${INFO[place]}\\n([\\s\\S]*?)\\n\`\`\`$`, "gm");
  return [...markdown.matchAll(fence)].map(([, commands = ""]) => commands);
}

/** A table; cells must not hold `|`. */
export function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  return [head, head.map(() => "---"), ...rows].map((cells) => `| ${cells.join(" | ")} |`).join("\n");
}
