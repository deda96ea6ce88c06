// The back end that runs in Python on this machine: each call is one request to the server that sent the page.
// The server may forget or restart at any time, so that whatever it lacks is sent again from what the page holds.

import { PageError, UNREACHABLE } from "../errors.js";

const MOST_SENT = 2 ** 20; // characters of pixels in one request
const TRIES = 4; // of a call whose fit or items the server lacks

let served = null; // the learner that the page was opened with: another one may be served after a restart

export async function open() {
  const server = new Server();
  await server.begin();
  return server;
}

class Server {
  facts = null;
  #tab = randomId();
  #loaded = null; // the file of the learner in use, where it is not the server's own
  #classes = null; // of the last fit
  #fit = null; // the number that the server gave to it

  async begin() {
    this.facts = withItems(await request("api/learner?learner=own", {}, "json"));
    served = this.facts.served;
  }

  async prepare(blob, name) {
    return this.#withLearner(async () =>
      itemOf(await post(`api/items?learner=${encodeURIComponent(this.facts.learner)}&name=${encodeURIComponent(name)}`, blob)),
    );
  }

  async fit(classes) {
    this.#classes = classes;
    this.#fit = null;
    const given = classes.map(({ name, label, items }) => ({
      name,
      ...(label === undefined ? {} : { label }),
      items: items.map((item) => item.id),
    }));
    const items = classes.flatMap((one) => one.items);
    const { seconds, fit } = await this.#withLearner(() =>
      this.#withItems(items, () => post("api/fit", { learner: this.facts.learner, tab: this.#tab, classes: given })),
    );
    this.#fit = fit;
    return { seconds };
  }

  async answer(items, { unknown, steps }) {
    const asked = { items: items.map((item) => item.id), unknown, steps };
    const { answers } = await this.#withFit((fit) => this.#withItems(items, () => post("api/answer", { ...fit, ...asked })));
    return answers;
  }

  async save() {
    return this.#withFit((fit) => post("api/save", fit, "blob"));
  }

  async graph() {
    return this.#withFit((fit) => post("api/graph", fit, "blob"));
  }

  async load(blob, name) {
    const facts = withItems(await post(`api/load?name=${encodeURIComponent(name)}`, blob));
    this.facts = facts;
    this.#loaded = facts.learner === "own" ? null : { blob, name };
    this.#fit = null;
    return facts.classes;
  }

  /** Fails while the server does not answer, or serves another learner. */
  async reconnect() {
    await request("api/learner?learner=own", {}, "json");
  }

  /** Call with the last fit, which is made again where the server no longer has it. */
  async #withFit(call) {
    for (let tried = 1; ; tried += 1) {
      if (this.#fit === null) await this.fit(this.#classes);
      try {
        return await call({ learner: this.facts.learner, tab: this.#tab, fit: this.#fit });
      } catch (error) {
        if (!["no_fit", "no_learner"].includes(error.code) || tried === TRIES) throw error;
        if (error.code === "no_learner") await this.#loadAgain(error);
        this.#fit = null;
      }
    }
  }

  async #withLearner(call) {
    try {
      return await call();
    } catch (error) {
      if (error.code !== "no_learner") throw error;
      await this.#loadAgain(error);
      return call();
    }
  }

  async #loadAgain(error) {
    if (this.#loaded === null) throw error;
    await this.load(this.#loaded.blob, this.#loaded.name);
  }

  /** Call for these items, after the pixels that the server lacks were sent. */
  async #withItems(items, call) {
    for (let tried = 1; ; tried += 1) {
      try {
        return await call();
      } catch (error) {
        if (error.code !== "missing_items" || tried === TRIES) throw error;
        const missing = new Set(error.details.items ?? items.map((item) => item.id));
        await this.#send(items.filter((item) => missing.delete(item.id)));
      }
    }
  }

  async #send(items) {
    let part = [];
    let size = 0;
    const flush = async () => {
      if (part.length) await post("api/pixels", { learner: this.facts.learner, items: part });
      part = [];
      size = 0;
    };
    for (const { pixels } of items) {
      const text = toBase64(pixels);
      if (size + text.length > MOST_SENT) await flush();
      part.push(text);
      size += text.length;
    }
    await flush();
  }
}

function post(path, body, answer = "json") {
  const binary = body instanceof Blob;
  const headers = { "Content-Type": binary ? "application/octet-stream" : "application/json" };
  return request(path, { method: "POST", headers, body: binary ? body : JSON.stringify(body) }, answer);
}

async function request(path, options, answer) {
  let response;
  let content;
  try {
    const from = served === null ? "" : `${path.includes("?") ? "&" : "?"}served=${served}`;
    response = await fetch(`${path}${from}`, { cache: "no-store", ...options });
    content = response.ok ? await response[answer]() : await response.text();
  } catch (error) {
    throw new PageError(UNREACHABLE, error.message);
  }
  if (response.ok) return content;
  throw errorOf(response, content);
}

function errorOf(response, content) {
  try {
    const { code, message, ...details } = JSON.parse(content).error;
    return new PageError(code, message ?? "", details);
  } catch {
    if (response.status === 503) return new PageError(UNREACHABLE, ""); // more connections than the server takes
    const code = response.status === 413 ? "too_large" : response.status === 403 ? "forbidden" : "failed";
    return new PageError(code, `${response.status} ${content.slice(0, 200)}`);
  }
}

function withItems(facts) {
  const classes = (facts.classes ?? []).map((one) => ({ ...one, items: one.items.map(itemOf) }));
  return { ...facts, classes };
}

function itemOf(answered) {
  return { ...answered, pixels: fromBase64(answered.pixels) };
}

function fromBase64(text) {
  return Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
}

function toBase64(bytes) {
  let text = "";
  for (let start = 0; start < bytes.length; start += 8192) text += String.fromCharCode(...bytes.subarray(start, start + 8192));
  return btoa(text);
}

function randomId() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
