// Who speaks the texts: the voices that the server has. Without a choice it is the server's usual one.

import { ask } from "./server.js";

const KINDS = { m: "Man", f: "Woman" };

export class Voice {
  #fields = document.querySelector("#voice-fields");
  #voice = document.querySelector("#voice");
  #variant = document.querySelector("#variant");
  #usual = "";

  /** `send` is given fields of `session.update`. */
  constructor(send) {
    for (const select of [this.#voice, this.#variant]) select.onchange = () => send(this.wishes);
  }

  /** For `session.update`, and for a new session. */
  get wishes() {
    const variant = this.#variant.value;
    const voice = this.#voice.value || (variant && this.#usual);
    return { voice: voice ? voice + (variant && `+${variant}`) : null };
  }

  /** Learn what there is, if that is not known yet; a server that does not tell leaves nothing to choose. */
  async load(token) {
    if (!this.#fields.hidden) return;
    const list = await ask("GET", "v1/voices", { token }).catch(() => null);
    if (!list?.voices.length || !this.#fields.hidden) return;
    const [usual] = list.usual.split("+");
    this.#usual = usual;
    const isLanguage = list.variants.length > 0;
    const named = list.voices.map((voice) => [isLanguage ? language(voice) : voice, voice]);
    named.sort(([one], [other]) => one.localeCompare(other));
    const first = isLanguage ? `Automatic (${language(usual)})` : `Automatic (${usual})`;
    this.#voice.replaceChildren(new Option(first, ""), ...named.map(([name, voice]) => new Option(name, voice)));
    const kinds = list.variants.map((variant) => new Option(`${KINDS[variant[0]] ?? ""} ${variant.slice(1)}`, variant));
    this.#variant.replaceChildren(new Option("Its own", ""), ...kinds);
    this.#variant.parentElement.hidden = !isLanguage;
    this.#fields.hidden = false;
  }
}

/** A language's name in English, with its code: not every code is one that browsers know. */
function language(code) {
  try {
    const name = new Intl.DisplayNames(["en"], { type: "language", fallback: "none" }).of(code);
    return name ? `${name} (${code})` : code;
  } catch {
    return code;
  }
}
