// How familiar an image looks, by which "none of these" is told: the same as metashot's algorithms/familiarity.py, where each
// image is judged alone. That file says what it means.

import { dot, meansOf, unit } from "./heads.js";

const EPSILON = 1e-6;
const NEAREST = 5; // training classes

/** What is computed once of a support set. `learned` has the arrays that training left, `classes` the training classes. */
export function familiarityOf(learned, features, labels, ways) {
  const counts = new Float64Array(ways);
  for (const label of labels) counts[label] += 1;
  const points = features.map((one) => transformed(learned, one));
  const means = meansOf(points, labels, counts);
  return { means: means.map(unit), leftOut: leftOut(learned, points, labels, counts, means), shots: labels.length / ways };
}

/** Whether an image belongs to none of the classes, at a rate of false alarms. */
export function isUnknown(learned, known, features, rate) {
  const point = transformed(learned, features);
  const nearest = Math.max(...known.means.map((mean) => dot(point, mean)));
  return relative(learned, point, nearest) < thresholdOf(learned, known, rate);
}

function thresholdOf({ shots, table, expected, slope }, known, rate) {
  const row = Math.max(Array.from(shots).filter((count) => count <= known.shots).length - 1, 0);
  const points = table.length / shots.length;
  const place = Math.min(Math.max(rate, 0), 1) * (points - 1);
  const below = Math.min(Math.trunc(place), points - 2);
  const [low, high] = [table[row * points + below], table[row * points + below + 1]];
  const base = low + (place - below) * (high - low);
  return known.leftOut === null || slope[row] === 0 ? base : base + slope[row] * (known.leftOut - expected[row]);
}

/** The mean familiarity of examples to their own class without them; null where classes have one. */
function leftOut(learned, points, labels, counts, means) {
  let total = 0;
  let several = 0;
  points.forEach((point, place) => {
    const count = counts[labels[place]];
    if (count < 2) return;
    const others = unit(means[labels[place]].map((value, at) => value * count - point[at]));
    total += relative(learned, point, dot(others, point));
    several += 1;
  });
  return several ? total / several : null;
}

/** A cosine, less a share of the mean of those to the nearest training classes. */
function relative({ background, share }, point, similar) {
  if (!share[0]) return similar;
  const size = point.length;
  const cosines = [];
  for (let at = 0; at < background.length; at += size) cosines.push(dot(background.subarray(at, at + size), point));
  const nearest = cosines.sort((a, b) => b - a).slice(0, NEAREST);
  return similar - (share[0] * nearest.reduce((a, b) => a + b, 0)) / nearest.length;
}

function transformed({ mean }, features) {
  const rooted = unit(Float64Array.from(features, (value) => Math.sqrt(Math.abs(value) + EPSILON) * (value < 0 ? -1 : 1)));
  return unit(rooted.map((value, at) => value - mean[at]));
}
