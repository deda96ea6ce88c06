// Whether the back end answers. When it is lost, callers wait here, and it is tried again until it is back.

import { asPageError, UNREACHABLE } from "./errors.js";

const OTHER = "other_learner";
const WATCHED = 10_000; // ms between two looks at a back end that seems to be there
const EVERY = 2000; // ms between two tries

export class Connection extends EventTarget {
  #backend;
  #returning = null; // a promise while the back end is lost

  constructor(backend) {
    super();
    this.#backend = backend;
    this.#watch();
  }

  get isLost() {
    return this.#returning !== null;
  }

  /** The result of `call`, which is repeated after each return of the back end. */
  async insist(call) {
    for (;;) {
      await this.#returning;
      try {
        return await call();
      } catch (error) {
        if (!this.notice(error)) throw error;
      }
    }
  }

  /** Note an error; whether it says that the back end is lost, or another one in its place. */
  notice(error) {
    const { code } = asPageError(error);
    if (code !== UNREACHABLE && code !== OTHER) return false;
    this.#returning ??= this.#wait(code);
    return true;
  }

  /** Ask now and then whether the back end is still there, so that it is missed before it is needed. */
  #watch() {
    if (this.#backend.reconnect === undefined) return; // it computes in the browser
    setInterval(() => {
      if (!this.isLost && !document.hidden) this.#backend.reconnect().catch((error) => this.notice(error));
    }, WATCHED);
  }

  async #wait(code) {
    this.#tell(code === OTHER ? "other-learner" : "lost");
    for (;;) {
      await new Promise((resolve) => setTimeout(resolve, EVERY));
      try {
        await this.#backend.reconnect?.();
        break;
      } catch (error) {
        if (asPageError(error).code === OTHER) this.#tell("other-learner");
        // Whatever else a starting server answers: the next try tells.
      }
    }
    this.#returning = null;
    this.#tell("back");
  }

  #tell(type) {
    this.dispatchEvent(new Event(type));
  }
}
