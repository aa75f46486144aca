import { scheduledTime, whyNotDue } from "../../lib/runtime/due";
import { prepared } from "./support";

const minutes = (time: string): number => Date.parse(time) / 60_000;

describe("the time a run was scheduled for", () => {
  test("is in its Job's name", () => {
    const time = "2026-11-23T00:00:00Z";
    expect(scheduledTime("postgres-backup", `postgres-backup-${minutes(time)}`)).toEqual(new Date(time));
  });

  const others = ["postgres-backup-2-29740000", "other-29740000"];
  const manual = [undefined, "", "postgres-backup", "postgres-backup-manual", "postgres-backup-1", ...others];
  test.each(manual)("is unknown for a manual run: %j", (name) => {
    expect(scheduledTime("postgres-backup", name)).toBeUndefined();
  });
});

describe("a run on the first Sunday", () => {
  const settings = prepared({ lastDayOfMonth: 7, timeZone: "Europe/Sofia" }).settings;
  const job = (time: string): string => `postgres-backup-${minutes(time)}`;

  test("happens twelve times a year", () => {
    const sundays = Array.from({ length: 52 }, (_, week) => new Date(Date.UTC(2026, 0, 4 + 7 * week, 2)).toISOString());
    const due = sundays.filter((time) => whyNotDue(settings, job(time)) === undefined);
    expect(due.map((time) => time.slice(5, 7))).toEqual(["01", "02", "03", "04", "05", "06", "07", "08", "09", "10", "11", "12"]);
    expect(due.every((time) => Number(time.slice(8, 10)) <= 7)).toBe(true);
  });

  test("counts days where the backup lives", () => {
    // 22:30 UTC on the 7th is the 8th in Sofia, and 22:30 UTC on the last of the month is the first.
    expect(whyNotDue(settings, job("2026-06-07T22:30:00Z"))).toBe(
      "not due: scheduled for day 8 of the month (Europe/Sofia), runs on days 1 to 7",
    );
    expect(whyNotDue(settings, job("2026-05-31T22:30:00Z"))).toBeUndefined();
  });

  test("happens at any time by hand", () => {
    expect(whyNotDue(settings, "postgres-backup-manual")).toBeUndefined();
    expect(whyNotDue(settings, undefined)).toBeUndefined();
  });

  test("without the guard is always due", () => {
    expect(whyNotDue(prepared().settings, job("2026-06-28T00:00:00Z"))).toBeUndefined();
  });
});
