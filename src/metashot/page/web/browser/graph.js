// The ONNX file of a fit: the graph of the backbone and the nodes of the head, as metashot wrote them, with the numbers of the
// fit. Both are protocol buffers, of which only the outermost fields are looked at.

const FLOAT = 1;
const INT64 = 7;
const GRAPH = 7; // fields of a model
const METADATA = 14;
const INITIALIZER = 5; // fields of a graph
const OUTPUT = 12;
const FAR = 1e30;

/**
 * @param {Uint8Array} backbone a model from images to features
 * @param {Uint8Array} nodes a graph from features to probabilities, without the numbers of a fit
 * @param {object} head its description
 * @param {object} summary what the head computed of the support set
 * @param {any[]} labels of the classes
 * @returns {Uint8Array[]} the parts of the file
 */
export function graphOf(backbone, nodes, head, summary, labels) {
  const parts = [];
  for (const { field, from, to, start } of fieldsOf(backbone)) {
    if (field !== GRAPH) {
      parts.push(backbone.subarray(from, to));
      continue;
    }
    const graph = backbone.subarray(start, to);
    const kept = [...fieldsOf(graph)].filter((one) => one.field !== OUTPUT).map((one) => graph.subarray(one.from, one.to));
    const own = [...fieldsOf(nodes)].filter((one) => one.field !== 2).map((one) => nodes.subarray(one.from, one.to)); // but its name
    parts.push(...message(GRAPH, [...kept, ...own, ...initializersOf(head, summary)]));
  }
  const told = [...message(1, [utf8("classes")]), ...message(2, [utf8(JSON.stringify(labels))])];
  return [...parts, ...message(METADATA, told)];
}

function initializersOf(head, { points, labels, counts, ways }) {
  const size = points[0].length;
  if (head.kind === "prototypes") {
    const scale = 1 / (head.temperature * head.calibration);
    if (head.distance === "cosine") return [columns("head_weights", points, size, scale)];
    // The squared length of the query is the same for all classes.
    return [columns("head_weights", points, size, 2 * scale), offsets(points, scale)];
  }
  if (head.kind === "attention") {
    const members = new Float32Array(points.length * ways);
    labels.forEach((label, place) => (members[place * ways + label] = 1));
    return [columns("head_weights", points, size, 1 / head.temperature), floats("head_members", [points.length, ways], members)];
  }
  const most = Math.min(head.neighbours, points.length);
  const outsiders = new Float32Array(ways * points.length).fill(FAR);
  labels.forEach((label, place) => (outsiders[label * points.length + place] = 0));
  const present = new Float32Array(ways * most);
  const taken = Array.from(counts, (count) => Math.min(count, most));
  taken.forEach((count, way) => present.fill(1, way * most, way * most + count));
  const scales = Float32Array.from(taken, (count) => 1 / (count * head.calibration));
  return [
    ...(head.alpha ? [rows("head_examples", points, size)] : [columns("head_weights", points, size, 2), offsets(points, 1)]),
    floats("head_outsiders", [ways, points.length], outsiders),
    tensor("head_k", [1], INT64, new Uint8Array(BigInt64Array.of(BigInt(most)).buffer)),
    floats("head_present", [ways, most], present),
    floats("head_scales", [ways], scales),
  ];
}

/** Points as the columns of a matrix, times a scale. */
function columns(name, points, size, scale) {
  const values = new Float32Array(size * points.length);
  points.forEach((point, column) => {
    for (let row = 0; row < size; row += 1) values[row * points.length + column] = scale * point[row];
  });
  return floats(name, [size, points.length], values);
}

function rows(name, points, size) {
  const values = new Float32Array(size * points.length);
  points.forEach((point, row) => values.set(point, row * size));
  return floats(name, [points.length, size], values);
}

function offsets(points, scale) {
  const values = Float32Array.from(points, (point) => -scale * point.reduce((total, value) => total + value * value, 0));
  return floats("head_offsets", [points.length], values);
}

function floats(name, shape, values) {
  return tensor(name, shape, FLOAT, new Uint8Array(values.buffer));
}

function tensor(name, shape, type, content) {
  const dimensions = shape.flatMap((size) => [Uint8Array.of(8), varint(size)]);
  const parts = [...dimensions, Uint8Array.of(16), varint(type), ...message(8, [utf8(name)]), ...message(9, [content])];
  return joined(message(INITIALIZER, parts));
}

/** The fields of a message: the number of each, where it lies, and where the content of a message begins. */
function* fieldsOf(bytes) {
  let at = 0;
  const number = () => {
    let value = 0;
    for (let shift = 1; ; shift *= 128) {
      const byte = bytes[at];
      at += 1;
      value += (byte & 127) * shift;
      if (byte < 128) return value;
    }
  };
  while (at < bytes.length) {
    const from = at;
    const key = number();
    const kind = key % 8;
    let start = at;
    if (kind === 0) number();
    else if (kind === 1) at += 8;
    else if (kind === 5) at += 4;
    else {
      const length = number();
      start = at;
      at += length;
    }
    yield { field: Math.floor(key / 8), from, to: at, start };
  }
}

function message(field, parts) {
  const length = parts.reduce((total, one) => total + one.length, 0);
  return [varint(field * 8 + 2), varint(length), ...parts];
}

function varint(value) {
  const found = [];
  for (; value >= 128; value = Math.floor(value / 128)) found.push((value % 128) + 128);
  found.push(value);
  return Uint8Array.from(found);
}

function joined(parts) {
  const whole = new Uint8Array(parts.reduce((total, one) => total + one.length, 0));
  let at = 0;
  for (const one of parts) {
    whole.set(one, at);
    at += one.length;
  }
  return whole;
}

function utf8(text) {
  return new TextEncoder().encode(text);
}
