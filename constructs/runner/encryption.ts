import type { Problems } from "../../lib/errors";
import { recipientKey } from "../../lib/runtime/age";
import { isToken } from "../../lib/terraform-text";
import type { SecretRef } from "./secret-ref";

/** Who can read what a backup stores: the format is age's (https://age-encryption.org/v1), which `age -d` opens without this library. */
export interface EncryptionProps {
  /**
   * Public keys, `age1...`, as `age-keygen` prints them: the private key of any of them opens every generation from then on. Give at
   * least two, of which one private key is kept away from the cluster.
   */
  readonly recipients: readonly string[];
  /**
   * Where an identity of one of the recipients is kept: the file that `age-keygen` wrote, or several of them joined, so that generations
   * of before a change of keys stay readable. The pods of drill and restore mount it in the runner alone; the backup's never does. While
   * the Secret does not exist, drills are red, and restores fail before they touch anything.
   */
  readonly identity: SecretRef;
}

/** Nobody needs more, and readers of age files stop looking for the end of a header sooner or later. */
const MOST_RECIPIENTS = 20;
const PRIVATE = /AGE-SECRET-KEY-/i;

/** Records keys that are none or not public. A private key must be nowhere in what is synthesised, so that no message shows it either. */
export function checkEncryption(problems: Problems, { recipients, identity }: EncryptionProps): void {
  const amount = recipients.length;
  problems.check(amount > 0 && amount <= MOST_RECIPIENTS, "encryption.recipients", amount, `1 to ${MOST_RECIPIENTS} public keys`);
  for (const [index, recipient] of recipients.entries()) {
    const property = `encryption.recipients[${index}]`;
    if (!checkNoIdentity(problems, property, recipient)) continue;
    const known = isToken(recipient) || recipientKey(recipient) !== undefined;
    problems.check(known, property, recipient, "a public key of age, 'age1' and 58 more characters, without a slip of the pen");
    problems.check(recipients.indexOf(recipient) === index, property, recipient, "a key that is not in the list yet");
  }
  const reference: unknown = identity;
  if (typeof reference !== "object") problems.check(false, "encryption.identity", typeof reference, "a SecretRef; a private key goes nowhere else");
}

/** Records a private key in text that is synthesised. @returns whether there is none */
export function checkNoIdentity(problems: Problems, property: string, text: string): boolean {
  return problems.check(!PRIVATE.test(text), property, "AGE-SECRET-KEY-...", "free of private keys, which belong into a Secret alone");
}
