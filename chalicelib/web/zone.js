// The time zone of all times on the page: the browser's own, or the one that was chosen in this browser.

const KEPT = "sluice.zone";

/** The chosen zone; empty for the browser's own. */
export const chosen = read();

/** The name of the zone in use, such as Europe/Berlin. */
export const zone = new Intl.DateTimeFormat(undefined, options()).resolvedOptions().timeZone;

const format = (form) => new Intl.DateTimeFormat(undefined, { ...form, ...options() });
const MOMENT = format({ dateStyle: "medium", timeStyle: "long" });
const CLOCK = format({ timeStyle: "long" });
const SHORT = format({ timeStyle: "short" });
const SHORT_DAY = format({ month: "short", day: "numeric", hour: "2-digit", minute: "2-digit" });
const ZONED = format({ hour: "2-digit", minute: "2-digit", timeZoneName: "short" });
const ZONED_DAY = format({ month: "short", day: "numeric", hour: "2-digit", minute: "2-digit", timeZoneName: "short" });
const DAY = format({ dateStyle: "short" });
const WALL = new Intl.DateTimeFormat("sv-SE", { dateStyle: "short", timeStyle: "medium", ...options() });

function options() {
  return chosen ? { timeZone: chosen } : {};
}

function read() {
  try {
    const kept = localStorage.getItem(KEPT) ?? "";
    new Intl.DateTimeFormat(undefined, { timeZone: kept || undefined });
    return kept;
  } catch {
    return ""; // a zone that this browser does not know, or no storage
  }
}

/** Chooses a zone, or the browser's own if it is empty, and loads the page again, so that all times are in it. */
export function choose(name) {
  if (name) localStorage.setItem(KEPT, name);
  else localStorage.removeItem(KEPT);
  location.reload();
}

const date = (epoch) => new Date(epoch * 1000);

/** A time of day with its zone. */
export const clock = (epoch) => CLOCK.format(date(epoch));

/** A date and time with its zone. */
export const fullMoment = (epoch) => MOMENT.format(date(epoch));

/** A time of day with its zone, and with the date unless it is today. */
export const momentText = (epoch) => (DAY.format(date(epoch)) === DAY.format(new Date()) ? clock : fullMoment)(epoch);

/**
 * A time to the minute, with the day if `day`, for axes and where the zone is named beside it. In the hour that occurs
 * twice when clocks are set back, it has the offset or the name that tells the two apart.
 */
export function shortMoment(epoch, day = false) {
  const twice = [-3600, -1800, 1800, 3600].some((apart) => WALL.format(date(epoch + apart)) === WALL.format(date(epoch)));
  return (day ? (twice ? ZONED_DAY : SHORT_DAY) : twice ? ZONED : SHORT).format(date(epoch));
}

/** Epoch seconds of a date and time in the zone, as a field of type datetime-local holds it. */
export function epochOf(text) {
  const wall = Date.parse(`${text}Z`);
  const ahead = (ms) => Date.parse(`${WALL.format(ms).replace(" ", "T")}Z`) - ms;
  // The second step matters where the clocks change between the two.
  return (wall - ahead(wall - ahead(wall))) / 1000;
}
