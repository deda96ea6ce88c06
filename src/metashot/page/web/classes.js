// The classes and examples that a person has given. Views listen to single changes, so that no change redraws everything.

let keys = 0;

export function newKey() {
  keys += 1;
  return keys;
}

/** Why a name cannot be given to a class: a key of words, or null. */
export const EMPTY = "name.empty";
export const TAKEN = "name.taken";

export class Classes extends EventTarget {
  list = []; // [{key, name, label?, examples: [{key, item, title}]}]
  saved = true; // whether all that is here was saved, or loaded
  revision = 0; // counts changes of what is to be learned

  get examples() {
    return this.list.reduce((sum, one) => sum + one.examples.length, 0);
  }

  /** Those that can be learned: each has an example. */
  get taught() {
    return this.list.filter((one) => one.examples.length > 0);
  }

  named(name) {
    return this.list.find((one) => one.name === name);
  }

  place(key) {
    return this.list.findIndex((one) => one.key === key);
  }

  /** Add a class at the end, or at a place. */
  add(one, place = this.list.length) {
    const added = { key: newKey(), examples: [], ...one };
    this.list.splice(place, 0, added);
    this.#changed("class-added", { added, place }, added.examples.length > 0);
    return added;
  }

  /** Why this class cannot have this name; null where it can. */
  refuses(one, name) {
    if (name === "") return EMPTY;
    const other = this.named(name);
    return other && other !== one ? TAKEN : null;
  }

  rename(one, name) {
    if (one.name === name) return;
    one.name = name;
    delete one.label; // the number or truth value that the name stood for
    this.#changed("renamed", { one }, one.examples.length > 0);
  }

  /** Remove a class; returns a function that brings it back. */
  remove(one) {
    const place = this.place(one.key);
    this.list.splice(place, 1);
    this.#changed("class-removed", { one, place }, one.examples.length > 0);
    return () => this.named(one.name) || this.add(one, Math.min(place, this.list.length));
  }

  addExample(one, item, title, place = one.examples.length) {
    const example = { key: newKey(), item, title };
    one.examples.splice(place, 0, example);
    this.#changed("example-added", { one, example, place }, true);
    return example;
  }

  /** Remove an example; returns a function that brings it back. */
  removeExample(one, example) {
    const place = one.examples.indexOf(example);
    one.examples.splice(place, 1);
    this.#changed("example-removed", { one, example, place }, true);
    return () => this.list.includes(one) && this.addExample(one, example.item, example.title, Math.min(place, one.examples.length));
  }

  /** Replace everything by what was loaded. */
  replaceAll(loaded) {
    this.list = loaded.map(({ name, label, items }, order) => ({
      key: newKey(),
      name: String(name),
      ...(label === undefined ? {} : { label }),
      examples: items.map((item, place) => ({ key: newKey(), item, title: `${order + 1}.${place + 1}` })),
    }));
    this.#changed("replaced", {}, true);
    this.saved = true;
  }

  #changed(type, detail, matters) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
    if (matters) {
      this.revision += 1;
      this.saved = this.examples === 0;
      this.dispatchEvent(new Event("lesson")); // what is to be learned has changed
    }
    this.dispatchEvent(new Event("any"));
  }
}
