// PageError: the one kind of error that a back end raises, whose code the page translates into words.

export const UNREACHABLE = "unreachable"; // the server does not answer

export class PageError extends Error {
  /**
   * @param {string} code unreachable, bad_input, unreadable, too_large, forbidden, unavailable or failed
   * @param {string} message what the back end says, in English
   * @param {object} details whatever else is known
   */
  constructor(code, message = "", details = {}) {
    super(message);
    this.name = "PageError";
    this.code = code;
    this.details = details;
  }
}

/** Any error as a PageError: what is unexpected has failed. */
export function asPageError(error) {
  return error instanceof PageError ? error : new PageError("failed", error?.message ?? String(error));
}
