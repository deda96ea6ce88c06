// Turns image files into items of the learner, several at a time, in the order in which they were given.

import { asPageError, PageError } from "./errors.js";

const AT_ONCE = 4;

/**
 * Prepare files one after another, and hand each over.
 *
 * @param {{backend: object, connection: object}} session
 * @param {{blob: Blob, title: string}[]} given
 * @param {(item: object, title: string) => boolean} taken called with each item; false: no more can be taken
 * @param {(done: number) => void} progress called with the number of files that are done
 * @returns {Promise<{title: string, error: PageError}[]>} those that could not be used, and why
 */
export async function takeIn({ backend, connection }, given, taken, progress = () => {}) {
  const failures = [];
  for (let start = 0; start < given.length; start += AT_ONCE) {
    const part = given.slice(start, start + AT_ONCE);
    const prepared = await Promise.all(
      part.map(({ blob, title }) => prepare(backend, connection, blob, title).then((item) => ({ item }), (error) => ({ error: asPageError(error) }))),
    );
    for (const [place, { item, error }] of prepared.entries()) {
      if (error) failures.push({ title: part[place].title, error });
      else if (!taken(item, part[place].title)) return failures;
    }
    progress(Math.min(start + AT_ONCE, given.length));
  }
  return failures;
}

async function prepare(backend, connection, blob, title) {
  const most = backend.facts.limits?.file;
  if (most && blob.size > most) throw new PageError("too_large", `> ${Math.round(most / 2 ** 20)} MiB`);
  return connection.insist(() => backend.prepare(blob, title));
}
