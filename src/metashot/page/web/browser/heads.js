// Answers from features: prototypes, attention to each example, and nearest neighbours, in 64 bits as the papers write them.
// A head is described by metashot's page/heads.py; what a fit computes once is a summary.

const SMALLEST = 1e-12; // length of a feature, as in torch.nn.functional.normalize
const NEAREST = 5; // support examples that are shown

/**
 * What a head computes once of a support set.
 *
 * @param {object} head its description, with arrays in place
 * @param {ArrayLike<number>[]} features of the support examples
 * @param {Int32Array} labels of the support examples, as places of classes
 * @param {number} ways the number of classes
 */
export function summaryOf(head, features, labels, ways) {
  const embedded = features.map((one) => embeddedBy(head, one));
  const counts = new Float64Array(ways);
  for (const label of labels) counts[label] += 1;
  if (head.kind !== "prototypes") return { points: embedded, labels, counts, ways };
  const points = meansOf(embedded, labels, counts);
  return { points: head.distance === "cosine" ? points.map(unit) : points, labels, counts, ways };
}

/** The probabilities of the classes for a query's features. */
export function probabilitiesOf(head, summary, features) {
  return softmax(logitsOf(head, summary, features).map((logit) => logit / head.calibration));
}

/** The features that a head compares. */
export function embeddedBy(head, features) {
  if (head.kind === "prototypes") {
    if (head.normalise === "none") return Float64Array.from(features);
    return unit(head.normalise === "l2" ? features : Float64Array.from(features, (value, place) => value - head.mean[place]));
  }
  if (head.kind === "attention") return unit(features);
  const hidden = head.weight ? hiddenOf(head, features) : Float64Array.from(features);
  return head.loss === "triplet" ? unit(hidden) : hidden;
}

/** The nearest support examples by the cosine of their features, nearest first: places and cosines. */
export function nearestOf(units, features) {
  const query = unit(features);
  const found = units.map((one, place) => ({ place, similarity: dot(one, query) }));
  return found.sort((a, b) => b.similarity - a.similarity || a.place - b.place).slice(0, NEAREST);
}

/** The mean of the points of each class. */
export function meansOf(points, labels, counts) {
  const means = Array.from(counts, () => new Float64Array(points[0].length));
  points.forEach((point, place) => {
    const mean = means[labels[place]];
    for (let at = 0; at < mean.length; at += 1) mean[at] += point[at];
  });
  means.forEach((mean, place) => {
    for (let at = 0; at < mean.length; at += 1) mean[at] /= counts[place];
  });
  return means;
}

/** A vector of length 1 with the same direction. */
export function unit(values) {
  const length = Math.max(Math.sqrt(dot(values, values)), SMALLEST);
  return Float64Array.from(values, (value) => value / length);
}

export function dot(a, b) {
  let total = 0;
  for (let at = 0; at < a.length; at += 1) total += a[at] * b[at];
  return total;
}

function logitsOf(head, { points, labels, counts, ways }, features) {
  const query = embeddedBy(head, features);
  if (head.kind === "prototypes") {
    if (head.distance !== "cosine") return points.map((point) => -squared(query, point) / head.temperature);
    const direction = unit(query);
    return points.map((point) => dot(direction, point) / head.temperature);
  }
  if (head.kind === "attention") {
    return logTotals(points.map((point) => dot(query, point) / head.temperature), labels, ways);
  }
  const similar = points.map((point) => (head.alpha ? weighted(query, point, head.alpha) : -squared(query, point)));
  return meansOfLargest(similar, labels, counts, head.neighbours);
}

function hiddenOf({ weight, bias }, features) {
  const size = features.length;
  return Float64Array.from(bias, (shift, row) => 1 / (1 + Math.exp(-shift - dot(weight.subarray(row * size, (row + 1) * size), features))));
}

function squared(a, b) {
  let total = 0;
  for (let at = 0; at < a.length; at += 1) total += (a[at] - b[at]) ** 2;
  return total;
}

function weighted(a, b, weights) {
  let total = 0;
  for (let at = 0; at < a.length; at += 1) total += weights[at] * Math.abs(a[at] - b[at]);
  return total;
}

/** The logarithm of the share of each class in the softmax over all examples. */
function logTotals(values, labels, ways) {
  const highest = new Float64Array(ways).fill(-Infinity);
  values.forEach((value, place) => (highest[labels[place]] = Math.max(highest[labels[place]], value)));
  const totals = new Float64Array(ways);
  values.forEach((value, place) => (totals[labels[place]] += Math.exp(value - highest[labels[place]])));
  return Array.from(totals, (total, way) => highest[way] + Math.log(total)); // the softmax leaves out what all share
}

function meansOfLargest(values, labels, counts, neighbours) {
  const byClass = Array.from(counts, () => []);
  values.forEach((value, place) => byClass[labels[place]].push(value));
  return byClass.map((own) => {
    const largest = own.sort((a, b) => b - a).slice(0, neighbours);
    return largest.reduce((total, value) => total + value, 0) / largest.length;
  });
}

function softmax(logits) {
  const highest = logits.reduce((a, b) => Math.max(a, b));
  const powers = logits.map((logit) => Math.exp(logit - highest));
  const total = powers.reduce((a, b) => a + b);
  return powers.map((power) => power / total);
}
