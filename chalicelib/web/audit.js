// The audit: every change with its author, and the undo of the newest change of each target.

import { get } from "./api.js";
import { make, refused } from "./changes.js";
import { $, h, moment, now, sentence, table } from "./dom.js";

const PAGE = 50;
const EXPORTED = 200; // changes per call
const TYPING_MS = 250;

let operator = false, records = [], cursor = null, asked = "";

export function start(session) {
  operator = session.operator;
  records = [];
  const filter = $("audit-filter");
  let typing;
  filter.oninput = () => {
    clearTimeout(typing);
    typing = setTimeout(() => refresh().catch(refused), TYPING_MS);
  };
  filter.onsubmit = (event) => { event.preventDefault(); refresh().catch(refused); };
  $("audit-export").onclick = () => download().catch(refused);
}

function filters() {
  const { text, span } = $("audit-filter");
  return { text: text.value.trim(), since: span.value ? Math.floor(now() - Number(span.value)) : "" };
}

/** Adds newer records on top; older ones that were loaded stay, unless the filter has changed. */
export async function refresh() {
  const { text, span } = $("audit-filter");
  const mine = `${text.value.trim()} ${span.value}`;
  const other = mine !== asked;
  asked = mine;
  const page = await get("v1/audit", { ...filters(), limit: PAGE });
  if (mine !== asked) return; // the filter has changed since
  if (!other && records.length && page.records[0]?.id === records[0].id) return;
  if (other || records.length <= PAGE) {
    records = page.records;
    cursor = page.next;
  } else {
    const known = new Set(records.map((record) => record.id));
    records = [...page.records.filter((record) => !known.has(record.id)), ...records];
  }
  draw();
}

function draw() {
  const undone = new Set(); // targets that a newer change concerns, which an undo would overwrite
  const rows = records.map((record) => {
    const newest = !undone.has(record.target);
    undone.add(record.target);
    return [
      moment(record.at_ms / 1000),
      record.by,
      h("span", { class: "mono" }, record.address),
      sentence(record.detail),
      operator && newest && record.undo && h("button", { "aria-label": `Undo: ${record.detail}`, onclick: () => make(record.undo) }, "Undo"),
    ];
  });
  const empty = asked.trim() ? "No change matches." : "Nothing has been changed yet.";
  $("audit").replaceChildren(
    table(["When", "Who", "From", "What", ""], rows, { label: "Audit", empty }),
    cursor ? h("button", { class: "quiet older", onclick: older }, "Show older") : "",
  );
}

async function older() {
  const mine = asked;
  try {
    const page = await get("v1/audit", { ...filters(), limit: PAGE, cursor });
    if (mine !== asked) return;
    records = records.concat(page.records);
    cursor = page.next;
    draw();
  } catch (error) {
    refused(error);
  }
}

/** Saves all changes that match the filter as a file. */
async function download() {
  const chosen = filters();
  let all = [], next = null;
  do {
    const page = await get("v1/audit", { ...chosen, limit: EXPORTED, cursor: next });
    all = all.concat(page.records);
    next = page.next;
  } while (next);
  const url = URL.createObjectURL(new Blob([JSON.stringify(all, null, 2)], { type: "application/json" }));
  h("a", { href: url, download: "sluice-audit.json" }).click();
  URL.revokeObjectURL(url);
}
