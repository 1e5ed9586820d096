// The allowlist.

import { get } from "./api.js";
import { make, refused } from "./changes.js";
import { $, clientLink, h, moment, now, say, span, table } from "./dom.js";
import { momentText } from "./zone.js";

const KEPT = "kept"; // the choice that leaves the end of an entry as it is

let operator = false, entries = [], cursor = null, drawn = "", changing = null;
const ends = new Map(); // by network: when its entry ends, as an element

export function start(session) {
  operator = session.operator;
  $("allow-form").onsubmit = async (event) => {
    event.preventDefault();
    const form = event.currentTarget;
    const holds = form.holds.value;
    const body = {
      network: form.network.value.trim(),
      comment: form.comment.value.trim(),
      rules: form.rules.value.split(/[\s,]+/).filter(Boolean),
      expires_at: holds === KEPT ? changing.expires_at : holds ? Math.floor(now()) + Number(holds) : null,
    };
    if (await make({ method: "PUT", path: "/v1/allowlist", body }, { near: form })) form.reset();
  };
  $("allow-form").onreset = () => change(null);
}

export async function refresh() {
  const page = await get("v1/allowlist");
  entries = page.entries;
  cursor = page.next;
  draw();
  for (const entry of entries) say(ends.get(entry.network), ending(entry));
}

const ending = (entry) => (entry.expires_at === null ? "never" : `in ${span(entry.expires_at - now())}`);

function draw() {
  const shown = JSON.stringify(entries) + operator;
  if (shown === drawn && $("allowlist").children.length) return; // keeps the focus in place
  drawn = shown;
  ends.clear();
  for (const entry of entries) ends.set(entry.network, h("span", {}, ending(entry)));
  const rows = entries.map((entry) => [
    clientLink(entry.network),
    entry.rules.join(", ") || "all",
    entry.comment,
    entry.by,
    moment(entry.added_at),
    ends.get(entry.network),
    operator && [
      h("button", { class: "quiet", "aria-label": `Change ${entry.network}`, onclick: () => change(entry) }, "Change"),
      h("button", { "aria-label": `Remove ${entry.network}`, onclick: () => remove(entry.network) }, "Remove"),
    ],
  ]);
  $("allowlist").replaceChildren(
    table(["Network", "Rules", "Comment", "By", "Added", "Expires", ""], rows, { label: "Allowlist", empty: "No network is on the allowlist." }),
    cursor ? h("button", { class: "quiet", onclick: more }, "Show more") : "",
  );
}

async function more() {
  try {
    const page = await get("v1/allowlist", { cursor });
    entries = entries.concat(page.entries);
    cursor = page.next;
    draw();
  } catch (error) {
    refused(error);
  }
}

/** Fills the form with an entry, whose end is kept unless another is chosen; null: with none. */
function change(entry) {
  const form = $("allow-form");
  form.holds.querySelector(`[value="${KEPT}"]`)?.remove();
  changing = entry;
  if (entry === null) return;
  const kept = entry.expires_at === null ? "as before: permanently" : `as before: until ${momentText(entry.expires_at)}`;
  form.holds.prepend(h("option", { value: KEPT }, kept));
  form.holds.value = KEPT;
  form.network.value = entry.network;
  form.comment.value = entry.comment;
  form.rules.value = entry.rules.join(", ");
  form.comment.focus();
}

function remove(network) {
  return make({ method: "DELETE", path: "/v1/allowlist", query: { network } });
}
