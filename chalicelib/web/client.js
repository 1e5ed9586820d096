// Everything about one client.

import { Problem, get } from "./api.js";
import { evidence, unblock } from "./block_list.js";
import { limitBar } from "./charts.js";
import { ask, make, refused } from "./changes.js";
import { $, RESPONSES, amount, clientLink, h, logLabel, moment, now, number, plural, span, table } from "./dom.js";
import { portrait } from "./portrait.js";
import { clock } from "./zone.js";

const HOLDS = [["a day", 86_400], ["an hour", 3600], ["a week", 604_800], ["30 days", 2_592_000], ["ever", ""]];
const LENGTHS = [["an hour", "1h"], ["6 hours", "6h"], ["a day", "1d"], ["a week", "7d"]];

let asked = null, operator = false;

export function start(session) {
  operator = session.operator;
}

/** `address`: as written in the page's own address. */
export function show(address) {
  asked = address;
  $("client-title").textContent = address;
  $("client").replaceChildren(h("p", { class: "muted" }, "Looking …"));
}

export async function refresh() {
  if (asked === null) return;
  const address = asked;
  try {
    const report = await get("v1/clients", { address });
    if (address === asked) draw(report);
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    $("client").replaceChildren(h("p"));
    refused(error, $("client").firstChild);
  }
}

function draw(report) {
  const focused = document.activeElement?.dataset?.act;
  $("client-title").textContent = report.network.replace(/\/(32|128)$/, "");
  const own = report.blocks.map((block) => block.network);
  const blocked = report.blocked && response(report) === "block";
  const act = (name, label, kind, action) => h("button", { class: kind, "data-act": name, onclick: action }, label);
  const sections = [
    h(
      "section",
      { class: "card", "aria-labelledby": "explain-title" },
      h("p", { class: `verdict ${report.blocked || report.blocks_inside ? "bad" : "good"}`, id: "explain-title" }, verdict(report)),
      h("ul", { class: "explain" }, report.explain.map((text) => h("li", {}, text))),
      operator &&
        h(
          "div",
          { class: "form-row" },
          own.length > 0 && act("unblock", "Unblock", "", () => unblock(own)),
          own.length > 0 && act("forget", "Unblock and forget offences", "", () => unblock(own, true)),
          !report.allowlisted && act("allow", "Allow", "", () => allow(report)),
          !blocked && act("block", "Block", "danger", () => block(report)),
        ),
    ),
    ...report.blocks.filter((block) => block.members).map(members),
    report.inside.length > 0 && inside(report),
    h(
      "section",
      { class: "card" },
      h("h2", {}, "Now"),
      report.counts.length
        ? h("ol", { class: "bars" }, report.counts.map((count) => bar(count, count.network !== report.network)))
        : h("p", { class: "empty" }, "No rule has a count for this network."),
    ),
    h(
      "section",
      { class: "card flush" },
      h("h2", {}, "Offences"),
      table(
        ["When", "Rule", "Evidence", "Outcome"],
        report.history.map((past) => [
          moment(past.evidence.last_ms / 1000),
          past.rule,
          evidence(past.evidence),
          `${past.outcome === "blocked" ? RESPONSES[past.response] : past.outcome}, offence ${past.offence}`,
        ]),
        { label: "Offences", empty: "No offence is stored." },
      ),
    ),
    looks(report),
  ];
  $("client").replaceChildren(...sections.filter(Boolean));
  if (focused) $("client").querySelector(`[data-act="${focused}"]`)?.focus();
}

/** What the client's requests look like now or, if that is unknown, looked like before the latest offence. */
function looks(report) {
  const past = report.history.find((each) => each.evidence.portrait);
  const seen = report.portrait ?? past?.evidence.portrait;
  const when = report.portrait ? "of the last minutes" : `shortly before the offence against ${past?.rule}`;
  return seen && h(
    "section",
    { class: "card", "aria-labelledby": "looks-title" },
    h("h2", { id: "looks-title" }, "What it requested"),
    h("p", { class: "muted" }, `Among ${plural(seen.requests, "request")} ${when}. The client wrote these values.`),
    portrait(seen),
  );
}

/** Why a network is blocked: its blocked clients, and who else was seen in it. One button lifts its block, not theirs. */
function members({ network, members }) {
  const links = (networks) => networks.flatMap((each, number) => [number ? ", " : "", clientLink(each)]);
  const more = members.number - members.named.length;
  return h(
    "section",
    { class: "card", "aria-label": `Members of ${network}` },
    h("h2", {}, `Blocked clients in ${network}`),
    h("p", {}, links(members.named), more > 0 && ` and ${number(more)} more`),
    members.merged && h("p", { class: "muted" }, "The network was blocked for fewer clients than the rules ask for, because the IP sets were nearly full."),
    h("p", {}, members.innocents.length ? ["Also seen in it, and blocked by no rule: ", ...links(members.innocents)] : "No other known client is in it."),
    operator && h("button", { onclick: () => unblock(network) }, `Unblock ${network}, not its members`),
  );
}

/** The response that applies to a client: the hardest of its blocks that are published. */
function response(report) {
  const applying = report.blocks.filter((block) => !block.withheld).map((block) => block.response);
  return Object.keys(RESPONSES).find((each) => applying.includes(each));
}

function verdict(report) {
  if (report.blocked) return RESPONSES[response(report)].replace(/^./, (letter) => letter.toUpperCase());
  if (report.blocks.length) {
    if (report.blocks.every((block) => block.withheld)) return "Block withheld";
    return report.allowlisted ? "Allowlisted" : "Block not published";
  }
  if (report.blocks_inside) return `${plural(report.blocks_inside, "network")} in it blocked`;
  return report.allowlisted ? "Allowlisted" : "Not blocked";
}

/** The blocks inside a network. */
function inside({ inside: blocks, blocks_inside: all }) {
  const rows = blocks.map((block) => [clientLink(block.network), block.rule, block.reason, moment(block.until)]);
  return h(
    "section",
    { class: "card flush" },
    h("h2", {}, `${plural(all, "block")} in it`),
    table(["Network", "Rule", "Why", "Ends"], rows, { label: "Blocks in it" }),
    all > blocks.length && h("p", { class: "muted older" }, `${number(all - blocks.length)} more; find them under Blocks.`),
  );
}

/** A count against its limit; `named`: that of another network than the one that was asked for. */
function bar(count, named) {
  return h(
    "li",
    { class: count.count > count.limit ? "is-over" : null },
    h(
      "span",
      { class: "bar-top" },
      h("span", {}, named && [clientLink(count.network), " "], `${count.rule}${logLabel(count.source)}`),
      h("span", { class: "muted" }, `${count.rate ? `above ${count.rate}` : `within ${span(count.window_s)}`}, until ${clock(count.to_ms / 1000)}`),
      h("span", { class: "number" }, `${amount(count.measure, count.count)} of ${amount(count.measure, count.limit)}`),
    ),
    h("span", { class: "bar-holder" }, limitBar(count.count, count.limit)),
  );
}

async function allow({ network }) {
  const answer = await ask(`Allow ${network}?`, "No rule blocks it meanwhile, and its blocks are lifted.", HOLDS, [["Allow", true]]);
  if (answer === null) return;
  const expires_at = answer.time ? Math.floor(now()) + Number(answer.time) : null;
  await make({ method: "PUT", path: "/v1/allowlist", body: { network, comment: answer.comment, expires_at } });
}

async function block({ network }) {
  const answer = await ask(`Block ${network}?`, "Its requests are refused meanwhile.", LENGTHS, [["Block", true]]);
  if (answer === null) return;
  await make({ method: "POST", path: "/v1/blocks", body: { network, block_for: answer.time, comment: answer.comment } });
}
