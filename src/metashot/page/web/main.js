// Puts the page together: the back end that the page was made for, and the three steps.

import { Asking } from "./asking.js";
import { Classes } from "./classes.js";
import { Connection } from "./connection.js";
import { asPageError } from "./errors.js";
import { holdsFiles, pasted } from "./files.js";
import { Keeping } from "./keeping.js";
import { Learning } from "./learning.js";
import { describe } from "./notices.js";
import { showAs } from "./pictures.js";
import { followConnection, followLearning, showLearner } from "./status.js";
import { Teaching } from "./teaching.js";
import { begin, choose, current, tell, whenChanged } from "./words.js";

document.getElementById("no-modules").remove();
begin();
offerLanguages();
const opening = document.getElementById("opening");
tell(opening, "opening");
try {
  const { open } = await import(`./${document.documentElement.dataset.backend}/backend.js`);
  start(await open());
  opening.hidden = true;
} catch (error) {
  console.error(error);
  tell(opening, "opening.failed", { error: describe(asPageError(error)) });
  opening.classList.add("error");
}

function start(backend) {
  const connection = new Connection(backend);
  const session = { backend, connection };
  const classes = new Classes();
  const learning = new Learning(backend, classes, connection);
  showAs(backend.facts);
  showLearner(backend.facts);
  const teaching = new Teaching(session, classes);
  const asking = new Asking(session, learning);
  const keeping = new Keeping(session, classes, learning, () => {
    showAs(backend.facts);
    showLearner(backend.facts);
    asking.learnerChanged();
    keeping.learnerChanged();
  });
  followLearning(learning);
  followConnection(connection);
  whenChanged(() => {
    asking.rewrite();
    keeping.rewrite();
  });
  document.getElementById("unknown").addEventListener("change", () => keeping.rewrite());
  if (!backend.facts.of_drawings) {
    for (const { giving } of [teaching, asking]) giving.use("files");
  }
  document.getElementById("page").hidden = false;
  if (backend.facts.classes.length) classes.replaceAll(backend.facts.classes);
  else teaching.begin();

  document.addEventListener("paste", (event) => {
    const found = pasted(event.clipboardData);
    if (found.length === 0) return;
    event.preventDefault();
    if (document.getElementById("ask").contains(document.activeElement)) asking.ask(found);
    else teaching.paste(found);
  });
  document.addEventListener("keydown", openByEnter);
  // A file that is dropped beside everything must not replace the page.
  for (const type of ["dragover", "drop"]) {
    addEventListener(type, (event) => {
      if (!event.defaultPrevented && holdsFiles(event.dataTransfer)) {
        event.preventDefault();
        event.dataTransfer.dropEffect = "none";
      }
    });
  }
}

/** Enter opens a file dialog like a button; by themselves, browsers open it with the space bar only. */
function openByEnter(event) {
  if (event.key !== "Enter" || !event.target.matches("input[type=file]")) return;
  event.preventDefault();
  event.target.click();
}

function offerLanguages() {
  const buttons = [...document.querySelectorAll("#languages button")];
  const mark = () => {
    for (const button of buttons) button.setAttribute("aria-pressed", String(button.lang.startsWith(current())));
  };
  for (const button of buttons) button.addEventListener("click", () => choose(button.lang.slice(0, 2)));
  whenChanged(mark);
  mark();
}
