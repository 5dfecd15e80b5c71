// The one to three pictures of the person: chosen, dropped, pasted, removed.

const MOST = 3;

export class Portraits {
  #list;
  #changed;
  #urls = [];
  files = [];

  /** `list` is the element that thumbnails go to; `changed` is called after every change. */
  constructor(list, changed) {
    this.#list = list;
    this.#changed = changed;
  }

  /** Address of the first picture, or null. */
  get url() {
    return this.#urls[0] ?? null;
  }

  /** Add files; what is wrong with some of them, as a sentence, or null. */
  add(files) {
    const pictures = [...files].filter((file) => file.type.startsWith("image/"));
    const others = [...files].filter((file) => !file.type.startsWith("image/"));
    const room = MOST - this.files.length;
    this.files.push(...pictures.slice(0, room));
    if (pictures.length && room > 0) this.#show();
    if (pictures.length > room) return "Three pictures are the most; the others were left out.";
    return others.length ? `The file ${others[0].name} is not a picture.` : null;
  }

  remove(index) {
    this.files.splice(index, 1);
    this.#show();
  }

  #show() {
    for (const url of this.#urls) URL.revokeObjectURL(url);
    this.#urls = this.files.map((file) => URL.createObjectURL(file));
    this.#list.replaceChildren(...this.files.map((file, index) => this.#thumbnail(file, index)));
    this.#changed();
  }

  #thumbnail(file, index) {
    const image = document.createElement("img");
    image.src = this.#urls[index];
    image.alt = `Picture ${index + 1}: ${file.name}`;
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = "×";
    button.setAttribute("aria-label", `Remove picture ${index + 1}`);
    button.onclick = () => {
      this.remove(index);
      (this.#list.querySelectorAll("button")[Math.max(0, index - 1)] ?? document.querySelector("#add")).focus();
    };
    const item = document.createElement("li");
    item.append(image, button);
    return item;
  }
}
