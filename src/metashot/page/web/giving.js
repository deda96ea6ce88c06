// Three ways to give pictures: drawing them, files, and the webcam. Teaching and asking each have one of these.

import { Camera } from "./camera.js";
import { Drawing } from "./drawing.js";
import { make, newId, sign } from "./elements.js";
import { chosen } from "./files.js";
import { tell } from "./words.js";

const WAYS = ["draw", "files", "camera"];
const SIGNS = { draw: "✎", files: "▤", camera: "◉" };
let serial = 0;

export class Giving {
  element;
  drawing;
  camera;
  #tabs = {};
  #panels = {};
  #way = null;

  /**
   * @param {"teach"|"ask"} purpose
   * @param {{drawn: Function, files: Function, taken: Function}} calls `drawn(blob, title)` for a drawing, which is null
   *   where it was cleared; `files(found)`; `taken(blob, title)` for a picture of the camera
   */
  constructor(purpose, calls) {
    const asks = purpose === "ask";
    this.drawing = new Drawing(
      (isEmpty) => {
        add.disabled = isEmpty;
        if (asks) this.#ask(calls, isEmpty);
      },
      () => (asks ? this.drawing.clear() : give()),
    );
    const give = async () => {
      if (this.drawing.isEmpty) return;
      const blob = await this.drawing.image();
      this.drawing.clear();
      serial += 1;
      calls.drawn(blob, serial);
    };
    const add = make("button.primary", { type: "button", disabled: true, on: { click: give } }, sign("＋"), tell(make("span"), "teach.add-drawing"));
    this.camera = new Camera((blob) => {
      serial += 1;
      calls.taken(blob, serial);
    });
    const draw = [this.drawing.element];
    if (!asks) this.drawing.element.lastElementChild.prepend(add);
    draw.push(tell(make("p.hint"), asks ? "ask.draw-hint" : "draw.cannot"));

    this.#panels.draw = draw;
    this.#panels.files = this.#ofFiles(asks, calls);
    this.#panels.camera = [this.camera.element];
    const tabs = make("div.ways", { role: "tablist" });
    tell(tabs, asks ? "ask.ways" : "teach.ways", {}, "aria-label");
    tabs.addEventListener("keydown", (event) => this.#step(event));
    this.element = make("div.giving", {}, tabs);
    for (const way of WAYS) {
      const [tabId, panelId] = [newId("tab"), newId("panel")];
      this.#tabs[way] = make(
        "button", { type: "button", role: "tab", id: tabId, "aria-controls": panelId, on: { click: () => this.use(way) } },
        sign(SIGNS[way]), tell(make("span"), `way.${way}`),
      );
      tabs.append(this.#tabs[way]);
      this.#panels[way] = make("div.way", { role: "tabpanel", id: panelId, "aria-labelledby": tabId }, ...this.#panels[way]);
      this.element.append(this.#panels[way]);
    }
    this.use("draw");
  }

  /** Show this way of giving; the camera starts only where `starts` says so, else by its button. */
  use(way, starts = true) {
    for (const one of WAYS) {
      const isUsed = one === way;
      this.#tabs[one].setAttribute("aria-selected", String(isUsed));
      this.#tabs[one].tabIndex = isUsed ? 0 : -1;
      this.#panels[one].hidden = !isUsed;
    }
    if (way === "camera" && starts) this.camera.start();
    else if (way === "camera") this.camera.offer();
    else this.camera.stop();
    this.#way = way;
  }

  focus() {
    this.#tabs[this.#way].focus();
  }

  #ofFiles(asks, calls) {
    const take = (event) => {
      const found = chosen(event.target.files);
      event.target.value = ""; // so that the same file can be chosen again
      if (found.length) calls.files(found, asks);
    };
    const field = (key, attributes) => {
      const id = newId("file");
      const input = make("input.file", { type: "file", id, multiple: true, on: { change: take }, ...attributes });
      return make("div.pick", {}, input, tell(make("label.button", { for: id }), key));
    };
    const fields = [field("files.choose", { accept: "image/*" })];
    if (!asks && "webkitdirectory" in HTMLInputElement.prototype) fields.push(field("files.folder", { webkitdirectory: true }));
    return [
      make("div.drop", {}, sign("⇩"), tell(make("p"), asks ? "files.drop-query" : "files.drop"), ...fields),
      tell(make("p.hint"), asks ? "files.hint-query" : "files.hint"),
    ];
  }

  async #ask(calls, isEmpty) {
    if (isEmpty) {
      calls.drawn(null, "");
      return;
    }
    const blob = await this.drawing.image();
    if (!this.drawing.isEmpty) calls.drawn(blob, "");
  }

  #step(event) {
    const by = { ArrowRight: 1, ArrowLeft: -1, Home: -WAYS.indexOf(this.#way), End: WAYS.length - 1 - WAYS.indexOf(this.#way) }[event.key];
    if (by === undefined) return;
    event.preventDefault();
    this.use(WAYS[(WAYS.indexOf(this.#way) + by + WAYS.length) % WAYS.length], false); // passing by switches no camera on
    this.focus();
  }
}
