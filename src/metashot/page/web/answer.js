// The answer to the query that is looked at: the class, the probability of each, the nearest examples, and the inner steps.

import { make } from "./elements.js";
import { showError } from "./notices.js";
import { picture } from "./pictures.js";
import { hush, number, percent, say, tell } from "./words.js";

const MOST_BARS = 8; // of classes, until all are wanted

export class AnswerView {
  #said = document.getElementById("said"); // read aloud
  #error = document.getElementById("answer-error");
  #bars = document.getElementById("bars");
  #all = document.getElementById("all-bars");
  #near = document.getElementById("near");
  #nearList = document.getElementById("near-list");
  #steps = document.getElementById("steps");
  #slider = document.getElementById("step");
  #step = document.getElementById("step-said");
  #query = document.getElementById("query-picture");
  #rows = new Map(); // class's name -> its row
  #photographic = make("p.error", { role: "status", hidden: true }); // a photograph was given to a learner of drawings
  #compare = make("p.hint", { hidden: true }); // what probabilities mean beside "none of these"
  #shown = null; // the query whose answer is shown
  #answer = null;
  #wantsAll = false;
  #atLast = true; // whether the slider stands at the last step, where each new query begins

  constructor() {
    this.#error.after(this.#photographic);
    this.#all.after(this.#compare);
    tell(this.#photographic, "example.photographic");
    tell(this.#compare, "bars.compare");
    this.#slider.addEventListener("input", () => {
      this.#atLast = Number(this.#slider.value) === Number(this.#slider.max);
      this.#draw();
    });
    this.#all.addEventListener("click", () => {
      this.#wantsAll = !this.#wantsAll;
      this.#draw();
    });
  }

  /** Show the answer to a query; null: there is none. */
  show(query) {
    if (this.#shown !== query) this.#atLast = true; // the strip has the answer after the last step
    this.#shown = query;
    const item = query?.item ?? null;
    if (this.#query.item !== item) {
      this.#query.item = item;
      this.#query.replaceChildren(...(item ? [picture(item)] : []));
    }
    this.#query.hidden = item === null;
    this.#photographic.hidden = !item?.photographic;
    if (query?.error) showError(this.#error, query.error);
    else hush(this.#error);
    this.#answer = query?.answer ?? null;
    this.#draw();
    this.#drawNear();
  }

  /** Numbers are written anew in the language that was chosen. */
  rewrite() {
    this.#draw();
    this.#drawNear();
  }

  #draw() {
    const answer = this.#answer;
    for (const part of [this.#bars, this.#steps, this.#all]) part.hidden = answer === null;
    this.#compare.hidden = !answer?.unknown;
    if (answer === null) {
      hush(this.#said);
      return;
    }
    const { classes } = answer.lesson;
    const shares = this.#afterSteps(answer);
    const best = shares.indexOf(Math.max(...shares));
    const values = { name: classes[best].name, share: percent(shares[best]) };
    const key = answer.unknown ? "answer.unknown" : "answer.is";
    if (this.#atLast || !answer.steps?.length) tell(this.#said, key, values);
    else tell(this.#said, "answer.at-step", { said: say(key, values), step: this.#step.textContent });
    this.#said.classList.toggle("is-unknown", answer.unknown === true);
    this.#drawBars(classes, shares, answer.unknown ? null : best);
  }

  /** The probabilities after the step at which the slider stands. */
  #afterSteps({ steps, probabilities }) {
    this.#steps.hidden = !steps?.length;
    if (!steps?.length) return probabilities;
    const last = steps.length - 1;
    if (Number(this.#slider.max) !== last) this.#slider.max = last;
    if (this.#atLast) this.#slider.value = last;
    const at = steps[Number(this.#slider.value)];
    const most = steps[last].steps;
    const key = at.steps === 0 ? "steps.none" : at.steps === most ? "steps.after" : "steps.after-of";
    tell(this.#step, key, { count: at.steps, most });
    this.#slider.setAttribute("aria-valuetext", say(key, { count: at.steps, most }));
    return at.probabilities;
  }

  #drawBars(classes, shares, best) {
    let places = classes.map((_, place) => place);
    const isLong = places.length > MOST_BARS;
    if (isLong) places.sort((a, b) => shares[b] - shares[a]);
    if (isLong && !this.#wantsAll) places = places.slice(0, MOST_BARS);
    this.#all.hidden = !isLong;
    if (isLong) tell(this.#all, this.#wantsAll ? "bars.fewer" : "bars.all", { count: classes.length });
    const rows = new Map();
    for (const place of places) {
      const { name } = classes[place];
      const row = this.#rows.get(name) ?? newRow(name);
      const isBest = place === best;
      row.element.classList.toggle("is-best", isBest);
      row.mark.textContent = isBest ? "✓" : "";
      row.bar.style.width = `${(100 * shares[place]).toFixed(2)}%`; // by the object model, which the page's policy allows
      row.share.textContent = percent(shares[place]);
      rows.set(name, row);
    }
    this.#rows = rows;
    const elements = [...rows.values()].map((row) => row.element);
    if (elements.length !== this.#bars.childElementCount || elements.some((one, at) => this.#bars.children[at] !== one)) {
      this.#bars.replaceChildren(...elements);
    }
  }

  #drawNear() {
    const near = this.#answer?.near ?? [];
    this.#near.hidden = near.length === 0;
    this.#nearList.replaceChildren(
      ...near.map(({ class: place, example, similarity }) => {
        const one = this.#answer.lesson.classes[place];
        const text = make("span", {}, make("b", { title: one.name }, one.name), " ", number(similarity, 2));
        return make("li", {}, picture(one.examples[example].item), text);
      }),
    );
  }
}

function newRow(name) {
  const mark = make("span.mark", { "aria-hidden": "true" });
  const bar = make("div.fill");
  const share = make("span.share");
  const element = make("li.bar", {}, make("span.of", {}, mark, make("span", { title: name }, name)), make("div.track", { "aria-hidden": "true" }, bar), share);
  return { element, mark, bar, share };
}
