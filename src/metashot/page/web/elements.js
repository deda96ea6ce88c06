// Making elements of the page. Text from files and users goes in as text only, never as markup.

/**
 * An element with these attributes and children.
 *
 * @param {string} tag its name, with classes: "p.note.small"
 * @param {object} attributes values of attributes; true for those without a value, null and false are left out;
 *   `on` holds listeners by the event's name
 * @param {...(Node|string)} children strings become text
 */
export function make(tag, attributes = {}, ...children) {
  const [name, ...classes] = tag.split(".");
  const element = document.createElement(name);
  if (classes.length) element.className = classes.join(" ");
  const { on = {}, ...rest } = attributes;
  for (const [key, value] of Object.entries(rest)) {
    if (value === null || value === false || value === undefined) continue;
    element.setAttribute(key, value === true ? "" : String(value));
  }
  for (const [event, listener] of Object.entries(on)) element.addEventListener(event, listener);
  element.append(...children);
  return element;
}

let made = 0;

/** An id that no other element has, for `for` and `aria-*` attributes. */
export function newId(prefix) {
  made += 1;
  return `${prefix}-${made}`;
}

/** A drawn sign beside the words of a button; screen readers pass it over. */
export function sign(text) {
  return make("span.sign", { "aria-hidden": "true" }, text);
}
