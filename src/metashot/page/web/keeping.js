// Step 3, keep: save and load the fitted learner, export it, and the Python lines that do the same.

import { confirm } from "./close_up.js";
import { make } from "./elements.js";
import { asPageError, PageError, UNREACHABLE } from "./errors.js";
import { clearError, showError } from "./notices.js";
import { linesOfFolder, linesOfSaved } from "./python_lines.js";
import { hush, say, tell } from "./words.js";

const ENDING = ".fewshot";
const FORBIDDEN = /[\u0000-\u001f\u007f/\\:*?"<>|]/g; // in the names of files, on one system or another
const UNKNOWN = "unknown"; // a class of this name cannot be told from "none of these" in Python

export class Keeping {
  #session;
  #classes;
  #learning;
  #changed;
  #isFitted; // whether the checkpoint is a fitted learner
  #save = document.getElementById("save");
  #graph = document.getElementById("graph");
  #load = document.getElementById("load");
  #name = document.getElementById("file-name");
  #note = document.getElementById("keep-note");
  #error = document.getElementById("keep-error");
  #noGraph = document.getElementById("no-graph");
  #lines = { saved: document.getElementById("lines-saved"), folder: document.getElementById("lines-folder") };

  /** @param {() => void} learnerChanged called after another learner was loaded */
  constructor(session, classes, learning, learnerChanged) {
    this.#session = session;
    this.#classes = classes;
    this.#learning = learning;
    this.#changed = learnerChanged;
    this.#isFitted = session.backend.facts.classes.length > 0 || String(session.backend.facts.checkpoint).endsWith(ENDING);
    this.#save.addEventListener("click", () => this.#keep("save"));
    this.#graph.addEventListener("click", () => this.#keep("graph"));
    this.#load.addEventListener("change", () => this.#read());
    this.#name.addEventListener("input", () => this.#write());
    for (const [kind, lines] of Object.entries(this.#lines)) {
      document.getElementById(`copy-${kind}`).addEventListener("click", (event) => copy(lines, event.currentTarget));
    }
    learning.addEventListener("learned", () => this.#can());
    classes.addEventListener("any", () => this.#write());
    addEventListener("beforeunload", (event) => {
      if (!classes.saved) event.preventDefault();
    });
    this.learnerChanged();
  }

  learnerChanged() {
    this.#sayNoGraph();
    this.#can();
    this.#write();
  }

  /** Why there is no ONNX; the back end names the method of Python, where the page has a button. */
  #sayNoGraph() {
    const { no_graph: reason } = this.#session.backend.facts;
    this.#noGraph.hidden = !reason;
    if (reason) tell(this.#noGraph, "keep.no-graph", { reason: reason.replaceAll("learner.save", `“${say("keep.save")}”`) });
  }

  /** Write the Python lines anew. */
  rewrite() {
    this.#sayNoGraph();
    this.#write();
  }

  get #fileName() {
    const name = this.#name.value.trim().replace(FORBIDDEN, "-").replace(/\.fewshot$/i, "").replace(/^\.+/, "");
    return name || this.#name.placeholder;
  }

  #can() {
    const can = this.#learning.lesson !== null;
    this.#save.disabled = !can;
    this.#graph.disabled = !can || Boolean(this.#session.backend.facts.no_graph);
    const { lesson, missing } = this.#learning;
    if (lesson === null && missing !== null) tell(this.#note, "keep.first");
    else if (!this.#said) hush(this.#note);
  }

  #said = false;

  async #keep(what) {
    const { backend, connection } = this.#session;
    const fileName = this.#fileName + (what === "save" ? ENDING : ".onnx");
    try {
      if (connection.isLost) throw new PageError(UNREACHABLE);
      await this.#learning.settled(); // a name that was just changed is to be in the file
      if (this.#learning.lesson === null) return; // why is said where the examples are
      const { revision } = this.#classes;
      const blob = await backend[what]();
      download(blob, fileName);
      // Changes while the file was written are not in it.
      if (what === "save" && revision === this.#classes.revision) this.#classes.saved = true;
      clearError(this.#error);
      this.#said = true;
      tell(this.#note, "keep.saved", { file: fileName });
    } catch (error) {
      this.#failed(error);
    }
  }

  async #read() {
    const [file] = this.#load.files;
    this.#load.value = "";
    if (!file) return;
    if (!this.#classes.saved && !(await confirm("keep.replace", { count: this.#classes.examples }, "keep.replace-yes"))) return;
    try {
      const most = this.#session.backend.facts.limits?.learner ?? Infinity;
      if (file.size > most) throw new PageError("too_large", `> ${Math.round(most / 2 ** 20)} MiB`);
      const loaded = await this.#session.backend.load(file, file.name);
      this.#learning.forget(null); // pictures of another learner may have another shape
      this.#changed();
      this.#classes.replaceAll(loaded);
      this.#name.value = file.name.replace(/\.fewshot$/i, "");
      clearError(this.#error);
      this.#said = true;
      tell(this.#note, "keep.loaded", { file: file.name });
      this.#write();
    } catch (error) {
      this.#failed(error);
    }
  }

  #failed(error) {
    const known = asPageError(error);
    this.#session.connection.notice(known);
    if (known.code === UNREACHABLE) this.#session.connection.addEventListener("back", () => clearError(this.#error), { once: true });
    showError(this.#error, known);
    this.#said = false; // what was done before is no longer the news
    this.#can();
  }

  #write() {
    const { facts } = this.#session.backend;
    const named = this.#classes.named(UNKNOWN) !== undefined;
    const unknown = named ? null : this.#learning.unknown;
    this.#lines.saved.textContent = linesOfSaved(this.#fileName + ENDING, unknown);
    this.#lines.folder.textContent = linesOfFolder(facts, this.#isFitted || facts.learner !== "own", unknown);
  }
}

function download(blob, name) {
  const url = URL.createObjectURL(blob);
  const link = make("a", { href: url, download: name, hidden: true });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}

/** Copy a text; where the clipboard is closed to the page, select it, so that one key copies it. */
async function copy(element, button) {
  const words = button.firstElementChild;
  let key = "copied";
  try {
    await navigator.clipboard.writeText(element.textContent);
  } catch {
    const selection = getSelection();
    selection.selectAllChildren(element);
    key = document.execCommand("copy") ? "copied" : "copy.selected";
  }
  tell(words, key);
  document.getElementById("copy-said").textContent = say(key);
  setTimeout(() => {
    tell(words, "copy");
    document.getElementById("copy-said").textContent = "";
  }, 3000);
}
