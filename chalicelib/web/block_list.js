// Blocks as rows. Only the visible rows exist, so ten thousand scroll as smoothly as ten.

import { make } from "./changes.js";
import { RESPONSES, amount, clientLink, fill, h, noun, now, number, plural, say, span } from "./dom.js";

const NARROW = matchMedia("(max-width: 720px)");
const ROW = { wide: 60, narrow: 128 };
const MARGIN = 8; // rows kept above and below the visible ones
const NEAR_END = 30; // rows before the end at which more are loaded

/** One block as a row of a table. */
function row(block, operator) {
  const ends = h("span", { class: "ends" });
  const why = h("span", { class: "why" });
  const left = h("progress", { max: "1", "aria-hidden": "true" });
  const element = h(
    "div",
    { role: "row", class: "block-row" },
    h("span", { role: "cell", class: "network" }, clientLink(block.network), softer(block), badge(block)),
    h("span", { role: "cell" }, h("span", { class: `chip${block.rule === "manual" ? " manual" : ""}` }, block.rule)),
    h("span", { role: "cell", class: "reason" }, why, h("span", { class: "muted" }, offence(block))),
    h("span", { role: "cell", class: "countdown" }, ends, left),
    h(
      "span",
      { role: "cell", class: "action" },
      operator && h("button", { "aria-label": `Unblock ${block.network}`, onclick: () => unblock(block.network) }, "Unblock"),
    ),
  );
  let shown = block;
  element.tick = () => {
    say(ends, shown.until > now() ? span(shown.until - now()) : "ending");
    left.value = Math.max(0, (shown.until - now()) / Math.max(1, shown.until - shown.blocked_at));
  };
  element.update = (next) => {
    shown = next;
    say(why, because(next));
    element.tick();
  };
  return element;
}

export function unblock(network, forget = false) {
  return make({ method: "DELETE", path: "/v1/blocks", query: { network, ...(forget && { forget: "true" }) } });
}

/** Why a network is blocked. */
function because(block) {
  if (block.members) return `${plural(block.members.number, "blocked client")} in it`;
  return block.evidence && block.rule !== "manual" ? evidence(block.evidence) : block.comment || "no comment";
}

export function evidence(facts) {
  if (facts.measure !== "requests") {
    return `${[amount(facts.measure, facts.count), noun(facts.measure, facts.count)].join(" ").trim()} within ${span(facts.window_s)}, limit ${amount(facts.measure, facts.limit)}`;
  }
  const requests = plural(facts.count, "request");
  if (facts.rate) return `${requests} above ${facts.rate}, burst ${number(facts.limit)}`;
  return `${requests} within ${span(facts.window_s)}, limit ${number(facts.limit)}`;
}

function badge(block) {
  const chip = (text, title) => h("span", { class: "chip warn", title }, text);
  if (block.withheld) return chip("withheld", "It is on the allowlist, so it is in no IP set");
  return block.carved && chip("carved", "Parts of it are on the allowlist: only the rest of it is in an IP set");
}

/** The response, unless it refuses all requests. */
function softer(block) {
  return block.response !== "block" && h("span", { class: "chip warn" }, block.response);
}

/** Who or which step of its rule's ladder gave the block its response. */
function offence(block) {
  const response = RESPONSES[block.response];
  if (block.rule === "manual") return `${response} by ${block.by || "an operator"}`;
  if (block.members) {
    const others = block.members.innocents.length;
    const seen = others ? `${plural(others, "other client")} seen in it` : "no other client seen in it";
    return `${block.members.merged ? "merged for room in the IP sets" : response}, ${seen}`;
  }
  return `${block.offence > 1 ? `offence ${block.offence}` : "first offence"}: ${response}`;
}

/** A table of blocks. With `more`, it scrolls on its own and loads more rows near its end. */
export class BlockList {
  constructor(holder, { operator, more = null, label }) {
    this.operator = operator;
    this.more = more;
    this.blocks = [];
    this.body = h("div", { role: "rowgroup", class: "block-rows" });
    this.box = h(
      "div",
      { role: "table", "aria-label": label, class: `block-list${more ? " scrolling" : ""}`, tabindex: more ? "0" : null },
      h(
        "div",
        { role: "rowgroup", class: "block-head" },
        h("div", { role: "row" }, ["Network", "Rule", "Why", "Ends in", ""].map((name) =>
          h("span", { role: "columnheader" }, name || h("span", { class: "sr" }, "Action")))),
      ),
      this.body,
    );
    this.empty = h("p", { class: "empty", hidden: true }, "No client is blocked.");
    holder.replaceChildren(this.box, this.empty);
    if (more) {
      let due = false;
      this.box.addEventListener("scroll", () => {
        if (due) return;
        due = true;
        requestAnimationFrame(() => { due = false; this.draw(); });
      }, { passive: true });
    }
    NARROW.addEventListener("change", () => this.draw());
    const ticking = setInterval(() => (this.box.isConnected ? this.tick() : clearInterval(ticking)), 1000);
  }

  get atTop() {
    return this.box.scrollTop < this.rowHeight;
  }

  get rowHeight() {
    return NARROW.matches ? ROW.narrow : ROW.wide;
  }

  /** Shows `blocks`, out of `total`. */
  show(blocks, total, empty = "No client is blocked.") {
    this.blocks = blocks;
    this.box.setAttribute("aria-rowcount", total + 1);
    this.box.hidden = !blocks.length;
    this.empty.hidden = Boolean(blocks.length);
    say(this.empty, empty);
    this.draw();
  }

  draw() {
    const height = this.rowHeight;
    const seen = this.more ? Math.ceil(this.box.clientHeight / height) : this.blocks.length;
    const first = Math.max(0, Math.floor(this.box.scrollTop / height) - MARGIN);
    const end = Math.min(this.blocks.length, first + seen + 2 * MARGIN);
    this.body.style.height = `${this.blocks.length * height}px`;
    const rows = this.blocks.slice(first, end).map((block, index) => ({ block, index: first + index }));
    const key = ({ block }) => `${block.network} ${block.blocked_at} ${block.withheld} ${block.carved} ${block.response}`;
    fill(this.body, rows, key, ({ block }) => {
      const element = row(block, this.operator);
      const update = element.update;
      element.update = (item) => {
        update(item.block);
        element.setAttribute("aria-rowindex", item.index + 2);
        element.style.transform = `translateY(${item.index * this.rowHeight}px)`;
      };
      return element;
    });
    if (this.more && end > this.blocks.length - NEAR_END) this.more();
  }

  tick() {
    for (const element of this.body.children) element.tick();
  }
}
