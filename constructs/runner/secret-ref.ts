import { Problems } from "../../lib/errors";
import { checkDnsSubdomain } from "../../lib/names";
import { isToken } from "../../lib/terraform-text";

/** One key of a Secret in the backup's namespace. The value itself is never seen at synth time. */
export class SecretRef {
  /**
   * @param name name of the Secret
   * @param key key in its data
   * @throws ValidationError
   */
  public static of(name: string, key: string): SecretRef {
    const problems = new Problems("SecretRef");
    checkDnsSubdomain(problems, "name", name);
    problems.check(isToken(key) || /^[-._a-zA-Z0-9]+$/.test(key), "key", key, "letters, digits, '-', '_' and '.'");
    problems.throwIfAny();
    return new SecretRef(name, key);
  }

  private constructor(
    public readonly name: string,
    public readonly key: string,
  ) {}
}
