// Step 2, ask: a query in the same three ways, its answer at once, and the strip of earlier queries.

import { AnswerView } from "./answer.js";
import { make } from "./elements.js";
import { dropped, holdsFiles } from "./files.js";
import { Giving } from "./giving.js";
import { takeIn } from "./intake.js";
import { Failures } from "./notices.js";
import { picture } from "./pictures.js";
import { hush, say, tell } from "./words.js";

const RATE = 0.05; // of queries of the classes that are answered by "none of these"

export class Asking {
  giving;
  #session;
  #learning;
  #section = document.getElementById("ask");
  #strip = document.getElementById("strip");
  #stripList = document.getElementById("strip-list");
  #waiting = document.getElementById("ask-waiting");
  #unknown = document.getElementById("unknown");
  #failures = new Failures();
  #view = new AnswerView();
  #entries = new Map(); // query's key -> its entry in the strip
  #drawn = null; // the query of the drawing on the sheet, which changes with each stroke
  #strokes = 0; // counts changes of the drawing: the latest wins

  constructor(session, learning) {
    this.#session = session;
    this.#learning = learning;
    this.giving = new Giving("ask", {
      drawn: (blob) => this.#draw(blob),
      taken: (blob, title) => this.#take([{ blob, title }]),
      files: (found) => this.ask(found),
    });
    document.getElementById("ask-giving").append(this.giving.element, this.#failures.element);
    this.#unknown.addEventListener("change", () => this.#allow());
    document.getElementById("forget").addEventListener("click", () => {
      this.giving.drawing.clear();
      learning.forget(null);
      this.giving.focus();
    });
    this.#stripList.addEventListener("keydown", (event) => this.#key(event));
    learning.addEventListener("asked", () => this.#draws());
    learning.addEventListener("answered", () => this.#answered());
    learning.addEventListener("learned", () => this.#wait());
    this.#takeDrops();
    this.learnerChanged();
  }

  get unknown() {
    return this.#learning.unknown;
  }

  /** Another learner may have another set of abilities. */
  learnerChanged() {
    const { facts } = this.#session.backend;
    document.getElementById("unknown-choice").hidden = !facts.unknown;
    const alone = document.getElementById("alone");
    alone.hidden = !facts.transductive;
    if (facts.transductive) tell(alone, "ask.alone", { worth: facts.worth_alone ?? "" });
    this.#allow();
    this.#wait();
  }

  /** Ask files. */
  ask(found) {
    return this.#take(found.map(({ file }) => ({ blob: file, title: file.name })));
  }

  rewrite() {
    this.#answered();
    this.#view.rewrite();
  }

  #allow() {
    const { facts } = this.#session.backend;
    this.#learning.allowUnknown(facts.unknown && this.#unknown.checked ? RATE : null);
  }

  async #take(given) {
    const failures = await takeIn(this.#session, given, (item, title) => {
      this.#learning.ask(item, title);
      return true;
    });
    this.#failures.show(failures);
  }

  async #draw(blob) {
    this.#strokes += 1;
    const strokes = this.#strokes;
    if (blob === null) {
      const drawn = this.#drawn;
      this.#drawn = null;
      if (drawn !== null && this.#learning.current === drawn) this.#learning.show(null); // it stays in the strip
      return;
    }
    const failures = await takeIn(this.#session, [{ blob, title: "" }], (item) => {
      if (strokes === this.#strokes) this.#drawn = this.#learning.ask(item, "", this.#drawn);
      return true;
    });
    if (strokes === this.#strokes) this.#failures.show(failures);
  }

  /** The strip follows the list of queries. */
  #draws() {
    const { queries } = this.#learning;
    const entries = new Map();
    for (const query of queries) {
      const known = this.#entries.get(query.key);
      entries.set(query.key, known?.item === query.item ? known : this.#newEntry(query));
    }
    this.#entries = entries;
    const elements = [...entries.values()].map((entry) => entry.element);
    elements.forEach((element, at) => {
      if (this.#stripList.children[at] !== element) this.#stripList.insertBefore(element, this.#stripList.children[at] ?? null);
    });
    while (this.#stripList.childElementCount > elements.length) this.#stripList.lastElementChild.remove();
    this.#strip.hidden = queries.length === 0;
    this.#answered();
  }

  #newEntry(query) {
    const text = make("span.said");
    const button = make("button.query", { type: "button", on: { click: () => this.#learning.show(query) } }, picture(query.item), text);
    button.query = query;
    return { element: make("li", {}, button), button, text, item: query.item };
  }

  #answered() {
    const { queries, current } = this.#learning;
    for (const query of queries) {
      const entry = this.#entries.get(query.key);
      if (!entry) continue;
      entry.button.setAttribute("aria-pressed", String(query === current));
      const { answer } = query;
      const name = answer ? (answer.unknown ? say("strip.unknown") : answer.lesson.classes[best(answer.probabilities)].name) : say("strip.open");
      entry.text.title = answer && !query.error ? name : "";
      tell(entry.button, "strip.entry", { name }, "aria-label");
      if (query.error) tell(entry.text, "strip.error");
      else if (!answer) tell(entry.text, "strip.open");
      else if (answer.unknown) tell(entry.text, "strip.unknown");
      else {
        hush(entry.text);
        entry.text.textContent = name;
      }
    }
    this.#view.show(current);
    this.#wait();
  }

  /** What the answer waits for. */
  #wait() {
    const { missing, current, lesson, error } = this.#learning;
    if (missing) tell(this.#waiting, "ask.first", { what: say(...missing) });
    else if (error) tell(this.#waiting, "ask.failed");
    else if (lesson && !current) tell(this.#waiting, "ask.ready");
    else hush(this.#waiting);
  }

  #key(event) {
    const query = event.target.query;
    if (!query || (event.key !== "Delete" && event.key !== "Backspace")) return;
    event.preventDefault();
    const entry = event.target.parentElement;
    const next = (entry.nextElementSibling ?? entry.previousElementSibling)?.firstElementChild ?? null;
    this.#learning.forget(query);
    if (next) next.focus();
    else this.giving.focus();
  }

  #takeDrops() {
    const section = this.#section;
    section.addEventListener("dragover", (event) => {
      if (!holdsFiles(event.dataTransfer)) return;
      event.preventDefault();
      section.classList.add("is-over");
    });
    section.addEventListener("dragleave", (event) => {
      if (!section.contains(event.relatedTarget)) section.classList.remove("is-over");
    });
    section.addEventListener("drop", async (event) => {
      section.classList.remove("is-over");
      if (!holdsFiles(event.dataTransfer)) return;
      event.preventDefault();
      this.ask(await dropped(event.dataTransfer));
    });
  }
}

function best(probabilities) {
  return probabilities.indexOf(Math.max(...probabilities));
}
