// Digests of bytes. The browser's own are missing on pages that another machine offers without encryption.

const ROUND_CONSTANTS = new Uint32Array(64);
const BEGINNING = new Uint32Array(8);
for (let prime = 2, found = 0; found < 64; prime += 1) {
  if (Array.from({ length: prime - 2 }, (_, one) => one + 2).some((divisor) => prime % divisor === 0)) continue;
  if (found < 8) BEGINNING[found] = fraction(prime ** (1 / 2));
  ROUND_CONSTANTS[found] = fraction(prime ** (1 / 3));
  found += 1;
}

const TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let value = byte;
  for (let bit = 0; bit < 8; bit += 1) value = value & 1 ? (value >>> 1) ^ 0xedb88320 : value >>> 1;
  return value;
});

/** The CRC-32 of bytes, as PNG and zip archives have it. */
export function checksum(...parts) {
  let value = 0xffffffff;
  for (const bytes of parts) {
    for (let place = 0; place < bytes.length; place += 1) value = TABLE[(value ^ bytes[place]) & 0xff] ^ (value >>> 8);
  }
  return (value ^ 0xffffffff) >>> 0;
}

/** The SHA-256 of bytes as hexadecimal text. */
export function digest(bytes) {
  const padded = new Uint8Array((((bytes.length + 8) >> 6) + 1) * 64);
  padded.set(bytes);
  padded[bytes.length] = 0x80;
  const view = new DataView(padded.buffer);
  view.setUint32(padded.length - 8, Math.floor(bytes.length / 2 ** 29));
  view.setUint32(padded.length - 4, (bytes.length << 3) >>> 0);
  const state = BEGINNING.slice();
  const words = new Int32Array(64);
  for (let block = 0; block < padded.length; block += 64) mix(state, words, view, block);
  return Array.from(state, (word) => word.toString(16).padStart(8, "0")).join("");
}

function mix(state, words, view, block) {
  for (let i = 0; i < 16; i += 1) words[i] = view.getInt32(block + 4 * i);
  for (let i = 16; i < 64; i += 1) {
    const [a, b] = [words[i - 15], words[i - 2]];
    const first = turned(a, 7) ^ turned(a, 18) ^ (a >>> 3);
    const second = turned(b, 17) ^ turned(b, 19) ^ (b >>> 10);
    words[i] = words[i - 16] + first + words[i - 7] + second;
  }
  let [a, b, c, d, e, f, g, h] = state;
  for (let i = 0; i < 64; i += 1) {
    const first = turned(e, 6) ^ turned(e, 11) ^ turned(e, 25);
    const one = (h + first + ((e & f) ^ (~e & g)) + ROUND_CONSTANTS[i] + words[i]) | 0;
    const second = turned(a, 2) ^ turned(a, 13) ^ turned(a, 22);
    const two = (second + ((a & b) ^ (a & c) ^ (b & c))) | 0;
    [h, g, f, e, d, c, b, a] = [g, f, e, (d + one) | 0, c, b, a, (one + two) | 0];
  }
  [a, b, c, d, e, f, g, h].forEach((value, place) => (state[place] += value));
}

function turned(value, by) {
  return (value >>> by) | (value << (32 - by));
}

function fraction(value) {
  return Math.floor((value % 1) * 2 ** 32);
}
