// SPDX-License-Identifier: MIT
/**
 * Keeps a scrolled element at its end until the user scrolls up.
 *
 * A button then leads back once there is new content. Knows nothing of the content.
 */

const TOLERANCE = 2; // px: positions are fractions on scaled screens
const NEAR = 40; // px: so close to the end, scrolling down leads to it

export class Follow {
  #element;
  #button;
  #onReturn;
  #following = true;
  #touched = false; // a finger is on the element
  #top = 0; // the last known position

  /** @param onReturn called when the user comes back to the end */
  constructor(element, button, onReturn) {
    this.#element = element;
    this.#button = button;
    this.#onReturn = onReturn;
    element.addEventListener("scroll", () => this.#scrolled());
    // The first step of a smooth scroll is smaller than the tolerance.
    element.addEventListener("wheel", ({ deltaY, ctrlKey }) => {
      if (deltaY < 0 && !ctrlKey && element.scrollTop > 0) this.#following = false;
    }, { passive: true });
    element.addEventListener("touchstart", ({ target }) => this.#touch(target), { passive: true });
    element.addEventListener("keydown", ({ key }) => {
      if (key === "End") this.resume();
    });
    new ResizeObserver(() => this.changed()).observe(element);
    button.addEventListener("click", () => {
      element.focus({ preventScroll: true }); // the button disappears
      this.resume();
    });
  }

  /** Whether the end is shown. */
  get following() {
    return this.#following;
  }

  /** Goes to the end and stays there. */
  resume() {
    this.#following = true;
    this.#button.hidden = true;
    this.changed();
    this.#onReturn();
  }

  /** Called after the content has changed. @param isNew whether there is more of it */
  changed(isNew = false) {
    const element = this.#element;
    if (!this.#following) {
      if (isNew) this.#button.hidden = false;
    } else if (!this.#touched) {
      element.scrollTop = element.scrollHeight;
      this.#top = element.scrollTop;
    }
  }

  /** Called after the user has changed the content, to read it. */
  keep() {
    const { scrollTop, scrollHeight, clientHeight } = this.#element;
    this.#following &&= scrollHeight - scrollTop - clientHeight <= TOLERANCE;
  }

  /** Waits for the end of a touch. Its target gets it even if it was removed. */
  #touch(target) {
    this.#touched = true;
    const end = () => (this.#touched = false);
    for (const name of ["touchend", "touchcancel"]) {
      target.addEventListener(name, end, { once: true, passive: true });
    }
  }

  #scrolled() {
    const { scrollTop, scrollHeight, clientHeight } = this.#element;
    const up = scrollTop < this.#top;
    const below = scrollHeight - scrollTop - clientHeight;
    this.#top = scrollTop;
    if (up && below > TOLERANCE) this.#following = false;
    else if (!up && below <= NEAR && !this.#following) this.resume();
  }
}
