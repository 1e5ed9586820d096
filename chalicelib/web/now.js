// The first view: the current state.

import { get } from "./api.js";
import { BlockList } from "./block_list.js";
import { Chart, limitBar } from "./charts.js";
import { $, RESPONSES, amount, capital, clientLink, clock, fill, h, logLabel, noun, now, number, plural, say, span } from "./dom.js";

const BUSIEST = 8;
const NEWEST = 6;
const STEP_S = 10;

let chart, newest, busiest = [];

export function start({ operator }) {
  chart ??= new Chart($("chart"));
  newest = new BlockList($("newest"), { operator, label: "Newest blocks" });
  $("top-rule").onchange = showBusiest;
  document.querySelector(".as-table").ontoggle = showTable;
}

export async function refresh() {
  const [series, top, blocks] = await Promise.all([
    get("v1/series", { step: STEP_S }),
    get("v1/top", { n: BUSIEST }),
    get("v1/blocks", { limit: NEWEST }),
  ]);
  chart.show(series);
  showTable();
  newest.show(blocks.blocks, blocks.total);
  busiest = top.rules;
  const lists = busiest.map((list) => ({ name: listName(list), text: `${list.rule}${logLabel(list.source)}` }));
  fill($("top-rule"), lists, (list) => list.name, (list) => h("option", { value: list.name }, list.text));
  showBusiest();
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
    const element = h("li", {}, h("span", { class: "bar-top" }, clientLink(client.network), state, count), bar);
    element.update = (next) => {
      bar.replaceChildren(limitBar(next.count, list.limit, next.most));
      say(count, `${amount(list.measure, next.count)} of ${amount(list.measure, list.limit)}`);
      say(state, standing(next, list.limit));
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
  const said = [];
  if (blocks.overflow) said.push(`${number(blocks.overflow)} do not fit`);
  if (blocks.merged) said.push(`${plural(blocks.merged, "network")} merged for room`);
  return said.join(" · ");
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
  const told = acls.filter((acl) => !acl.place || acl.before.length);
  $("places").hidden = told.length === 0;
  fill($("places-list"), told, (acl) => acl.web_acl, () => {
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
