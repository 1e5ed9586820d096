// The chart of the last quarter hour: requests per second above, clients over a limit and blocked below, on one time axis.

import { clock, h, number, plural, s, table } from "./dom.js";

const LEFT = 44;
const RIGHT = 8;
const TOP = 10;
const REQUESTS_HEIGHT = { wide: 224, narrow: 150 };
const WIDE = 560;
const GAP = 24;
const EVENTS_HEIGHT = 64;
const AXIS = 22;

/** An even number at or above `value`, for the top of an axis: 2, 4, 6, 8, 10, 12, 16, 20, 30 ... */
export function niceCeiling(value) {
  const power = 10 ** Math.floor(Math.log10(Math.max(value, 2)));
  const steps = power === 1 ? [2, 4, 6, 8, 10] : [1, 1.2, 1.6, 2, 3, 4, 5, 6, 8, 10];
  return steps.map((step) => step * power).find((top) => top >= value);
}

export class Chart {
  constructor(holder) {
    this.holder = holder;
    this.points = [];
    this.picked = null;
    this.tip = h("p", { class: "tip", "aria-live": "polite", hidden: true });
    this.svg = s("svg", { tabindex: "0", role: "img", "aria-label": "Requests and blocks in the last quarter hour" });
    holder.append(this.svg, this.tip);
    new ResizeObserver(() => this.draw()).observe(holder);
    this.svg.addEventListener("pointermove", (event) => this.pick(this.indexAt(event.offsetX)));
    this.svg.addEventListener("pointerleave", () => this.pick(null));
    this.svg.addEventListener("blur", () => this.pick(null));
    this.svg.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (step === undefined) return;
      event.preventDefault();
      const from = this.picked ?? this.points.length - 1 - (step > 0 ? 1 : 0);
      this.pick(Math.max(0, Math.min(this.points.length - 1, from + step)));
    });
  }

  /** `series`: the API's answer. Its last step is not over yet and is left out. */
  show(series) {
    this.step = series.step_s;
    this.points = series.points.slice(0, -1).map((point) => ({
      ...point,
      rate: point.requests / series.step_s,
      refusedRate: point.refused / series.step_s,
    }));
    this.draw();
  }

  draw() {
    const width = this.holder.clientWidth;
    if (!width || !this.points.length) return;
    this.width = width;
    const { points } = this;
    const rates = points.map((point) => point.rate);
    const most = niceCeiling(Math.max(...rates));
    const mostEvents = niceCeiling(Math.max(...points.map((point) => Math.max(point.detections, point.blocks))));
    const requestsHeight = width > WIDE ? REQUESTS_HEIGHT.wide : REQUESTS_HEIGHT.narrow;
    const bottom = TOP + requestsHeight;
    const base = bottom + GAP + EVENTS_HEIGHT;
    const y = (rate) => bottom - (rate / most) * requestsHeight;
    const yEvents = (count) => base - (count / mostEvents) * EVENTS_HEIGHT;
    const along = (key) => points.map((point, index) => `${this.x(index).toFixed(1)},${y(point[key]).toFixed(1)}`).join("L");
    const under = (path) => `M${this.x(0)},${bottom}L${path}L${this.x(points.length - 1)},${bottom}Z`;
    const line = along("rate");
    const slot = (width - LEFT - RIGHT) / points.length;
    const bars = (key, share) =>
      points.map((point, index) => {
        if (!point[key]) return null;
        const top = Math.min(yEvents(point[key]), base - 2);
        const w = Math.max(1.5, slot * share);
        return s("rect", { class: key, x: this.x(index) - w / 2, y: top, width: w, height: base - top, rx: 1 });
      });
    const label = (at, text) => s("text", { class: "value", x: LEFT - 8, y: at + 4, "text-anchor": "end" }, text);
    const rule = (at) => s("line", { class: "grid", x1: LEFT, x2: width - RIGHT, y1: at, y2: at });
    this.svg.replaceChildren(
      ...[0, 0.5, 1].map((share) => rule(y(most * share))),
      rule(base),
      label(y(most), number(most)),
      label(y(most / 2), number(most / 2)),
      label(y(0), "0"),
      label(yEvents(mostEvents), number(mostEvents)),
      label(base, "0"),
      s("path", { class: "area", d: under(line) }),
      s("path", { class: "refused", d: under(along("refusedRate")) }),
      s("path", { class: "line", d: `M${line}` }),
      ...bars("detections", 0.9).filter(Boolean),
      ...bars("blocks", 0.5).filter(Boolean),
      ...this.times(base),
      (this.cursor = s("line", { class: "cursor", y1: TOP, y2: base, visibility: "hidden" })),
    );
    this.svg.setAttribute("height", base + AXIS);
    this.svg.setAttribute("viewBox", `0 0 ${width} ${base + AXIS}`);
    this.svg.setAttribute("aria-label", this.inWords(rates));
    if (this.picked !== null) this.pick(Math.min(this.picked, points.length - 1));
  }

  inWords(rates) {
    const sum = (key) => this.points.reduce((total, point) => total + point[key], 0);
    return (
      `Requests and blocks in the last quarter hour: ${number(Math.round(rates.at(-1)))} requests per second now, ` +
      `at most ${number(Math.round(Math.max(...rates)))}; ${plural(sum("refused"), "request")} refused; clients found over a limit ${plural(sum("detections"), "time")}, ` +
      `${plural(sum("blocks"), "new block")} still in force. Arrow keys read single steps.`
    );
  }

  times(base) {
    const last = this.points.at(-1).at;
    return [-15, -10, -5, 0].map((minutes) => {
      const index = this.points.length - 1 + (minutes * 60) / this.step;
      const anchor = minutes === 0 ? "end" : minutes === -15 ? "start" : "middle";
      const x = minutes === -15 ? LEFT : this.x(index);
      return s("text", { class: "value", x, y: base + 16, "text-anchor": anchor }, clock(last + minutes * 60).replace(/:\d\d(?=\D*$)/, ""));
    });
  }

  x(index) {
    return LEFT + ((index + 0.5) / this.points.length) * (this.width - LEFT - RIGHT);
  }

  indexAt(offset) {
    const share = (offset - LEFT) / (this.width - LEFT - RIGHT);
    return Math.max(0, Math.min(this.points.length - 1, Math.floor(share * this.points.length)));
  }

  pick(index) {
    this.picked = index;
    const point = index === null ? undefined : this.points[index];
    this.tip.hidden = point === undefined;
    this.cursor?.setAttribute("visibility", point ? "visible" : "hidden");
    if (!point) return;
    const x = this.x(index);
    this.cursor.setAttribute("x1", x);
    this.cursor.setAttribute("x2", x);
    this.tip.textContent =
      `${clock(point.at)}: ${number(Math.round(point.rate))} requests per second, ${number(Math.round(point.refusedRate))} of them refused, ` +
      `${plural(point.detections, "client")} over a limit, ${number(point.blocks)} blocked then and still`;
    const half = this.tip.offsetWidth / 2;
    this.tip.style.left = `${Math.max(half, Math.min(this.width - half, x))}px`;
  }

  asTable() {
    const rows = this.points.toReversed().map((point) => [
      clock(point.at), number(Math.round(point.rate)), number(Math.round(point.refusedRate)), number(point.detections), number(point.blocks),
    ]);
    return table(["from", "requests per second", "refused per second", "clients over a limit", "blocked then and still"], rows);
  }
}

/** A bar of a count against its limit, at which the mark stands. Bars to be compared share their `most`. */
export function limitBar(count, limit, most = count) {
  const full = Math.max(limit * 1.25, most, 1);
  const element = s("svg", { class: "limit-bar", viewBox: "0 0 100 8", preserveAspectRatio: "none", "aria-hidden": "true" });
  const level = count > limit ? "over" : count > limit * 0.8 ? "near" : "within";
  element.append(
    s("rect", { class: "track", width: 100, height: 8 }),
    s("rect", { class: level, width: (count / full) * 100, height: 8 }),
    s("line", { class: "mark", x1: (limit / full) * 100, x2: (limit / full) * 100, y2: 8, "vector-effect": "non-scaling-stroke" }),
  );
  return element;
}
