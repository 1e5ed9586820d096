// The operator's page: the session, the current view, and whether the API answers.

import * as allowlist from "./allowlist.js";
import { Ended, Problem, Unreachable, get, session, signIn, signOut, token } from "./api.js";
import * as audit from "./audit.js";
import * as blocks from "./blocks.js";
import { ask, changes, choose, make, refused } from "./changes.js";
import * as client from "./client.js";
import { $, fill, h, heard, now, number, plural, say } from "./dom.js";
import * as history from "./history.js";
import * as overview from "./now.js";
import * as rules from "./rules.js";
import { choose as chooseZone, chosen as chosenZone, clock, momentText, zone } from "./zone.js";

const VIEWS = { now: overview, blocks, history, client, allowlist, rules, audit };
const EVERY_MS = 3000;
const LONGEST_WAIT_MS = 30_000;
const PAUSES = [["no set time", 0], ["30 minutes", 1800], ["an hour", 3600], ["4 hours", 14_400], ["a day", 86_400]];
const MISREAD = 0.05; // the share of malformed pieces above which a deployed stage raises an alarm

let me = null, shown = null, paused = null, timer, failures = 0, lostAt = null, polling = null;
const banners = new Map();

/* ---- session ---- */

async function enter() {
  let caller;
  try {
    caller = await get("v1/me");
  } catch (error) {
    askToSignIn(error instanceof Ended ? "This token is unknown, revoked or expired." : error.message);
    return;
  }
  const operator = caller.role === "operator";
  document.body.classList.toggle("is-viewer", !operator);
  $("sign-in").hidden = true;
  for (const element of document.querySelectorAll(".signed-in")) element.hidden = false;
  say($("me"), `${caller.name}, ${caller.role}`);
  for (const view of Object.values(VIEWS)) view.start({ operator });
  me = caller;
  route();
}

function askToSignIn(why = "") {
  me = shown = null;
  clearTimeout(timer);
  signOut();
  for (const element of document.querySelectorAll(".signed-in, .view")) element.hidden = true;
  $("enforcing").hidden = true;
  banners.clear();
  showBanners();
  say($("sign-in-why"), why);
  $("sign-in-why").hidden = !why;
  $("sign-in").hidden = false;
  document.title = "Sluice";
  $("token").focus();
}

$("sign-in-form").onsubmit = (event) => {
  event.preventDefault();
  signIn($("token").value.trim());
  $("token").value = "";
  enter();
};
$("sign-out").onclick = () => askToSignIn();
session.addEventListener("ended", () => {
  if (me) askToSignIn("The session has ended: the token has expired or was revoked.");
});

/* ---- views ---- */

function route() {
  if (!me) return;
  const [, name, argument] = /^#?([^/]*)\/?(.*)$/.exec(location.hash);
  const next = name in VIEWS ? name : "now";
  const moved = shown !== null && shown !== next;
  shown = next;
  if (next === "client") client.show(decoded(argument));
  if (next === "now") overview.show(argument);
  for (const other of Object.keys(VIEWS)) $(`view-${other}`).hidden = other !== next;
  for (const link of document.querySelectorAll("nav a")) {
    if (link.hash === `#${next}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.title = `${$(`${next}-title`).textContent} - Sluice`;
  if (moved) {
    $("main").focus({ preventScroll: true });
    scrollTo(0, 0);
  }
  poll();
}

function decoded(text = "") {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

addEventListener("hashchange", route);
$("lookup").onsubmit = (event) => {
  event.preventDefault();
  const address = $("lookup-address").value.trim();
  if (!address) return;
  const hash = `#client/${encodeURIComponent(address)}`;
  if (location.hash === hash) route();
  else location.hash = hash;
};

addEventListener("keydown", (event) => {
  const typing = event.target.closest("input, select, textarea, dialog");
  if (event.key !== "/" || event.ctrlKey || event.altKey || event.metaKey || typing || !me) return;
  event.preventDefault();
  $("lookup-address").select();
});

/* ---- keeping up ---- */

async function poll() {
  clearTimeout(timer);
  if (!me || document.hidden) return;
  const mine = (polling = Symbol("poll"));
  try {
    const view = shown;
    const [status] = await Promise.all([get("v1/status"), VIEWS[view].refresh()]);
    if (!me) return;
    heard(status.now);
    showStatus(status);
    answered();
  } catch (error) {
    if (error instanceof Ended) return;
    if (!(error instanceof Unreachable || error instanceof Problem)) {
      failed("The page failed; reload it.");
      throw error;
    }
    failed(error.message);
  } finally {
    if (mine === polling && me) timer = setTimeout(poll, Math.min(EVERY_MS * 2 ** failures, LONGEST_WAIT_MS));
  }
}

function answered() {
  failures = 0;
  lostAt = null;
  banner("lost", null);
  document.body.classList.remove("is-stale");
}

function failed(why) {
  failures += 1;
  lostAt ??= now();
  document.body.classList.add("is-stale");
  $("enforcing").className = "state warn";
  say($("enforcing"), "Not known");
  banner("lost", { kind: "bad", text: `${why} What is shown is as of ${clock(lostAt)}; trying again.`, action: ["Try now", poll] });
}

document.addEventListener("visibilitychange", poll);
changes.addEventListener("made", ({ detail }) => {
  blocks.changed(detail);
  poll();
});

/* ---- state, in plain sight ---- */

function showStatus(status) {
  overview.showStatus(status);
  blocks.showStatus(status);
  say($("blocks-count"), number(status.blocks.active));
  const { pause, breaker } = status;
  paused = pause;
  const counting = !status.rules.blocking && !status.rules.problem;
  const word = pause.paused ? "Paused" : breaker.open ? "Rule stopped" : counting ? "Only counting" : "Enforcing";
  $("enforcing").hidden = false;
  $("enforcing").className = `state ${{ Enforcing: "good", "Only counting": "warn" }[word] ?? "bad"}`;
  say($("enforcing"), word);
  say($("pause"), pause.paused ? "Resume" : "Pause");
  $("pause").classList.toggle("danger", !pause.paused);
  const operator = me.role === "operator";
  banner("pause", pause.paused && {
    kind: "warn",
    text: `Enforcement was paused by ${pause.by} at ${momentText(pause.at)}` +
      `${pause.until ? ` until ${momentText(pause.until)}` : ""}${pause.comment ? ` (${pause.comment})` : ""}: ` +
      (pause.release ? "the IP sets are emptied, so no client is blocked." : "rules block no new client, and existing blocks run out."),
    action: operator && ["Resume", resume],
  });
  for (const name of [...banners.keys()]) if (name.startsWith("breaker/")) banners.delete(name);
  for (const rule of breaker.stopped) {
    banner(`breaker/${rule.rule}`, {
      kind: "bad",
      text: `The rule ${rule.rule} was stopped at ${clock(rule.stopped_at)}: it would have blocked ${number(rule.would_hit)} of ` +
        `${number(rule.known)} known clients within ten minutes, such as ${rule.clients.slice(0, 3).join(", ")}. ` +
        "It blocks no new client until it would hit few of them, or is reset.",
      action: operator && ["Reset", () => reset(rule.rule)],
    });
  }
  const { malformed, malformed_share: share } = status.ingest;
  banner("malformed", share > MISREAD && {
    kind: "bad",
    text: `Not counted: ${malformed[0].problem}. ${malformed[0].remedy}.`,
  });
  const unread = status.ingest.problem;
  const problem = status.rules.problem ? `Rules: ${status.rules.problem}` : unread && `The counts cannot be read: ${unread}`;
  const [damaged] = status.unreadable;
  banner("unreadable", damaged && {
    kind: "warn",
    text: `${plural(status.unreadable.length, "stored record")} cannot be read and ${status.unreadable.length === 1 ? "is" : "are"} skipped, ` +
      `for example ${damaged.kind} ${damaged.id}: ${damaged.reason}. 'sluice records list' lists them.`,
    action: operator && ["Look at it", () => review(damaged)],
  });
  banner("rules", problem && { kind: "bad", text: problem });
}

function banner(name, content) {
  if (content) banners.set(name, { name, ...content });
  else banners.delete(name);
  showBanners();
}

function showBanners() {
  fill($("banners"), banners.values(), (each) => each.name, () => {
    const text = h("p");
    const button = h("button");
    const element = h("div", {}, text, button);
    element.update = ({ kind, text: words, action }) => {
      element.className = `banner ${kind}`;
      say(text, words);
      button.hidden = !action;
      if (action) {
        say(button, action[0]);
        button.onclick = action[1];
      }
    };
    return element;
  });
}

const resume = () => make({ method: "POST", path: "/v1/resume", body: {} });
const reset = (rule) => make({ method: "POST", path: "/v1/breaker/reset", body: { rule } });

async function review({ kind, id }) {
  try {
    const record = await get("v1/unreadable", { kind, id });
    const content = [h("p", {}, `It cannot be read: ${record.reason}`), h("pre", {}, record.body || "It has no body.")];
    if (await choose(`The ${kind} record ${id}`, content, [["Remove", true]])) {
      make({ method: "DELETE", path: "/v1/unreadable", query: { kind: [kind], id: [id] } });
    }
  } catch (error) {
    refused(error);
  }
}

$("pause").onclick = async () => {
  if (paused?.paused) {
    resume();
    return;
  }
  const answer = await ask(
    "Pause enforcement?",
    "Counting continues; rules block no new client until the pause ends or an operator resumes enforcement.",
    PAUSES,
    [["Pause", false], ["Pause and admit every client", true]],
  );
  if (answer === null) return;
  const seconds = Number(answer.time);
  const until = seconds ? Math.floor(now()) + seconds : null;
  make({ method: "POST", path: "/v1/pause", body: { release: answer.choice, until, comment: answer.comment } });
};

// The link that `sluice dev` prints signs in, on this machine alone. The token leaves the address at once.
const [, linked] = /^#sign-in\/(.+)$/.exec(location.hash) ?? [];
if (linked && ["127.0.0.1", "localhost"].includes(location.hostname)) {
  signIn(decoded(linked));
  window.history.replaceState(null, "", "#now");
}

const own = Intl.DateTimeFormat().resolvedOptions().timeZone;
const zones = ["", ...new Set(["UTC", ...Intl.supportedValuesOf("timeZone"), zone])];
$("zone").replaceChildren(...zones.map((name) => h("option", { value: name }, name || `this browser's (${own})`)));
$("zone").value = chosenZone;
$("zone").onchange = () => {
  try {
    chooseZone($("zone").value);
  } catch (error) {
    refused(error); // the browser stores nothing
  }
};
if (token()) enter();
else askToSignIn();
