// A sheet of white paper to draw on with a mouse, a pen or a finger. Strokes are kept, so that the last can be undone.

import { make, sign } from "./elements.js";
import { tell } from "./words.js";

const SIDE = 320; // of the drawing, in pixels
const WIDTH = 0.045; // of a stroke, as a share of the side: strokes of a 28x28 learner are a little over a pixel wide
const FILLED = 0.65; // of the side, by the longer side of what is drawn, as in Omniglot: people draw large and small, anywhere
const MOST_ENLARGED = 3; // so that a dot stays small
const PAPER = "#ffffff";
const INK = "#101418";

export class Drawing {
  element;
  canvas;
  #strokes = []; // each is a list of points [x, y] between 0 and 1
  #stroke = null;
  #pointer = null;
  #undo;
  #clear;
  #changed;

  /**
   * @param {(isEmpty: boolean) => void} changed called after each finished stroke, undo and clear
   * @param {() => void} done called for Enter on the sheet
   */
  constructor(changed, done) {
    this.#changed = changed;
    this.canvas = make("canvas.sheet", { width: SIDE, height: SIDE, tabindex: 0, role: "img" });
    tell(this.canvas, "draw.sheet", {}, "aria-label");
    this.#undo = tell(make("span"), "draw.undo");
    this.#clear = tell(make("span"), "draw.clear");
    const hint = tell(make("p.sheet-hint", { "aria-hidden": "true" }), "draw.here");
    this.undoButton = make("button.quiet", { type: "button", on: { click: () => this.undo() } }, sign("↶"), this.#undo);
    this.clearButton = make("button.quiet", { type: "button", on: { click: () => this.clear() } }, sign("✕"), this.#clear);
    this.element = make("div.drawing", {}, make("div.paper", {}, this.canvas, hint), make("div.row", {}, this.undoButton, this.clearButton));
    const { canvas } = this;
    canvas.addEventListener("pointerdown", (event) => this.#begin(event));
    canvas.addEventListener("pointermove", (event) => this.#move(event));
    canvas.addEventListener("pointerup", (event) => this.#end(event));
    canvas.addEventListener("pointercancel", (event) => this.#end(event));
    canvas.addEventListener("touchstart", (event) => event.preventDefault(), { passive: false }); // no scrolling, no menu
    canvas.addEventListener("contextmenu", (event) => event.preventDefault());
    this.element.addEventListener("keydown", (event) => {
      const undoes = (event.key === "z" && (event.ctrlKey || event.metaKey)) || (event.key === "Backspace" && event.target === canvas);
      if (undoes) this.undo();
      else if (event.key === "Escape" && !this.isEmpty) this.clear();
      else if (event.key === "Enter" && event.target === canvas) done();
      else return;
      event.preventDefault();
      event.stopPropagation();
    });
    this.#paint();
  }

  get isEmpty() {
    return this.#strokes.length === 0;
  }

  undo() {
    if (this.isEmpty) return;
    this.#strokes.pop();
    this.#after();
  }

  clear() {
    if (this.isEmpty) return;
    this.#strokes = [];
    this.#after();
  }

  /** The drawing as a PNG: centred and of the usual size, since learners take a small drawing in a corner for another class. */
  image() {
    const canvas = make("canvas", { width: SIDE, height: SIDE });
    paint(canvas.getContext("2d"), inPlace(this.#strokes));
    return new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
  }

  #begin(event) {
    if (this.#pointer !== null || event.button > 0) return;
    this.#pointer = event.pointerId;
    try {
      this.canvas.setPointerCapture(event.pointerId);
    } catch {
      // The pointer has gone already; its stroke is a dot.
    }
    this.canvas.focus({ preventScroll: true });
    this.#stroke = [this.#point(event)];
    this.#strokes.push(this.#stroke);
    this.#paint();
    event.preventDefault();
  }

  #move(event) {
    if (event.pointerId !== this.#pointer) return;
    const events = event.getCoalescedEvents?.() ?? [];
    for (const one of events.length ? events : [event]) this.#stroke.push(this.#point(one));
    this.#paint();
  }

  #end(event) {
    if (event.pointerId !== this.#pointer) return;
    this.#pointer = this.#stroke = null;
    this.#after();
  }

  #point(event) {
    const box = this.canvas.getBoundingClientRect();
    const inside = (share) => Math.min(Math.max(share, 0), 1);
    return [inside((event.clientX - box.left) / box.width), inside((event.clientY - box.top) / box.height)];
  }

  #after() {
    this.#paint();
    this.#changed(this.isEmpty);
  }

  #paint() {
    paint(this.canvas.getContext("2d"), this.#strokes);
    this.element.classList.toggle("is-empty", this.isEmpty);
    this.undoButton.disabled = this.clearButton.disabled = this.isEmpty;
  }
}

/** Strokes in the middle, and as large as drawings usually are. */
function inPlace(strokes) {
  const points = strokes.flat();
  const ranges = [0, 1].map((axis) => {
    const values = points.map((point) => point[axis]);
    return [values.reduce((a, b) => Math.min(a, b), 1), values.reduce((a, b) => Math.max(a, b), 0)];
  });
  const side = Math.max(...ranges.map(([low, high]) => high - low));
  const scale = side > 0 ? Math.min(FILLED / side, MOST_ENLARGED) : 1;
  const moved = (value, [low, high]) => 0.5 + scale * (value - (low + high) / 2);
  return strokes.map((stroke) => stroke.map(([x, y]) => [moved(x, ranges[0]), moved(y, ranges[1])]));
}

function paint(context, strokes) {
  context.fillStyle = PAPER;
  context.fillRect(0, 0, SIDE, SIDE);
  context.strokeStyle = context.fillStyle = INK;
  context.lineWidth = WIDTH * SIDE;
  context.lineCap = context.lineJoin = "round";
  for (const stroke of strokes) paintStroke(context, stroke);
}

/** A smooth line: curves from middle to middle of the points, which bend at each point. */
function paintStroke(context, stroke) {
  const points = stroke.map(([x, y]) => [x * SIDE, y * SIDE]);
  const [[x, y]] = points;
  if (points.every(([otherX, otherY]) => otherX === x && otherY === y)) {
    context.beginPath();
    context.arc(x, y, (WIDTH * SIDE) / 2, 0, 2 * Math.PI);
    context.fill();
    return;
  }
  context.beginPath();
  context.moveTo(x, y);
  for (let at = 1; at < points.length - 1; at += 1) {
    const [[atX, atY], [nextX, nextY]] = [points[at], points[at + 1]];
    context.quadraticCurveTo(atX, atY, (atX + nextX) / 2, (atY + nextY) / 2);
  }
  context.lineTo(...points.at(-1));
  context.stroke();
}
