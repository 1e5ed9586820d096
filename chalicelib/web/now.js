// The first view: the current state.

import { Problem, get } from "./api.js";
import { BlockList } from "./block_list.js";
import { refused } from "./changes.js";
import { Chart, limitBar, live, trend } from "./charts.js";
import { $, RESPONSES, amount, capital, clientLink, fill, h, logLabel, noun, now, number, plural, say, span, table } from "./dom.js";
import { looks } from "./portrait.js";
import { clock, shortMoment, zone } from "./zone.js";

const BUSIEST = 8;
const NEWEST = 6;
const STEP_S = 10;

/** Seconds after which trends are read again; a quarter hour is added up within a minute after its end. */
const TRENDS_S = 60;

/** Seconds by which what is recorded of a time may differ from its length: sweeps are up to a minute late. */
const LATE_S = 120;
const DAY_S = 86_400;

/** Seconds after which trends that have not been added up are late. */
const OVERDUE_S = 1800;

/** The spans of the choice, and the one at the start, which is shown in short steps and needs no recorded trend. */
const LIVE = "15m";
const SHORTEST_S = 3600;
const QUARTER_S = 900;

let chosen = { span: LIVE, until: null }, // `until`: epoch seconds; null for the latest time
  wider = [], // the addresses of the longer times from which this one was chosen
  chart, newest, busiest = [], trends = null, trendsOf = "", trendsAt = 0, noTrends = "", addedUpTo = null;

export function start({ operator }) {
  chart ??= new Chart($("chart"), { zoom, back });
  newest = new BlockList($("newest"), { operator, label: "Newest blocks" });
  $("top-rule").onchange = showBusiest;
  $("span").onchange = () => { wider = []; location.hash = `#now/${$("span").value}`; };
  $("zoom-back").onclick = back;
  document.querySelector(".as-table").ontoggle = showTable;
}

export async function refresh() {
  const [, top, blocks] = await Promise.all([
    showTraffic(),
    get("v1/top", { n: BUSIEST }),
    get("v1/blocks", { limit: NEWEST }),
  ]);
  newest.show(blocks.blocks, blocks.total);
  busiest = top.rules;
  const lists = busiest.map((list) => ({ name: listName(list), text: `${list.rule}${logLabel(list.source)}` }));
  fill($("top-rule"), lists, (list) => list.name, (list) => h("option", { value: list.name }, list.text));
  showBusiest();
}

/** Chooses the time that the address names, such as "7d" or, for six hours that end then, "6h/1792886400". */
export function show(argument) {
  const [, span, until] = /^(\d{1,5}[mhd])(?:\/(\d{9,11}))?$/.exec(argument) ?? [];
  const offered = [...$("span").options].some((option) => option.value && option.value === span);
  chosen = until ? { span, until: Number(until) } : { span: offered ? span : LIVE, until: null };
  $("span").value = chosen.until ? "" : chosen.span;
  $("zoom-back").hidden = !chosen.until;
}

/** Shows a part of the time more closely, at least an hour. Both times are epoch seconds. */
function zoom(since, until) {
  if (!trends) return;
  const seconds = Math.max(SHORTEST_S, Math.ceil((until - since) / QUARTER_S) * QUARTER_S);
  const end = Math.min(Math.ceil((since + until + seconds) / 2 / QUARTER_S) * QUARTER_S, trends.until);
  if (seconds >= trends.until - trends.since) return;
  wider.push(location.hash);
  location.hash = `#now/${seconds / 60}m/${end}`;
}

/** Shows the longer time again from which this one was chosen; the latest day if it was opened by its address. */
function back() {
  if (!chosen.until) return;
  $("chart").querySelector("svg").focus({ preventScroll: true }); // the button is hidden next, and would lose the focus
  while (wider.at(-1) === location.hash) wider.pop(); // the browser's own Back has led there already
  location.hash = wider.pop() || "#now/1d";
}

/**
 * Shows the chart of the chosen time, and its numbers beside those of a day and a week earlier. If the API refuses that
 * time, such as one of an old address, shows its reason and the latest time, so that the rest of the page stays in use.
 */
async function showTraffic() {
  const mine = chosen;
  const isLive = mine.span === LIVE && !mine.until;
  const readSeries = () => get("v1/series", { step: STEP_S });
  let [series] = await Promise.all([isLive ? readSeries() : null, readTrends(mine)]);
  if (chosen === mine && !trends) series ??= await readSeries();
  if (chosen !== mine) return; // another choice has been made, and is being read
  const data = series ? live(series) : trend(trends);
  [$("key-detections"), $("key-blocks")].forEach((key, index) => say(key, data.keys[index]));
  chart.show(data);
  showTable();
  showComparison();
}

async function readTrends(mine) {
  const name = `${mine.span} ${mine.until}`;
  if (trendsOf === name && now() - trendsAt < TRENDS_S) return;
  let read = null, problem = "";
  try {
    read = await get("v1/trends", { span: mine.span, until: mine.until ?? "" });
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    problem = error.message.replace(/^query: /, "");
  }
  if (chosen === mine) [trends, trendsOf, trendsAt, noTrends] = [read, name, now(), problem];
}

function showComparison() {
  const overdue = addedUpTo !== null && now() - addedUpTo > OVERDUE_S;
  say($("overdue"), overdue ? `Nothing has been added up since ${shortMoment(addedUpTo, true)}: the log of the sweep has the reason, and the next sweep that succeeds makes up for it.` : "");
  $("overdue").hidden = !overdue;
  $("comparison").hidden = !trends;
  if (!trends) {
    say($("compared"), `The chosen time cannot be shown: ${noTrends}. The chart shows the latest quarter hour.`);
    return;
  }
  const { since, until, total } = trends;
  const length = until - since;
  const time = `From ${shortMoment(since, true)} to ${shortMoment(until, true)} (${zone})`;
  const than = [
    ...(length <= DAY_S ? [["a day earlier", trends.day_before]] : []),
    [length <= 7 * DAY_S ? "a week earlier" : "a week earlier, which overlaps", trends.week_before],
  ];
  const words = than.map(([name, before]) => {
    if (!before.measured_s) return `nothing is recorded ${name}`;
    if (Math.abs(total.measured_s - before.measured_s) > LATE_S) return `${name}, ${span(before.measured_s)} is recorded, and ${span(total.measured_s)} of this time`;
    return `${change(total.requests, before.requests)} requests and ${change(total.refused, before.refused)} refused than ${name}`;
  });
  say($("compared"), total.measured_s ? `${time}: ${words.join("; ")}.` : `${time}, nothing is recorded yet. Each quarter hour is recorded when it is over.`);
  const numbers = (name, sum) => {
    if (!sum.measured_s) return [name, "–", "–", "–", "–", "–", "nothing"];
    const least = sum.more ? "+" : "";
    return [
      name, number(sum.requests), number(sum.refused), number(sum.offences) + least, number(sum.blocks) + least, number(sum.most_blocked),
      Math.abs(sum.measured_s - length) <= LATE_S ? "all" : span(sum.measured_s),
    ];
  };
  const rows = [numbers("this time", total), ...than.map(([name, sum]) => numbers(name, sum))];
  const shown = JSON.stringify(rows);
  if ($("comparison").dataset.shown === shown) return;
  $("comparison").dataset.shown = shown;
  $("comparison").replaceChildren(table(["time", "requests", "refused", "offences", "blocks", "most in force", "recorded"], rows));
}

/** Says how a number differs from an earlier one, to stand before what is counted and "than". */
function change(value, before) {
  if (value === before) return "no more or fewer";
  if (!before) return `${number(value)} more`;
  const percent = Math.round((Math.abs(value - before) / before) * 100);
  return `${percent < 1 ? "less than 1" : number(percent)} % ${value > before ? "more" : "fewer"}`;
}

const MEASURES = { bytes: "Bytes served", time: "Time taken" };

const listName = (list) => `${list.rule}/${list.source}`;

function showTable() {
  if (document.querySelector(".as-table").open) $("chart-table").replaceChildren(chart.asTable());
}

function showBusiest() {
  const list = busiest.find((each) => listName(each) === $("top-rule").value) ?? busiest[0];
  const most = Math.max(0, ...(list?.clients ?? []).map((client) => client.count));
  const clients = (list?.clients ?? []).map((client) => ({ ...client, most }));
  fill($("top"), clients, (client) => `${listName(list)} ${client.network}`, (client) => {
    const bar = h("span", { class: "bar-holder" });
    const count = h("span", { class: "number" });
    const state = h("span", { class: "muted" });
    const seen = h("span", { class: "seen muted" });
    const element = h("li", {}, h("span", { class: "bar-top" }, clientLink(client.network), state, count), bar, seen);
    element.update = (next) => {
      bar.replaceChildren(limitBar(next.count, list.limit, next.most));
      say(count, `${amount(list.measure, next.count)} of ${amount(list.measure, list.limit)}`);
      say(state, standing(next, list.limit));
      say(seen, next.portrait ? looks(next.portrait) : "");
      seen.title = seen.textContent;
      element.classList.toggle("is-over", next.count > list.limit);
    };
    return element;
  });
  const counted = list?.action === "count" ? " The rule only counts." : "";
  const counting = list?.rate ? `Requests above ${list.rate} at present` : `${MEASURES[list?.measure] ?? capital(noun(list?.measure ?? "requests"))} in the latest ${span(list?.window_s ?? 0)}`;
  const at = list ? `, until ${clock(list.to_ms / 1000)}` : "";
  say($("top-note"), list ? `${counting}${at}; the mark is the limit.${counted}` : "Nothing is being counted.");
}

function showMalformed(malformed) {
  $("malformed").hidden = malformed.length === 0;
  fill($("malformed-list"), malformed, (each) => `${each.source} ${each.reason}`, () => {
    const problem = h("strong");
    const sample = h("code");
    const remedy = h("span");
    const element = h("li", {}, problem, sample, remedy);
    element.update = (each) => {
      const readAs = each.source ? ` (read as ${each.source})` : "";
      say(problem, `${each.problem}${readAs}, within a quarter hour, such as ${each.where || "a record"}:`);
      say(sample, each.sample);
      say(remedy, `${each.remedy}.`);
    };
    return element;
  });
}

function standing(client, limit) {
  if (client.allowlisted) return "allowlisted";
  if (client.blocked_until) return `blocked for another ${span(client.blocked_until - now())}`;
  return client.count > limit ? "over the limit" : "";
}

/** How many blocks apply by each response, unless all refuse requests. */
function responses(applying) {
  if (applying.every((each) => each.response === "block")) return "";
  return applying.map((each) => `${number(each.blocks)} ${RESPONSES[each.response]}`).join(" · ");
}

/** What became of blocks for want of room in the IP sets, if anything did. */
function room(blocks) {
  const parts = [];
  if (blocks.overflow) parts.push(`${number(blocks.overflow)} do not fit`);
  if (blocks.merged) parts.push(`${plural(blocks.merged, "network")} merged for room`);
  return parts.join(" · ");
}

/** A tile about the feeds, if there are any. */
function feeds(checked) {
  if (!checked.length) return [];
  const failing = checked.filter((each) => each.problem);
  const networks = checked.reduce((sum, each) => sum + each.networks, 0);
  const about = failing.length ? `${failing.map((each) => each.name).join(", ")}: not read, last list in use` : plural(checked.length, "list");
  return [["Networks of feeds", number(networks), about, failing.length > 0]];
}

const FIRST = "sluice setup --renumber evaluates it first, unless this order is intended; sluice doctor looks again.";

/** The place of Sluice's rules in the web ACL where it matters most, as a tile; none if no web ACL is known. */
function placeTile({ at, web_acls: acls }) {
  if (!acls.length) return [];
  const passed = (acl) => !acl.place || acl.before.some((rule) => rule.may_allow);
  const worst = acls.find(passed) ?? acls.reduce((last, acl) => (acl.place > last.place ? acl : last));
  const place = worst.place ? `${number(worst.place)} of ${number(worst.rules)}` : "none";
  return [["Place in the web ACL", place, `${worst.web_acl}, ${span(now() - at)} ago`, passed(worst)]];
}

/** Shows the rules that may end the evaluation of a request before Sluice's, by web ACL. */
function showPlaces({ at, web_acls: acls }) {
  const shown = acls.filter((acl) => !acl.place || acl.before.length);
  $("places").hidden = shown.length === 0;
  fill($("places-list"), shown, (acl) => acl.web_acl, () => {
    const where = h("strong");
    const rules = h("span");
    const element = h("li", {}, where, rules);
    element.update = (acl) => {
      const place = acl.place ? `Sluice is rule ${number(acl.place)} of ${number(acl.rules)}` : "there is no rule of Sluice";
      say(where, `In web ACL ${acl.web_acl}, ${place}, as of ${span(now() - at)} ago.`);
      const before = acl.before.map((rule) => `${rule.name} (${rule.effect})`).join(", ");
      say(rules, acl.place ? `Before it: ${before}. ${FIRST}` : "No request is refused there; sluice setup adds it.");
    };
    return element;
  });
}

/** Shows the API's status as tiles, what precedes Sluice in web ACLs, and what of the log cannot be read. */
export function showStatus(status) {
  const { blocks, ingest, sweep, rules, pause } = status;
  addedUpTo = status.trends_at;
  showMalformed(ingest.malformed);
  showPlaces(status.web_acls);
  const filled = (family) => status.ip_sets.filter((set) => set.family === family).reduce((sum, set) => sum + set.networks, 0);
  const [fill4, fill6] = [filled(4), filled(6)];
  const tiles = [
    ["Blocked", number(blocks.active), pause.paused && pause.release ? "admitted during the pause" : responses(blocks.by_response) || blocks.by_rule.slice(0, 3).map((each) => `${each.rule} ${each.blocks}`).join(" · ") || "none"],
    ["Requests per second", number(Math.round(ingest.requests_per_second)), plural(ingest.shards, "shard")],
    ["Lag", ingest.lag_ms === null ? "–" : `${(ingest.lag_ms / 1000).toFixed(1)} s`, ingest.lag_ms === null ? "nothing counted lately" : "from request to count"],
    ...(ingest.late ? [["Too late to count", number(ingest.late), "requests older than RETENTION_S, in 15 minutes", true]] : []),
    ["In the IP sets", number(fill4 + fill6), room(blocks) || `${number(fill4)} IPv4, ${number(fill6)} IPv6`, blocks.overflow > 0],
    ["Rules", `v${rules.version}`, rules.problem ?? `${rules.blocking || "none"} of ${plural(rules.rules, "rule")} block`, rules.problem !== null],
    ...placeTile(status.web_acls),
    ...feeds(status.feeds),
    ["Last sweep", sweep ? span(sweep.age_s) : "never", sweep ? "ago" : "blocks may not end", !sweep || sweep.age_s > 180],
  ];
  fill($("tiles"), tiles, ([name]) => name, ([name]) => {
    const value = h("dd", { class: "value" });
    const note = h("dd", { class: "muted" });
    const element = h("div", {}, h("dt", {}, name), value, note);
    element.update = ([, shown, about, bad]) => {
      say(value, shown);
      say(note, about);
      note.title = about;
      element.classList.toggle("bad", Boolean(bad));
    };
    return element;
  });
}
