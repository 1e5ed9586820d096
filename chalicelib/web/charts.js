// The chart of the traffic: requests per second above, clients over a limit and blocks below, on one time axis.
// Where the time can be chosen, a drag across the chart, or the plus key, shows a part of it more closely.

import { h, number, plural, s, span, table } from "./dom.js";
import { clock, shortMoment, zone } from "./zone.js";

const LEFT = 44;
const RIGHT = 8;
const TOP = 10;
const REQUESTS_HEIGHT = { wide: 224, narrow: 150 };
const WIDE = 560;
const GAP = 24;
const EVENTS_HEIGHT = 64;
const AXIS = 22;
const CHARACTER = 8; // of a time on the axis, with its share of the space between times

/** An even number at or above `value`, for the top of an axis: 2, 4, 6, 8, 10, 12, 16, 20, 30 ... */
export function niceCeiling(value) {
  const power = 10 ** Math.floor(Math.log10(Math.max(value, 2)));
  const steps = power === 1 ? [2, 4, 6, 8, 10] : [1, 1.2, 1.6, 2, 3, 4, 5, 6, 8, 10];
  return steps.map((step) => step * power).find((top) => top >= value);
}

export class Chart {
  /** `zoom(since, until)` shows a part of the time, and `back()` what was shown before. */
  constructor(holder, { zoom, back }) {
    this.zoom = zoom;
    this.from = null; // the step at which a drag has begun
    this.holder = holder;
    this.points = [];
    this.picked = null;
    this.tip = h("p", { class: "tip", "aria-live": "polite", hidden: true });
    this.svg = s("svg", { tabindex: "0", role: "img", "aria-label": "Requests and blocks" });
    holder.append(this.svg, this.tip);
    new ResizeObserver(() => this.draw()).observe(holder);
    this.svg.addEventListener("pointermove", (event) => this.pick(this.indexAt(event.offsetX)));
    this.svg.addEventListener("pointerleave", () => this.pick(null));
    this.svg.addEventListener("pointerdown", (event) => {
      if (event.button !== 0 || !this.data?.step_s) return;
      this.svg.setPointerCapture(event.pointerId);
      this.from = this.indexAt(event.offsetX);
      this.pick(this.from);
    });
    this.svg.addEventListener("pointerup", (event) => {
      const [from, to] = [this.from, this.indexAt(event.offsetX)];
      this.drop();
      if (from !== null && from !== to) this.choose(Math.min(from, to), Math.max(from, to));
    });
    this.svg.addEventListener("pointercancel", () => this.drop());
    this.svg.addEventListener("blur", () => this.pick(null));
    this.svg.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.altKey || event.metaKey) return; // of the browser, such as to enlarge the page
      if (event.key === "Escape") this.drop();
      if (event.key === "-") back();
      if ("+=".includes(event.key) && this.data?.step_s) {
        const middle = this.picked ?? this.points.length - 1;
        const quarter = Math.floor(this.points.length / 4);
        this.choose(Math.max(0, middle - quarter), Math.min(this.points.length - 1, middle + quarter));
      }
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (step === undefined) return;
      event.preventDefault();
      const from = this.picked ?? this.points.length - 1 - (step > 0 ? 1 : 0);
      this.pick(Math.max(0, Math.min(this.points.length - 1, from + step)));
    });
  }

  /** `data`: what `live` or `trend` makes of the API's answer. */
  show(data) {
    if (data.steps !== this.data?.steps) this.drop();
    this.data = data;
    this.points = data.points;
    this.draw();
  }

  draw() {
    const width = this.holder.clientWidth;
    if (!width || !this.points.length) return;
    this.width = width;
    const { points } = this;
    const rates = points.map((point) => point.rate ?? 0);
    const most = niceCeiling(Math.max(...rates));
    const mostEvents = niceCeiling(Math.max(...points.map((point) => Math.max(point.detections, point.blocks))));
    const requestsHeight = width > WIDE ? REQUESTS_HEIGHT.wide : REQUESTS_HEIGHT.narrow;
    const bottom = TOP + requestsHeight;
    const base = bottom + GAP + EVENTS_HEIGHT;
    const y = (rate) => bottom - (rate / most) * requestsHeight;
    const yEvents = (count) => base - (count / mostEvents) * EVENTS_HEIGHT;
    const runs = measured(points);
    // A step between gaps is as wide as it is long, because a line through a single point would not be seen.
    const xs = ([first, last]) => (first < last ? range(first, last).map((index) => [index, this.x(index)]) : [-0.5, 0.5].map((share) => [first, this.x(first + share)]));
    const along = (run, key) => xs(run).map(([index, x]) => `${x.toFixed(1)},${y(points[index][key]).toFixed(1)}`).join("L");
    const under = (run, key) => `M${xs(run)[0][1]},${bottom}L${along(run, key)}L${xs(run).at(-1)[1]},${bottom}Z`;
    const paths = (name, of) => s("path", { class: name, d: runs.map(of).join("") });
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
      paths("area", (run) => under(run, "rate")),
      paths("refused", (run) => under(run, "refusedRate")),
      paths("line", (run) => `M${along(run, "rate")}`),
      ...bars("detections", 0.9).filter(Boolean),
      ...bars("blocks", 0.5).filter(Boolean),
      ...this.times(base),
      (this.band = s("rect", { class: "band", y: TOP, height: base - TOP, visibility: "hidden" })),
      (this.cursor = s("line", { class: "cursor", y1: TOP, y2: base, visibility: "hidden" })),
    );
    this.svg.setAttribute("height", base + AXIS);
    this.svg.setAttribute("viewBox", `0 0 ${width} ${base + AXIS}`);
    this.svg.setAttribute("aria-label", this.data.words(rates));
    if (this.picked !== null) this.pick(Math.min(this.picked, points.length - 1));
  }

  times(base) {
    const needed = this.data.ticks.reduce((sum, [, text]) => sum + text.length * CHARACTER, 0);
    const ticks = needed < this.width - LEFT ? this.data.ticks : [this.data.ticks[0], this.data.ticks.at(-1)];
    return ticks.map(([index, text], place) => {
      const anchor = place === 0 ? "start" : place === ticks.length - 1 ? "end" : "middle";
      const x = place === 0 ? LEFT : this.x(index);
      return s("text", { class: "value", x, y: base + 16, "text-anchor": anchor }, text);
    });
  }

  x(index) {
    return LEFT + ((index + 0.5) / this.points.length) * (this.width - LEFT - RIGHT);
  }

  indexAt(offset) {
    const share = (offset - LEFT) / (this.width - LEFT - RIGHT);
    return Math.max(0, Math.min(this.points.length - 1, Math.floor(share * this.points.length)));
  }

  /** Forgets the picked step, and a drag that has begun. */
  drop() {
    this.from = null;
    this.pick(null);
  }

  /** Shows the time of the steps from `first` to `last`. */
  choose(first, last) {
    this.zoom(this.points[first].at, this.points[last].at + this.data.step_s);
  }

  pick(index) {
    this.picked = index;
    this.band?.setAttribute("visibility", this.from === null || index === null ? "hidden" : "visible");
    if (this.band && this.from !== null && index !== null) {
      const [left, right] = [Math.min(this.from, index) - 0.5, Math.max(this.from, index) + 0.5].map((edge) => this.x(edge));
      this.band.setAttribute("x", left);
      this.band.setAttribute("width", right - left);
    }
    const point = index === null ? undefined : this.points[index];
    this.tip.hidden = point === undefined;
    this.cursor?.setAttribute("visibility", point ? "visible" : "hidden");
    if (!point) return;
    const x = this.x(index);
    this.cursor.setAttribute("x1", x);
    this.cursor.setAttribute("x2", x);
    this.tip.textContent = this.data.tip(point);
    const half = this.tip.offsetWidth / 2;
    this.tip.style.left = `${Math.max(half, Math.min(this.width - half, x))}px`;
  }

  asTable() {
    return table(this.data.columns, this.points.toReversed().map(this.data.row));
  }
}

const range = (first, last) => Array.from({ length: last - first + 1 }, (_, index) => first + index);

/** The runs of points that were measured, as the indices of the first and the last of each. */
function measured(points) {
  const runs = [];
  points.forEach((point, index) => {
    if (point.rate === null) return;
    if (runs.length && runs.at(-1)[1] === index - 1) runs.at(-1)[1] = index;
    else runs.push([index, index]);
  });
  return runs;
}

const perSecond = (rate) => number(rate < 10 ? Math.round(rate * 10) / 10 : Math.round(rate));
const summed = (points, key) => points.reduce((total, point) => total + point[key], 0);

/** What the chart shows of the last quarter hour. `series`: the API's answer, whose last step is not over yet. */
export function live(series) {
  const points = series.points.slice(0, -1).map((point) => ({
    ...point,
    rate: point.requests / series.step_s,
    refusedRate: point.refused / series.step_s,
  }));
  const last = points.at(-1)?.at ?? series.now;
  return {
    steps: `${series.step_s}`,
    points,
    keys: ["clients over a limit", "blocked then and still"],
    ticks: [-15, -10, -5, 0].map((minutes) => [points.length - 1 + (minutes * 60) / series.step_s, shortMoment(last + minutes * 60)]),
    tip: (point) =>
      `${clock(point.at)}: ${number(Math.round(point.rate))} requests per second, ${number(Math.round(point.refusedRate))} of them refused, ` +
      `${plural(point.detections, "client")} over a limit, ${number(point.blocks)} blocked then and still`,
    columns: ["from", "requests per second", "refused per second", "clients over a limit", "blocked then and still"],
    row: (point) => [
      clock(point.at), number(Math.round(point.rate)), number(Math.round(point.refusedRate)), number(point.detections), number(point.blocks),
    ],
    words: (rates) =>
      `Requests and blocks in the last quarter hour: ${number(Math.round(rates.at(-1)))} requests per second now, ` +
      `at most ${number(Math.round(Math.max(...rates)))}; ${plural(summed(points, "refused"), "request")} refused; clients found over a limit ${plural(summed(points, "detections"), "time")}, ` +
      `${plural(summed(points, "blocks"), "new block")} still in force. Arrow keys read single steps.`,
  };
}

/** What the chart shows of a longer time. `trends`: the API's answer; a step that was not added up is a gap. */
export function trend(trends) {
  const points = trends.points.map((point) => ({
    ...point,
    rate: point.measured_s ? point.requests / point.measured_s : null,
    refusedRate: point.measured_s ? point.refused / point.measured_s : null,
    detections: point.offences,
  }));
  const days = trends.until - trends.since > 86400;
  const when = (point) => shortMoment(point.at, trends.until - trends.since >= 86400);
  const places = points.length < 4 ? [0, points.length - 1] : [0, 1, 2, 3].map((third) => Math.round((third * (points.length - 1)) / 3));
  const about = (point, value) => (point.averaged ? "about " : "") + number(value);
  const least = (point, value) => `${about(point, value)}${point.more ? "+" : ""}`;
  return {
    steps: `${trends.since} ${trends.step_s}`,
    step_s: trends.step_s,
    points,
    keys: ["offences", "blocks made"],
    ticks: places.map((index) => [index, shortMoment(points[index].at, days)]),
    tip: (point) =>
      point.rate === null
        ? `${when(point)}: not recorded`
        : `${when(point)}, ${span(trends.step_s)}: ${about(point, point.requests)} requests (${perSecond(point.rate)} per second), ${about(point, point.refused)} of them refused, ` +
          `${least(point, point.offences)} offences, ${least(point, point.blocks)} blocks made, at most ${number(point.most_blocked)} in force` +
          (point.averaged ? "; added up late, so this is an average" : ""),
    columns: ["from", "requests", "of them refused", "offences", "blocks made", "most in force"],
    row: (point) =>
      point.rate === null
        ? [when(point), "not recorded", "", "", "", ""]
        : [when(point), about(point, point.requests), about(point, point.refused), least(point, point.offences), least(point, point.blocks), number(point.most_blocked)],
    words: () =>
      `Requests and blocks from ${when(points[0])} to ${shortMoment(trends.until, true)} (${zone}): ${plural(trends.total.requests, "request")}, ` +
      `${number(trends.total.refused)} of them refused; ${plural(trends.total.offences, "offence")}, ${plural(trends.total.blocks, "block")} made, ` +
      `at most ${number(trends.total.most_blocked)} in force. Arrow keys read single steps, plus shows a part of the time, minus goes back.`,
  };
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
