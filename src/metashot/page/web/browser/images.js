// An image file in the learner's form: its pixels, inverted where its ink is dark, and whether it looks like a photograph.

import { decode } from "./decoding.js";
import { digest } from "./digests.js";
import { isPhotographic, WIDE } from "./photographs.js";
import { planOf, Resizer } from "./resampling.js";

const MIDDLE = 127.5; // between black and white

/** An image file as an item of the page. `form` is the learner's. */
export async function itemOf(blob, name, form) {
  let taken = [];
  let smaller = 0;
  const remark = await decode(blob, name, (width, height) => {
    const wanted = [new Taker(width, height, form.shape, form.fit, form)];
    if (form.of_drawings) wanted.push(new Taker(width, height, [3, WIDE, WIDE], "squash", { ...form, enlarging: "lanczos" }));
    smaller = Math.min(width, height);
    taken = wanted;
    return wanted;
  });
  const pixels = taken[0].pixels();
  const inverted = form.inverted === "always" || (form.inverted === "on bright ground" && hasBrightBorder(pixels, form.shape));
  if (inverted) for (let place = 0; place < pixels.length; place += 1) pixels[place] = 255 - pixels[place];
  const photographic = form.of_drawings && isPhotographic(taken[1].interleaved(), smaller, form.down_first);
  return { id: idOf(pixels, form.shape), pixels, remark, inverted, photographic };
}

/** What tells an item from all others: a digest of its pixels and its shape. */
export function idOf(pixels, shape) {
  const named = new TextEncoder().encode(shape.join("x"));
  const whole = new Uint8Array(named.length + 1 + pixels.length);
  whole.set(named);
  whole.set(pixels, named.length + 1);
  return digest(whole).slice(0, 32);
}

/** Takes the rows of an image and resizes them. */
class Taker {
  #resizer;
  #shape;

  constructor(width, height, shape, fit, { enlarging, down_first: downFirst }) {
    this.grey = shape[0] === 1;
    this.#shape = shape;
    this.#resizer = new Resizer(width, height, shape[0], planOf(width, height, shape, fit, enlarging, downFirst));
  }

  take(rows, y, count) {
    this.#resizer.take(rows, y, count);
  }

  /** [height, width, channels] */
  interleaved() {
    return this.#resizer.finish();
  }

  /** [channels, height, width] */
  pixels() {
    const [channels, height, width] = this.#shape;
    const found = this.interleaved();
    const pixels = new Uint8Array(found.length);
    for (let place = 0, from = 0; place < height * width; place += 1) {
      for (let channel = 0; channel < channels; channel += 1, from += 1) pixels[channel * height * width + place] = found[from];
    }
    return pixels;
  }
}

function hasBrightBorder(pixels, [channels, height, width]) {
  let total = 0;
  let count = 0;
  for (let channel = 0; channel < channels; channel += 1) {
    for (let row = 0; row < height; row += 1) {
      for (let column = 0; column < width; column += 1) {
        // A border of one row counts it twice, as metashot does.
        const twice = (row === 0 && row === height - 1) || (column === 0 && column === width - 1 && row > 0 && row < height - 1);
        if (row === 0 || row === height - 1 || column === 0 || column === width - 1) {
          const times = twice ? 2 : 1;
          total += times * pixels[(channel * height + row) * width + column];
          count += times;
        }
      }
    }
  }
  return total / count > MIDDLE;
}
