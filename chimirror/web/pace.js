// SPDX-License-Identifier: MIT
/**
 * Lets who brings things wait for who shows them.
 *
 * Law: while nobody can look, nothing is shown, and so nobody waits.
 */
export class Pace {
  #wait;

  constructor() {
    document.addEventListener("visibilitychange", () => {
      if (document.hidden) this.reached();
    });
  }

  /** Waits, if it is behind, until it has caught up. */
  async keep(behind) {
    if (behind && !document.hidden) await (this.#wait ??= Promise.withResolvers()).promise;
  }

  /** It has caught up. */
  reached() {
    this.#wait?.resolve();
    this.#wait = undefined;
  }
}
