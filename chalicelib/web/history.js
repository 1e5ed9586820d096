// The history: what was decided about clients and rules, by time, network, rule and outcome.

import { get } from "./api.js";
import { refused } from "./changes.js";
import { $, RESPONSES, clientLink, h, moment, now, offer, sentence, table } from "./dom.js";
import { portrait } from "./portrait.js";
import { epochOf } from "./zone.js";

const PAGE = 100;
const TYPING_MS = 250;
const NOT_ENFORCED = { counted: "the rule only counts", allowlisted: "on the allowlist", proxy: "a CDN", stale: "too old" };
const OTHERS = { ended: "ended", stopped: "rule stopped", resumed: "rule resumed", full: "nearly full", unreadable: "not readable" };
const COLUMNS = ["When", "Network", "Outcome", "Rule", "Why", "Until"];

const opened = new Set(); // ids of the events whose portraits are open

let events = [], names = new Set(), cursor = null, query = {}, asked;

export function start() {
  events = [];
  const filter = $("history-filter");
  let typing;
  filter.oninput = () => {
    clearTimeout(typing);
    typing = setTimeout(() => reload().catch(refused), TYPING_MS);
  };
  filter.onsubmit = (event) => { event.preventDefault(); reload().catch(refused); };
}

/** Reads the newest events again, unless older ones have been loaded. */
export async function refresh() {
  if (events.length > PAGE) return;
  const [rules] = await Promise.all([get("v1/rules"), reload()]);
  names = new Set([...names, "manual", ...rules.rules.map((rule) => rule.name)]);
  offer($("history-filter").rule, ["", ...[...names].sort()], (name) => name || "every rule");
}

/** The filter as a query of the API; the moment is in the time zone of all times on the page. */
function filters() {
  const { span, around, network, rule, outcome } = $("history-filter");
  const seconds = Number(span.value);
  const middle = around.value ? epochOf(around.value) : null;
  return {
    since: Math.max(0, Math.floor(middle === null ? now() - seconds : middle - seconds / 2)),
    until: middle === null ? "" : Math.max(0, Math.ceil(middle + seconds / 2)),
    network: network.value.trim(),
    rule: rule.value,
    outcome: outcome.value,
  };
}

async function reload() {
  const chosen = filters();
  const mine = (asked = Symbol("asked"));
  const page = await get("v1/history", { ...chosen, limit: PAGE });
  if (mine !== asked) return; // the filter has changed since
  query = chosen;
  events = page.events;
  cursor = page.next;
  draw();
}

async function older() {
  const mine = asked;
  try {
    const page = await get("v1/history", { ...query, limit: PAGE, cursor });
    if (mine !== asked) return;
    events = events.concat(page.events);
    cursor = page.next;
    draw();
  } catch (error) {
    refused(error);
  }
}

function draw() {
  const focused = document.activeElement?.dataset?.event;
  const rows = events.map((event) => [
    moment(event.at),
    event.network ? clientLink(event.network) : "",
    outcomeOf(event),
    event.rule,
    [sentence(event.detail), event.evidence?.portrait && looks(event)],
    event.until ? moment(event.until) : "",
  ]);
  $("history").replaceChildren(
    table(COLUMNS, rows, { label: "History", empty: cursor ? "None of the newest events matches." : "No event of that time matches." }),
    cursor ? h("button", { class: "quiet older", onclick: older }, "Show older") : "",
  );
  if (focused) $("history").querySelector(`[data-event="${focused}"]`)?.focus();
}

/** What the client requested, which stays open while the view is drawn again. */
function looks({ id, evidence }) {
  const remember = ({ target }) => (target.open ? opened.add(id) : opened.delete(id));
  return h(
    "details",
    { class: "looks", open: opened.has(id), ontoggle: remember },
    h("summary", { "data-event": id }, "What it requested"),
    portrait(evidence.portrait),
  );
}

function outcomeOf(event) {
  if (event.outcome === "blocked") return RESPONSES[event.response] + (event.offence > 1 ? `, offence ${event.offence}` : "");
  const why = NOT_ENFORCED[event.outcome];
  return why ? `not ${RESPONSES[event.response]}: ${why}` : OTHERS[event.outcome];
}
