// Portraits: what the requests of a client looked like. Clients wrote all of it.

import { h, number } from "./dom.js";

const KINDS = {
  lines: "Requests",
  paths: "Paths",
  hosts: "Hosts",
  methods: "Methods",
  statuses: "Statuses",
  user_agents: "User agents",
  countries: "Countries",
  asns: "AS numbers",
};

export function portrait(seen) {
  const kinds = Object.keys(KINDS).filter((kind) => Object.keys(seen[kind]).length);
  return h("dl", { class: "portrait" }, kinds.map((kind) => h("div", {}, h("dt", {}, KINDS[kind]), values(seen[kind], seen.requests))));
}

/** The commonest first: an object does not keep the order of keys that are numbers, such as statuses. */
function values(numbers, requests) {
  const ordered = Object.entries(numbers).sort(([, one], [, other]) => other - one);
  return ordered.map(([value, times]) => h("dd", {}, value, " ", h("span", { class: "muted" }, `${number(times)} of ${number(requests)}`)));
}

/** The commonest request and user agent, and of how many requests. */
export function looks(seen) {
  const most = (numbers) => Object.entries(numbers).sort(([, one], [, other]) => other - one)[0];
  const [line, agent] = [most(seen.lines), most(seen.user_agents)];
  return line ? `${number(line[1])} of ${number(seen.requests)}: ${line[0]}${agent ? `; ${agent[0]}` : ""}` : "";
}
