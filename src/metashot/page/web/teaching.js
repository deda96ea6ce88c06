// Step 1, teach: a card for each class. The open card holds the ways to give examples.

import { openCloseUp } from "./close_up.js";
import { newId, make, sign } from "./elements.js";
import { PageError } from "./errors.js";
import { Examples } from "./examples.js";
import { dropped, holdsFiles, sorted } from "./files.js";
import { Giving } from "./giving.js";
import { takeIn } from "./intake.js";
import { Failures } from "./notices.js";
import { hush, say, tell, whenChanged } from "./words.js";

export class Teaching {
  giving;
  #session;
  #classes;
  #cards = new Map(); // class's key -> its card
  #open = null; // the class whose card is open
  #list = document.getElementById("classes");
  #addButton = document.getElementById("add-class");
  #addNote = document.getElementById("add-note");
  #undone = document.getElementById("undone");
  #reading = document.getElementById("reading");
  #failures = new Failures(); // of folders, which belong to no card
  #underWay = 0; // files that are being read

  constructor(session, classes) {
    this.#session = session;
    this.#classes = classes;
    this.giving = new Giving("teach", {
      drawn: (blob, title) => this.#give([{ blob, title }]),
      taken: (blob, title) => this.#give([{ blob, title }]),
      files: (found) => this.#files(found, this.#open, false),
    });
    document.getElementById("teach").append(this.#failures.element);
    this.#addButton.addEventListener("click", () => this.addClass(true));
    classes.addEventListener("class-added", ({ detail }) => this.#added(detail.added, detail.place));
    classes.addEventListener("class-removed", ({ detail }) => this.#removed(detail.one, detail.place));
    classes.addEventListener("renamed", ({ detail }) => this.#cards.get(detail.one.key).named());
    classes.addEventListener("example-added", ({ detail }) => this.#cards.get(detail.one.key).added(detail.example, detail.place));
    classes.addEventListener("example-removed", ({ detail }) => this.#cards.get(detail.one.key).removed(detail.example));
    classes.addEventListener("replaced", () => this.#replaced());
    classes.addEventListener("any", () => this.#limit());
    whenChanged(() => this.#renumber());
    this.#takeDrops(document.getElementById("teach"), () => null);
  }

  /** Begin with two classes without examples, so that the first drawing has a place. */
  begin() {
    if (this.#classes.list.length === 0) {
      this.addClass(false);
      this.addClass(false);
    }
    this.open(this.#classes.list[0]);
  }

  addClass(byHand) {
    let count = this.#classes.list.length + 1;
    while (this.#classes.named(say("class.default", { count }))) count += 1;
    const name = say("class.default", { count });
    const added = this.#classes.add({ name, numbered: { count, name } }); // the name until a person gives another
    if (!byHand) return;
    this.open(added);
    this.#cards.get(added.key).editName();
  }

  /** Open the card of a class, which closes the one that was open. */
  open(one) {
    if (this.#open === one) return;
    this.#cards.get(this.#open?.key)?.close();
    this.#open = one;
    if (one) this.#cards.get(one.key).open(this.giving);
    this.giving.camera.resume();
  }

  /** Pasted files go to the class whose card is open. */
  paste(found) {
    this.#files(found, this.#open, false);
  }

  #give(given, one = this.#open) {
    if (one) this.#takeIn(given, one);
  }

  #files(found, target, alone) {
    const { loose, classes, beside } = sorted(found, alone || target === null);
    const one = target ?? this.#open;
    const given = (files) => files.map((file) => ({ blob: file, title: file.name }));
    if (loose.length && one) this.#takeIn(given(loose), one);
    const failures = [];
    const work = [];
    for (const [name, files] of classes) {
      const into = this.#classes.named(name) ?? this.#emptyFor(name);
      if (into) work.push([given(files), into]);
      else failures.push({ title: name, error: new PageError("classes", "", { most: this.#most }) });
    }
    if (beside) failures.push({ title: say("files.beside", { count: beside }), error: new PageError("beside", "", { count: beside }) });
    if (failures.length || work.length) this.#failures.show(failures);
    this.#oneByOne(work);
  }

  /** A class for a folder: one that was never used is renamed, else a new one is made. */
  #emptyFor(name) {
    const unused = this.#classes.list.find((one) => one.examples.length === 0 && !one.reserved && isNumbered(one));
    if (unused) {
      unused.reserved = true; // until its files are read
      this.#classes.rename(unused, name);
      return unused;
    }
    if (this.#isFull()) return null;
    return this.#classes.add({ name });
  }

  /** Classes that nobody has named follow the language. */
  #renumber() {
    for (const one of this.#classes.list.filter(isNumbered)) {
      const name = say("class.default", { count: one.numbered.count });
      if (this.#classes.refuses(one, name)) continue;
      one.numbered.name = name;
      this.#classes.rename(one, name);
    }
  }

  async #oneByOne(work) {
    for (const [given, one] of work) await this.#takeIn(given, one);
  }

  async #takeIn(given, one) {
    const card = this.#cards.get(one.key);
    const most = this.#session.backend.facts.limits?.examples ?? Infinity;
    let full = false;
    let taken = 0;
    this.#underWay += given.length;
    let done = 0;
    const note = () => {
      if (this.#underWay > 1) tell(this.#reading, "teach.reading", { count: this.#underWay });
      else hush(this.#reading);
    };
    note();
    const failures = await takeIn(
      this.#session,
      given,
      (item, title) => {
        if (!this.#classes.list.includes(one)) return false; // removed meanwhile
        full = this.#classes.examples >= most;
        if (full) return false;
        taken += 1;
        this.#classes.addExample(one, item, title);
        return true;
      },
      (now) => {
        this.#underWay -= now - done;
        done = now;
        note();
      },
    );
    this.#underWay -= given.length - done;
    note();
    if (full) failures.push({ title: say("failures.rest"), error: new PageError("full", "", { most }) });
    card.failures.show(failures);
  }

  #takeDrops(element, target) {
    element.addEventListener("dragover", (event) => {
      if (!holdsFiles(event.dataTransfer)) return;
      event.preventDefault();
      event.stopPropagation();
      element.classList.add("is-over");
    });
    element.addEventListener("dragleave", (event) => {
      if (!element.contains(event.relatedTarget)) element.classList.remove("is-over");
    });
    element.addEventListener("drop", async (event) => {
      element.classList.remove("is-over");
      if (!holdsFiles(event.dataTransfer)) return;
      event.preventDefault();
      event.stopPropagation();
      const one = target();
      this.#files(await dropped(event.dataTransfer), one, false);
    });
  }

  #added(one, place) {
    const card = new Card(one, this.#classes, {
      open: () => this.open(one),
      remove: () => this.#remove(one),
      removeExample: (example) => this.#offer("undo.example", {}, this.#classes.removeExample(one, example)),
    });
    this.#cards.set(one.key, card);
    this.#list.insertBefore(card.element, this.#list.children[place] ?? null);
    one.examples.forEach((example, at) => card.added(example, at));
    this.#takeDrops(card.element, () => one);
  }

  #remove(one) {
    const count = one.examples.length;
    const restore = this.#classes.remove(one);
    if (count) this.#offer("undo.class", { name: one.name, count }, restore);
  }

  #removed(one, place) {
    const card = this.#cards.get(one.key);
    const hadFocus = card.element.contains(document.activeElement);
    this.#cards.delete(one.key);
    if (this.#open === one) {
      card.close();
      this.#open = null;
      this.open(this.#classes.list[Math.min(place, this.#classes.list.length - 1)] ?? null);
    }
    card.element.remove();
    if (!hadFocus) return;
    const next = this.#classes.list[Math.min(place, this.#classes.list.length - 1)];
    if (next) this.#cards.get(next.key).focus();
    else this.#addButton.focus();
  }

  #replaced() {
    this.#cards.get(this.#open?.key)?.close();
    this.#open = null;
    this.#cards.clear();
    this.#list.replaceChildren();
    this.#withdraw();
    this.#failures.clear();
    this.#classes.list.forEach((one, place) => this.#added(one, place));
    this.open(this.#classes.list[0] ?? null);
  }

  /** Offer to bring back what was removed, until the next removal. */
  #offer(key, values, restore) {
    const undo = tell(make("button.quiet", { type: "button" }), "undo");
    undo.addEventListener("click", () => {
      const restored = restore();
      this.#withdraw();
      if (restored?.examples) this.#cards.get(restored.key)?.focus();
      else this.#addButton.focus();
    });
    const close = make("button.quiet.icon", { type: "button" }, sign("✕"));
    tell(close, "close", {}, "aria-label");
    close.addEventListener("click", () => {
      this.#withdraw();
      this.#cards.get(this.#open?.key)?.focus();
    });
    this.#undone.replaceChildren(tell(make("span"), key, values), undo, close);
  }

  #withdraw() {
    this.#undone.replaceChildren();
  }

  /** How many classes are possible. */
  get #most() {
    const { most_classes: head, limits } = this.#session.backend.facts;
    return Math.min(head ?? Infinity, limits?.classes ?? Infinity);
  }

  #isFull() {
    return this.#classes.list.length >= this.#most;
  }

  #limit() {
    const full = this.#isFull();
    this.#addButton.disabled = full;
    if (full) tell(this.#addNote, "teach.most-classes", { most: this.#most });
    else hush(this.#addNote);
  }
}

function isNumbered(one) {
  return one.numbered?.name === one.name;
}

/** One class: its name, its examples, and, while it is open, the ways to give more. */
class Card {
  element;
  failures = new Failures();
  #one;
  #classes;
  #name;
  #nameError;
  #count;
  #examples;
  #body;
  #opener;
  #edited = false;

  constructor(one, classes, { open, remove, removeExample }) {
    this.#one = one;
    this.#classes = classes;
    const [nameId, errorId] = [newId("name"), newId("name-error")];
    this.#name = make("input.name", {
      id: nameId, type: "text", value: one.name, maxlength: 200, autocomplete: "off", spellcheck: "false", "aria-describedby": errorId,
      on: { input: () => this.#edit(), change: () => this.#commit(), blur: () => this.#commit(), keydown: (event) => this.#key(event) },
    });
    tell(this.#name, "class.name", {}, "aria-label");
    this.#nameError = make("p.error", { id: errorId, role: "alert" });
    this.#count = make("span.count");
    this.#opener = make("button.secondary.opener", { type: "button", on: { click: open } }, sign("＋"), tell(make("span"), "teach.open"));
    this.remover = make("button.quiet.icon", { type: "button", on: { click: remove } }, sign("✕"));
    this.#examples = new Examples(
      (example) => openCloseUp(one, example, () => removeExample(example)),
      removeExample,
    );
    this.#body = make("div.body");
    this.element = make(
      "li.card", {},
      make("div.head", {}, this.#name, this.#count, this.#opener, this.remover),
      this.#nameError, this.#body, this.#examples.element, this.failures.element,
    );
    this.named();
    this.#counted();
  }

  open(giving) {
    this.element.classList.add("is-open");
    const hadFocus = document.activeElement === this.#opener;
    this.#opener.hidden = true;
    this.#body.append(giving.element);
    if (hadFocus) giving.focus();
  }

  close() {
    this.element.classList.remove("is-open");
    this.#opener.hidden = false;
    this.#body.replaceChildren();
  }

  /** Focus the name; by touch a button, since a field would raise the keyboard over the page. */
  focus() {
    if (!matchMedia("(pointer: coarse)").matches) this.#name.focus();
    else if (this.#opener.hidden) this.remover.focus();
    else this.#opener.focus();
  }

  editName() {
    this.#name.focus();
    this.#name.select();
  }

  /** The name has changed. */
  named() {
    const { name } = this.#one;
    if (this.#name.value !== name) this.#name.value = name;
    this.#edited = false;
    hush(this.#nameError);
    this.#name.removeAttribute("aria-invalid");
    tell(this.remover, "class.remove", { name }, "aria-label");
    tell(this.remover, "class.remove", { name }, "title");
    tell(this.#opener, "teach.open-for", { name }, "aria-label");
    tell(this.#examples.element, "examples.of", { name }, "aria-label");
  }

  added(example, place) {
    this.#examples.add(example, place);
    this.#counted();
  }

  removed(example) {
    const lostFocus = this.#examples.remove(example);
    this.#counted();
    if (lostFocus || document.activeElement === document.body) this.focus();
  }

  #counted() {
    tell(this.#count, "examples.count", { count: this.#one.examples.length });
  }

  #check() {
    const refusal = this.#classes.refuses(this.#one, this.#name.value.trim());
    if (refusal) tell(this.#nameError, refusal, { name: this.#name.value.trim() });
    else hush(this.#nameError);
    this.#name.toggleAttribute("aria-invalid", false);
    if (refusal) this.#name.setAttribute("aria-invalid", "true");
    return refusal === null;
  }

  #edit() {
    this.#edited = true;
    this.#check();
  }

  /** Only what a person wrote is a new name: a field shows some names, such as those with line breaks, in another way. */
  #commit() {
    if (this.#edited && this.#check()) this.#classes.rename(this.#one, this.#name.value.trim());
  }

  #key(event) {
    if (event.key === "Enter") {
      this.#commit();
    } else if (event.key === "Escape") {
      this.#name.value = this.#one.name;
      this.named();
    } else return;
    event.preventDefault();
  }
}
