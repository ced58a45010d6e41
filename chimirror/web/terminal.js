// SPDX-License-Identifier: MIT
/**
 * A session as a terminal, by xterm.js.
 *
 * Law: what comes can write into the terminal and do nothing else: titles, links and
 * the clipboard are no business of it. Where there is no terminal at the other end,
 * keys are edited here, line by line, as a terminal's driver would do it.
 */

import { FitAddon } from "./vendor/addon-fit.mjs";
import { Terminal as Xterm } from "./vendor/xterm.mjs";

const ALOOF = [0, 1, 2, 7, 8, 9, 50, 52, 133, 777, 1337]; // OSC that mean no text
const HIGH = 1 << 17; // characters that wait to be drawn: of a flood, the last
const THEMES = {
  light: {
    background: "#ffffff",
    foreground: "#1c2626",
    cursor: "#155e63",
    cursorAccent: "#ffffff",
    selectionBackground: "#b9dcd9",
    red: "#b3261e",
    green: "#1b6e3c",
    yellow: "#7a5900",
    blue: "#1b5fa8",
    magenta: "#8a3a8f",
    cyan: "#0b6b73",
    white: "#5b6666",
    brightBlack: "#5b6666",
    brightWhite: "#1c2626",
  },
  dark: {
    background: "#0f1717",
    foreground: "#dfe9e8",
    cursor: "#8fe3d4",
    cursorAccent: "#0f1717",
    selectionBackground: "#2c5552",
    red: "#ff8a80",
    blue: "#7db4ff",
    brightBlack: "#93a3a2",
  },
};

/**
 * xterm.js writes style sheets and style attributes, which the page's policy forbids;
 * the same through the object model is allowed, so that is what it gets. (Its option
 * for a document of its own reaches not all of it.)
 */
const create = document.createElement.bind(document);
document.createElement = (tag, options) => {
  const element = create(tag === "style" ? "span" : tag, options);
  if (tag === "style") {
    const sheet = new CSSStyleSheet();
    document.adoptedStyleSheets.push(sheet);
    element.hidden = true;
    Object.defineProperty(element, "textContent", { set: (text) => sheet.replaceSync(text) });
  }
  element.setAttribute = (name, value) => {
    if (name === "style") element.style.cssText = value;
    else Element.prototype.setAttribute.call(element, name, value);
  };
  return element;
};

export class Terminal {
  #xterm;
  #fit = new FitAddon();
  #talk;
  #line = "";
  #waiting = "";
  #skipped = 0;
  #writing = false;

  /** @param element where; @param talk what is spoken to */
  constructor(element, talk) {
    this.#talk = talk;
    const dark = matchMedia("(prefers-color-scheme: dark)");
    const theme = () => THEMES[dark.matches ? "dark" : "light"];
    this.#xterm = new Xterm({
      allowProposedApi: false,
      convertEol: true,
      cursorBlink: false,
      fontFamily: "ui-monospace, monospace",
      fontSize: 14,
      minimumContrastRatio: 4.5,
      screenReaderMode: true,
      scrollback: 2000,
      theme: theme(),
    });
    for (const code of ALOOF) this.#xterm.parser.registerOscHandler(code, () => true);
    dark.addEventListener("change", () => (this.#xterm.options.theme = theme()));
    this.#xterm.loadAddon(this.#fit);
    this.#xterm.open(element);
    this.#xterm.onData((keys) => this.#type(keys));
    this.#xterm.onResize(() => this.attach());
    // Tab, or Shift+Tab, moves on: a page must not hold on to the keyboard.
    this.#xterm.attachCustomKeyEventHandler(
      ({ key, shiftKey }) => key !== "Tab" || (talk.pty && !shiftKey),
    );
    new ResizeObserver(() => this.fit()).observe(element);
    this.fit();
    this.attach();
  }

  /** Does as the other end of the session needs it. */
  attach() {
    this.#xterm.options.convertEol = !this.#talk.pty;
    this.#talk.resize(this.#xterm.cols, this.#xterm.rows);
  }

  fit() {
    this.#fit.fit();
  }

  focus() {
    this.#xterm.focus();
  }

  clear() {
    this.#line = this.#waiting = "";
    this.#xterm.reset();
  }

  /** Text of a stream; that of stderr is red. */
  add(name, text) {
    this.#put(name === "stderr" ? `\x1b[31m${text}\x1b[39m` : text);
  }

  #put(text) {
    this.#waiting += text;
    const excess = this.#waiting.length - HIGH;
    if (excess > 0) {
      this.#skipped += excess;
      this.#waiting = this.#waiting.slice(excess);
    }
    this.#write();
  }

  #write() {
    if (this.#writing || !this.#waiting) return;
    let text = this.#waiting;
    if (this.#skipped) {
      const told = `${this.#skipped} characters were too many to show`;
      text = `\n\x1b[0;7m ${told} \x1b[0m\n${text}`;
    }
    this.#waiting = "";
    this.#skipped = 0;
    this.#writing = true;
    this.#xterm.write(text, () => {
      this.#writing = false;
      this.#write();
    });
  }

  #type(keys) {
    if (this.#talk.pty) return void this.#talk.write(keys);
    if (keys.startsWith("\x1b") || !this.#talk.live) return; // arrows, answers
    for (const key of keys.replace(/\r\n?/g, "\n")) this.#key(key);
  }

  #key(key) {
    if (key === "\n") {
      const line = this.#line;
      this.#line = "";
      this.#put("\n");
      this.onLine(line);
    } else if (key === "\x7f" || key === "\b") {
      if (!this.#line) return;
      this.#line = [...this.#line].slice(0, -1).join("");
      this.#put("\b \b");
    } else if (key === "\x03") {
      this.#line = "";
      this.#put("^C\n");
      this.#talk.interrupt();
    } else if (key === "\x04") {
      if (!this.#line) this.#talk.eof();
    } else if (key >= " ") {
      this.#line += key;
      this.#put(key);
    }
  }

  /** Somebody has entered a line; for the owner to define. */
  onLine(line) {}
}
