// SPDX-License-Identifier: MIT
/**
 * Keys of a terminal beside those of xterm.js: keys that copy, and buttons for keys that
 * the keyboard of a phone lacks.
 */

import { copy } from "./copy.js";

const ARROWS = { ArrowUp: "A", ArrowDown: "B", ArrowRight: "C", ArrowLeft: "D" };
const KEYS = { Escape: "\x1b", Tab: "\t" };

function copies({ key, altKey, ctrlKey, metaKey, shiftKey }) {
  if (altKey || ctrlKey === metaKey) return false;
  if (key === "Insert") return ctrlKey && !shiftKey;
  return key.toLowerCase() === "c" && (metaKey || shiftKey);
}

/** Copies the selection if a key asks for it. Returns whether the key does. */
export function handleCopyKey(event, xterm) {
  if (!copies(event)) return false;
  if (event.type === "keydown") {
    event.preventDefault(); // the browser has another use of the key
    if (xterm.hasSelection()) void copy(xterm.getSelection());
  }
  return true;
}

/** Returns the control character of a key, or "" if it has none. */
function control(key) {
  if (key === "?") return "\x7f";
  if (key === " ") return "\0";
  return /^[@-_a-z]$/.test(key) ? String.fromCharCode(key.charCodeAt(0) & 0x1f) : "";
}

/** Buttons that press keys. Ctrl holds for the next key. */
export class KeyButtons {
  #element;
  #xterm;
  #ctrl = false;

  /** @param press called with the keys of a button, as a terminal sends them */
  constructor(element, xterm, press) {
    this.#element = element;
    this.#xterm = xterm;
    // The terminal keeps the focus, and a phone its keyboard.
    element.addEventListener("mousedown", (event) => event.preventDefault());
    element.addEventListener("click", ({ target, detail }) => {
      const { key } = target.dataset;
      if (!key) return;
      if (key === "Control") this.#hold(!this.#ctrl);
      else press(this.#sequence(key));
      if (detail) xterm.focus(); // a pointer, not a key
    });
  }

  /** Enables the buttons. Only the terminal of an application has a use for all. */
  enable(live, pty) {
    this.#hold(false);
    for (const button of this.#element.children) {
      button.disabled = !live || (!pty && !["Control", "Tab"].includes(button.dataset.key));
    }
  }

  /** Applies Ctrl to the next keys. */
  modify(keys) {
    if (!this.#ctrl) return keys;
    this.#hold(false);
    return control(keys) || keys;
  }

  #hold(ctrl) {
    this.#ctrl = ctrl;
    const button = this.#element.querySelector("[data-key=Control]");
    button.setAttribute("aria-pressed", String(ctrl));
  }

  #sequence(key) {
    const held = this.#ctrl;
    this.#hold(false);
    const arrow = ARROWS[key];
    if (!arrow) return KEYS[key];
    if (held) return `\x1b[1;5${arrow}`;
    return `\x1b${this.#xterm.modes.applicationCursorKeysMode ? "O" : "["}${arrow}`;
  }
}
