// The rule set: read, plan, apply, roll back. Only a planned text can be applied.

import { get, call } from "./api.js";
import { choose, clearProblem, confirm, make, refused } from "./changes.js";
import { $, amount, capital, h, moment, noun, number, plural, say, sentence, table } from "./dom.js";

const PAUSE_S = 3600;
const COUNTED_S = 86_400; // of the history, what is shown before a rule may block
const MOST_COUNTED = 200;

let operator = false, active = null, planned = null, history = "", now = 0;

export function start(session) {
  operator = session.operator;
  $("rules-text").readOnly = !operator;
  say($("edit-title"), operator ? "Change the rules" : "The rules as they are stored; operators can change them");
  $("rules-form").onsubmit = (event) => { event.preventDefault(); plan(); };
  $("rules-text").oninput = forgetPlan;
  $("rules-reset").onclick = () => { load(); forgetPlan(); };
  $("rules-apply").onclick = apply;
}

export async function refresh() {
  const [stored, versions] = await Promise.all([get("v1/rules"), get("v1/rules/history", { limit: 20 })]);
  const text = $("rules-text");
  const edited = active !== null && text.value !== active.text;
  const resumes = active?.rules.some((rule) => rule.paused_until > now && rule.paused_until <= versions.now);
  const other = active === null || active.version !== stored.version || resumes;
  now = versions.now;
  active = stored;
  if (other) {
    if (!edited || text.value === stored.text) load();
    showWords();
  }
  const saved = stored.version ? `Version ${stored.version}${stored.by ? `, saved by ${stored.by}` : ""}` : "No rule set is stored";
  say($("rules-note"), edited && planned === null ? `${saved}. Your text is not applied.` : `${saved}.`);
  showHistory(versions);
}

function load() {
  $("rules-text").value = active.text;
  $("rules-text").rows = Math.min(30, Math.max(8, active.text.split("\n").length + 1));
}

function showWords() {
  const problem = active.problem && h("p", { class: "alert", role: "alert" }, `These rules cannot be used: ${active.problem}`);
  $("rules-words").replaceChildren(problem || "", ...active.rules.map(card));
}

function card(rule) {
  const scope = Object.entries(rule.scope).map(condition);
  const paused = rule.action === "block" && rule.paused_until > now;
  const state = paused ? "paused" : rule.action === "count" ? "only counts" : "blocks";
  const ipv4 = rule.aggregate.ipv4 === 32 ? "an IPv4 address" : `an IPv4 /${rule.aggregate.ipv4}`;
  return h(
    "article",
    { class: "card rule" },
    h("div", { class: "head" }, h("h2", {}, rule.name), h("span", { class: `chip ${state === "blocks" ? "manual" : "warn"}` }, state)),
    h("p", { class: "limit" }, h("strong", {}, amount(rule.measure, rule.limit)), ` ${noun(rule.measure)} ${rule.bucket ? `above ${rule.bucket.rate}` : `within ${rule.window}`} `,
      operator && !rule.bucket && h("button", { class: "quiet", "aria-label": `Change the limit: ${rule.name}`, onclick: () => changeLimit(rule) }, "Change")),
    h("ul", { class: "muted plain" },
      h("li", {}, `counts ${ipv4} or an IPv6 /${rule.aggregate.ipv6} as one client`),
      rule.aggregate.by.length > 0 && h("li", {}, `counts the requests of each ${rule.aggregate.by.join(" and ").replace("_", " ")} separately`),
      paused && h("li", {}, "only counts until ", moment(rule.paused_until)),
      rule.action === "block" && h("li", {}, `blocks for ${rule.block_for}${rule.escalate ? `, ${rule.escalate.factor} times as long with each further offence, up to ${rule.escalate.max}` : ""}`),
      scope.map((text) => h("li", {}, text))),
    operator && h("button", { "aria-label": `${rule.action === "count" ? "Let it block" : "Only count"}: ${rule.name}`, onclick: () => switchAction(rule) }, rule.action === "count" ? "Let it block" : "Only count"),
    operator && rule.action === "block" && h("button", { "aria-label": `${paused ? "Resume" : "Pause for an hour"}: ${rule.name}`, onclick: () => pause(rule, paused ? 0 : now + PAUSE_S) }, paused ? "Resume" : "Pause for an hour"),
  );
}

async function switchAction(rule) {
  if (rule.action === "block") {
    await edit(rule, { action: "count" }, `Let ${rule.name} only count?`, "It blocks no new client. Its blocks in force run out.", "Only count");
    return;
  }
  try {
    const since = Math.floor(now - COUNTED_S);
    const past = await get("v1/history", { rule: rule.name, outcome: "counted", since, limit: MOST_COUNTED });
    const effect = `It blocks clients over its limit for ${rule.block_for}, from the next offence. ${counted(past)}`;
    await plannedEdit(rule, { action: "block" }, `Let ${rule.name} block?`, "Let it block", effect);
  } catch (error) {
    refused(error);
  }
}

/** Whom a rule that only counts would have blocked in the last day, in words. */
function counted({ events, next }) {
  const networks = [...new Set(events.map((event) => event.network).filter(Boolean))];
  const offences = events.reduce((sum, event) => sum + event.number, 0);
  if (!offences) return "In the last day it has found no offence.";
  const named = networks.length ? `, by ${networks.slice(0, 3).join(", ")}${networks.length > 3 ? ` and ${number(networks.length - 3)} more` : ""}` : "";
  return `In the last day it has found ${next ? "at least " : ""}${plural(offences, "offence")}${named}; the history lists them.`;
}

async function changeLimit(rule) {
  const unit = { bytes: "Bytes", time: "Seconds" }[rule.measure] ?? capital(noun(rule.measure));
  const input = h("input", { type: "number", min: 0, step: 1, value: rule.measure === "time" ? rule.limit / 1000 : rule.limit });
  const asked = h("label", {}, `${unit} within ${rule.window} `, input);
  if (!(await choose(`Limit of ${rule.name}`, [asked], [["Show the effect", true]]))) return;
  try {
    await plannedEdit(rule, { limit: input.valueAsNumber }, `Change the limit of ${rule.name}?`, "Put it in force");
  } catch (error) {
    refused(error);
  }
}

/** Changes values of a rule after the operator has seen the effect. */
async function plannedEdit(rule, values, question, verb, words = "") {
  const body = { rule: rule.name, ...values };
  const preview = await call({ method: "POST", path: "/v1/rules/plan", body });
  if (!(await confirm(question, words || sentence(preview.detail), verb, effects(preview)))) return;
  await make({ method: "POST", path: "/v1/rules/edit", headers: { "If-Match": `"${preview.version}"` }, body }, { near: $("rules-form") });
}

async function pause(rule, until) {
  const question = until ? `Pause ${rule.name} for an hour?` : `Let ${rule.name} block again?`;
  const effect = until
    ? "It only counts for that time, and then blocks again by itself. Its blocks in force run out."
    : `It blocks clients over its limit for ${rule.block_for}, from the next offence.`;
  await edit(rule, { paused_until: until }, question, effect, until ? "Pause" : "Resume");
}

async function edit(rule, values, question, effect, verb) {
  const { version } = active; // that of the rules which the question is about
  if (!(await confirm(question, effect, verb))) return;
  const body = { rule: rule.name, ...values };
  await make({ method: "POST", path: "/v1/rules/edit", headers: { "If-Match": `"${version}"` }, body }, { near: $("rules-form") });
}

const FLAGS = {
  "static false": "no static files",
  "static true": "only static files",
  "normalise true": "paths in their normal form",
  "ignore_case true": "paths in any case",
};

function condition([name, values]) {
  const key = name.split(".").at(-1);
  const text = FLAGS[`${key} ${values}`] || `${key.replaceAll("_", " ")} ${values.join(", ")}`;
  return name.startsWith("not.") ? `not ${text}` : FLAGS[`${key} ${values}`] || `only ${text}`;
}

async function plan() {
  const form = $("rules-form");
  clearProblem(form);
  forgetPlan();
  const text = $("rules-text").value;
  try {
    const preview = await call({ method: "POST", path: "/v1/rules/plan", body: { text } });
    if (text !== $("rules-text").value) return;
    planned = { text, version: preview.version };
    $("rules-apply").disabled = !preview.changes.length && text === active.text;
    $("rules-plan-result").replaceChildren(
      h("h3", {}, `Plan against version ${preview.version}`),
      h("p", {}, sentence(preview.detail)),
      ...effects(preview),
    );
  } catch (error) {
    refused(error, form);
  }
}

/** What a plan would change, what it would do to the clients of these minutes, and its warnings. */
function effects(preview) {
  return [
    differences(preview.changes),
    h("ul", { class: "plain" }, preview.now.map((now) => h("li", {},
      `${now.rule}: of ${plural(now.clients, "client")} in ${now.span_s} s of the ${now.source} log, ${number(now.over)} would be over`))),
    ...preview.notes.map((note) => h("p", {}, h("span", { class: "chip warn" }, "note"), ` ${note}`)),
    ...preview.needs_force.map((reason) => h("p", {}, h("span", { class: "chip manual" }, "needs force"), ` ${sentence(reason)}`)),
  ];
}

function differences(changes) {
  return h(
    "ul",
    { class: "diff" },
    changes.map((change) => h("li", { class: change.change }, h("strong", {}, `${change.rule} ${change.change}`), h("ul", {}, change.words.map((word) => h("li", {}, word))))),
  );
}

function forgetPlan() {
  planned = null;
  $("rules-apply").disabled = true;
  $("rules-plan-result").replaceChildren();
}

async function apply() {
  if (planned === null) return;
  const { text, version } = planned;
  const body = { text, comment: $("rules-comment").value.trim() };
  const answer = await make(
    { method: "PUT", path: "/v1/rules", headers: { "If-Match": `"${version}"` }, body },
    { near: $("rules-form") },
  );
  if (answer === null) return;
  $("rules-comment").value = "";
  active = { ...active, text }; // so that it is not called an edit until the rules are read again
  forgetPlan();
}

function showHistory(versions) {
  const shown = JSON.stringify(versions.versions) + operator;
  if (shown === history) return;
  history = shown;
  const rows = versions.versions.map((each) => [
    h("span", {}, `${each.version}`, each.active && h("span", { class: "chip good" }, "in force")),
    plural(each.rules, "rule"),
    each.saved_at ? moment(each.saved_at) : "",
    each.by,
    each.comment,
    operator && !each.active && h("button", { "aria-label": `Roll back to version ${each.version}`, onclick: () => rollBack(each.version) }, "Roll back"),
  ]);
  $("rules-history").replaceChildren(table(["Version", "Rules", "Saved", "By", "Comment", ""], rows, { label: "Versions" }));
}

async function rollBack(version) {
  try {
    const earlier = await get("v1/rules", { version });
    const preview = await call({ method: "POST", path: "/v1/rules/plan", body: { text: earlier.text } });
    const agreed = await confirm(`Roll back to version ${version}?`, sentence(preview.detail), "Roll back", [differences(preview.changes)]);
    if (!agreed) return;
    await make({ method: "POST", path: "/v1/rules/rollback", headers: { "If-Match": `"${preview.version}"` }, body: { version } });
  } catch (error) {
    refused(error);
  }
}
