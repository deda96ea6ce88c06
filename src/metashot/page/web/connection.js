// Whether the back end answers. When it is lost, callers wait here, and it is tried again until it is back.

import { asPageError, UNREACHABLE } from "./errors.js";

const EVERY = 2000; // ms between two tries

export class Connection extends EventTarget {
  #backend;
  #returning = null; // a promise while the back end is lost

  constructor(backend) {
    super();
    this.#backend = backend;
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

  /** Note an error; whether it says that the back end is lost. */
  notice(error) {
    if (asPageError(error).code !== UNREACHABLE) return false;
    this.#returning ??= this.#wait();
    return true;
  }

  async #wait() {
    this.#tell("lost");
    for (;;) {
      await new Promise((resolve) => setTimeout(resolve, EVERY));
      try {
        await this.#backend.reconnect?.();
        break;
      } catch (error) {
        if (asPageError(error).code === "other_learner") this.#tell("other-learner");
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
