// SPDX-License-Identifier: MIT
/**
 * Input of a terminal: from events of the page to keys and text.
 *
 * Text also comes without a key: pasted, dictated, from an emoji panel or as a suggestion.
 * xterm.js handles keys and compositions. Knows nothing of sessions.
 */

const SLICE = 1 << 14; // characters that are processed without a pause
const DELETIONS = {
  deleteContentBackward: "\x7f",
  deleteWordBackward: "\x17",
  deleteSoftLineBackward: "\x15",
  deleteHardLineBackward: "\x15",
};
const BREAKS = ["insertLineBreak", "insertParagraph"];

/**
 * Reports input: onKeys(keys) as a terminal sends them, onInsert(text) for text without a
 * key, and onPaste(text). takes(text) returns whether the text of a composition has been
 * handled, which then ends.
 */
export function listen(element, xterm, { onKeys, onInsert, onPaste, takes }) {
  let handled = false; // xterm.js has reported the current key
  const listenTo = (type, listener) => element.addEventListener(type, listener, true);
  const forget = () => (handled = false);
  const consume = (event) => {
    event.preventDefault();
    event.stopPropagation();
  };
  for (const type of ["keydown", "keyup", "blur"]) listenTo(type, forget);
  xterm.onKey(() => (handled = true));
  xterm.onData(onKeys);
  listenTo("paste", (event) => {
    consume(event);
    onPaste(event.clipboardData.getData("text/plain"));
  });
  listenTo("compositionupdate", ({ data, target }) => {
    if (!data || !takes(data)) return;
    target.value = ""; // xterm.js would send it
    target.blur();
    target.focus();
  });
  listenTo("beforeinput", (event) => {
    const { inputType, isComposing } = event;
    // The text of a handled key is also inserted, for screen readers.
    if (isComposing || handled || inputType.includes("Composition")) return forget();
    const text = event.data ?? event.dataTransfer?.getData("text/plain");
    if (DELETIONS[inputType]) onKeys(DELETIONS[inputType]);
    else if (BREAKS.includes(inputType)) onKeys("\r");
    else if (inputType.startsWith("insert") && text) onInsert(text);
    consume(event);
  });
}

/** Passes input on in order, in slices, so that the page stays responsive. */
export class InputQueue {
  #take;
  #waiting = []; // { kind, text }
  #busy = false;

  /** @param take called with (kind, text), may return a promise to wait for */
  constructor(take) {
    this.#take = take;
  }

  push(kind, text) {
    this.#waiting.push({ kind, text: text.toWellFormed() });
    if (!this.#busy) void this.#run();
  }

  clear() {
    this.#waiting = [];
  }

  async #run() {
    this.#busy = true;
    while (this.#waiting.length) {
      const { kind, text } = this.#next();
      await this.#take(kind, text);
      // Other events of the page come first.
      if (this.#waiting.length) await new Promise((resolve) => setTimeout(resolve));
    }
    this.#busy = false;
  }

  #next() {
    const [first] = this.#waiting;
    if (first.text.length <= SLICE) return this.#waiting.shift();
    const text = first.text.slice(0, SLICE);
    const cut = text.isWellFormed() ? SLICE : SLICE - 1; // never within a code point
    first.text = first.text.slice(cut);
    return { kind: first.kind, text: text.slice(0, cut) };
  }
}
