// The file of a fitted learner: made from the one without examples that lies beside the page, and read only where it was
// fitted with the learner of this page, so that its weights need not be read.

import { PageError } from "../errors.js";
import { archiveOf, Damaged, opened } from "./archives.js";
import { checksum } from "./digests.js";
import { idOf } from "./images.js";
import { Float, Tensor, Tuple, unpickled, Unsafe, Writer } from "./pickles.js";
import { say } from "./words.js";

const LARGEST_PICKLE = 2 ** 24;
const FITTED = "metashot_fitted";
const INKS = ["auto", "dark", "bright"];
export const LONGEST_LABEL = 1000; // characters

/**
 * The file of a fitted learner.
 *
 * @param {Blob} template the file without examples
 * @param {{label: any, items: object[]}[]} classes in the order of Python's labels
 * @param {number[]} shape of an image
 * @param {string} ink
 */
export async function fittedFile(template, classes, shape, ink) {
  const archive = await opened(template);
  const root = rootOf(archive);
  const keys = archive.names.filter((name) => name.startsWith(`${root}data/`)).map((name) => Number(name.slice(root.length + 5)));
  const [x, y] = [1, 2].map((more) => String(Math.max(-1, ...keys) + more));
  const items = classes.flatMap((one) => one.items);
  const labels = BigInt64Array.from(classes.flatMap(({ items: own }, place) => own.map(() => BigInt(place))));
  const begun = (await archive.read(`${root}data.pkl`)).slice(0, -2); // without its last two instructions, which follow below
  const writer = new Writer();
  writer.text("x").tensor("ByteStorage", x, [items.length, ...shape]);
  writer.text("y").tensor("LongStorage", y, [items.length]);
  writer.text("classes").value(classes.map((one) => one.label));
  writer.text("ink").value(ink).bytes(0x75, 0x2e);
  const members = [memberOf(`${root}data.pkl`, [begun, ...writer.parts])];
  for (const name of archive.names) {
    if (name === `${root}data.pkl`) continue;
    members.push({ name, parts: [await archive.slice(name)], size: archive.sizeOf(name), checksum: archive.checksumOf(name) });
  }
  const pixels = items.map((item) => item.pixels);
  members.push(memberOf(`${root}data/${x}`, pixels), memberOf(`${root}data/${y}`, [new Uint8Array(labels.buffer)]));
  return archiveOf(members);
}

/**
 * The examples in the file of a fitted learner.
 *
 * @param {Blob} blob the file
 * @param {string} name its name, for messages
 * @param {Blob} template the file without examples
 * @param {object} facts of the learner of this page
 * @returns {Promise<{classes: object[], ink: string}>}
 */
export async function readFitted(blob, name, template, facts) {
  const largest = facts.limits.learner;
  if (blob.size > largest) {
    const values = { name, size: Math.ceil(blob.size / 2 ** 20), most: largest / 2 ** 20 };
    throw new PageError("too_large", say("browser.file_too_large", values));
  }
  try {
    const [[archive, content], [ownArchive, own]] = [await contentOf(blob), await contentOf(template)];
    if (content instanceof Map && content.has("metashot")) throw new PageError("bad_input", say("browser.checkpoint", { name }));
    if (!(content instanceof Map) || !content.has(FITTED)) throw new PageError("bad_input", say("browser.no_learner", { name }));
    const alike = (a, b) => same(a, b, archive, ownArchive);
    refuseOther(content, own, alike, name);
    return { classes: await classesOf(content, archive, facts, name), ink: inkOf(content) };
  } catch (error) {
    if (error instanceof Damaged) throw new PageError("bad_input", say("browser.learner_damaged", { name, reason: error.message }));
    if (error instanceof Unsafe) throw new PageError("bad_input", say("browser.learner_unsafe", { name, reason: error.message }));
    throw error;
  }
}

async function contentOf(blob) {
  const archive = await opened(blob);
  const root = rootOf(archive);
  if (archive.sizeOf(`${root}data.pkl`) > LARGEST_PICKLE) throw new Damaged("its pickle is too long");
  if (archive.has(`${root}byteorder`)) {
    const order = archive.sizeOf(`${root}byteorder`) < 100 ? new TextDecoder().decode(await archive.read(`${root}byteorder`)) : "";
    if (order !== "little") throw new Damaged("its numbers are written in another byte order");
  }
  const sizeOf = (key) => (archive.has(`${root}data/${key}`) ? archive.sizeOf(`${root}data/${key}`) : null);
  return [archive, unpickled(await archive.read(`${root}data.pkl`), sizeOf)];
}

function rootOf(archive) {
  const pickled = archive.names.filter((name) => name.endsWith("/data.pkl") && name.split("/").length === 2);
  if (pickled.length !== 1) throw new Damaged("it is not an archive that torch.save wrote");
  return pickled[0].slice(0, -"data.pkl".length);
}

/** Refuse a learner that answers otherwise than that of this page. */
function refuseOther(content, own, alike, name) {
  const group = (of, ...path) => path.reduce((value, key) => (value instanceof Map ? value.get(key) : undefined), of);
  const withoutTraining = (algorithm) => algorithm instanceof Map && new Map([...algorithm].filter(([key]) => key !== "optimizer"));
  const [algorithm, ownAlgorithm] = [content, own].map((one) => withoutTraining(group(one, "config", "algo")));
  const alikeAt = (...path) => alike(group(content, ...path), group(own, ...path));
  let what = null;
  if (!alike(content.get(FITTED), own.get(FITTED)) || !alike(algorithm, ownAlgorithm)) what = "settings";
  else if (!alikeAt("config", "backbone")) what = "settings";
  else if (!alikeAt("config", "data", "source") || !alikeAt("origin")) what = "data";
  else if (!alikeAt("weights")) what = "weights";
  if (what !== null) throw new PageError("bad_input", say("browser.other_learner", { name, what: say(`browser.${what}`) }));
}

/** Whether two values are equal; tensors by the sizes and the checksums of what they hold. */
function same(a, b, archive, ownArchive) {
  if (a instanceof Tensor && b instanceof Tensor) {
    const [one, other] = [`${rootOf(archive)}data/${a.storage.key}`, `${rootOf(ownArchive)}data/${b.storage.key}`];
    const described = (tensor) => JSON.stringify([tensor.storage.dtype, tensor.offset, tensor.shape, tensor.stride]);
    if (described(a) !== described(b) || archive.sizeOf(one) !== ownArchive.sizeOf(other)) return false;
    return archive.checksumOf(one) === ownArchive.checksumOf(other);
  }
  const each = (x, y) => x.length === y.length && x.every((value, place) => same(value, y[place], archive, ownArchive));
  if (a instanceof Tuple && b instanceof Tuple) return each(a.items, b.items);
  if (Array.isArray(a) && Array.isArray(b)) return each(a, b);
  if (a instanceof Map && b instanceof Map) {
    return a.size === b.size && [...a].every(([key, value]) => b.has(key) && same(value, b.get(key), archive, ownArchive));
  }
  if (a instanceof Float && b instanceof Float) return a.value === b.value || (Number.isNaN(a.value) && Number.isNaN(b.value));
  return a === b;
}

async function classesOf(content, archive, { shape, limits }, name) {
  const [x, y, labels] = ["x", "y", "classes"].map((key) => content.get(key));
  const size = shape.reduce((a, b) => a * b);
  const isWhole = (tensor, dtype, ...dimensions) =>
    tensor instanceof Tensor && tensor.storage.dtype === dtype && JSON.stringify(tensor.shape.slice(1)) === JSON.stringify(dimensions);
  if (!isWhole(x, "uint8", ...shape) || !isWhole(y, "int64") || !Array.isArray(labels) || x.shape[0] !== y.shape[0]) {
    throw new Damaged("its examples are missing or broken");
  }
  if (!isContiguous(x) || !isContiguous(y)) throw new Damaged("its examples are not in order");
  const count = x.shape[0];
  refuseMany("examples", count, limits.examples);
  refuseMany("classes", labels.length, limits.classes);
  const root = rootOf(archive);
  const values = await archive.read(`${root}data/${y.storage.key}`);
  const places = new BigInt64Array(values.buffer.slice(values.byteOffset, values.byteOffset + values.byteLength));
  const pixels = await archive.read(`${root}data/${x.storage.key}`);
  if (new Set(labels.map(valueOf)).size < labels.length) throw new Damaged("two of its labels are equal");
  const classes = namedOf(labels).map((one) => ({ ...one, items: [] }));
  for (let place = 0; place < count; place += 1) {
    const own = classes[Number(places[y.offset + place])];
    if (own === undefined) throw new Damaged("its examples are of other classes than those that it names");
    const from = x.offset + place * size;
    const seen = pixels.slice(from, from + size);
    own.items.push({ id: idOf(seen, shape), pixels: seen, remark: null, inverted: false, photographic: false });
  }
  if (classes.length < 2 || classes.some((one) => !one.items.length)) throw new Damaged("some of its classes have no example");
  return classes;
}

function refuseMany(what, count, most) {
  if (count > most) throw new PageError("too_large", say(`browser.too_many_${what}`, { count, most }));
}

function isContiguous({ shape, stride }) {
  let expected = 1;
  for (let place = shape.length - 1; place >= 0; place -= 1) {
    if (shape[place] !== 1 && stride[place] !== expected) return false;
    expected *= shape[place];
  }
  return true;
}

function inkOf(content) {
  const ink = content.get("ink") ?? "auto";
  if (!INKS.includes(ink)) throw new Damaged("its ink is none that metashot knows");
  return ink;
}

/** The names of classes, all different and none of them empty, each with its label where that is another one. */
function namedOf(labels) {
  const names = new Set();
  return labels.map((label) => {
    if (label instanceof Float && Number.isNaN(label.value)) throw new Damaged("a label is not a number (NaN)");
    if (typeof label === "string" && Array.from(label).length > LONGEST_LABEL) throw new Damaged("a label is too long");
    const [short, exact] = [0, 1].map((depth) => Array.from(nameOf(label, depth)).slice(0, LONGEST_LABEL).join(""));
    let name = short;
    for (let number = 1; name === "" || names.has(name); number += 1) name = number === 1 ? exact : `${exact} (${number})`;
    names.add(name);
    return label === name ? { name } : { name, label };
  });
}

/** What is the same for labels that Python takes for equal, as True, 1 and 1.0. */
function valueOf(label) {
  const value = label instanceof Float ? label.value : label;
  if (value instanceof Tuple) return `tuple ${nameOf(value, 0)}`;
  if (typeof value === "string" || value === null) return `text ${JSON.stringify(value)}`;
  return typeof value === "bigint" ? `number ${value}` : `number ${Number(value)}`;
}

/** A label as Python's `str` writes it. */
function nameOf(label, depth) {
  if (typeof label === "string") return depth ? `'${label.replace(/[\\']/g, "\\$&")}'` : label;
  if (label === null) return "None";
  if (typeof label === "boolean") return label ? "True" : "False";
  if (typeof label === "number" || typeof label === "bigint") return String(label);
  if (label instanceof Float) return Number.isInteger(label.value) ? label.value.toFixed(1) : String(label.value);
  if (!(label instanceof Tuple) || depth > 20) throw new Damaged("a label is neither text nor a number");
  const items = label.items.map((item) => nameOf(item, depth + 1));
  return items.length === 1 ? `(${items[0]},)` : `(${items.join(", ")})`;
}

function memberOf(name, parts) {
  return { name, parts, size: parts.reduce((total, one) => total + one.length, 0), checksum: checksum(...parts) };
}
