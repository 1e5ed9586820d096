// The audit: every change with its author and its undo.

import { get } from "./api.js";
import { make, refused } from "./changes.js";
import { $, h, moment, sentence, table } from "./dom.js";

const PAGE = 50;

let operator = false, records = [], cursor = null;

export function start(session) {
  operator = session.operator;
  records = [];
}

/** Adds newer records on top; older ones that were loaded stay. */
export async function refresh() {
  const page = await get("v1/audit", { limit: PAGE });
  if (records.length && page.records[0]?.id === records[0].id) return;
  if (records.length <= PAGE) {
    records = page.records;
    cursor = page.next;
  } else {
    const known = new Set(records.map((record) => record.id));
    records = [...page.records.filter((record) => !known.has(record.id)), ...records];
  }
  draw();
}

function draw() {
  const rows = records.map((record) => [
    moment(record.at_ms / 1000),
    record.by,
    h("span", { class: "mono" }, record.address),
    sentence(record.detail),
    operator && record.undo && h("button", { "aria-label": `Undo: ${record.detail}`, onclick: () => make(record.undo) }, "Undo"),
  ]);
  $("audit").replaceChildren(
    table(["When", "Who", "From", "What", ""], rows, { label: "Audit", empty: "Nothing has been changed yet." }),
    cursor ? h("button", { class: "quiet older", onclick: older }, "Show older") : "",
  );
}

async function older() {
  try {
    const page = await get("v1/audit", { limit: PAGE, cursor });
    records = records.concat(page.records);
    cursor = page.next;
    draw();
  } catch (error) {
    refused(error);
  }
}
