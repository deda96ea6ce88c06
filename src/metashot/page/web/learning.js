// Fits the learner to the examples as they change and answers the queries: one call at a time, and the latest wishes win.

import { newKey } from "./classes.js";
import { asPageError, UNREACHABLE } from "./errors.js";

const PAUSE = 250; // ms without a change before a fit
const LONGEST_PAUSE = 2000; // ms: while many files are read, it learns in between
const TOGETHER = 16; // queries in one call, where they do not see each other
const MOST_QUERIES = 40; // that are kept

export class Learning extends EventTarget {
  queries = []; // [{key, item, title, answer, error, lesson, asked}], the latest first
  current = null; // the query whose answer is shown
  unknown = null; // the rate of "none of these"; null: it is no answer
  lesson = null; // what was fitted: {number, seconds, classes: [{key, name, examples}]}
  error = null; // why the last fit failed
  busy = false;

  #backend;
  #classes;
  #connection;
  #due = false;
  #timer = null;
  #since = null; // when the first change came that is not fitted
  #fits = 0;
  #working = null; // ends when nothing is left to do

  constructor(backend, classes, connection) {
    super();
    this.#backend = backend;
    this.#classes = classes;
    this.#connection = connection;
    classes.addEventListener("lesson", () => this.#changed());
    classes.addEventListener("any", () => this.#tell("learned"));
    classes.addEventListener("replaced", () => this.#unlearn()); // perhaps by those of another learner
    connection.addEventListener("back", () => this.again());
  }

  /** What is missing for a fit: a key of words with its values; null where nothing is. */
  get missing() {
    const { list, taught } = this.#classes;
    const most = this.#backend.facts.most_classes;
    if (most !== null && most !== undefined && taught.length > most) return ["missing.fewer", { most, count: taught.length }];
    if (taught.length >= 2) return null;
    if (list.length < 2) return ["missing.classes", {}];
    const empty = list.filter((one) => one.examples.length === 0);
    if (taught.length === 0) return ["missing.both", { first: list[0].name, second: list[1].name }];
    return ["missing.one", { name: empty[0].name }];
  }

  /** Fit as soon as possible, also when nothing has changed. */
  again() {
    clearTimeout(this.#timer);
    this.#due = true;
    this.#work();
  }

  /** Wait until all changes so far are learned and all queries answered. */
  async settled() {
    if (this.#since !== null) this.again();
    await this.#working;
  }

  /** Ask a query, which takes the place of `instead` where that is given. */
  ask(item, title, instead = null) {
    let query = this.queries.includes(instead) ? instead : null;
    if (query === null) {
      query = { key: newKey() };
      this.queries.unshift(query);
      this.queries.length = Math.min(this.queries.length, MOST_QUERIES);
    }
    Object.assign(query, { item, title, answer: null, error: null, asked: null });
    this.current = query;
    this.#tell("asked");
    this.#work();
    return query;
  }

  show(query) {
    this.current = query;
    this.#tell("answered");
  }

  forget(query) {
    this.queries = query === null ? [] : this.queries.filter((one) => one !== query);
    if (!this.queries.includes(this.current)) this.current = this.queries[0] ?? null;
    this.#tell("asked");
    this.#work();
  }

  /** Allow "none of these" at this rate; null forbids it. */
  allowUnknown(rate) {
    this.unknown = rate;
    this.#work();
  }

  #changed() {
    clearTimeout(this.#timer);
    const now = performance.now();
    this.#since ??= now;
    const pause = Math.max(0, Math.min(PAUSE, this.#since + LONGEST_PAUSE - now));
    this.#timer = setTimeout(() => this.again(), pause);
    if (this.missing !== null) this.#unlearn();
  }

  #unlearn() {
    this.lesson = this.error = null;
    for (const query of this.queries) query.answer = query.error = query.asked = null;
    this.#tell("answered");
    this.#tell("learned");
  }

  #work() {
    if (!this.busy) this.#working = this.#workOff();
  }

  async #workOff() {
    this.busy = true;
    for (;;) {
      if (this.#due) {
        await this.#fit();
        continue;
      }
      const asked = this.#unanswered();
      if (asked.length === 0) break;
      await this.#answer(asked);
    }
    this.busy = false;
    this.#tell("learned");
  }

  async #fit() {
    this.#due = false;
    this.#since = null;
    if (this.missing !== null) {
      this.#unlearn();
      return;
    }
    this.#tell("learning");
    const classes = this.#classes.taught.map((one) => ({ ...one, examples: [...one.examples] }));
    const given = classes.map(({ examples, ...one }) => ({ ...one, items: examples.map((example) => example.item) }));
    try {
      const { seconds } = await this.#connection.insist(() => this.#backend.fit(given.map(({ key, ...one }) => one)));
      this.#fits += 1;
      if (this.missing !== null) return; // what it was fitted to was taken away meanwhile
      this.lesson = { number: this.#fits, seconds, classes };
      this.error = null;
    } catch (error) {
      this.#unlearn();
      this.error = asPageError(error);
    }
    this.#tell("learned");
  }

  /** The queries to ask now, the one that is looked at first. */
  #unanswered() {
    if (this.lesson === null) return [];
    const wish = this.#wish();
    const open = this.queries.filter((query) => query.asked !== wish);
    if (open.length === 0) return [];
    if (this.#backend.facts.transductive) return [...this.queries];
    if (open.includes(this.current)) return [this.current];
    return open.slice(0, TOGETHER);
  }

  /** What an answer depends on beside the query: by it, old answers are known. */
  #wish() {
    const others = this.#backend.facts.transductive ? this.queries.map((query) => query.item.id).join() : "";
    return [this.lesson.number, this.unknown, others].join("|");
  }

  async #answer(queries) {
    const wish = this.#wish();
    const items = queries.map((query) => query.item);
    const { lesson, unknown } = this;
    const steps = Boolean(this.#backend.facts.steps);
    let answers = null;
    let failed = null;
    try {
      answers = await this.#backend.answer(items, { unknown, steps });
    } catch (error) {
      failed = asPageError(error);
      if (this.#connection.notice(failed)) {
        await this.#connection.insist(async () => {});
        return;
      }
    }
    if (this.lesson !== lesson) return;
    for (const [place, query] of queries.entries()) {
      if (query.item !== items[place]) continue; // drawn further meanwhile
      query.asked = wish;
      query.answer = answers && { ...answers[place], lesson };
      query.error = failed;
    }
    this.#tell("answered");
  }

  #tell(type) {
    this.dispatchEvent(new Event(type));
  }
}
