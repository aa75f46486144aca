import { PersistentVolumeClaimV1 } from "@cdktf/provider-kubernetes/lib/persistent-volume-claim-v1";
import { PersistentVolumeV1 } from "@cdktf/provider-kubernetes/lib/persistent-volume-v1";
import { TerraformElement } from "cdktf";
import { Construct } from "constructs";
import { Problems } from "../../lib/errors";
import { checkConstructId } from "../../lib/names";

/** Options of {@link RetiredBackupVolume}. */
export interface RetiredBackupVolumeProps {
  /** Why nothing is backed up to it any more, in one line. */
  readonly reason: string;
  /** The day on which it was retired: `2026-11-23`. */
  readonly since: string;
}

/**
 * The tombstone of an {@link NfsBackupVolume}, put in its place: same scope, same id. Terraform forgets the PersistentVolume and its
 * claim and destroys neither, so that what is on the export can still be mounted and restored. What wrote to the volume is simply
 * taken out of the code.
 *
 * Without it Terraform destroys both objects: `prevent_destroy` is part of a resource's block and goes with it. The files on the export
 * stay in any case.
 *
 * Creates no resource, but a `removed` block for each of the two, which needs Terraform 1.7 or OpenTofu 1.10; earlier ones refuse it.
 * Once applied it does nothing more and may be taken out.
 */
export class RetiredBackupVolume extends TerraformElement {
  public readonly reason: string;
  public readonly since: string;
  /** Terraform's addresses of the volume and its claim: those that `NfsBackupVolume` has in the same place. */
  public readonly addresses: readonly string[];

  /** @throws ValidationError */
  public constructor(scope: Construct, id: string, props: RetiredBackupVolumeProps) {
    super(scope, id);
    this.reason = props.reason;
    this.since = props.since;
    const problems = new Problems(this.node.path);
    checkConstructId(problems, "id", this.node.id);
    problems.check(isOneLine(this.reason), "reason", this.reason, "one line that says why it is no longer needed");
    problems.check(isDay(this.since), "since", this.since, "a day, as in 2026-11-23");
    problems.throwIfAny();
    this.addresses = [
      this.addressOf(PersistentVolumeV1.tfResourceType, "Volume"),
      this.addressOf(PersistentVolumeClaimV1.tfResourceType, "Claim"),
    ];
  }

  public override toTerraform(): object {
    const comment = `retired on ${this.since}: ${this.reason}`;
    return { removed: this.addresses.map((from) => ({ "//": comment, from, lifecycle: { destroy: false } })) };
  }

  private addressOf(type: string, id: string): string {
    return `${type}.${this.cdktfStack.getLogicalId(new Construct(this, id).node)}`;
  }
}

/** A stack's synthesised JSON, as far as it says what may go and what may not. */
export interface SynthesisedStack {
  readonly resource?: { readonly [type: string]: { readonly [id: string]: { readonly lifecycle?: { readonly prevent_destroy?: boolean } } } };
  readonly removed?: readonly { readonly from: string; readonly lifecycle?: { readonly destroy?: boolean } }[];
}

/**
 * What Terraform would destroy in spite of `prevent_destroy`: the addresses that a stack had under it, and that it now neither has nor
 * lets go of by a tombstone.
 *
 * @param before the stack's JSON as it was last applied
 * @param after its JSON now
 */
export function removedWithoutTombstone(before: SynthesisedStack, after: SynthesisedStack): readonly string[] {
  const retired = new Set((after.removed ?? []).filter(({ lifecycle }) => lifecycle?.destroy === false).map(({ from }) => from));
  return Object.entries(before.resource ?? {}).flatMap(([type, resources]) =>
    Object.entries(resources)
      .filter(([id, { lifecycle }]) => lifecycle?.prevent_destroy === true && after.resource?.[type]?.[id] === undefined)
      .map(([id]) => `${type}.${id}`)
      .filter((address) => !retired.has(address)),
  );
}

function isOneLine(text: string): boolean {
  return typeof text === "string" && text.trim() !== "" && !/\p{Cc}/u.test(text);
}

/** A day of the calendar: the 31st of February is none. */
function isDay(text: string): boolean {
  if (typeof text !== "string" || !/^\d{4}-\d{2}-\d{2}$/.test(text)) return false;
  const day = new Date(`${text}T00:00:00Z`);
  return !Number.isNaN(day.getTime()) && day.toISOString().startsWith(text);
}
