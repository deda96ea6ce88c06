// Zip archives without compression, as torch.save writes them. What an archive says of itself is not trusted.

import { checksum } from "./digests.js";

const MOST_MEMBERS = 60_000;
const LONGEST_COMMENT = 0xffff;
const [LOCAL, CENTRAL, END] = [0x04034b50, 0x02014b50, 0x06054b50];
const FLAGS = 0x0800; // names are UTF-8
const DATE = 0x21; // 1 January 1980, as archives have where no time is known

/** The archive is not one that torch.save wrote, or is damaged. */
export class Damaged extends Error {}

/** An archive in a Blob, of which only the list of members is read. */
export class Archive {
  #blob;
  #members; // name -> {at, size, checksum}

  constructor(blob, members) {
    this.#blob = blob;
    this.#members = members;
  }

  get names() {
    return [...this.#members.keys()];
  }

  has(name) {
    return this.#members.has(name);
  }

  sizeOf(name) {
    return this.#members.get(name).size;
  }

  checksumOf(name) {
    return this.#members.get(name).checksum;
  }

  /** The content of a member as a part of the Blob, unread. */
  async slice(name) {
    const { at, size } = this.#members.get(name);
    const head = await viewOf(this.#blob, at, at + 30);
    if (head.byteLength < 30 || head.getUint32(0, true) !== LOCAL) throw new Damaged(`${name} is not where it is said to be`);
    const start = at + 30 + head.getUint16(26, true) + head.getUint16(28, true);
    if (start + size > this.#blob.size) throw new Damaged(`${name} is cut off`);
    return this.#blob.slice(start, start + size);
  }

  /** The content of a member, whose checksum is verified. */
  async read(name) {
    const bytes = new Uint8Array(await (await this.slice(name)).arrayBuffer());
    if (checksum(bytes) !== this.checksumOf(name)) throw new Damaged(`${name} does not match its checksum`);
    return bytes;
  }
}

/** Open the archive in a Blob. */
export async function opened(blob) {
  const from = Math.max(0, blob.size - 22 - LONGEST_COMMENT);
  const tail = await viewOf(blob, from, blob.size);
  let end = tail.byteLength - 22;
  while (end >= 0 && tail.getUint32(end, true) !== END) end -= 1;
  if (end < 0) throw new Damaged("it is no archive");
  const count = tail.getUint16(end + 10, true);
  const size = tail.getUint32(end + 12, true);
  const start = tail.getUint32(end + 16, true);
  if (count > MOST_MEMBERS || start + size > blob.size) throw new Damaged("its list of members is broken");
  const list = await viewOf(blob, start, start + size);
  const members = new Map();
  let total = 0;
  for (let at = 0, number = 0; number < count; number += 1) {
    if (at + 46 > list.byteLength || list.getUint32(at, true) !== CENTRAL) throw new Damaged("its list of members is broken");
    const [named, extra, comment] = [28, 30, 32].map((place) => list.getUint16(at + place, true));
    if (at + 46 + named > list.byteLength) throw new Damaged("its list of members is broken");
    const name = new TextDecoder().decode(new Uint8Array(list.buffer, list.byteOffset + at + 46, named));
    const own = { checksum: list.getUint32(at + 16, true), size: list.getUint32(at + 24, true), at: list.getUint32(at + 42, true) };
    if (list.getUint16(at + 10, true) !== 0) throw new Damaged("it has compressed members, which torch.save does not write");
    if (members.has(name)) throw new Damaged("it has several members with the same name");
    members.set(name, own);
    total += own.size;
    at += 46 + named + extra + comment;
  }
  if (total > blob.size) throw new Damaged("its members are larger than the file");
  return new Archive(blob, members);
}

/** An archive of members [{name, parts: Blobs or arrays, size, checksum}] as a Blob. */
export function archiveOf(members) {
  const parts = [];
  const list = [];
  let at = 0;
  for (const { name, parts: content, size, checksum: sum } of members) {
    const named = new TextEncoder().encode(name);
    parts.push(headOf(LOCAL, named, sum, size, 0), named, ...content);
    list.push(headOf(CENTRAL, named, sum, size, at), named);
    at += 30 + named.length + size;
  }
  const length = list.reduce((total, one) => total + one.length, 0);
  const end = new DataView(new ArrayBuffer(22));
  end.setUint32(0, END, true);
  end.setUint16(8, members.length, true);
  end.setUint16(10, members.length, true);
  end.setUint32(12, length, true);
  end.setUint32(16, at, true);
  return new Blob([...parts, ...list, end.buffer], { type: "application/octet-stream" });
}

function headOf(kind, named, sum, size, at) {
  const central = kind === CENTRAL;
  const bytes = new Uint8Array(central ? 46 : 30);
  const view = new DataView(bytes.buffer);
  const first = central ? 6 : 4; // a list also says who wrote it
  view.setUint32(0, kind, true);
  if (central) view.setUint16(4, 20, true);
  view.setUint16(first, 20, true);
  view.setUint16(first + 2, FLAGS, true);
  view.setUint16(first + 8, DATE, true);
  view.setUint32(first + 10, sum, true);
  view.setUint32(first + 14, size, true);
  view.setUint32(first + 18, size, true);
  view.setUint16(first + 22, named.length, true);
  if (central) view.setUint32(42, at, true);
  return bytes;
}

async function viewOf(blob, from, to) {
  return new DataView(await blob.slice(from, to).arrayBuffer());
}
