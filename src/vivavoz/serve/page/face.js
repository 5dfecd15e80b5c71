// Expression, gaze and head: what the user wishes of the face. What is not touched stays the model's choice.

const SLIDERS = [
  { id: "intensity", label: "Intensity", from: 0, to: 100, at: 100, unit: " %" },
  { id: "gaze-x", label: "Eyes right", from: -35, to: 35, group: "gaze_rad" },
  { id: "gaze-y", label: "Eyes up", from: -25, to: 25, group: "gaze_rad" },
  { id: "yaw", label: "Head right", from: -40, to: 40, group: "head_pose_rad" },
  { id: "pitch", label: "Head up", from: -30, to: 30, group: "head_pose_rad" },
  { id: "roll", label: "Head tilt", from: -30, to: 30, group: "head_pose_rad" },
];
const SEND_EVERY_MS = 100;

export class Face {
  #fields = document.querySelector("#controls");
  #expression = document.querySelector("#expression");
  #inputs = new Map();
  #wishes = {};
  #unsent = {};
  #timer;

  /** `send` is given fields of `session.update`, at most ten times a second. */
  constructor(send) {
    this.send = send;
    document.querySelector("#sliders").append(...SLIDERS.map((slider) => this.#make(slider)));
    this.#expression.onchange = () => {
      this.#wish({ expression: this.#expression.value || null });
      this.#say();
    };
    document.querySelector("#reset").onclick = () => this.reset();
    this.#show();
  }

  /** All that is wished, for a new session. */
  get wishes() {
    return { ...this.#wishes };
  }

  /** Leave everything to the model. */
  reset() {
    this.#expression.value = "";
    this.#wish({ expression: null, expression_intensity: 1, gaze_rad: null, head_pose_rad: null });
    this.#wishes = {};
    this.#show();
  }

  /** The model cannot do any of this. */
  disable() {
    this.#wishes = {};
    this.#fields.disabled = true;
    document.querySelector("#no-controls").hidden = false;
  }

  #show() {
    for (const { id, at = 0 } of SLIDERS) this.#inputs.get(id).value = at;
    this.#say();
  }

  /** Beside every slider, its value, or that it is left to the model. */
  #say() {
    this.#inputs.get("intensity").disabled = !this.#expression.value;
    for (const { id, group, unit = "°" } of SLIDERS) {
      const input = this.#inputs.get(id);
      const isFree = group ? !this.#wishes[group] : !this.#expression.value;
      const words = isFree ? "auto" : `${input.value}${unit}`;
      input.nextElementSibling.textContent = words;
      input.setAttribute("aria-valuetext", words);
    }
  }

  #make({ id, label, from, to, group }) {
    const input = Object.assign(document.createElement("input"), { id, type: "range", min: from, max: to, step: 1 });
    const output = document.createElement("output");
    output.htmlFor = id;
    const name = Object.assign(document.createElement("label"), { htmlFor: id, textContent: label });
    input.oninput = () => {
      if (group) this.#wish({ [group]: this.#radians(group) });
      else this.#wish({ expression_intensity: Number(input.value) / 100 });
      this.#say();
    };
    this.#inputs.set(id, input);
    const row = Object.assign(document.createElement("div"), { className: "field slider" });
    row.append(name, input, output);
    return row;
  }

  #radians(group) {
    return SLIDERS.filter((slider) => slider.group === group).map(({ id }) => (this.#inputs.get(id).value * Math.PI) / 180);
  }

  #wish(fields) {
    Object.assign(this.#wishes, fields);
    Object.assign(this.#unsent, fields);
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined;
      this.send(this.#unsent);
      this.#unsent = {};
    }, SEND_EVERY_MS);
  }
}
