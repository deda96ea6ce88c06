// What the bytes of an image file say before it is decoded: its format, its size, how it is turned, and what it consists of.
// Nothing here trusts a length in the file: reading beyond its end raises a RangeError, which means that it is damaged.

import { checksum } from "./digests.js";

const MOST_PARTS = 100_000; // of a file
const HEIC = ["heic", "heix", "heim", "heis", "hevc", "mif1", "msf1"]; // brands of photographs of phones

/**
 * @param {Uint8Array} bytes of a file
 * @returns null for unknown formats, else {format, width, height, animated, exif: [start, end] | null, xmp: text | null,
 *   depth: bits of a channel, cmyk: whether its colours are those of printing}
 */
export function headerOf(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const found = { animated: false, exif: null, xmp: null, depth: 8, cmyk: false };
  if (startsWith(bytes, [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a])) return png(bytes, view, found);
  if (startsWith(bytes, [0xff, 0xd8, 0xff])) return jpeg(bytes, view, found);
  if (text(bytes, 0, 4) === "GIF8") return gif(bytes, view, found);
  if (text(bytes, 0, 4) === "RIFF" && text(bytes, 8, 4) === "WEBP") return webp(bytes, view, found);
  if (text(bytes, 0, 2) === "BM") return bmp(view, found);
  if (text(bytes, 4, 4) === "ftyp") return boxed(bytes, view, found);
  return null;
}

/** How an image is turned, from 1 (upright) to 8, by its EXIF data or else by its XMP. */
export function orientationOf(bytes, { exif, xmp }) {
  const place = exif === null ? null : orientationIn(bytes, exif);
  if (place !== null) return place.value;
  const named = xmp?.match(/tiff:Orientation(?:="|>)([0-9])/);
  return named ? Number(named[1]) : 1;
}

/** A copy of a file that says it is upright: browsers differ in which of these they obey, and the page turns images itself. */
export function asUpright(bytes, header) {
  const place = header.exif === null ? null : orientationIn(bytes, header.exif);
  if (place === null || place.value === 1) return bytes;
  const copy = bytes.slice();
  new DataView(copy.buffer).setUint16(place.at, 1, place.little);
  if (header.format === "PNG") {
    const [start, end] = header.exif;
    new DataView(copy.buffer).setUint32(end, checksum(copy.subarray(start - 4, end)));
  }
  return copy;
}

function png(bytes, view, found) {
  Object.assign(found, { format: "PNG", width: view.getUint32(16), height: view.getUint32(20), depth: bytes[24] });
  eachPart(8, (at) => {
    const length = view.getUint32(at);
    const kind = text(bytes, at + 4, 4);
    if (kind === "acTL") found.animated = true;
    if (kind === "eXIf") found.exif = [at + 8, at + 8 + length];
    if (kind === "iTXt" && text(bytes, at + 8, 17) === "XML:com.adobe.xmp") found.xmp = text(bytes, at + 8, length);
    return kind === "IEND" ? null : at + 12 + length;
  });
  return found;
}

function jpeg(bytes, view, found) {
  found.format = "JPEG";
  eachPart(2, (at) => {
    if (bytes[at] !== 0xff) return null;
    const kind = bytes[at + 1];
    if (kind === 0xff) return at + 1; // filling
    if (kind === 0x01 || (kind >= 0xd0 && kind <= 0xd8)) return at + 2;
    if (kind === 0xd9 || kind === 0xda) return null;
    const length = view.getUint16(at + 2);
    if (kind === 0xe1 && text(bytes, at + 4, 6) === "Exif\0\0") found.exif ??= [at + 10, at + 2 + length];
    if (kind === 0xe1 && text(bytes, at + 4, 28) === "http://ns.adobe.com/xap/1.0/") found.xmp = text(bytes, at + 4, length);
    if (kind >= 0xc0 && kind <= 0xcf && ![0xc4, 0xc8, 0xcc].includes(kind)) {
      Object.assign(found, { height: view.getUint16(at + 5), width: view.getUint16(at + 7), cmyk: bytes[at + 9] === 4 });
    }
    return at + 2 + length;
  });
  return found.width === undefined ? null : found;
}

function gif(bytes, view, found) {
  Object.assign(found, { format: "GIF", width: view.getUint16(6, true), height: view.getUint16(8, true) });
  let frames = 0;
  const afterBlocks = (at) => {
    while (view.getUint8(at) !== 0) at += view.getUint8(at) + 1;
    return at + 1;
  };
  const colours = (flags) => (flags & 0x80 ? 3 * 2 ** ((flags & 7) + 1) : 0);
  eachPart(13 + colours(bytes[10]), (at) => {
    if (at >= bytes.length || frames > 1) return null;
    if (bytes[at] === 0x21) return afterBlocks(at + 2);
    if (bytes[at] !== 0x2c) return null;
    frames += 1;
    return afterBlocks(at + 11 + colours(bytes[at + 9]));
  });
  found.animated = frames > 1;
  return found;
}

function webp(bytes, view, found) {
  found.format = "WEBP";
  eachPart(12, (at) => {
    if (at + 8 > bytes.length) return null;
    const kind = text(bytes, at, 4);
    const length = view.getUint32(at + 4, true);
    const start = at + 8;
    if (kind === "VP8X") {
      found.animated = (bytes[start] & 2) !== 0;
      found.width = 1 + (view.getUint32(start + 4, true) & 0xffffff);
      found.height = 1 + (view.getUint32(start + 6, true) >>> 8);
    } else if (kind === "VP8 ") {
      found.width ??= view.getUint16(start + 6, true) & 0x3fff;
      found.height ??= view.getUint16(start + 8, true) & 0x3fff;
    } else if (kind === "VP8L") {
      const packed = view.getUint32(start + 1, true);
      found.width ??= 1 + (packed & 0x3fff);
      found.height ??= 1 + ((packed >>> 14) & 0x3fff);
    } else if (kind === "EXIF") {
      const prefix = text(bytes, start, 6) === "Exif\0\0" ? 6 : 0;
      found.exif = [start + prefix, start + length];
    }
    return start + length + (length % 2);
  });
  return found.width === undefined ? null : found;
}

function bmp(view, found) {
  found.format = "BMP";
  const old = view.getUint32(14, true) === 12;
  found.width = old ? view.getUint16(18, true) : Math.abs(view.getInt32(18, true));
  found.height = old ? view.getUint16(20, true) : Math.abs(view.getInt32(22, true));
  return found;
}

function boxed(bytes, view, found) {
  const brand = text(bytes, 8, 4);
  if (HEIC.includes(brand)) return { ...found, format: "HEIC" };
  if (brand !== "avif" && brand !== "avis") return null;
  Object.assign(found, { format: "AVIF", animated: brand === "avis", width: 0, height: 0 });
  const end = Math.min(bytes.length - 16, 2 ** 16); // sizes are at the beginning, of the whole and of its parts
  for (let at = 16; at < end; at += 1) {
    if (bytes[at] !== 0x69 || text(bytes, at, 4) !== "ispe") continue;
    found.width = Math.max(found.width, view.getUint32(at + 8));
    found.height = Math.max(found.height, view.getUint32(at + 12));
  }
  return found.width ? found : null;
}

/** Where the orientation stands in EXIF data, and what it is; null where it does not. */
function orientationIn(bytes, [start, end]) {
  try {
    const view = new DataView(bytes.buffer, bytes.byteOffset + start, end - start);
    const little = view.getUint16(0) === 0x4949;
    const first = view.getUint32(4, little);
    const count = view.getUint16(first, little);
    for (let entry = 0; entry < count; entry += 1) {
      const at = first + 2 + 12 * entry;
      if (view.getUint16(at, little) !== 0x0112) continue;
      return { at: start + at + 8, little, value: view.getUint16(at + 8, little) };
    }
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
  }
  return null;
}

/** Call `part` with the place of each part, until it returns null or a place that is not after the last. */
function eachPart(at, part) {
  for (let count = 0; count < MOST_PARTS; count += 1) {
    let next;
    try {
      next = part(at);
    } catch (error) {
      if (!(error instanceof RangeError)) throw error;
      return; // cut off: what was read so far may be enough
    }
    if (next === null || next <= at) return;
    at = next;
  }
}

function text(bytes, at, length) {
  return String.fromCharCode(...bytes.subarray(at, at + Math.min(length, 60_000)));
}

function startsWith(bytes, values) {
  return values.every((value, place) => bytes[place] === value);
}
