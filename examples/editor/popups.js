// SPDX-License-Identifier: MIT
/**
 * Popups at the caret: a list of completions, and explanations.
 *
 * Guarantees: messages of a language server are shown as text, never as HTML. The focus
 * stays in the textarea, whose `aria-activedescendant` names the chosen completion.
 * Knows nothing of the language server.
 */

const MAX_ITEMS = 100; // shown
const LENGTH = 10000; // characters of an explanation
const LABEL = 200;
const GAP = 4; // pixels to the line

const string = (value) => (typeof value === "string" ? value : undefined);

/** Places an element below the line, or above it if there is no room below. */
function put(element, { left, top, bottom }) {
  element.hidden = false;
  element.scrollTop = 0;
  const { width, height } = element.getBoundingClientRect();
  const wide = document.documentElement.clientWidth;
  const below = bottom + GAP + height <= innerHeight || top < height + GAP;
  element.style.left = `${Math.max(8, Math.min(left, wide - width - 8))}px`;
  element.style.top = `${below ? bottom + GAP : top - GAP - height}px`;
}

/** The list of completions. */
export class List {
  #element;
  #area;
  #accept;
  #items = [];
  #begun = "";
  #chosen = 0;

  /** `accept` is called with the chosen completion, { text, range }, and the typed prefix. */
  constructor(element, area, accept) {
    this.#element = element;
    this.#area = area;
    this.#accept = accept;
  }

  get isOpen() {
    return !this.#element.hidden;
  }

  /** Shows the completions of a response that match the prefix. Returns their number. */
  open(answer, begun, where) {
    const told = Array.isArray(answer) ? answer : answer?.items;
    const prefix = begun.toLowerCase();
    this.#items = (Array.isArray(told) ? told : [])
      .filter((item) => string(item?.label) !== undefined)
      .map(candidate)
      .filter(({ word }) => word.toLowerCase().startsWith(prefix))
      .sort((one, other) => (one.order < other.order ? -1 : Number(one.order > other.order)))
      .slice(0, MAX_ITEMS);
    this.#begun = begun;
    if (!this.#items.length) return 0;
    this.#element.replaceChildren(...this.#items.map((item, index) => this.#row(item, index)));
    put(this.#element, where);
    this.#choose(0);
    return this.#items.length;
  }

  close() {
    this.#element.hidden = true;
    this.#area.removeAttribute("aria-activedescendant");
  }

  move(step) {
    this.#choose((this.#chosen + step + this.#items.length) % this.#items.length);
  }

  take() {
    this.#accept(this.#items[this.#chosen], this.#begun);
  }

  #row({ label, detail }, index) {
    const row = document.createElement("li");
    row.id = `completion-${index}`;
    row.setAttribute("role", "option");
    row.append(label);
    if (detail) row.append(document.createElement("span"));
    if (detail) row.lastChild.textContent = detail;
    row.addEventListener("pointerdown", (event) => event.preventDefault());
    row.addEventListener("click", () => {
      this.#choose(index);
      this.take();
    });
    return row;
  }

  #choose(index) {
    this.#chosen = index;
    for (const [at, row] of [...this.#element.children].entries()) {
      row.setAttribute("aria-selected", at === index);
    }
    const chosen = this.#element.children[index];
    chosen.scrollIntoView({ block: "nearest" });
    this.#area.setAttribute("aria-activedescendant", chosen.id);
  }
}

function candidate({ label, detail, filterText, sortText, insertText, textEdit }) {
  return {
    label: label.trim().slice(0, LABEL),
    detail: string(detail)?.slice(0, LABEL),
    word: string(filterText) ?? label.trim(),
    order: string(sortText) ?? label,
    text: string(textEdit?.newText) ?? string(insertText) ?? label.trim(),
    range: textEdit?.range ?? textEdit?.insert,
  };
}

/** The explanation of a word, and the problems at it. */
export class Explanation {
  #element;

  constructor(element) {
    this.#element = element;
  }

  /** Shows a response. Returns its text. */
  open(answer, problems, where) {
    const found = [...problems.map(({ text }) => text), contents(answer?.contents)];
    const text = found.filter(Boolean).join("\n\n").slice(0, LENGTH);
    this.#element.textContent = text;
    if (text) put(this.#element, where);
    else this.close();
    return text;
  }

  close() {
    this.#element.hidden = true;
  }
}

/** Yields the texts of a hover, in any form of any version of LSP. */
function contents(told) {
  if (Array.isArray(told)) return told.map(contents).filter(Boolean).join("\n\n");
  return (string(told) ?? string(told?.value) ?? "").trim();
}
