"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const players = [];
let loaded = 0;

const RANGES = { expression_intensity: [0, 1], gaze: [-20, 20], head_pose: [-15, 15], blink: [0, 1], lip_shape: [0, 0.1] };
const TITLES = { lip_shape: "Lips", head_pose: "Head", expression_intensity: "Intensity" };
const ORDER = ["phoneme", "lip_shape", "state", "expression", "expression_intensity", "blink", "gaze", "head_pose"];
const titleOf = (name) => TITLES[name] || name[0].toUpperCase() + name.slice(1).replace("_", " ");

function decoded(base64) {
  const text = atob(base64);
  const array = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i += 1) array[i] = text.charCodeAt(i);
  return array;
}

function overview() {
  const { summary, figures } = data;
  document.title = `${data.title}: corpus preview`;
  document.getElementById("title").textContent = data.title;
  document.getElementById("lead").textContent =
    `${plural(summary.clips, "clip")} of ${plural(summary.identities, "person", "people")}, ${duration(summary.seconds)} in all.` +
    (summary.rejected ? ` ${plural(summary.rejected, "piece")} left out.` : "");
  const tile = (value, name) => element("div", { className: "tile" }, element("b", {}, value), element("span", {}, name));
  const tiles = element("div", { className: "card tiles" });
  tiles.append(
    tile(duration(summary.seconds), "of video"),
    tile(summary.clips.toLocaleString("en"), summary.clips === 1 ? "clip" : "clips"),
    tile(summary.identities.toLocaleString("en"), summary.identities === 1 ? "person" : "people"),
    tile(summary.rejected.toLocaleString("en"), "left out"),
    tile(bytes(summary.bytes), `in ${plural(summary.shards, "shard")}`),
  );
  const splits = Object.fromEntries(Object.entries(summary.splits).map(([name, part]) => [name, part.seconds]));
  const people = Object.entries(summary.splits).map(([name, part]) => `${part.identities} ${name}`).join(", ");
  const panels = document.querySelector("#overview .panels");
  panels.append(
    tiles,
    panel("Splits", bars(splits), `People: ${people}. Nobody is in two.`),
    panel("Length of clips", histogram(data.lengths, ["0 s", "5 s", "10 s"])),
    panel("Licences", bars(data.licences)),
  );
  const measured = summary.clips > figures.num_clips ? ` of ${figures.num_clips} clips` : "";
  for (const name of ["state", "expression"]) {
    const classes = data.labels[name].classes;
    if (figures.classes[name])
      panels.append(panel(`${titleOf(name)}${measured}`, bars(figures.classes[name], duration, (one) => colourOf[name](one, classes.indexOf(one)))));
  }
  for (const one of figures.histograms) {
    const unit = one.unit === "degrees" ? "°" : "";
    const show = (value) => `${Number(value.toFixed(unit ? 1 : 3))}${unit}`.replace("-", "−");
    const middle = (one.range[0] + one.range[1]) / 2;
    const foot = `Half under ${show(one.p50)}; nine in ten from ${show(one.p5)} to ${show(one.p95)}.`;
    panels.append(panel(`${one.title}${unit ? "" : `, ${one.unit}`}`, histogram(one.counts, [show(one.range[0]), show(middle), show(one.range[1])]), foot));
  }
  if (figures.classes.phoneme) {
    const { SIL, ...spoken } = figures.classes.phoneme;
    const sorted = Object.fromEntries(Object.entries(spoken).sort((a, b) => b[1] - a[1]));
    const counts = Object.values(sorted);
    const names = element("div", { className: "axis" }, ...Object.keys(sorted).map((name) => element("span", { style: { flex: "1", textAlign: "center", fontSize: "9px" } }, name)));
    const plot = histogram(counts, []);
    plot.lastChild.replaceWith(names);
    panels.append(panel("Phonemes", plot, `${duration(counts.reduce((a, b) => a + b, 0))} spoken, ${duration(SIL || 0)} of pauses.`, true));
  }
}

function lanesOf(clip, player) {
  const count = clip.info.num_frames;
  const lanes = element("div", { className: "lanes" });
  const readouts = [];
  const add = (title, unit, kind, content, read) => {
    const first = lanes.childElementCount ? "" : " first";
    const readout = element("div", { className: `readout${first}` });
    const label = element("div", { className: `label${first}` }, title);
    if (unit) label.append(element("small", {}, unit));
    const lane = element("div", { className: `lane ${kind}${first}` }, content);
    lane.addEventListener("pointerdown", (event) => { lane.setPointerCapture(event.pointerId); player.point(event, lane); });
    lane.addEventListener("pointermove", (event) => event.buttons && player.point(event, lane));
    lanes.append(label, lane, readout);
    readouts.push((frame) => readout.replaceChildren(...read(frame)));
  };
  const value = (name, text, index) =>
    element("div", {}, element("span", { className: index === null ? "" : `c${index}` }, name), element("span", {}, text));
  add("Sound", "", "plot", soundPlot(clip.peaks), () => []);
  const missing = [];
  for (const name of ORDER) {
    const kind = data.labels[name];
    const values = clip.labels[name];
    if (!values) { missing.push(titleOf(name).toLowerCase()); continue; }
    if (kind.classes.length) {
      add(titleOf(name), "", "strip", strip(values, kind.classes, colourOf[name]), (frame) => [kind.classes[values[frame]]]);
      continue;
    }
    const turned = kind.unit === "rad";
    const scale = turned ? 180 / Math.PI : 1;
    const names = kind.columns.length ? kind.columns : [""];
    const columns = names.map((_, i) => values.map((row) => scale * (kind.columns.length ? row[i] : row)));
    const show = (number) => number.toFixed(turned ? 1 : 2).replace("-", "−") + (turned ? "°" : "");
    const read = (frame) => names.map((column, i) => value(column, show(columns[i][frame]), i));
    add(titleOf(name), turned ? "degrees" : kind.unit, "plot", linesPlot(columns, RANGES[name]), read);
  }
  const seconds = count / FRAME_RATE;
  const marks = [0, 0.25, 0.5, 0.75, 1].map((part) => element("span", { style: { left: `${100 * part}%` } }, `${(part * seconds).toFixed(1)} s`));
  lanes.append(element("div", {}), element("div", { className: "timeline" }, ...marks), element("div", {}));
  if (missing.length) lanes.append(element("div", {}), element("div", { className: "absent" }, `Not labelled: ${missing.join(", ")}.`), element("div", {}));
  const head = element("div", { className: "head" });
  lanes.append(head);
  player.onFrame((frame) => {
    const lane = lanes.querySelector(".lane");
    head.style.left = `${lane.offsetLeft + (lane.offsetWidth * (frame + 0.5)) / count}px`;
    readouts.forEach((show) => show(frame));
  });
  return lanes;
}

function overlay(clip, player) {
  const points = new Int16Array(decoded(clip.landmarks).buffer);
  const stride = points.length / clip.info.num_frames;
  const svg = drawn("svg", { viewBox: `0 0 ${data.picture_px} ${data.picture_px}`, visibility: "hidden" });
  const rim = drawn("path", { class: "rim" });
  const path = drawn("path");
  svg.append(rim, path);
  player.onFrame((frame) => {
    const at = (point) => `${points[frame * stride + 2 * point] / 8} ${points[frame * stride + 2 * point + 1] / 8}`;
    const outline = data.outlines.map((one) => `M${one.map(at).join("L")}Z`).join("");
    rim.setAttribute("d", outline);
    path.setAttribute("d", outline);
  });
  return svg;
}

class Player {
  constructor(clip) {
    this.clip = clip;
    this.listeners = [];
    this.shown = -1;
    const source = URL.createObjectURL(new Blob([decoded(clip.film)], { type: "video/mp4" }));
    this.video = element("video", { src: source, preload: "auto", playsInline: true });
    for (const name of ["timeupdate", "seeked", "loadeddata"]) this.video.addEventListener(name, () => this.update());
    this.video.addEventListener("loadeddata", () => { loaded += 1; document.documentElement.dataset.films = loaded; });
    this.video.addEventListener("play", () => this.run());
    this.video.addEventListener("error", () => { document.documentElement.dataset.error = `${clip.info.key} does not play`; });
  }
  get frame() { return Math.min(this.clip.info.num_frames - 1, Math.floor(this.video.currentTime * FRAME_RATE + 1e-3)); }
  onFrame(listener) { this.listeners.push(listener); }
  update(force = false) {
    if (this.frame === this.shown && !force) return;
    this.shown = this.frame;
    this.listeners.forEach((listener) => listener(this.shown));
  }
  run() {
    players.filter((other) => other !== this).forEach((other) => other.video.pause());
    const step = () => { this.update(); if (!this.video.paused) requestAnimationFrame(step); };
    requestAnimationFrame(step);
  }
  seek(frame) { this.video.currentTime = (Math.max(0, Math.min(this.clip.info.num_frames - 1, frame)) + 0.5) / FRAME_RATE; }
  point(event, lane) {
    const box = lane.getBoundingClientRect();
    this.seek(Math.floor((this.clip.info.num_frames * (event.clientX - box.left)) / box.width));
  }
}

function clipCard(clip) {
  const { info } = clip;
  const player = new Player(clip);
  players.push(player);
  const lines = overlay(clip, player);
  const play = element("button", { className: "play", type: "button" }, "Play");
  const show = () => { play.textContent = player.video.paused ? "Play" : "Pause"; };
  play.addEventListener("click", () => (player.video.paused ? player.video.play() : player.video.pause()));
  for (const name of ["play", "pause", "ended"]) player.video.addEventListener(name, show);
  const landmarks = element("button", { type: "button", ariaPressed: "false" }, "Landmarks");
  landmarks.addEventListener("click", () => {
    const on = landmarks.getAttribute("aria-pressed") !== "true";
    landmarks.setAttribute("aria-pressed", on);
    lines.setAttribute("visibility", on ? "visible" : "hidden");
  });
  const speed = element("button", { type: "button", title: "Speed" }, "1×");
  speed.addEventListener("click", () => {
    player.video.playbackRate = { 1: 0.5, 0.5: 0.25, 0.25: 1 }[player.video.playbackRate];
    speed.textContent = `${player.video.playbackRate}×`;
  });
  const clock = element("span", { className: "clock" });
  player.onFrame((frame) => { clock.textContent = `${(frame / FRAME_RATE).toFixed(2)} / ${(info.num_frames / FRAME_RATE).toFixed(2)} s`; });
  const facts = { Person: info.identity, Source: info.source, Licence: info.licence, Shard: clip.shard };
  const track = info.crop_track_px;
  if (track.length) facts.Crop = track.length === 1 ? `${track[0].map(Math.round).join(", ")} px` : `moves over ${track.length} frames`;
  for (const [name, value] of Object.entries(info.facts)) facts[name] = typeof value === "number" ? Number(value.toPrecision(6)) : value;
  const about = element("dl", { className: "about" });
  for (const [name, value] of Object.entries(facts)) about.append(element("dt", {}, name), element("dd", {}, String(value)));
  const link = element("a", { href: `#${info.key}` }, info.key);
  const left = element("div", {},
    element("div", { className: "screen" }, player.video, lines),
    element("div", { className: "controls" }, play, speed, landmarks, clock),
    element("div", { className: "name-line" }, element("h3", {}, link), element("span", { className: "split" }, info.split)),
    about);
  return element("article", { className: "card clip", id: info.key }, left, lanesOf(clip, player));
}

function leftOut() {
  const body = document.querySelector("#left-out .body");
  if (!data.summary.rejected) { body.append(element("p", { className: "note" }, "Nothing was left out.")); return; }
  const sorted = Object.fromEntries(Object.entries(data.summary.reasons).sort((a, b) => b[1] - a[1]));
  const rows = data.rejections.map((one) => {
    const where = one.start_s === null ? "" : `${one.start_s.toFixed(1)} s` + (one.seconds === null ? "" : ` to ${(one.start_s + one.seconds).toFixed(1)} s`);
    return [one.source, where, one.reasons.join(", "), one.detail];
  });
  const card = element("div", { className: "card table-card scroll" }, table(["Source", "Where", "Why", "Detail"], rows, { 0: "code" }));
  const more = data.summary.rejected - rows.length;
  if (more > 0) card.append(element("p", { className: "foot" }, `And ${plural(more, "more piece")}; the manifest has them all.`));
  body.append(element("div", { className: "split-view" }, panel("Reasons", bars(sorted, (value) => value.toLocaleString("en"))), card));
}

function table(heads, rows, kinds = {}) {
  const cell = (tag) => (text, index) => element(tag, { className: kinds[index] || "" }, text);
  return element("table", {},
    element("thead", {}, element("tr", {}, ...heads.map((text, i) => element("th", { className: kinds[i] === "number" ? "number" : "" }, text)))),
    element("tbody", {}, ...rows.map((row) => element("tr", {}, ...row.map(cell("td"))))));
}

function shards() {
  const rows = data.shards.map((one) => [one.name, one.clips.toLocaleString("en"), duration(one.seconds), bytes(one.bytes), one.sha256]);
  const kinds = { 0: "code", 1: "number", 2: "number", 3: "number", 4: "code" };
  document.querySelector("#shards .body").append(element("div", { className: "card table-card scroll" }, table(["File", "Clips", "Length", "Size", "SHA-256"], rows, kinds)));
}

/** "#key@12.5" shows the clip `key` at 12.5 seconds. */
function follow() {
  const [key, seconds] = decodeURIComponent(location.hash.slice(1)).split("@");
  const player = players.find((one) => one.clip.info.key === key);
  if (!player) return;
  document.getElementById(key).scrollIntoView();
  if (seconds) player.seek(Math.round(Number(seconds) * FRAME_RATE));
}

overview();
const shownAll = data.clips.length === data.summary.clips;
document.querySelector("#clips .note").textContent =
  (shownAll ? "All clips." : `${data.clips.length} of ${plural(data.summary.clips, "clip")}, of as many people as there are.`) +
  " Click or drag in a plot to go there; left and right are those of the picture.";
document.querySelector("#clips .list").append(...data.clips.map(clipCard));
leftOut();
shards();
players.forEach((player) => player.update(true));
addEventListener("resize", () => players.forEach((player) => player.update(true)));
addEventListener("hashchange", follow);
follow();
