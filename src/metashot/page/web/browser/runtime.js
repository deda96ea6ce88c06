// ONNX Runtime in WebAssembly, from the files beside the page, in one thread: features of images.

import * as ort from "../runtime/ort.wasm.bundle.min.mjs";

import { PageError } from "../errors.js";
import { say } from "./words.js";

const NUMBERS_AT_ONCE = 2 ** 15; // values of the images in a batch, so that the page stays usable meanwhile

ort.env.wasm.numThreads = 1;
ort.env.wasm.proxy = false;
ort.env.wasm.wasmPaths = { wasm: new URL("../runtime/ort-wasm-simd-threaded.wasm", import.meta.url).href };
ort.env.logLevel = "error";

/** A backbone: pixels [channels, height, width] to features. */
export class Backbone {
  #session;
  #shape;
  #last = Promise.resolve();

  constructor(session, shape) {
    this.#session = session;
    this.#shape = shape;
  }

  static async open(model, shape) {
    try {
      const session = await ort.InferenceSession.create(model, { executionProviders: ["wasm"] });
      const backbone = new Backbone(session, shape);
      await backbone.features([new Uint8Array(shape.reduce((a, b) => a * b))]); // the first time takes longer
      return backbone;
    } catch (error) {
      throw new PageError("failed", say("browser.not_computed", { reason: error.message }));
    }
  }

  /** The features of many images; `progress` is told how many of them are done. */
  features(images, progress = null) {
    const found = this.#last.then(() => this.#all(images, progress)); // one call at a time
    this.#last = found.catch(() => {});
    return found;
  }

  async #all(images, progress) {
    const size = this.#shape.reduce((a, b) => a * b);
    const most = Math.max(1, Math.floor(NUMBERS_AT_ONCE / size));
    const found = [];
    for (let first = 0; first < images.length; first += most) {
      if (first) await new Promise((done) => setTimeout(done));
      found.push(...(await this.#batch(images.slice(first, first + most), size)));
      progress?.(found.length, images.length);
    }
    return found;
  }

  async #batch(images, size) {
    const values = new Float32Array(images.length * size);
    images.forEach((pixels, place) => {
      for (let at = 0; at < size; at += 1) values[place * size + at] = pixels[at] / 255;
    });
    const input = new ort.Tensor("float32", values, [images.length, ...this.#shape]);
    const { features } = await this.#session.run({ images: input });
    const [, width] = features.dims;
    return images.map((_, place) => features.data.slice(place * width, (place + 1) * width));
  }
}
