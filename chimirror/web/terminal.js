// SPDX-License-Identifier: MIT
/**
 * Terminal view of a session, with xterm.js.
 *
 * Output can only write into the terminal: it cannot set titles or links, or use the
 * clipboard. If the application has no terminal, this module edits input line by line, as
 * a terminal driver does.
 */

import { Pace } from "./pace.js";
import { FitAddon } from "./vendor/addon-fit.mjs";
import { Terminal as Xterm } from "./vendor/xterm.mjs";

const INTERRUPT = "\x03"; // Ctrl-C
const IGNORED_OSC = [0, 1, 2, 7, 8, 9, 50, 52, 133, 777, 1337]; // OSC codes without text, ignored
const REPEATING_CSI = "ILMSTZb"; // CSI sequences with a repeat count
const MAX_REPEAT = 300; // more than the lines or columns of a screen
const EXCESS_MARKS = /(\p{M}{16})\p{M}+/gu; // more marks on a letter than any language uses
const MAX_AHEAD = 4 << 20; // received characters before a drawing
const MAX_WAITING = 1 << 17; // the last characters, more than the scrollback holds
const FLOOD_DELAY = 100; // ms between two drawings during a flood
const MAX_BEHIND = 1 << 16; // waiting characters if all of them must be drawn
const BATCH_SIZE = 1 << 15; // characters for one call of xterm.js, to stay responsive
/** Resets modes that a program may have left set, such as mouse reports. */
const RESET_MODES = "\x1b[?9;1000;1002;1003;1004;1005;1006;1015;1016;2004;2026l\x1b[!p\x1b[m";
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
 * xterm.js writes style elements and attributes, which the page's policy forbids. The
 * policy allows the same through the object model, so these are replaced. (The option of
 * xterm.js for its own document does not cover all of them.)
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
  #ahead = 0; // characters since the last drawing
  #writing = false;
  #pace = new Pace();

  /** @param element the container @param talk the session */
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
    for (const code of IGNORED_OSC) this.#xterm.parser.registerOscHandler(code, () => true);
    for (const final of REPEATING_CSI) {
      // xterm.js would block the page during a large count.
      this.#xterm.parser.registerCsiHandler({ final }, ([count]) => count > MAX_REPEAT);
    }
    dark.addEventListener("change", () => (this.#xterm.options.theme = theme()));
    this.#xterm.loadAddon(this.#fit);
    this.#xterm.open(element);
    this.#xterm.onData((keys) => this.#type(keys));
    this.#xterm.onResize(() => this.attach());
    // Tab or Shift+Tab leaves the terminal: the page must not trap the keyboard.
    this.#xterm.attachCustomKeyEventHandler(
      ({ key, shiftKey }) => key !== "Tab" || (talk.pty && !shiftKey),
    );
    new ResizeObserver(() => this.fit()).observe(element);
    this.fit();
    this.attach();
  }

  /** Adapts line ends and the size to the session. */
  attach() {
    this.#xterm.options.convertEol = !this.#talk.pty;
    this.#talk.resize(this.#xterm.cols, this.#xterm.rows);
  }

  /** Called at the start of another session. */
  renew() {
    const { type, cursorX } = this.#xterm.buffer.active;
    this.#line = "";
    this.#put(type === "alternate" ? "\x1b[?1049l" : "");
    this.#put(RESET_MODES + (cursorX ? "\r\n" : ""));
    this.attach();
  }

  get size() {
    return { columns: this.#xterm.cols, rows: this.#xterm.rows };
  }

  fit() {
    this.#fit.fit();
  }

  /** Waits for drawing if it is behind. */
  drawn() {
    return this.#pace.keep(this.#isBehind);
  }

  /** Output for a terminal is drawn completely: it may be part of a screen. */
  get #isWhole() {
    return this.#talk.pty && !document.hidden;
  }

  get #isBehind() {
    return this.#isWhole ? this.#waiting.length > MAX_BEHIND : this.#ahead > MAX_AHEAD;
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

  /** Adds text of a stream, in red for stderr. */
  add(name, text) {
    this.#put(name === "stderr" ? `\x1b[31m${text}\x1b[39m` : text);
  }

  #put(text) {
    this.#waiting += text;
    this.#ahead += text.length;
    const excess = this.#waiting.length - MAX_WAITING;
    if (excess > 0 && !this.#isWhole) {
      this.#skipped += excess;
      this.#waiting = this.#waiting.slice(excess);
    }
    this.#write();
  }

  #write() {
    if (!this.#isBehind) this.#pace.reached();
    if (this.#writing || !this.#waiting) return;
    let text = this.#waiting.slice(0, BATCH_SIZE).replace(EXCESS_MARKS, "$1");
    const rest = this.#skipped ? FLOOD_DELAY : 0;
    if (rest) {
      const note = `${this.#skipped} characters were too many to show`;
      text = `\n\x1b[0;7m ${note} \x1b[0m\n${text}`;
    }
    this.#waiting = this.#waiting.slice(BATCH_SIZE);
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
    if (this.#talk.mute) return;
    if (this.#talk.pty) return void this.#talk.write(keys);
    if (keys.startsWith("\x1b") || !this.#talk.live) return; // arrow keys and answers to queries
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
    } else if (key === INTERRUPT) {
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

  /** Set by the owner: called with each entered line. */
  onLine(line) {}
}
