// Pictures of items as the learner sees them, painted when they come into sight: a thousand of them must not slow the page.

import { make } from "./elements.js";

const items = new WeakMap(); // canvas -> item
let form = { shape: [1, 28, 28], of_drawings: false };

const inSight = new IntersectionObserver((entries) => {
  for (const { isIntersecting, target } of entries) {
    if (!isIntersecting) continue;
    inSight.unobserve(target);
    paint(target);
  }
}, { rootMargin: "200px" });

/** What the learner's pictures are like. Bright ink is shown dark on light, as people draw. */
export function showAs(facts) {
  form = { shape: facts.shape, of_drawings: facts.of_drawings };
}

/** A picture of an item. What it shows is said by the element around it. */
export function picture(item) {
  const [, height, width] = form.shape;
  const canvas = make("canvas.picture", { width, height, "aria-hidden": "true" });
  if (Math.max(height, width) > 64) canvas.classList.add("smooth");
  items.set(canvas, item);
  inSight.observe(canvas);
  return canvas;
}

function paint(canvas) {
  const [channels, height, width] = form.shape;
  const { pixels } = items.get(canvas);
  const size = height * width;
  if (pixels.length !== channels * size) return; // of a learner that was replaced meanwhile
  const image = new ImageData(width, height);
  const turn = form.of_drawings ? 255 : 0;
  for (let at = 0; at < size; at += 1) {
    for (let channel = 0; channel < 3; channel += 1) {
      image.data[4 * at + channel] = pixels[channels === 1 ? at : channel * size + at] ^ turn;
    }
    image.data[4 * at + 3] = 255;
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
}
