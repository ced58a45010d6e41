// SPDX-License-Identifier: MIT
/**
 * Makes the source of data wait for drawing.
 *
 * While the page is hidden, nothing is drawn and the source does not wait.
 */
export class Pace {
  #wait;

  constructor() {
    document.addEventListener("visibilitychange", () => {
      if (document.hidden) this.reached();
    });
  }

  /** Waits, if drawing is behind, until it has caught up. */
  async keep(behind) {
    if (behind && !document.hidden) await (this.#wait ??= Promise.withResolvers()).promise;
  }

  /** Called when drawing has caught up. */
  reached() {
    this.#wait?.resolve();
    this.#wait = undefined;
  }
}
