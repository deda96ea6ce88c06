// The words of the page in the reader's language. Each element remembers its key, so that a switch changes all of them.
//
// In a table, {name} stands for a value, and {count|example|examples} for one of two forms by the value of `count`.

import en from "./words/en.js";
import zh from "./words/zh.js";

const TABLES = { en, zh };
const KEPT = "metashot.language";
const said = new WeakMap(); // element -> Map(attribute, or "" for its text -> [key, values])
const listeners = [];
let language = "en";

/** Choose the language: the one that was kept, else the browser's. */
export function begin() {
  const wished = [kept(), ...(navigator.languages ?? [navigator.language])].map((one) => String(one ?? "").slice(0, 2));
  use(wished.find((one) => one in TABLES) ?? "en");
}

/** Use this language from now on. */
export function choose(code) {
  try {
    localStorage.setItem(KEPT, code);
  } catch {
    // Without storage, the choice holds until the page is left.
  }
  use(code);
}

export function current() {
  return language;
}

/** Call `listener` after each change of the language. */
export function whenChanged(listener) {
  listeners.push(listener);
}

/** The words for a key. */
export function say(key, values = {}) {
  const template = TABLES[language][key] ?? en[key] ?? key;
  return template.replace(/\{(\w+)(?:\|([^|}]*)\|([^}]*))?\}/g, (_, name, one, other) => {
    const value = values[name];
    if (one !== undefined) return value === 1 ? one : other;
    return typeof value === "number" ? number(value) : String(value ?? "");
  });
}

/** Whether there are words for this key. */
export function knows(key) {
  return key in en;
}

/** Set the text of an element, or one of its attributes, to the words for a key; it follows the language. */
export function tell(element, key, values = {}, attribute = "") {
  const all = said.get(element) ?? new Map();
  const before = all.get(attribute);
  all.set(attribute, [key, values]);
  said.set(element, all);
  element.setAttribute("data-said", "");
  if (attribute === "" && before?.[0] === key && element.textContent === say(key, values)) return element; // read aloud once
  put(element, attribute, say(key, values));
  return element;
}

/** Empty an element that `tell` filled. */
export function hush(element) {
  said.get(element)?.delete("");
  if (element.textContent !== "") element.textContent = "";
}

export function number(value, digits = 0) {
  return new Intl.NumberFormat(language, { maximumFractionDigits: digits, minimumFractionDigits: digits }).format(value);
}

/** A duration in seconds, with two digits that matter, and none below a hundredth. */
export function duration(seconds) {
  const digits = seconds < 1 ? { maximumFractionDigits: 2 } : { maximumSignificantDigits: 2 };
  return new Intl.NumberFormat(language, digits).format(Math.max(seconds, 0.01));
}

/** A share such as 0.934 as 93.4 %. */
export function percent(share) {
  const digits = share > 0.9995 || share < 0.0005 ? 0 : 1;
  return new Intl.NumberFormat(language, { style: "percent", maximumFractionDigits: digits, minimumFractionDigits: digits }).format(share);
}

function use(code) {
  language = code;
  document.documentElement.lang = code === "zh" ? "zh-CN" : code;
  for (const element of document.querySelectorAll("[data-say], [data-say-label], [data-say-placeholder]")) {
    const { say: text, sayLabel, sayPlaceholder } = element.dataset;
    if (text) put(element, "", say(text));
    if (sayLabel) put(element, "aria-label", say(sayLabel));
    if (sayPlaceholder) put(element, "placeholder", say(sayPlaceholder));
  }
  for (const element of document.querySelectorAll("[data-said]")) {
    for (const [attribute, [key, values]] of said.get(element) ?? []) put(element, attribute, say(key, values));
  }
  document.title = say("title");
  for (const listener of listeners) listener();
}

function put(element, attribute, words) {
  if (attribute) element.setAttribute(attribute, words);
  else element.textContent = words;
}

function kept() {
  try {
    return localStorage.getItem(KEPT);
  } catch {
    return null; // storage may be forbidden
  }
}
