// One example in large: what the learner sees of it, what was noted about it, and a button that removes it.

import { make } from "./elements.js";
import { titleKey } from "./examples.js";
import { picture } from "./pictures.js";
import { tell } from "./words.js";

/** Open the close-up of an example; `remove` is called where it is to be removed. */
export function openCloseUp(one, example, remove) {
  const { item, title } = example;
  const heading = tell(make("h3"), titleKey(title), { title });
  const notes = [];
  if (item.remark) notes.push(make("p", {}, item.remark));
  if (item.photographic) notes.push(tell(make("p"), "example.photographic"));
  if (item.inverted) notes.push(tell(make("p.muted"), "example.inverted"));
  const dialog = make("dialog.close-up");
  const close = tell(make("button.quiet", { type: "button", on: { click: () => dialog.close() } }), "close");
  const take = tell(make("button.danger", { type: "button" }), "example.remove");
  take.addEventListener("click", () => {
    dialog.close();
    remove();
  });
  tell(dialog, "example.of", { name: one.name }, "aria-label");
  dialog.append(heading, make("p.muted", {}, one.name), picture(item), ...notes, make("div.row", {}, take, close));
  dialog.addEventListener("close", () => dialog.remove());
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close()); // beside the dialog
  document.body.append(dialog);
  dialog.showModal();
}

/** Ask before something is lost; whether the person goes on. */
export function confirm(questionKey, values, goOnKey) {
  return new Promise((resolve) => {
    const question = tell(make("p"), questionKey, values);
    const dialog = make("dialog.confirm", {}, question);
    tell(dialog, questionKey, values, "aria-label");
    const button = (kind, key, result) => tell(make(`button.${kind}`, { type: "button", on: { click: () => dialog.close(result) } }), key);
    dialog.append(make("div.row", {}, button("danger", goOnKey, "yes"), button("quiet", "cancel", "")));
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(dialog.returnValue === "yes");
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}
