import { ValidationError } from "./errors";
import { isToken } from "./terraform-text";

const BINARY = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
const DECIMAL = ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"];
/** One unit in the smallest that Kubernetes knows, a thousandth of a millionth. */
const NANO = 1_000_000_000n;
/** Kubernetes cuts larger amounts down to this (2^63 - 1). */
const LARGEST = 2n ** 63n - 1n;

const FORM = /^\+?(\d+\.?\d*|\.\d+)(Ki|Mi|Gi|Ti|Pi|Ei|n|u|m|k|M|G|T|P|E|[eE][+-]?\d{1,3})?$/;

/** An amount of a Kubernetes resource: bytes of memory or storage, or CPU. */
export class Quantity {
  /** 2^20 bytes each. @throws ValidationError unless `amount` is a whole number, 0 or more */
  public static mebibytes(amount: number): Quantity {
    return Quantity.whole("mebibytes", amount, "Mi");
  }

  /** 2^30 bytes each. @throws ValidationError unless `amount` is a whole number, 0 or more */
  public static gibibytes(amount: number): Quantity {
    return Quantity.whole("gibibytes", amount, "Gi");
  }

  /** Thousandths of a CPU. @throws ValidationError unless `amount` is a whole number, 0 or more */
  public static millicores(amount: number): Quantity {
    return Quantity.whole("millicores", amount, "m");
  }

  /**
   * Reads a quantity as Kubernetes does and puts it in the form in which Kubernetes gives it back, so that Terraform sees no
   * difference: `64Mi` stays, `1024Mi` becomes `1Gi`, `0.5` becomes `500m`. A value that Terraform computes stays as it is.
   *
   * @throws ValidationError for anything that is no quantity, for a negative one, and above 2^63 - 1
   */
  public static parse(text: string): Quantity {
    if (isToken(text)) return new Quantity(text);
    const canonical = typeof text === "string" ? canonicalText(text) : undefined;
    if (canonical === undefined) {
      const allowed = "a Kubernetes quantity, 0 or more: a number with an optional suffix m, k, M, G, T, Ki, Mi, Gi or Ti";
      throw new ValidationError("Quantity", [{ property: "text", value: text, allowed }]);
    }
    return new Quantity(canonical);
  }

  private static whole(property: string, amount: number, suffix: string): Quantity {
    if (!Number.isSafeInteger(amount) || amount < 0) {
      throw new ValidationError("Quantity", [{ property, value: amount, allowed: "a whole number, 0 or more" }]);
    }
    return Quantity.parse(`${amount}${suffix}`);
  }

  private constructor(private readonly text: string) {}

  /** The amount, rounded up: bytes, or whole CPUs. Undefined where Terraform alone knows it. */
  public toNumber(): number | undefined {
    const [, number = "", suffix = ""] = isToken(this.text) ? [] : (FORM.exec(this.text) ?? []);
    if (number === "") return undefined;
    if (suffix.endsWith("i")) return Number(number) * 1024 ** BINARY.indexOf(suffix);
    const exponent = /^[eE][+-]?\d/.test(suffix) ? Number(suffix.slice(1)) : (DECIMAL.indexOf(suffix) - 3) * 3;
    return Math.ceil(Number(number) * 10 ** exponent);
  }

  /** The canonical text: `64Mi`, `500m`, `2`. */
  public toString(): string {
    return this.text;
  }
}

/**
 * The form of `k8s.io/apimachinery/pkg/api/resource`: no fraction, and the largest suffix that needs none. Binary suffixes stay
 * binary from 1024 on; exponents stay exponents, in multiples of three.
 */
function canonicalText(text: string): string | undefined {
  const match = FORM.exec(text);
  if (match === null) return undefined;
  const [, number = "", suffix = ""] = match;
  const [whole = "", fraction = ""] = number.split(".");
  const isExponent = /^[eE][+-]?\d/.test(suffix);
  const exponent = isExponent ? Number(suffix.slice(1)) : (DECIMAL.indexOf(suffix) - 3) * 3;
  const isBinary = suffix !== "" && BINARY.includes(suffix);
  const unit = isBinary ? 1024n ** BigInt(BINARY.indexOf(suffix)) : 1n;
  const nanos = scale(BigInt(whole + fraction) * unit * NANO, (isBinary ? 0 : exponent) - fraction.length);
  if (nanos > LARGEST * NANO) return undefined;

  if (isBinary && nanos >= 1024n * NANO && nanos % NANO === 0n) {
    const step = largest(nanos / NANO, 1024n, BINARY.length - 1);
    return `${nanos / NANO / 1024n ** BigInt(step)}${BINARY[step]}`;
  }
  if (nanos === 0n) return "0";
  const step = largest(nanos, 1000n, DECIMAL.length - 1);
  const amount = nanos / 1000n ** BigInt(step);
  if (isExponent) return step === 3 ? `${amount}` : `${amount}e${(step - 3) * 3}`;
  return `${amount}${DECIMAL[step]}`;
}

/** Multiplies by a power of ten; what is left below one is rounded up, as Kubernetes does. */
function scale(value: bigint, power: number): bigint {
  if (power >= 0) return value * 10n ** BigInt(power);
  const divisor = 10n ** BigInt(-power);
  return (value + divisor - 1n) / divisor;
}

function largest(value: bigint, base: bigint, max: number): number {
  let step = 0;
  while (step < max && value % base ** BigInt(step + 1) === 0n) step++;
  return step;
}
