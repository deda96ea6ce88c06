// Resizes images as Pillow does, bit for bit: in 8 bits with fixed-point coefficients, across first, then down (its Resample.c).
// From version 13 on, tall images are resized down first. Rows are given as they are decoded, so that a large image is never
// held as a whole.

const PRECISION = 22; // bits of a coefficient after the point

const FILTERS = {
  box: { support: 0.5, at: (x) => (x > -0.5 && x <= 0.5 ? 1 : 0) },
  bicubic: { support: 2, at: bicubic },
  lanczos: { support: 3, at: lanczos },
};

/**
 * How an image becomes one of another size.
 *
 * @param {number} width of the image
 * @param {number} height of the image
 * @param {number[]} shape channels, height and width of the result
 * @param {string} fit squash, crop or pad
 * @param {string} enlarging the filter by which smaller images are enlarged
 * @param {boolean} downFirst whether tall images are resized down first
 */
export function planOf(width, height, [, high, wide], fit, enlarging, downFirst) {
  const whole = { wide, high, inner: [wide, high], box: [0, 0, width, height], filter: "lanczos", downFirst };
  if (width === wide && height === high) return whole;
  const smaller = width <= wide && height <= high;
  whole.filter = smaller && enlarging === "bicubic" ? "bicubic" : "lanczos";
  const across = width * high;
  const down = height * wide;
  if (fit === "squash" || across === down) return whole;
  if (fit === "crop") {
    if (across > down) {
      const step = height / high;
      const left = Math.floor((roundHalfToEven(width / step) - wide) / 2) * step;
      return { ...whole, box: [left, 0, left + wide * step, height] };
    }
    const step = width / wide;
    const top = Math.floor((roundHalfToEven(height / step) - high) / 2) * step;
    return { ...whole, box: [0, top, width, top + high * step] };
  }
  const inner =
    across > down
      ? [wide, Math.max(1, roundHalfToEven((height * wide) / width))]
      : [Math.max(1, roundHalfToEven((width * high) / height)), high];
  return { ...whole, inner };
}

/** An image of one size that is becoming one of another. */
export class Resizer {
  #plan;
  #width;
  #channels;
  #across; // null where no row changes
  #down;
  #first;
  #last;
  #rows; // those that are needed, resized across
  #sums = null; // of all columns, where the image is resized down first

  constructor(width, height, channels, plan) {
    const [left, top, right, bottom] = plan.box.map(Math.fround);
    const [wide, high] = plan.inner;
    this.#plan = plan;
    this.#width = width;
    this.#channels = channels;
    const turnsAcross = wide !== width || left !== 0 || right !== wide;
    const turnsDown = high !== height || top !== 0 || bottom !== high;
    this.#across = turnsAcross ? coefficients(width, left, right, wide, FILTERS[plan.filter]) : null;
    this.#down = turnsDown ? coefficients(height, top, bottom, high, FILTERS[plan.filter]) : null;
    this.#first = turnsDown ? this.#down.starts[0] : 0;
    this.#last = turnsDown ? this.#down.starts[high - 1] + this.#down.counts[high - 1] : height;
    if (turnsAcross && turnsDown && plan.downFirst && height - high > 2 * Math.max(width - wide, 0)) {
      this.#sums = new Int32Array(high * width * channels).fill(1 << (PRECISION - 1));
    } else {
      this.#rows = new Uint8Array((this.#last - this.#first) * wide * channels);
    }
  }

  /** Take `count` rows, from the one with the number `y` on. */
  take(rows, y, count) {
    const channels = this.#channels;
    const wide = this.#plan.inner[0];
    for (let row = Math.max(y, this.#first); row < Math.min(y + count, this.#last); row += 1) {
      const source = (row - y) * this.#width * channels;
      if (this.#sums !== null) {
        this.#add(rows, source, row);
        continue;
      }
      const target = (row - this.#first) * wide * channels;
      if (this.#across === null) {
        this.#rows.set(rows.subarray(source, source + wide * channels), target);
      } else {
        resizedRow(rows, source, this.#rows, target, channels, this.#across);
      }
    }
  }

  /** The resized image [height, width, channels], after all rows were taken. */
  finish() {
    const { wide, high, inner } = this.#plan;
    const channels = this.#channels;
    if (this.#sums !== null) this.#resizeSums();
    const resized = this.#down === null || this.#sums !== null ? this.#rows : resizedDown(this.#rows, inner[0] * channels, this.#first, this.#down);
    if (inner[0] === wide && inner[1] === high) return resized;
    const padded = new Uint8Array(wide * high * channels).fill(255);
    const left = Math.floor((wide - inner[0]) / 2);
    const top = Math.floor((high - inner[1]) / 2);
    const length = inner[0] * channels;
    for (let row = 0; row < inner[1]; row += 1) {
      padded.set(resized.subarray(row * length, (row + 1) * length), ((top + row) * wide + left) * channels);
    }
    return padded;
  }

  /** Add a row to the rows of the result that it belongs to. */
  #add(rows, source, row) {
    const { most, starts, counts, values } = this.#down;
    const length = this.#width * this.#channels;
    for (let place = 0; place < starts.length; place += 1) {
      const own = row - starts[place];
      if (own < 0 || own >= counts[place]) continue;
      const value = values[place * most + own];
      for (let at = 0, to = place * length; at < length; at += 1, to += 1) this.#sums[to] += rows[source + at] * value;
    }
  }

  /** Resize the rows across that were resized down. */
  #resizeSums() {
    const [wide, high] = this.#plan.inner;
    const length = this.#width * this.#channels;
    const columns = Uint8Array.from(this.#sums, (sum) => clipped(sum >> PRECISION));
    this.#rows = new Uint8Array(high * wide * this.#channels);
    for (let row = 0; row < high; row += 1) {
      resizedRow(columns, row * length, this.#rows, row * wide * this.#channels, this.#channels, this.#across);
    }
  }
}

/** An image [height, width, channels], resized to a square by the means of its pixels. */
export function reduced(pixels, width, height, channels, side, downFirst) {
  const plan = { wide: side, high: side, inner: [side, side], box: [0, 0, width, height], filter: "box", downFirst };
  const resizer = new Resizer(width, height, channels, plan);
  resizer.take(pixels, 0, height);
  return resizer.finish();
}

function coefficients(size, from, to, wanted, filter) {
  const scale = Math.fround(to - from) / wanted;
  const stretched = Math.max(scale, 1);
  const support = filter.support * stretched;
  const most = Math.ceil(support) * 2 + 1;
  const starts = new Int32Array(wanted);
  const counts = new Int32Array(wanted);
  const values = new Int32Array(wanted * most);
  const weights = new Float64Array(most);
  for (let place = 0; place < wanted; place += 1) {
    const centre = from + (place + 0.5) * scale;
    const start = Math.max(Math.trunc(centre - support + 0.5), 0);
    const count = Math.min(Math.trunc(centre + support + 0.5), size) - start;
    let total = 0;
    for (let x = 0; x < count; x += 1) {
      weights[x] = filter.at((x + start - centre + 0.5) * (1 / stretched));
      total += weights[x];
    }
    for (let x = 0; x < count; x += 1) {
      const share = (total === 0 ? weights[x] : weights[x] / total) * 2 ** PRECISION;
      values[place * most + x] = Math.trunc(share < 0 ? share - 0.5 : share + 0.5);
    }
    starts[place] = start;
    counts[place] = count;
  }
  return { most, starts, counts, values };
}

function resizedRow(from, source, to, target, channels, { most, starts, counts, values }) {
  for (let place = 0; place < starts.length; place += 1) {
    const count = counts[place];
    const first = place * most;
    for (let channel = 0; channel < channels; channel += 1) {
      let sum = 1 << (PRECISION - 1);
      let at = source + starts[place] * channels + channel;
      for (let x = 0; x < count; x += 1) {
        sum = (sum + from[at] * values[first + x]) | 0;
        at += channels;
      }
      to[target + place * channels + channel] = clipped(sum >> PRECISION);
    }
  }
}

function resizedDown(rows, length, offset, { most, starts, counts, values }) {
  const resized = new Uint8Array(starts.length * length);
  for (let place = 0; place < starts.length; place += 1) {
    const first = (starts[place] - offset) * length;
    for (let column = 0; column < length; column += 1) {
      let sum = 1 << (PRECISION - 1);
      let at = first + column;
      for (let y = 0; y < counts[place]; y += 1) {
        sum = (sum + rows[at] * values[place * most + y]) | 0;
        at += length;
      }
      resized[place * length + column] = clipped(sum >> PRECISION);
    }
  }
  return resized;
}

function clipped(value) {
  return value < 0 ? 0 : value > 255 ? 255 : value;
}

function lanczos(x) {
  return x >= -3 && x < 3 ? sinc(x) * sinc(x / 3) : 0;
}

function sinc(x) {
  if (x === 0) return 1;
  const turned = x * Math.PI;
  return Math.sin(turned) / turned;
}

function bicubic(x) {
  const away = Math.abs(x);
  if (away < 1) return (1.5 * away - 2.5) * away * away + 1;
  return away < 2 ? (((away - 5) * away + 8) * away - 4) * -0.5 : 0;
}

/** As Python's `round`. */
function roundHalfToEven(value) {
  const below = Math.floor(value);
  const rest = value - below;
  if (rest !== 0.5) return rest < 0.5 ? below : below + 1;
  return below % 2 === 0 ? below : below + 1;
}
