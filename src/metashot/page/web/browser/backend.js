// The back end that needs no server: everything is computed in the browser, from the files beside the page.

import { PageError } from "../errors.js";
import { familiarityOf, isUnknown } from "./familiarity.js";
import { fittedFile, LONGEST_LABEL, readFitted } from "./fewshot.js";
import { graphOf } from "./graph.js";
import { nearestOf, probabilitiesOf, summaryOf, unit } from "./heads.js";
import { idOf, itemOf } from "./images.js";
import { Float } from "./pickles.js";
import { Backbone } from "./runtime.js";
import { say } from "./words.js";

const MOST_KEPT = 2 ** 26; // numbers of all features that are kept
const FILES = ["numbers.bin", "examples.bin", "backbone.onnx", "head.bin", "weights.fewshot"];
const INVERTED = { auto: "on bright ground", dark: "always", bright: "never" };

export async function open() {
  const told = JSON.parse(new TextDecoder().decode(await file("learner.json")));
  // All at once: from then on the page needs no web server.
  const [numbers, examples, model, head, template] = await Promise.all(FILES.map(file));
  const files = { model, head, template: new Blob([template]) };
  const learner = new BrowserLearner(told, new Float64Array(numbers.buffer), files, await Backbone.open(model, told.form.shape));
  learner.facts.classes = classesOf(told, examples);
  return learner;
}

class BrowserLearner {
  /** Called with the number of images whose features are known, and with that of all, while a fit or an answer takes long. */
  progress = null;

  #form;
  #ink;
  #head;
  #familiarity;
  #files; // model and head of the graph, and the template of files to save
  #backbone;
  #features = new Map(); // by the id of an item; those that were used last come last
  #fit = null;

  constructor(told, values, files, backbone) {
    this.facts = told.facts;
    this.#form = told.form;
    this.#ink = told.ink;
    this.#head = withArrays(told.head, values);
    this.#familiarity = told.familiarity && withArrays(told.familiarity, values);
    this.#files = files;
    this.#backbone = backbone;
  }

  async prepare(blob, name) {
    const most = this.facts.limits.file;
    if (blob.size > most) {
      const sizes = { size: Math.ceil(blob.size / 2 ** 20), most: most / 2 ** 20 };
      throw new PageError("too_large", say("browser.file_too_large", { name, ...sizes }));
    }
    return itemOf(blob, name, this.#form);
  }

  async fit(classes) {
    const begun = performance.now();
    refuseClasses(classes, this.facts.limits);
    const items = classes.flatMap((one) => one.items);
    const labels = Int32Array.from(classes.flatMap((one, place) => one.items.map(() => place)));
    const features = await this.#featuresOf(items);
    const summary = summaryOf(this.#head, features, labels, classes.length);
    const places = classes.flatMap((one, place) => one.items.map((_, example) => ({ class: place, example })));
    const kept = classes.map(({ name, label, items: own }) => ({ name, label, items: [...own] }));
    this.#fit = { classes: kept, features, labels, summary, places, units: features.map(unit), known: null };
    return { seconds: (performance.now() - begun) / 1000 };
  }

  async answer(items, { unknown = null } = {}) {
    const fit = this.#fitted();
    if (unknown !== null && this.#familiarity === null) throw new PageError("unavailable", say("browser.no_unknown"));
    if (unknown !== null) {
      fit.known ??= familiarityOf(this.#familiarity, fit.features, fit.labels, fit.classes.length);
    }
    const features = await this.#featuresOf(items);
    return features.map((own) => {
      const probabilities = probabilitiesOf(this.#head, fit.summary, own);
      if (!probabilities.every(Number.isFinite)) throw new PageError("failed", say("browser.not_finite"));
      const near = nearestOf(fit.units, own).map(({ place, similarity }) => ({ ...fit.places[place], similarity }));
      const isNone = unknown === null ? null : isUnknown(this.#familiarity, fit.known, own, unknown);
      return { probabilities, unknown: isNone, near, steps: null };
    });
  }

  async save() {
    const { classes } = this.#fitted();
    const labelled = ordered(classes);
    for (const { label } of labelled) refuseLabel(label);
    return fittedFile(this.#files.template, labelled, this.#form.shape, this.#ink);
  }

  async load(blob, name) {
    const { classes, ink } = await readFitted(blob, name, this.#files.template, this.facts);
    if (this.#form.of_drawings) {
      this.#ink = ink;
      this.#form = { ...this.#form, inverted: INVERTED[ink] };
    }
    this.#fit = null;
    return classes;
  }

  async graph() {
    const { classes, features } = this.#fitted();
    const labelled = ordered(classes);
    const places = new Map(classes.map((one, place) => [one.name, place]));
    const order = labelled.map((one) => places.get(one.name));
    const starts = classes.map((_, place) => classes.slice(0, place).reduce((total, one) => total + one.items.length, 0));
    const sorted = order.flatMap((place) => features.slice(starts[place], starts[place] + classes[place].items.length));
    const labels = Int32Array.from(order.flatMap((place, label) => classes[place].items.map(() => label)));
    const summary = summaryOf(this.#head, sorted, labels, classes.length);
    const names = labelled.map(({ name, label }) => {
      if (label instanceof Float) return Number.isFinite(label.value) ? label.value : name;
      return label === null || ["string", "number", "boolean"].includes(typeof label) ? label : name;
    });
    const parts = graphOf(this.#files.model, this.#files.head, this.#head, summary, names);
    return new Blob(parts, { type: "application/octet-stream" });
  }

  #fitted() {
    if (this.#fit === null) throw new PageError("failed", say("browser.no_fit"));
    return this.#fit;
  }

  /** The features of items. Those of items that were seen before are kept. */
  async #featuresOf(items) {
    const missing = new Map(items.filter((item) => !this.#features.has(item.id)).map((item) => [item.id, item.pixels]));
    const ids = [...missing.keys()];
    const progress = (done, of) => this.progress?.(done, of);
    const found = new Map();
    try {
      const embedded = await this.#backbone.features([...missing.values()], progress);
      embedded.forEach((features, place) => found.set(ids[place], features));
    } catch (error) {
      throw new PageError("failed", say("browser.not_computed", { reason: error.message }));
    }
    const features = items.map((item) => found.get(item.id) ?? this.#features.get(item.id));
    items.forEach((item, place) => {
      this.#features.delete(item.id);
      this.#features.set(item.id, features[place]);
    });
    const most = MOST_KEPT / (features[0]?.length ?? 1);
    for (const id of this.#features.keys()) {
      if (this.#features.size <= most) break;
      this.#features.delete(id);
    }
    return features;
  }
}

/** Classes with their labels, in the order in which Python sorts labels; as they are where it cannot sort them. */
function ordered(classes) {
  const labelled = classes.map(({ name, label, items }) => ({ name, label: labelOf(name, label), items }));
  const value = ({ label }) => (label instanceof Float ? label.value : label);
  if (labelled.every((one) => typeof one.label === "string")) return labelled.sort((a, b) => byCodePoints(a.label, b.label));
  if (labelled.every((one) => ["number", "boolean"].includes(typeof value(one)))) return labelled.sort((a, b) => value(a) - value(b));
  return labelled;
}

function labelOf(name, label) {
  if (label === undefined) return name;
  return typeof label === "number" && Number.isInteger(label) && name !== String(label) ? new Float(label) : label;
}

function byCodePoints(a, b) {
  const [one, other] = [Array.from(a), Array.from(b)].map((text) => text.map((character) => character.codePointAt(0)));
  const place = one.findIndex((value, at) => value !== other[at]);
  return place < 0 ? one.length - other.length : one[place] - (other[place] ?? -1);
}

function refuseClasses(classes, limits) {
  const names = new Set();
  for (const { name, items } of classes) {
    if (names.has(name)) throw new PageError("bad_input", say("browser.named_twice", { name }));
    if (!items.length) throw new PageError("bad_input", say("browser.too_few_classes"));
    names.add(name);
  }
  if (classes.length < 2) throw new PageError("bad_input", say("browser.too_few_classes"));
  const counts = { classes: classes.length, examples: classes.reduce((total, one) => total + one.items.length, 0) };
  for (const [what, count] of Object.entries(counts)) {
    if (count > limits[what]) throw new PageError("too_large", say(`browser.too_many_${what}`, { count, most: limits[what] }));
  }
}

function refuseLabel(label) {
  if (typeof label !== "string") return;
  if (Array.from(label).length > LONGEST_LABEL) throw new PageError("bad_input", say("browser.label_too_long", { most: LONGEST_LABEL }));
  if (!label.isWellFormed()) throw new PageError("bad_input", say("browser.label_broken"));
}

/** A description in which each place of an array is replaced by its numbers. */
function withArrays(described, values) {
  const array = ({ offset, shape }) => values.subarray(offset, offset + shape.reduce((a, b) => a * b, 1));
  return Object.fromEntries(Object.entries(described).map(([name, value]) => [name, value?.shape ? array(value) : value]));
}

/** The classes of a fitted learner, with which the page begins. */
function classesOf({ classes, form: { shape } }, examples) {
  const size = shape.reduce((a, b) => a * b);
  let at = 0;
  return classes.map(({ count, ...one }) => ({
    ...one,
    items: Array.from({ length: count }, () => {
      const pixels = examples.slice(at, (at += size));
      return { id: idOf(pixels, shape), pixels, remark: null, inverted: false, photographic: false };
    }),
  }));
}

/** The content of a file of the learner. */
async function file(name) {
  const place = new URL(`../learner/${name}`, import.meta.url);
  try {
    const response = await fetch(place);
    if (response.ok) return new Uint8Array(await response.arrayBuffer());
    throw new Error(String(response.status));
  } catch (error) {
    throw new PageError("unreachable", say("browser.not_loaded", { file: `learner/${name}`, reason: error.message }));
  }
}
