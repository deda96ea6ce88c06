// The little pictures of one class's examples: one stop of the keyboard, arrow keys between them, Delete to remove.

import { make } from "./elements.js";
import { picture } from "./pictures.js";
import { tell } from "./words.js";

export class Examples {
  element;
  #buttons = new Map(); // example's key -> its button
  #note = tell(make("p.hint.photographs", { hidden: true }), "examples.photographic");
  #current = null; // the button that the keyboard stops at
  #open;
  #remove;

  /**
   * @param {(example: object) => void} open called to look at an example closely
   * @param {(example: object) => void} remove called to remove one
   */
  constructor(open, remove) {
    this.#open = open;
    this.#remove = remove;
    this.element = make("ul.examples", { role: "list", on: { keydown: (event) => this.#key(event), focusin: (event) => this.#stopAt(event.target) } });
  }

  add(example, place) {
    const button = make("button.example", { type: "button", tabindex: -1, on: { click: () => this.#open(example) } }, picture(example.item));
    tell(button, titleKey(example.title), { title: example.title }, "aria-label");
    if (example.item.photographic) button.classList.add("is-photographic");
    button.example = example;
    this.#buttons.set(example.key, button);
    this.element.insertBefore(make("li", {}, button), this.element.children[place] ?? null);
    if (this.#current === null) this.#stopAt(button);
    this.#warn();
    if (place === this.element.childElementCount - 1) this.element.scrollTop = this.element.scrollHeight;
  }

  /** Remove an example; focus that was on it goes to its neighbour. Returns whether focus needs another place. */
  remove(example) {
    const button = this.#buttons.get(example.key);
    const item = button.parentElement;
    const hadFocus = document.activeElement === button;
    const next = (item.nextElementSibling ?? item.previousElementSibling)?.firstElementChild ?? null;
    if (this.#current === button) this.#stopAt(next);
    this.#buttons.delete(example.key);
    item.remove();
    this.#warn();
    if (hadFocus) next?.focus();
    return hadFocus && next === null;
  }

  focus(example) {
    this.#buttons.get(example.key)?.focus();
  }

  /** Below the examples, say that some are photographs where the learner is one of drawings. */
  #warn() {
    if (!this.#note.isConnected) this.element.after(this.#note);
    this.#note.hidden = ![...this.#buttons.values()].some((button) => button.example.item.photographic);
  }

  #stopAt(button) {
    if (this.#current) this.#current.tabIndex = -1;
    this.#current = button;
    if (button) button.tabIndex = 0;
  }

  #key(event) {
    const all = [...this.element.children];
    const place = all.indexOf(event.target.parentElement);
    if (place < 0) return;
    if (event.key === "Delete" || event.key === "Backspace") {
      event.preventDefault();
      this.#remove(event.target.example);
      return;
    }
    const perRow = Math.max(1, all.findIndex((one) => one.offsetTop > all[0].offsetTop));
    const to = { ArrowRight: place + 1, ArrowLeft: place - 1, ArrowDown: place + perRow, ArrowUp: place - perRow, Home: 0, End: all.length - 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    all[Math.min(Math.max(to, 0), all.length - 1)].firstElementChild.focus();
  }
}

/** Drawings and pictures of the camera have numbers for titles; files have names. */
export function titleKey(title) {
  return typeof title === "number" ? "example.numbered" : "example.named";
}
