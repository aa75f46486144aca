import type { CronFields } from "./cron";

const WEEKDAYS = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

/** What the fields say, in words; undefined where they say something that words would not make clearer. */
export function describeTimes(fields: CronFields, lastDayOfMonth?: number): string | undefined {
  const times = describeTime(fields);
  const days = describeDays(fields, lastDayOfMonth);
  return times === undefined || days === undefined ? undefined : `${times}${days}`;
}

function describeTime({ minutes, hours }: CronFields): string | undefined {
  const [chosenMinutes, chosenHours] = [chosen(minutes), chosen(hours)];
  const [minute, hour] = [chosenMinutes[0], chosenHours[0]];
  if (chosenMinutes.length !== 1 || minute === undefined || hour === undefined) return undefined;
  const padded = String(minute).padStart(2, "0");
  if (chosenHours.length === 24) return `every hour at minute ${minute}`;
  if (chosenHours.length <= 4) return `at ${chosenHours.map((each) => `${String(each).padStart(2, "0")}:${padded}`).join(", ")}`;
  return undefined;
}

function describeDays({ daysOfMonth, months, daysOfWeek }: CronFields, lastDayOfMonth?: number): string | undefined {
  if (chosen(months).length !== 12) return undefined;
  const [days, weekdays] = [chosen(daysOfMonth), chosen(daysOfWeek)];
  const names = weekdays.map((day) => WEEKDAYS[day]).join(", ");
  if (lastDayOfMonth === 7 && days.length === 31 && weekdays.length === 1) return ` on the first ${names} of the month`;
  if (lastDayOfMonth !== undefined) return undefined;
  if (days.length === 31 && weekdays.length === 7) return " every day";
  if (days.length === 31) return ` on ${names}`;
  if (weekdays.length === 7) return ` on day ${days.join(", ")} of the month`;
  return undefined;
}

function chosen(field: Uint8Array): number[] {
  return [...field.keys()].filter((value) => field[value] === 1);
}
