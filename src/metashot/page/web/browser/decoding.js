// Image files to pixels, as metashot decodes them: upright, transparent parts on white, in 8 bits. The browser decodes; its
// picture is read in strips, so that a large one is never held twice.

import { PageError } from "../errors.js";
import { asUpright, headerOf, orientationOf } from "./headers.js";
import { inEightBits } from "./sixteen.js";
import { say } from "./words.js";

const MOST_PIXELS = 178_956_970; // as in Pillow, where a file may be a "decompression bomb"
const LONGEST_SIDE = 65_535;
const STRIP = 2 ** 20; // pixels that are read at a time
const USUAL_MEMORY = 8; // GB, where the browser does not say
const SHARE = 0.25; // of the memory that one image may take
const PAUSE = 40; // ms of work after which the page may do something else
const TYPES = { PNG: "image/png", JPEG: "image/jpeg", GIF: "image/gif", WEBP: "image/webp", BMP: "image/bmp", AVIF: "image/avif" };

// For each orientation: whether width and height are exchanged, and the transform of a picture of w x h to the upright one.
const TURNS = {
  1: [false, () => [1, 0, 0, 1, 0, 0]],
  2: [false, (w) => [-1, 0, 0, 1, w, 0]],
  3: [false, (w, h) => [-1, 0, 0, -1, w, h]],
  4: [false, (w, h) => [1, 0, 0, -1, 0, h]],
  5: [true, () => [0, 1, 1, 0, 0, 0]],
  6: [true, (w, h) => [0, 1, -1, 0, h, 0]],
  7: [true, (w, h) => [0, -1, -1, 0, h, w]],
  8: [true, (w) => [0, -1, 1, 0, 0, w]],
};

/**
 * Decode an image file.
 *
 * @param {Blob} blob the file
 * @param {string} name its name, for messages
 * @param {(width: number, height: number) => object[]} begun says who takes the rows: each has `grey`, and `take(rows, y, count)`
 *   for rows of luminance or of RGB
 * @returns {Promise<string | null>} a remark, such as that only a first frame was read
 */
export async function decode(blob, name, begun) {
  const bytes = new Uint8Array(await blob.arrayBuffer());
  if (!bytes.length) throw unreadable("empty", name);
  const header = headerOf(bytes);
  if (header === null) throw unreadable("no_image", name);
  if (header.format === "HEIC") throw unreadable("heic", name);
  refuseLarge(header, name);
  const [exchanged, transform] = TURNS[orientationOf(bytes, header)] ?? TURNS[1];
  const plain = await eightBitsOf(bytes, header, name);
  const bitmap = await bitmapOf(plain.bytes === bytes ? asUpright(bytes, header) : plain.bytes, header, name);
  try {
    const [width, height] = exchanged ? [bitmap.height, bitmap.width] : [bitmap.width, bitmap.height];
    refuseLarge({ width, height }, name); // again: the header may have said something else
    const clear = await readStrips(bitmap, width, height, transform(bitmap.width, bitmap.height), begun(width, height));
    const depth = header.depth === 16 && "sixteen_bits";
    const remarks = [header.animated && "animated", depth, (clear || plain.transparent) && "transparent", header.cmyk && "cmyk"];
    return remarks.filter(Boolean).map((key) => say(`browser.${key}`)).join("; ") || null;
  } finally {
    bitmap.close();
  }
}

function refuseLarge({ width, height }, name) {
  const values = { name, width, height };
  if (!(width > 0 && height > 0)) throw unreadable("damaged", name);
  if (width * height > MOST_PIXELS) throw new PageError("too_large", say("browser.too_many_pixels", values));
  if (Math.max(width, height) > LONGEST_SIDE) {
    throw new PageError("too_large", say("browser.too_long", { ...values, most: LONGEST_SIDE }));
  }
  if (width * height * 4 > (navigator.deviceMemory ?? USUAL_MEMORY) * SHARE * 2 ** 30) {
    throw new PageError("too_large", say("browser.too_little_memory", values));
  }
}

async function eightBitsOf(bytes, header, name) {
  try {
    return await inEightBits(bytes, header);
  } catch {
    throw unreadable("damaged", name);
  }
}

async function bitmapOf(bytes, header, name) {
  const file = new Blob([bytes], { type: TYPES[header.format] });
  try {
    return await createImageBitmap(file, { colorSpaceConversion: "none", premultiplyAlpha: "premultiply" });
  } catch {
    // The browser does not say why: damage, a format that it lacks, or too little memory.
    if (header.width * header.height > MOST_PIXELS / 8) {
      throw new PageError("too_large", say("browser.too_little_memory", { name, width: header.width, height: header.height }));
    }
    throw unreadable("damaged", name);
  }
}

/** Read a picture from top to bottom; whether some of it is transparent. */
async function readStrips(bitmap, width, height, transform, takers) {
  const rows = Math.max(1, Math.min(height, Math.floor(STRIP / width)));
  const canvas = new OffscreenCanvas(width, rows);
  const context = canvas.getContext("2d", { willReadFrequently: true, colorSpace: "srgb" });
  const [a, b, c, d, e, f] = transform;
  const colours = new Uint8Array(width * rows * 3);
  const greys = new Uint8Array(width * rows);
  let transparent = false;
  let paused = performance.now();
  for (let y = 0; y < height; y += rows) {
    const count = Math.min(rows, height - y);
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, width, rows);
    context.setTransform(a, b, c, d, e, f - y);
    context.imageSmoothingEnabled = false;
    context.drawImage(bitmap, 0, 0);
    transparent = onWhite(context.getImageData(0, 0, width, count).data, colours, greys) || transparent;
    for (const taker of takers) taker.take(taker.grey ? greys : colours, y, count);
    if (performance.now() - paused > PAUSE) {
      await new Promise((done) => setTimeout(done));
      paused = performance.now();
    }
  }
  return transparent;
}

/** Put RGBA on white, as RGB and as its luminance; whether some of it is transparent. */
function onWhite(pixels, colours, greys) {
  let transparent = false;
  for (let from = 0, to = 0, grey = 0; from < pixels.length; from += 4, to += 3, grey += 1) {
    let red = pixels[from];
    let green = pixels[from + 1];
    let blue = pixels[from + 2];
    const alpha = pixels[from + 3];
    if (alpha !== 255) {
      transparent = true;
      red = divided(red * alpha) + 255 - alpha;
      green = divided(green * alpha) + 255 - alpha;
      blue = divided(blue * alpha) + 255 - alpha;
    }
    colours[to] = red;
    colours[to + 1] = green;
    colours[to + 2] = blue;
    greys[grey] = (red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16;
  }
  return transparent;
}

/** A number divided by 255, rounded. */
function divided(value) {
  const rounded = value + 128;
  return ((rounded >> 8) + rounded) >> 8;
}

function unreadable(key, name) {
  return new PageError("unreadable", say(`browser.${key}`, { name }));
}
