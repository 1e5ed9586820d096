// Changes: each is made once and shown with its undo; where the API requires force, the operator is asked.

import { Ended, Problem, Unreachable, call } from "./api.js";
import { $, h, sentence } from "./dom.js";

const SHOWN_MS = 30_000;
const MOST_NOTICES = 3;

export const changes = new EventTarget(); // "made": something was changed here; its detail is the answer

/** Makes a change and offers its undo. Returns the answer; if it was not made, shows why and returns null. */
export async function make(request, { near = null } = {}) {
  clearProblem(near);
  try {
    return made(await call(request));
  } catch (error) {
    if (error instanceof Problem && error.needsForce && request.body) {
      if (await confirm("Please confirm", error.message, "Do it anyway")) {
        return make({ ...request, body: { ...request.body, force: true } }, { near });
      }
      return null;
    }
    refused(error, near);
    return null;
  }
}

function made(answer) {
  const changed = concerned(answer.undo);
  for (const earlier of [...$("notices").children]) {
    if (earlier.networks.some((network) => changed.includes(network))) earlier.remove();
  }
  notice(sentence(answer.detail), answer.undo);
  changes.dispatchEvent(new CustomEvent("made", { detail: answer }));
  return answer;
}

/** The networks that a call names. */
function concerned(call) {
  const { network, blocks = [], entries = [], remove = [] } = call?.body ?? {};
  return [network, call?.query?.network, ...[...blocks, ...entries].map((each) => each.network), ...remove].flat().filter(Boolean);
}

/** Shows why a change was rejected, next to its form or else as a notice. */
export function refused(error, near = null) {
  if (error instanceof Ended) return;
  if (!(error instanceof Problem || error instanceof Unreachable)) throw error;
  if (near === null) {
    notice(sentence(error.message), null, "bad");
    return;
  }
  const faults = (error.faults ?? []).map(inWords);
  const words = error.status === 422 && faults.length ? faults.map((fault) => h("p", {}, sentence(fault))) : h("p", {}, sentence(error.message));
  near.after(h("div", { class: "alert problem", role: "alert" }, words));
}

/** What is accepted in a field, under the name that the page gives it; of a text, each fault names its place itself. */
function inWords({ field, accepted }) {
  return field === "text" ? accepted : [field.replaceAll("_", " "), accepted].filter(Boolean).join(": ");
}

export function clearProblem(near) {
  if (near?.nextElementSibling?.classList.contains("problem")) near.nextElementSibling.remove();
}

/** Shows a line about a change, with its undo if there is one, until a later one concerns the same network. */
export function notice(text, undo = null, kind = "good") {
  const close = () => element.remove();
  const element = h(
    "div",
    { class: `notice ${kind}` },
    h("p", {}, text),
    undo &&
      h("button", { onclick: () => { close(); make(undo); } }, "Undo"),
    h("button", { class: "quiet", "aria-label": "Dismiss", onclick: close }, "×"),
  );
  element.networks = concerned(undo);
  $("notices").append(element);
  while ($("notices").children.length > MOST_NOTICES) $("notices").firstElementChild.remove();
  let timer = setTimeout(close, SHOWN_MS);
  for (const event of ["mouseenter", "focusin"]) element.addEventListener(event, () => clearTimeout(timer));
  for (const event of ["mouseleave", "focusout"]) {
    element.addEventListener(event, () => { clearTimeout(timer); timer = setTimeout(close, SHOWN_MS); });
  }
}

/** Asks the operator; resolves to true if they agree. */
export async function confirm(title, text, action, details = []) {
  return (await choose(title, [h("p", {}, text), ...details], [[action, true]])) === true;
}

/** Asks for one of `times`, [label, value] each, and a comment; resolves to {choice, time, comment}, or null. */
export async function ask(title, text, times, choices) {
  const time = h("select", {}, times.map(([label, value]) => h("option", { value }, label)));
  const comment = h("input", { maxlength: 500, placeholder: "why", autocomplete: "off" });
  const row = h("div", { class: "form-row" }, h("label", {}, "For ", time), h("label", { class: "grow" }, "Comment ", comment));
  const choice = await choose(title, [h("p", {}, text), row], choices);
  return choice === null ? null : { choice, time: time.value, comment: comment.value.trim() };
}

/** Asks for one of `choices`, [label, value] each; resolves to its value, or null. */
export function choose(title, content, choices) {
  const dialog = $("dialog");
  return new Promise((resolve) => {
    let chosen = null;
    const pick = (value) => () => { chosen = value; dialog.close(); };
    dialog.replaceChildren(
      h("h2", { id: "dialog-title" }, title),
      ...content,
      h(
        "div",
        { class: "form-row" },
        h("button", { class: "quiet", autofocus: true, onclick: pick(null) }, "Cancel"),
        choices.map(([label, value]) => h("button", { class: "danger", onclick: pick(value) }, label)),
      ),
    );
    dialog.addEventListener("close", () => resolve(chosen), { once: true });
    dialog.showModal();
  });
}
