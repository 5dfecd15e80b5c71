// How the session goes: three lanes over the last minute, each with its newest numbers in words.

const SECONDS = 60;
const LANES = [
  { title: "Frame rate", unit: "1/s", least: 25, lines: [["made", "fps"], ["seen", "seen"]] },
  { title: "Latency", unit: "ms", least: 500, lines: [["until it is seen", "latency"]] },
  { title: "Buffer", unit: "ms", least: 300, lines: [["server", "buffered"], ["browser", "browser"]] },
];

export class Graph {
  #history = [];
  #lanes;

  constructor(element) {
    this.#lanes = LANES.map((lane) => {
      const caption = document.createElement("figcaption");
      const title = Object.assign(document.createElement("strong"), { textContent: lane.title });
      const values = lane.lines.map(([name], index) => {
        const value = document.createElement("span");
        value.className = `value line-${index}`;
        value.append(document.createElement("b"), ` ${name}`);
        return value;
      });
      caption.append(title, Object.assign(document.createElement("span"), { className: "unit", textContent: lane.unit }), ...values);
      const canvas = document.createElement("canvas");
      canvas.setAttribute("aria-hidden", "true"); // the caption says the numbers
      const figure = document.createElement("figure");
      figure.append(caption, canvas);
      element.append(figure);
      return { ...lane, canvas, values: values.map((value) => value.firstChild) };
    });
    const draw = () => this.draw();
    new ResizeObserver(draw).observe(element);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  }

  /** One second's numbers by name; null where there is none. */
  add(numbers) {
    this.#history.push(numbers);
    this.#history.splice(0, this.#history.length - SECONDS);
    this.draw();
  }

  clear() {
    this.#history = [];
    this.draw();
  }

  draw() {
    for (const lane of this.#lanes) this.#drawLane(lane);
  }

  #drawLane({ canvas, lines, least, values }) {
    const scale = devicePixelRatio;
    const [width, height] = [canvas.clientWidth, canvas.clientHeight];
    canvas.width = width * scale;
    canvas.height = height * scale;
    const pen = canvas.getContext("2d");
    pen.scale(scale, scale);
    const style = getComputedStyle(canvas);
    const known = lines.flatMap(([, key]) => this.#history.map((one) => one[key] ?? 0));
    const most = 1.15 * Math.max(least, ...known);
    const y = (value) => height - 1 - (value / most) * (height - 2);
    pen.strokeStyle = style.getPropertyValue("--border");
    pen.setLineDash([2, 3]);
    pen.beginPath();
    pen.moveTo(0, y(least));
    pen.lineTo(width, y(least));
    pen.stroke();
    pen.lineWidth = 2;
    pen.lineJoin = pen.lineCap = "round";
    lines.forEach(([, key], index) => {
      const newest = this.#history.at(-1)?.[key];
      values[index].textContent = newest === undefined || newest === null ? "–" : Math.round(newest);
      pen.strokeStyle = style.getPropertyValue(`--line-${index}`);
      pen.setLineDash(index ? [5, 4] : []);
      pen.beginPath();
      this.#history.forEach((one, at) => {
        if (one[key] === null || one[key] === undefined) return;
        pen.lineTo(width - 2 - ((this.#history.length - 1 - at) * (width - 4)) / (SECONDS - 1), y(one[key]));
      });
      pen.stroke();
    });
  }
}
