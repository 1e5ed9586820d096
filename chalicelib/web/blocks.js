// All blocks: search, order, and blocks made by hand.

import { call, get } from "./api.js";
import { BlockList } from "./block_list.js";
import { changes, confirm, make, notice, refused } from "./changes.js";
import { $, h, number, offer, plural } from "./dom.js";

const FIRST_PAGE = 200;
const NEXT_PAGES = 1000;
const TYPING_MS = 250;

let list, query, loaded, cursor, asked, loading = false;

export function start({ operator }) {
  list = new BlockList($("blocks-list"), { operator, more: loadMore, label: "Blocks" });
  const filter = $("block-filter");
  let typing;
  filter.oninput = () => {
    clearTimeout(typing);
    typing = setTimeout(() => reload().catch(refused), TYPING_MS);
  };
  filter.onsubmit = (event) => { event.preventDefault(); reload().catch(refused); };
  $("unblock-all").onclick = () => unblockAll().catch(refused);
  $("block-form").onsubmit = async (event) => {
    event.preventDefault();
    const form = event.currentTarget;
    const body = Object.fromEntries(["network", "block_for", "respond", "comment"].map((name) => [name, form[name].value.trim()]));
    if (await make({ method: "POST", path: "/v1/blocks", body }, { near: form })) form.network.value = form.comment.value = "";
  };
  loaded = [];
  cursor = null;
}

/** Reloads the list, unless it is scrolled down. */
export async function refresh() {
  if (list.atTop && loaded.length <= FIRST_PAGE) return reload();
  const page = await get("v1/blocks", { ...filters(), limit: 1 });
  note(page.total, page.total !== Number(list.box.getAttribute("aria-rowcount")) - 1);
}

/** Offers the rules that the API's status names, and the responses that have IP sets. */
export function showStatus(status) {
  const select = $("block-filter").rule;
  const names = status.blocks.by_rule.map((each) => each.rule);
  if (select.value && !names.includes(select.value)) names.push(select.value);
  offer(select, ["", ...names.sort()], (name) => name || "every rule");
  const { respond } = $("block-form");
  offer(respond, [...new Set(status.ip_sets.map((set) => set.response))]);
  respond.parentElement.hidden = respond.options.length < 2;
}

/** Removes lifted blocks from the list at once, wherever it is scrolled to. */
export function changed({ lifted = [] }) {
  const gone = new Set(lifted.map((block) => block.network ?? block));
  const left = loaded.filter((block) => !gone.has(block.network));
  if (left.length === loaded.length) return;
  const total = Number(list.box.getAttribute("aria-rowcount")) - 1;
  list.show((loaded = left), total - gone.size);
}

function filters() {
  const { text, rule, sort } = $("block-filter");
  return { text: text.value.trim(), rule: rule.value, sort: sort.value };
}

async function reload() {
  const chosen = filters();
  const mine = (asked = Symbol("asked"));
  const page = await get("v1/blocks", { ...chosen, limit: FIRST_PAGE });
  if (mine !== asked) return; // the filter has changed since
  query = chosen;
  loaded = page.blocks;
  cursor = page.next;
  list.show(loaded, page.total, query.text || query.rule ? "No block matches." : "No client is blocked.");
  note(page.total, false);
}

async function loadMore() {
  if (loading || !cursor) return;
  loading = true;
  const mine = asked;
  try {
    const page = await get("v1/blocks", { ...query, limit: NEXT_PAGES, cursor });
    if (mine !== asked) return;
    loaded = loaded.concat(page.blocks);
    cursor = page.next;
    loading = false;
    list.show(loaded, page.total);
  } catch (error) {
    refused(error);
  } finally {
    loading = false;
  }
}

/** Lifts every block that matches the filter, after asking: for a rule that blocked many clients by mistake. */
async function unblockAll() {
  const chosen = filters();
  const networks = [];
  let next = null;
  do {
    const page = await get("v1/blocks", { ...chosen, limit: NEXT_PAGES, cursor: next });
    networks.push(...page.blocks.map((block) => block.network));
    next = page.next;
  } while (next);
  const conditions = [chosen.rule && `by the rule ${chosen.rule}`, chosen.text && `that match "${chosen.text}"`].filter(Boolean);
  const question = `${plural(networks.length, "block")} ${conditions.join(" ")} will be lifted. The audit keeps the undo.`;
  if (!networks.length || !(await confirm("Unblock all of these?", question, `Unblock ${number(networks.length)}`))) return;
  const most = await mostNetworks();
  let lifted = [];
  try {
    for (let start = 0; start < networks.length; start += most) {
      const answer = await call({ method: "DELETE", path: "/v1/blocks", query: { network: networks.slice(start, start + most) } });
      lifted = lifted.concat(answer.lifted);
    }
  } finally {
    notice(`${plural(lifted.length, "block")} lifted. The audit keeps the undo.`);
    changes.dispatchEvent(new CustomEvent("made", { detail: { lifted } }));
  }
}

/** The most networks that the API accepts in one call, as its OpenAPI document says. */
async function mostNetworks() {
  const { paths } = await get("openapi.json");
  return paths["/v1/blocks"].delete.parameters.find((parameter) => parameter.name === "network").schema.maxItems;
}

function note(total, stale) {
  const filtered = query?.text || query?.rule ? (total === 1 ? " matches" : " match") : "";
  $("unblock-all").hidden = !filtered || total < 2;
  $("blocks-note").replaceChildren(
    `${plural(total, "block")}${filtered}`,
    stale ? h("button", { class: "link", onclick: () => { list.box.scrollTop = 0; reload().catch(refused); } }, "The list has changed: reload it") : "",
  );
}
