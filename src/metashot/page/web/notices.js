// What went wrong, said where it went wrong; it goes when it is mended, or when it was read and closed.

import { make } from "./elements.js";
import { hush, knows, say, tell } from "./words.js";

const MOST_NAMED = 5; // files of a list

/** The words for an error, with what the back end says behind them; without the file's name, where that is given already. */
export function describe(error, title = "") {
  const key = `error.${error.code}`;
  const about = say(knows(key) ? key : "error.failed", error.details);
  const message = title && error.message.startsWith(`${title}: `) ? error.message.slice(title.length + 2) : error.message;
  return message ? say("error.with", { about, message }) : about;
}

export function showError(place, error) {
  tell(place, "error.said", { error: describe(error) });
}

export function clearError(place) {
  hush(place);
}

/** A list of files that could not be used. */
export class Failures {
  element;
  #list;
  #close;

  constructor() {
    this.#list = make("ul");
    this.#close = make("button.quiet", { type: "button", on: { click: () => this.clear() } });
    tell(this.#close, "failures.close");
    this.element = make("div.failures", { role: "alert", hidden: true }, this.#list, this.#close);
  }

  /** Replace the list by these. */
  show(failures) {
    this.#list.replaceChildren(
      ...failures.slice(0, MOST_NAMED).map(({ title, error }) => make("li", {}, make("strong", {}, String(title)), ": ", describe(error, String(title)))),
    );
    const more = failures.length - MOST_NAMED;
    if (more > 0) this.#list.append(tell(make("li"), "failures.more", { count: more }));
    this.element.hidden = failures.length === 0;
  }

  clear() {
    this.#list.replaceChildren();
    this.element.hidden = true;
  }
}
