import { Token } from "cdktf";
import { Problems } from "./errors";

const UNCHANGED =
  "well-formed Unicode in normal form C, without a leading byte order mark and without carriage returns that no newline follows; " +
  "Terraform changes other text";

/**
 * True for a value that Terraform computes: it is not known here, so no check may look into it.
 * Text that merely contains such a value counts too.
 */
export function isToken(value: unknown): boolean {
  return Token.isUnresolved(value);
}

/**
 * Text as Terraform must be given it so that it arrives byte for byte.
 *
 * Terraform reads every string of its JSON, object keys included, as a template; `${` and `%{` are the only
 * sequences that mean something there. Escape each piece before joining it with a reference, and only once:
 * the result of `literal` is not meant for `literal` again.
 *
 * @throws ValidationError for text that holds a cdktf token, which escaping would turn into dead text, and for text that
 *   Terraform changes however it is written: it composes characters (normal form C), replaces lone surrogates, drops a leading
 *   byte order mark, and after a carriage return without a newline no longer undoes the escaping
 */
export function literal(text: string): string {
  const problems = new Problems("literal");
  problems.check(!isToken(text), "text", text, "text without references; escape each literal part, then join them");
  const unstable = text !== text.normalize("NFC") || /^\ufeff|\r(?!\n)|\p{Surrogate}/u.test(text);
  problems.check(!unstable, "text", text, UNCHANGED);
  problems.throwIfAny();
  // The replacements are functions because `$$` in a replacement string stands for one `$`.
  return text.replace(/\$\{/g, () => "$${").replace(/%\{/g, () => "%%{");
}
