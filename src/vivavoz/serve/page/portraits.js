// The person: one to three pictures, or an avatar's file; chosen, dropped, pasted, removed.

const MOST = 3;

const isAvatar = (file) => file.name.endsWith(".safetensors");
const isPicture = (file) => file.type.startsWith("image/");

/** The first portrait in an avatar's file, as a blob; null if there is none. */
async function portraitIn(file) {
  try {
    const length = Number(new DataView(await file.slice(0, 8).arrayBuffer()).getBigUint64(0, true));
    const header = JSON.parse(await file.slice(8, 8 + length).text());
    const { shape: [, height, width], data_offsets: [start] } = header.pictures;
    const first = 8 + length + start;
    const rgb = new Uint8Array(await file.slice(first, first + 3 * height * width).arrayBuffer());
    const picture = new ImageData(width, height);
    picture.data.fill(255);
    for (let i = 0; i < height * width; i += 1) picture.data.set(rgb.subarray(3 * i, 3 * i + 3), 4 * i);
    const canvas = new OffscreenCanvas(width, height);
    canvas.getContext("2d").putImageData(picture, 0, 0);
    return await canvas.convertToBlob();
  } catch {
    return null; // the server says what is wrong with it
  }
}

export class Portraits {
  #list;
  #changed;
  #urls = [];
  #shown = new Map(); // of an avatar's file: its portrait
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
  async add(files) {
    const avatar = [...files].find(isAvatar);
    if (avatar) {
      this.#shown = new Map([[avatar, await portraitIn(avatar)]]);
      this.files = [avatar];
      this.#show();
      return files.length > 1 ? "An avatar stands alone; the others were left out." : null;
    }
    const pictures = [...files].filter(isPicture);
    const others = [...files].filter((file) => !isPicture(file));
    if (pictures.length) this.files = this.files.filter((file) => !isAvatar(file));
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
    this.#urls = this.files.map((file) => URL.createObjectURL(this.#shown.get(file) ?? file));
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
