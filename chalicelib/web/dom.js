// Elements, times and words. Everything from outside becomes text, never markup.

import { fullMoment, momentText } from "./zone.js";

let skewMs = 0;

export const $ = (id) => document.getElementById(id);

const LOGS = {
  waf: "WAF log",
  "cloudfront-standard": "standard log",
  "load-balancer": "load balancer",
  "api-gateway": "API Gateway",
  "web-server": "web server",
  json: "JSON log",
};

/** Words for a client, by the response that applies to it; the hardest first. */
export const RESPONSES = {
  block: "blocked",
  captcha: "asked to solve a puzzle",
  challenge: "challenged",
  slow: "slowed down",
  watch: "watched",
};

/** Names the log that a rule counted, to stand behind its name; CloudFront's real-time log goes without saying. */
export const logLabel = (source) => (source in LOGS ? ` (${LOGS[source]})` : "");

/** Creates an element. Attributes that are null, undefined or false are omitted; "on..." are listeners. */
export function h(name, attributes = {}, ...children) {
  return furnish(document.createElement(name), attributes, children);
}

/** Creates an SVG element. */
export function s(name, attributes = {}, ...children) {
  return furnish(document.createElementNS("http://www.w3.org/2000/svg", name), attributes, children);
}

function furnish(element, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/**
 * Makes `items` the children of `parent`. Elements are kept by key, so that the focus stays; each has an update().
 * One that keeps its place among the others is not moved: a click that has begun on it would be lost.
 */
export function fill(parent, items, key, make) {
  const named = new Map(Array.from(items, (item) => [String(key(item)), item]));
  for (const child of [...parent.children]) if (!named.has(child.dataset.key)) child.remove();
  const existing = new Map([...parent.children].map((child) => [child.dataset.key, child]));
  let place = parent.firstElementChild;
  for (const [name, item] of named) {
    let element = existing.get(name);
    if (element === undefined) {
      element = make(item);
      element.dataset.key = name;
    }
    element.update?.(item);
    if (element === place) place = place.nextElementSibling;
    else parent.insertBefore(element, place);
  }
}

/** Sets the text only if it differs, because screen readers read every change. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Remembers the server's time (epoch seconds). */
export function heard(now) {
  skewMs = now * 1000 - Date.now();
}

/** The server's time in epoch seconds. */
export function now() {
  return (Date.now() + skewMs) / 1000;
}

const NOUNS = { requests: "requests", paths: "different paths", hosts: "different hosts", user_agents: "different user agents" };

/** What a rule counts, as words after a number; none for bytes and time, whose amounts have a unit. */
export function noun(measure, count = 0) {
  const words = NOUNS[measure] ?? "";
  return count === 1 ? words.replace(/s$/, "") : words;
}

/** An amount in the unit of a rule's measure: requests, bytes, milliseconds, or different values. */
export function amount(measure, value) {
  const tenths = (parts) => number(Math.floor(parts * 10) / 10);
  if (measure === "time") return `${tenths(value / 1000)} s`;
  if (measure !== "bytes") return number(value);
  const units = [["TB", 1e12], ["GB", 1e9], ["MB", 1e6], ["kB", 1e3], ["B", 1]];
  const [unit, size] = units.find(([, each]) => value >= each) ?? units.at(-1);
  return `${tenths(value / size)} ${unit}`;
}

/** A number of seconds, to two units. */
export function span(seconds) {
  let rest = Math.max(0, Math.round(seconds));
  const parts = [];
  for (const [unit, size] of [["d", 86400], ["h", 3600], ["m", 60], ["s", 1]]) {
    const number = Math.floor(rest / size);
    rest -= number * size;
    if (number > 0) parts.push(`${number}${unit}`);
    else if (parts.length) break;
  }
  return parts.slice(0, 2).join(" ") || "0s";
}

const NUMBER = new Intl.NumberFormat();

/** A time of day, with the date unless it is today, as an element whose title always has the date. */
export function moment(epoch) {
  return h("time", { datetime: new Date(epoch * 1000).toISOString(), title: fullMoment(epoch) }, momentText(epoch));
}

export const number = (value) => NUMBER.format(value);
export const plural = (value, noun) => `${number(value)} ${noun}${value === 1 ? "" : "s"}`;
export const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);
export const sentence = (text) => capital(text) + (/[.!?]$/.test(text) ? "" : ".");

/** Gives `select` these options, and keeps the chosen one if it is among them. */
export function offer(select, options, label = (option) => option) {
  if (options.join() === [...select.options].map((option) => option.value).join()) return;
  const chosen = select.value;
  select.replaceChildren(...options.map((option) => h("option", { value: option }, label(option))));
  select.value = options.includes(chosen) ? chosen : options[0];
}

/** A link to everything about a client. */
export function clientLink(network) {
  const shown = network.replace(/\/(32|128)$/, "");
  return h("a", { class: "mono", href: `#client/${encodeURIComponent(network)}`, title: "Explain" }, shown);
}

/** A table. Each row is an array of cells; a cell is text or an element. */
export function table(columns, rows, { label, empty } = {}) {
  if (!rows.length && empty) return h("p", { class: "empty" }, empty);
  const cell = (content, index) =>
    h("td", { "data-label": columns[index] }, Array.isArray(content) ? content : [content ?? ""]);
  return h(
    "table",
    { "aria-label": label },
    h("thead", {}, h("tr", {}, columns.map((column) => h("th", { scope: "col" }, column || h("span", { class: "sr" }, "Action"))))),
    h("tbody", {}, rows.map((row) => h("tr", {}, row.map(cell)))),
  );
}
