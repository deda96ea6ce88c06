// PNG files of grey values in 16 bits: browsers drop the lower half of each, and metashot rounds. They are written anew in 8 bits.

import { checksum } from "./digests.js";

const GREY = 0; // the type of colour

/**
 * A PNG in 8 bits in place of one of grey values in 16 bits.
 *
 * @param {Uint8Array} bytes of a PNG file
 * @param {object} header what `headerOf` found
 * @returns {Promise<{bytes: Uint8Array, transparent: boolean}>} other files as they are
 */
export async function inEightBits(bytes, { format, depth, width, height }) {
  const as = { bytes, transparent: false };
  if (format !== "PNG" || depth !== 16 || bytes[25] !== GREY || bytes[28] !== 0) return as; // interlaced ones stay as they are
  const { data, hidden } = partsOf(bytes);
  const stream = new Blob(data).stream().pipeThrough(new DecompressionStream("deflate"));
  const rows = new Uint8Array((width + 1) * height); // each after its filter, which is none
  let row = new Uint8Array(1 + 2 * width);
  let above = new Uint8Array(1 + 2 * width);
  let [filled, y] = [0, 0];
  const reader = stream.getReader();
  for (let part = await reader.read(); !part.done && y < height; part = await reader.read()) {
    for (let at = 0; at < part.value.length && y < height; ) {
      const count = Math.min(row.length - filled, part.value.length - at);
      row.set(part.value.subarray(at, at + count), filled);
      [at, filled] = [at + count, filled + count];
      if (filled < row.length) break;
      unfilter(row, above);
      for (let x = 0; x < width; x += 1) {
        const value = row[1 + 2 * x] * 256 + row[2 + 2 * x];
        as.transparent ||= value === hidden;
        rows[y * (width + 1) + 1 + x] = value === hidden ? 255 : Math.round(value / 257);
      }
      [row, above, filled, y] = [above, row, 0, y + 1];
    }
  }
  await reader.cancel();
  if (y < height) throw new RangeError("the pixels are cut off");
  const packed = await new Response(new Blob([rows]).stream().pipeThrough(new CompressionStream("deflate"))).arrayBuffer();
  const head = bytes.slice(16, 29);
  head[8] = 8;
  const parts = [bytes.subarray(0, 8), ...chunk("IHDR", head), ...chunk("IDAT", new Uint8Array(packed)), ...chunk("IEND", new Uint8Array(0))];
  as.bytes = new Uint8Array(await new Blob(parts).arrayBuffer());
  return as;
}

/** The compressed pixels, and the grey value that is transparent. */
function partsOf(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const data = [];
  let hidden = null;
  for (let at = 8; at + 12 <= bytes.length; ) {
    const length = view.getUint32(at);
    const kind = String.fromCharCode(...bytes.subarray(at + 4, at + 8));
    if (kind === "IDAT") data.push(bytes.subarray(at + 8, at + 8 + length));
    if (kind === "tRNS" && length === 2) hidden = view.getUint16(at + 8);
    at += 12 + length;
  }
  return { data, hidden };
}

/** Undo the filter of a row, which is named by its first byte. A pixel has two bytes. */
function unfilter(row, above) {
  const kind = row[0];
  for (let at = 1; at < row.length; at += 1) {
    const left = at > 2 ? row[at - 2] : 0;
    const up = above[at];
    const corner = at > 2 ? above[at - 2] : 0;
    if (kind === 1) row[at] += left;
    else if (kind === 2) row[at] += up;
    else if (kind === 3) row[at] += (left + up) >> 1;
    else if (kind === 4) row[at] += nearestOf(left, up, corner);
  }
}

/** What of three neighbours is nearest to left + up - corner (Paeth). */
function nearestOf(left, up, corner) {
  const [toLeft, toUp, toCorner] = [Math.abs(up - corner), Math.abs(left - corner), Math.abs(left + up - 2 * corner)];
  if (toLeft <= toUp && toLeft <= toCorner) return left;
  return toUp <= toCorner ? up : corner;
}

function chunk(kind, content) {
  const named = new Uint8Array(4 + content.length);
  named.set(new TextEncoder().encode(kind));
  named.set(content, 4);
  const [length, sum] = [new DataView(new ArrayBuffer(4)), new DataView(new ArrayBuffer(4))];
  length.setUint32(0, content.length);
  sum.setUint32(0, checksum(named));
  return [length.buffer, named, sum.buffer];
}
