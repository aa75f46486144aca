import { EXIT, report, verdictOf, type Command } from "./commands";
import { integrity, INTEGRITY, integritySamples, type IntegrityCheck } from "./integrity-run";
import { log } from "./log";
import { unlessAborted } from "./within";

/** The command `check-integrity`. Its exit codes are those of {@link INTEGRITY}. */
export function integrityCommand(check: IntegrityCheck): Command {
  return {
    help: "check a live SQLite database; exits 1 if it is corrupt, 2 if it could not be checked",
    unreadable: INTEGRITY.unknown,
    run: async ({ settings, control: { signal } }) => {
      try {
        const { state, samples } = await unlessAborted(signal, 0, integrity(settings, check, log));
        await report(settings, signal, samples);
        return INTEGRITY[state];
      } catch (error) {
        const { code, reason } = verdictOf(error, signal);
        log(`integrity check failed: ${reason}`);
        await report(settings, signal, integritySamples("unknown"));
        return code === EXIT.terminated ? code : INTEGRITY.unknown;
      }
    },
  };
}
