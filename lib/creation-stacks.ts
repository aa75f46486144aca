/**
 * Stops cdktf from recording, for every value it creates, the whole call stack of its creation. That is most of what a synthesis of
 * many stacks costs (its time and its memory), and all it is for is a longer message where a value cannot be resolved.
 *
 * Call it once, before the first stack. cdktf 0.21 has no way to say so, so that a function of a private module of it is replaced; its
 * successor cdktn has an environment variable. In another version it does nothing.
 */
export function withoutCreationStacks(): void {
  process.env["CDKTN_DISABLE_CREATION_STACK"] = "true";
  try {
    // eslint-disable-next-line @typescript-eslint/no-require-imports
    const module = require("cdktf/lib/tokens/private/stack-trace") as { captureStackTrace: () => readonly string[] };
    module.captureStackTrace = () => [];
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "MODULE_NOT_FOUND") throw error;
  }
}
