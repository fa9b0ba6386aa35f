// A line over time, with what its axes are.

import { element, language, say } from "/static/words.js";

const WIDTH = 600, HEIGHT = 140;
// Until then a line would say little.
const GATHERED_S = 60;

// The smallest of 1, 2, 5, 10, 20, 50 … that is not less.
export function roundedUp(value) {
  const power = 10 ** Math.floor(Math.log10(Math.max(value, 1)));
  return [1, 2, 5, 10].map((step) => step * power).find((step) => step >= value);
}

// `points` are [Unix time, value].
export function plot(figure, name, points, unit) {
  const last = points.at(-1)?.[1] ?? 0, [from, to] = [points[0]?.[0] ?? 0, points.at(-1)?.[0] ?? 0];
  const top = roundedUp(Math.max(...points.map(([, value]) => value), 1));
  const title = `${say(name)} · ${last.toFixed(0)} ${unit}`;
  const short = to - from < GATHERED_S;
  const line = svg("polyline", {
    points: points.map(([at, value]) => `${((at - from) / Math.max(to - from, 1) * WIDTH).toFixed(1)},${(HEIGHT - value / top * HEIGHT).toFixed(1)}`).join(" "),
  });
  const drawn = svg("svg", { role: "img", "aria-label": title, viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none" });
  drawn.append(...(short ? [0, 1] : [0, 0.5, 1]).map((share) => svg("line", { x1: 0, x2: WIDTH, y1: share * HEIGHT, y2: share * HEIGHT })));
  if (!short) drawn.append(line);
  const time = (at) => element("time", "", new Date(at * 1000).toLocaleTimeString(language, { hour: "2-digit", minute: "2-digit", hourCycle: "h23" }));
  const scale = element("span", "scale"), times = element("span", "times");
  scale.append(...[top, top / 2, 0].map((value) => element("span", "", `${value} ${unit}`)));
  if (!short) times.append(time(from), time(to));
  const chart = element("div", "chart");
  chart.append(scale, drawn, times);
  if (short) chart.append(element("p", "none", say("gathering")));
  figure.replaceChildren(element("figcaption", "", title), chart);
}

function svg(name, attributes) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}
