"use strict";
// Small parts of the page. Names from the data only ever become text, never markup.

const FRAME_RATE = 25;
const STATE_COLOURS = ["#0b6e5f", "#b5781e", "#8b8880"];
const EXPRESSION_COLOURS = ["#8b8880", "#c79a1d", "#3f6fb5", "#b8443a", "#8756a8", "#52708a", "#6d8a3a"];
const SOUND_COLOURS = [
  [/^SIL$/, "transparent"], [/^[PBM]$/, "#a33d35"], [/^[FV]$/, "#8a5a2b"], [/^(W|UW|UH|OW|OY|AO)$/, "#6a4f9c"],
  [/^[AEIOU]/, "#2f67b8"], [/./, "#5f7470"],
];

function element(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name === "style") Object.assign(made.style, value);
    else if (name in made) made[name] = value;
    else made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

function drawn(tag, attributes = {}, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

const plural = (count, one, many = one + "s") => `${count.toLocaleString("en")} ${count === 1 ? one : many}`;

function duration(seconds) {
  if (seconds < 60) return `${Number(seconds.toFixed(1))} s`;
  if (seconds < 3600) return `${Number((seconds / 60).toFixed(1))} min`;
  return `${Number((seconds / 3600).toFixed(1)).toLocaleString("en")} h`;
}

function bytes(count) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  const step = count > 0 ? Math.min(4, Math.floor(Math.log10(count) / 3)) : 0;
  return `${Number((count / 1000 ** step).toPrecision(3))} ${units[step]}`;
}

function bars(values, show = duration, colour = () => "") {
  const list = element("div", { className: "bars" });
  const most = Math.max(...Object.values(values), 1e-9);
  Object.entries(values).forEach(([name, value], index) => {
    const bar = element("div", { className: "bar", style: { width: `${(100 * value) / most}%`, background: colour(name, index) } });
    list.append(
      element("div", { className: "name", title: name }, name),
      element("div", { className: "well" }, bar),
      element("div", { className: "value" }, show(value)),
    );
  });
  return list;
}

function histogram(counts, labels) {
  const most = Math.max(...counts, 1);
  const svg = drawn("svg", { viewBox: `0 0 ${counts.length} 100`, preserveAspectRatio: "none", "aria-hidden": "true" });
  counts.forEach((count, index) => {
    const height = (98 * count) / most;
    svg.append(drawn("rect", { x: index + 0.06, y: 100 - height, width: 0.88, height }));
  });
  svg.append(drawn("line", { x1: 0, x2: counts.length, y1: 100, y2: 100 }));
  return element("div", { className: "histogram" }, svg, element("div", { className: "axis" }, ...labels.map((text) => element("span", {}, text))));
}

function panel(title, content, foot = "", wide = false) {
  const made = element("div", { className: `card panel${wide ? " wide" : ""}` }, element("h3", {}, title), content);
  if (foot) made.append(element("p", { className: "foot" }, foot));
  return made;
}

function line(values, low, high, index, height) {
  const y = (value) => (height - (height * (value - low)) / (high - low)).toFixed(2);
  const path = values.map((value, frame) => `${frame ? "L" : "M"}${frame + 0.5} ${y(value)}`).join("");
  return drawn("path", { d: path, class: `c${index}` });
}

/** A plot of one or more columns over all frames; `range` as [low, high], widened to what is there. */
function linesPlot(columns, range) {
  const count = columns[0].length;
  const low = Math.min(range[0], ...columns.flat());
  const high = Math.max(range[1], ...columns.flat());
  const svg = drawn("svg", { viewBox: `0 0 ${count} 46`, preserveAspectRatio: "none", "aria-hidden": "true" });
  const zero = 46 - (46 * (0 - low)) / (high - low);
  svg.append(drawn("path", { d: `M0 ${zero}L${count} ${zero}`, class: "zero" }));
  columns.forEach((values, index) => svg.append(line(values, low, high, index, 46)));
  return svg;
}

function soundPlot(peaks) {
  const most = Math.max(...peaks, 0.05);
  const top = peaks.map((peak, i) => `L${i + 0.5} ${(23 - (22 * peak) / most).toFixed(1)}`).join("");
  const bottom = peaks.map((peak, i) => `L${i + 0.5} ${(23 + (22 * peak) / most).toFixed(1)}`).reverse().join("");
  const svg = drawn("svg", { viewBox: `0 0 ${peaks.length} 46`, preserveAspectRatio: "none", "aria-hidden": "true" });
  svg.append(drawn("path", { d: `M0 23${top}L${peaks.length} 23${bottom}Z`, class: "sound" }));
  return svg;
}

/** Runs of one class as coloured pieces. */
function strip(values, classes, colour) {
  const track = element("div", { className: "track" });
  for (let start = 0; start < values.length; ) {
    let end = start;
    while (end < values.length && values[end] === values[start]) end += 1;
    const name = classes[values[start]];
    const fits = ((end - start) / values.length) * 100 > 0.9 * name.length;
    const place = { left: `${(100 * start) / values.length}%`, width: `${(100 * (end - start)) / values.length}%` };
    const run = element("div", { className: "run", title: name, style: { ...place, background: colour(name, values[start]) } });
    if (fits && run.style.background !== "transparent") run.textContent = name;
    track.append(run);
    start = end;
  }
  return track;
}

const colourOf = {
  state: (name, index) => STATE_COLOURS[index],
  expression: (name, index) => EXPRESSION_COLOURS[index],
  phoneme: (name) => SOUND_COLOURS.find(([pattern]) => pattern.test(name))[1],
};
