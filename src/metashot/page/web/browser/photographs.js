// Whether an image looks like a photograph, which a learner of drawings was never shown. The same rules as in metashot's
// applied/photographs.py, which says where the thresholds are from.

import { reduced } from "./resampling.js";

const SIDE = 28; // pixels; images are resized to a square of this side before the test
export const WIDE = 4 * SIDE; // in which what an image shows is told from its margin

const SMALLEST = 20; // pixels of the smaller side
const BETWEEN = 0.2; // share of pixels between the levels of background and ink
const SEPARATED = 0.86; // share of the variance that two levels explain
const COLOURED = 60; // difference between a pixel's channels
const SHARE_OF_COLOURED = 0.1;
const OF_ONE_HUE = 0.7; // length of the mean direction of the pixels' hues
const SMALLEST_CONTENT = 64; // pixels of what an image shows on a plain ground
const PLAIN = 24; // difference from the ground's colour
const SHARE_OF_PLAIN = 0.9;

/**
 * @param {Uint8Array} pixels of the resized image [WIDE, WIDE, 3]
 * @param {number} smallerSide of the original image in pixels
 * @param {boolean} downFirst whether tall images are resized down first
 */
export function isPhotographic(pixels, smallerSide, downFirst) {
  if (looksPhotographic(reduced(pixels, WIDE, WIDE, 3, SIDE, downFirst), smallerSide, null)) return true;
  const border = borderOf(pixels);
  const ground = border.map(median);
  const [top, bottom, left, right] = contentOf(pixels, border, ground);
  const height = bottom - top;
  const width = right - left;
  const pixelsLeft = (Math.min(height, width) / WIDE) * smallerSide;
  if (Math.min(height, width) < SIDE || pixelsLeft < SMALLEST_CONTENT || (height === WIDE && width === WIDE)) return false;
  const content = new Uint8Array(height * width * 3);
  for (let row = 0; row < height; row += 1) {
    const from = ((top + row) * WIDE + left) * 3;
    content.set(pixels.subarray(from, from + width * 3), row * width * 3);
  }
  const mean = (ground[0] + ground[1] + ground[2]) / 3;
  return looksPhotographic(reduced(content, width, height, 3, SIDE, downFirst), pixelsLeft, ground.map((value) => value - mean));
}

/** The values of the border for each channel; corners count twice. */
function borderOf(pixels) {
  const found = [[], [], []];
  const add = (row, column) => found.forEach((values, channel) => values.push(pixels[(row * WIDE + column) * 3 + channel]));
  for (let place = 0; place < WIDE; place += 1) {
    add(0, place);
    add(WIDE - 1, place);
    add(place, 0);
    add(place, WIDE - 1);
  }
  return found;
}

/** The rows and columns, from and to, that are not of the colour of the border; all where it has no single colour. */
function contentOf(pixels, border, ground) {
  const whole = [0, WIDE, 0, WIDE];
  const count = border[0].length;
  let plain = 0;
  for (let place = 0; place < count; place += 1) {
    if (Math.max(...ground.map((value, channel) => Math.abs(border[channel][place] - value))) <= PLAIN) plain += 1;
  }
  if (plain / count < SHARE_OF_PLAIN) return whole;
  let [top, bottom, left, right] = [WIDE, -1, WIDE, -1];
  for (let row = 0, at = 0; row < WIDE; row += 1) {
    for (let column = 0; column < WIDE; column += 1, at += 3) {
      const away = Math.max(...ground.map((value, channel) => Math.abs(pixels[at + channel] - value)));
      if (away <= PLAIN) continue;
      top = Math.min(top, row);
      bottom = Math.max(bottom, row);
      left = Math.min(left, column);
      right = Math.max(right, column);
    }
  }
  return bottom < 0 ? whole : [top, bottom + 1, left, right + 1];
}

function looksPhotographic(pixels, smallerSide, ground) {
  if (hasSeveralHues(pixels, ground)) return true;
  if (smallerSide < SMALLEST) return false;
  const grey = new Float64Array(SIDE * SIDE);
  for (let place = 0; place < grey.length; place += 1) {
    grey[place] = 0.299 * pixels[3 * place] + 0.587 * pixels[3 * place + 1] + 0.114 * pixels[3 * place + 2];
  }
  const versions = [grey, inEvenLight(grey)];
  const between = Math.min(...versions.map(shareBetween));
  const separated = Math.max(...versions.map(explainedByTwo));
  return between > BETWEEN && separated < SEPARATED;
}

/** Subtract a plane that is fitted to the background, which covers most of a drawing. */
function inEvenLight(grey) {
  let ground = Array.from(grey, () => true);
  let left = grey;
  for (let round = 0; round < 6; round += 1) {
    const [level, down, across] = plane(grey, ground);
    left = grey.map((value, place) => value - level - down * rowOf(place) - across * columnOf(place));
    const limit = 2.5 * median(Array.from(left, Math.abs)) + 1;
    ground = Array.from(left, (value) => Math.abs(value) <= limit);
  }
  return left;
}

function rowOf(place) {
  return Math.floor(place / SIDE) / SIDE - 0.5;
}

function columnOf(place) {
  return (place % SIDE) / SIDE - 0.5;
}

/** The plane with the least squared differences, of lowest norm where several have: by the pivots of the normal equations. */
function plane(grey, ground) {
  const matrix = [0, 1, 2].map(() => [0, 0, 0, 0]);
  for (let place = 0; place < grey.length; place += 1) {
    if (!ground[place]) continue;
    const row = [1, rowOf(place), columnOf(place)];
    for (let i = 0; i < 3; i += 1) {
      for (let j = 0; j < 3; j += 1) matrix[i][j] += row[i] * row[j];
      matrix[i][3] += row[i] * grey[place];
    }
  }
  for (let column = 0; column < 3; column += 1) {
    const pivot = [0, 1, 2].slice(column).reduce((a, b) => (Math.abs(matrix[b][column]) > Math.abs(matrix[a][column]) ? b : a));
    [matrix[column], matrix[pivot]] = [matrix[pivot], matrix[column]];
    if (Math.abs(matrix[column][column]) < 1e-9) continue;
    for (let row = 0; row < 3; row += 1) {
      if (row === column) continue;
      const share = matrix[row][column] / matrix[column][column];
      for (let at = column; at < 4; at += 1) matrix[row][at] -= share * matrix[column][at];
    }
  }
  return matrix.map((row, place) => (Math.abs(row[place]) < 1e-9 ? 0 : row[3] / row[place]));
}

function shareBetween(levels) {
  const ordered = Float64Array.from(levels).sort();
  const low = percentile(ordered, 0.01);
  const high = percentile(ordered, 0.99);
  const quarter = Math.max(high - low, 1) / 4;
  return ordered.filter((level) => level > low + quarter && level < high - quarter).length / ordered.length;
}

function explainedByTwo(levels) {
  const ordered = Float64Array.from(levels).sort();
  const count = ordered.length;
  const sums = [];
  ordered.reduce((total, value) => (sums.push(total + value), total + value), 0);
  const whole = sums[count - 1];
  const mean = whole / count;
  const variance = ordered.reduce((total, value) => total + (value - mean) ** 2, 0) / count;
  let best = 0;
  for (let below = 1; below < count; below += 1) {
    const share = below / count;
    const apart = sums[below - 1] / below - (whole - sums[below - 1]) / (count - below);
    best = Math.max(best, share * (1 - share) * apart ** 2);
  }
  return best / Math.max(variance, 1e-9);
}

/** Whether colours differ in hue, relative to the background's colour: paper may be tinted, and ink coloured. */
function hasSeveralHues(pixels, given) {
  const chroma = [[], [], []];
  for (let at = 0; at < pixels.length; at += 3) {
    const mean = (pixels[at] + pixels[at + 1] + pixels[at + 2]) / 3;
    chroma.forEach((values, channel) => values.push(pixels[at + channel] - mean));
  }
  const ground = given ?? chroma.map(median);
  let coloured = 0;
  let [x, y, lengths] = [0, 0, 0];
  for (let place = 0; place < chroma[0].length; place += 1) {
    const [red, green, blue] = chroma.map((values, channel) => values[place] - ground[channel]);
    if (Math.max(red, green, blue) - Math.min(red, green, blue) <= COLOURED) continue;
    coloured += 1;
    const across = (red - green) / Math.SQRT2;
    const up = (red + green - 2 * blue) / Math.sqrt(6);
    x += across;
    y += up;
    lengths += Math.hypot(across, up);
  }
  if (coloured / chroma[0].length < SHARE_OF_COLOURED) return false;
  return Math.hypot(x, y) < OF_ONE_HUE * lengths;
}

function median(values) {
  const ordered = Float64Array.from(values).sort();
  const middle = ordered.length >> 1;
  return ordered.length % 2 ? ordered[middle] : (ordered[middle - 1] + ordered[middle]) / 2;
}

/** A quantile of ordered values, between two of them as numpy has it. */
function percentile(ordered, share) {
  const place = share * (ordered.length - 1);
  const below = Math.min(Math.floor(place), ordered.length - 2);
  return ordered[below] + (place - below) * (ordered[below + 1] - ordered[below]);
}
