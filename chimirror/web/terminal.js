// SPDX-License-Identifier: MIT
/**
 * A session as a terminal, by xterm.js.
 *
 * Law: what comes can write into the terminal and do nothing else: titles, links and
 * the clipboard are no business of it. Where there is no terminal at the other end,
 * keys are edited here, line by line, as a terminal's driver would do it.
 */

import { Pace } from "./pace.js";
import { FitAddon } from "./vendor/addon-fit.mjs";
import { Terminal as Xterm } from "./vendor/xterm.mjs";

const ALOOF = [0, 1, 2, 7, 8, 9, 50, 52, 133, 777, 1337]; // OSC that mean no text
const COUNTED = "ILMSTZb"; // CSI whose parameter says how often
const OFTEN = 300; // more than a screen has lines, or columns
const MARKS = /(\p{M}{16})\p{M}+/gu; // more on one letter than any language has
const AHEAD = 4 << 20; // characters that may come before some are drawn
const HIGH = 1 << 17; // those of them that are: the last, and more than can be scrolled
const REST = 100; // ms for a flood to pass in, between two pieces of it
const BEHIND = 1 << 16; // characters that wait, where all of them are drawn
const AT_ONCE = 1 << 15; // characters between two looks at what else is to be done
/** Takes back what a program may have left: mouse and keys reported, and so on. */
const AFRESH = "\x1b[?9;1000;1002;1003;1004;1005;1006;1015;1016;2004;2026l\x1b[!p\x1b[m";
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
  #ahead = 0; // characters since some were drawn
  #writing = false;
  #pace = new Pace();

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
    for (const final of COUNTED) {
      // (It would count to the end, whatever else there is to do.)
      this.#xterm.parser.registerCsiHandler({ final }, ([count]) => count > OFTEN);
    }
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

  /** Begins another session. */
  renew() {
    const { type, cursorX } = this.#xterm.buffer.active;
    this.#line = "";
    this.#put(type === "alternate" ? "\x1b[?1049l" : "");
    this.#put(AFRESH + (cursorX ? "\r\n" : ""));
    this.attach();
  }

  fit() {
    this.#fit.fit();
  }

  /** Waits for the screen, if it is behind. */
  drawn() {
    return this.#pace.keep(this.#isBehind);
  }

  /** What goes to a terminal may be the half of a picture: none of it is left out. */
  get #isWhole() {
    return this.#talk.pty && this.#talk.steerable && !document.hidden;
  }

  get #isBehind() {
    return this.#isWhole ? this.#waiting.length > BEHIND : this.#ahead > AHEAD;
  }

  focus() {
    this.#xterm.focus();
  }

  clear() {
    this.#line = this.#waiting = "";
    this.#skipped = this.#ahead = 0;
    this.#pace.reached();
    this.#xterm.reset();
  }

  /** Text of a stream; that of stderr is red. */
  add(name, text) {
    this.#put(name === "stderr" ? `\x1b[31m${text}\x1b[39m` : text);
  }

  #put(text) {
    this.#waiting += text;
    this.#ahead += text.length;
    const excess = this.#waiting.length - HIGH;
    if (excess > 0 && !this.#isWhole) {
      this.#skipped += excess;
      this.#waiting = this.#waiting.slice(excess);
    }
    this.#write();
  }

  #write() {
    if (!this.#isBehind) this.#pace.reached();
    if (this.#writing || !this.#waiting) return;
    let text = this.#waiting.slice(0, AT_ONCE).replace(MARKS, "$1");
    const rest = this.#skipped ? REST : 0;
    if (rest) {
      const told = `${this.#skipped} characters were too many to show`;
      text = `\n\x1b[0;7m ${told} \x1b[0m\n${text}`;
    }
    this.#waiting = this.#waiting.slice(AT_ONCE);
    this.#skipped = 0;
    this.#writing = true;
    this.#xterm.write(text, () => {
      if (rest) setTimeout(() => this.#written(), rest);
      else this.#written();
    });
  }

  #written() {
    this.#writing = false;
    this.#ahead = 0;
    this.#write();
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
