// SPDX-License-Identifier: MIT
/**
 * What is shown beside the caret: completions to choose from, and explanations.
 *
 * Law: what a language server says becomes text. The focus stays in the text; of the
 * list, its `aria-activedescendant` tells.
 * Ignorance: where the answers come from.
 */

const ITEMS = 100; // that are shown
const LENGTH = 10000; // letters of an explanation
const LABEL = 200;
const GAP = 4; // pixels to the line

const string = (value) => (typeof value === "string" ? value : undefined);

/** Below the line, or above it where there is no room below. */
function put(element, { left, top, bottom }) {
  element.hidden = false;
  element.scrollTop = 0;
  const { width, height } = element.getBoundingClientRect();
  const wide = document.documentElement.clientWidth;
  const below = bottom + GAP + height <= innerHeight || top < height + GAP;
  element.style.left = `${Math.max(8, Math.min(left, wide - width - 8))}px`;
  element.style.top = `${below ? bottom + GAP : top - GAP - height}px`;
}

/** Completions. */
export class List {
  #element;
  #area;
  #accept;
  #items = [];
  #begun = "";
  #chosen = 0;

  /** `accept` gets the one that is taken, { text, range }, and what was begun. */
  constructor(element, area, accept) {
    this.#element = element;
    this.#area = area;
    this.#accept = accept;
  }

  get isOpen() {
    return !this.#element.hidden;
  }

  /** Shows an answer, as far as it goes on with what was begun; tells how many. */
  open(answer, begun, where) {
    const told = Array.isArray(answer) ? answer : answer?.items;
    const prefix = begun.toLowerCase();
    this.#items = (Array.isArray(told) ? told : [])
      .filter((item) => string(item?.label) !== undefined)
      .map(candidate)
      .filter(({ word }) => word.toLowerCase().startsWith(prefix))
      .sort((one, other) => (one.order < other.order ? -1 : Number(one.order > other.order)))
      .slice(0, ITEMS);
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

/** What the language server knows of a word, and what is wrong with it. */
export class Explanation {
  #element;

  constructor(element) {
    this.#element = element;
  }

  /** Shows an answer; returns its text. */
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

/** The texts of a hover, in any of the forms that LSP has had for them. */
function contents(told) {
  if (Array.isArray(told)) return told.map(contents).filter(Boolean).join("\n\n");
  return (string(told) ?? string(told?.value) ?? "").trim();
}
