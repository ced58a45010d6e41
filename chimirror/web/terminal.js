// SPDX-License-Identifier: MIT
/**
 * Terminal view of a session, with xterm.js.
 *
 * Output can only write into the terminal: it cannot set titles or links, or use the
 * clipboard. If the application has no terminal, input is edited line by line, as a
 * terminal driver does. Output then appears before the line that is being edited.
 */

import { InputQueue, listen } from "./input.js";
import { KeyButtons, handleCopyKey } from "./keyboard.js";
import { LineEditor } from "./line_editor.js";
import { Pace } from "./pace.js";
import { followColours } from "./terminal_style.js";
import { FitAddon } from "./vendor/addon-fit.mjs";
import { Terminal as Xterm } from "./vendor/xterm.mjs";
import { cells, CODE_POINTS, GRAPHEMES, register } from "./widths.js";

const INTERRUPT = "\x03"; // Ctrl-C
const END = "\x04"; // Ctrl-D
/** Keys that edit a line, and methods of LineEditor. */
const EDITS = {
  "\x7f": "deleteCharacter",
  "\b": "deleteCharacter",
  "\x15": "deleteAll", // Ctrl-U
  "\x17": "deleteWord", // Ctrl-W
  "\x1b\x7f": "deleteWord", // Alt-Backspace
};
/** The unfinished escape sequence at the end of a text. */
const UNFINISHED = /\x1b(?:[ -/]*|\[[0-?]*[ -/]*|[\]P^_X][^\x07\x1b]*\x1b?)$/;
const MAX_SEQUENCE = 4096; // characters, longer ones are not awaited
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

export class Terminal {
  #xterm;
  #fit = new FitAddon();
  #talk;
  #line;
  #buttons;
  #input = new InputQueue((kind, text) => this.#accept(kind, text));
  #unfinished = {}; // the start of an escape sequence in each stream
  #waiting = "";
  #skipped = 0;
  #ahead = 0; // characters since the last drawing
  #writing = false;
  #pace = new Pace();
  #drawing; // resolved when the current batch is drawn

  /** @param element the container @param talk the session @param buttons keys to touch */
  constructor(element, talk, buttons) {
    this.#talk = talk;
    this.#xterm = new Xterm({
      allowProposedApi: true, // for the widths of characters
      convertEol: true,
      cursorBlink: false,
      fontFamily: "ui-monospace, monospace",
      fontSize: 14,
      lineHeight: 1.15, // Chromium draws no underscores at 1
      minimumContrastRatio: 4.5,
      reflowCursorLine: true,
      scrollback: 2000,
    });
    for (const code of IGNORED_OSC) this.#xterm.parser.registerOscHandler(code, () => true);
    for (const final of REPEATING_CSI) {
      // xterm.js would block the page during a large count.
      this.#xterm.parser.registerCsiHandler({ final }, ([count]) => count > MAX_REPEAT);
    }
    followColours(this.#xterm);
    this.#xterm.loadAddon(this.#fit);
    register(this.#xterm.unicode);
    this.#xterm.unicode.activeVersion = GRAPHEMES;
    this.#line = new LineEditor(this.#xterm, cells);
    this.#xterm.open(element);
    listen(element, this.#xterm, {
      onKeys: (keys) => this.#type(this.#buttons.modify(keys)),
      onInsert: (text) => this.#takes(text) || this.#enter(text),
      onPaste: (text) => this.#paste(text),
      takes: (text) => this.#takes(text),
    });
    this.#buttons = new KeyButtons(buttons, this.#xterm, (keys) => this.#press(keys));
    this.#xterm.onResize(() => this.attach());
    this.#xterm.attachCustomKeyEventHandler((event) => this.#isKey(event));
    new ResizeObserver(() => this.fit()).observe(element);
    this.fit();
    this.attach();
  }

  /** Adapts line ends, widths and the size to the session. */
  attach() {
    const { live, mute, pty } = this.#talk;
    this.#buttons.enable(live && !mute, pty);
    if (!live) return; // the rest of the output of the session may wait
    this.#xterm.options.convertEol = this.#xterm.options.reflowCursorLine = !pty;
    this.#xterm.unicode.activeVersion = pty ? CODE_POINTS : GRAPHEMES;
    this.#talk.resize(this.#xterm.cols, this.#xterm.rows);
  }

  /** Called at the start of another session. */
  renew() {
    const { type, cursorX } = this.#xterm.buffer.active;
    this.#forget();
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
    this.#forget();
    this.#waiting = "";
    this.#skipped = this.#ahead = 0;
    this.#pace.reached();
    this.#xterm.reset();
  }

  /** Adds text of a stream, in red for stderr. */
  add(name, text) {
    const whole = (this.#unfinished[name] ?? "") + text;
    const [rest] = this.#talk.pty ? [""] : (UNFINISHED.exec(whole.slice(-MAX_SEQUENCE)) ?? [""]);
    this.#unfinished[name] = rest;
    const output = whole.slice(0, whole.length - rest.length);
    const moves = this.#line.text && this.#line.isVisible;
    if (moves) this.#put(this.#line.hide());
    this.#put(name === "stderr" ? `\x1b[31m${output}\x1b[39m` : output);
    if (moves) this.#put(this.#line.show());
  }

  /** Forgets input and the start of an escape sequence. */
  #forget() {
    this.#input.clear();
    this.#line.take();
    this.#unfinished = {};
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

  /** Waits until more of the waiting output has been drawn. */
  async #drawnMore() {
    await (this.#drawing ??= Promise.withResolvers()).promise;
  }

  #written() {
    this.#writing = false;
    this.#ahead = 0;
    this.#drawing?.resolve();
    this.#drawing = undefined;
    this.#write();
  }

  /** Makes the output available to screen readers, which costs time. */
  setReader(on) {
    this.#xterm.options.screenReaderMode = on;
  }

  /** Whether a key is one of the terminal, not of the page or the browser. */
  #isKey(event) {
    if (handleCopyKey(event, this.#xterm)) return false;
    const { key, ctrlKey, shiftKey } = event;
    const { pty } = this.#talk;
    // Tab or Shift+Tab leaves the terminal: the page must not trap the keyboard.
    if (key === "Tab") return pty && !shiftKey;
    return pty || !ctrlKey || key.toLowerCase() !== "v"; // pastes
  }

  #type(keys) {
    const { live, mute, pty } = this.#talk;
    if (!live || mute) return;
    if (pty) return this.#input.push("keys", keys);
    if (keys === INTERRUPT) return this.#interrupt();
    const text = keys === "\r" ? "\n" : keys;
    const inserts = text === "\n" || (text >= " " && text !== "\x7f");
    this.#input.push(inserts ? "text" : "keys", text);
  }

  /** Handles a key of the buttons. */
  #press(keys) {
    if (keys === "\t") this.#enter(keys);
    else this.#type(keys);
  }

  /** Whether a text is part of a key, because a button has been pressed before. */
  #takes(text) {
    const key = this.#buttons.modify(text);
    if (key === text) return false;
    this.#type(key);
    return true;
  }

  #interrupt() {
    this.#input.clear();
    this.#line.take();
    this.#put("^C\n");
    this.#talk.interrupt();
  }

  /** Adds text that was not typed key by key. */
  #enter(text) {
    const { live, mute, pty } = this.#talk;
    if (!live || mute) return;
    this.#xterm.scrollToBottom();
    const lines = text.replace(/\r\n?/g, "\n");
    this.#input.push("text", pty ? lines.replaceAll("\n", "\r") : lines);
  }

  #paste(text) {
    const marked = this.#talk.pty && this.#xterm.modes.bracketedPasteMode;
    // The text must not end the paste.
    if (marked) this.#enter(`\x1b[200~${text.replaceAll("\x1b", "␛")}\x1b[201~`);
    else this.#enter(text);
  }

  /** Processes input in its order. */
  async #accept(kind, text) {
    if (!this.#talk.live) return;
    if (this.#talk.pty) await this.#talk.write(text);
    else if (kind === "text") await this.#insert(text);
    else if (text === END) this.#line.text || this.#talk.eof();
    else if (EDITS[text]) this.#put(this.#line[EDITS[text]]());
  }

  async #insert(text) {
    const done = [];
    let drawing = "";
    for (const [index, part] of text.split("\n").entries()) {
      if (index) {
        done.push(this.#line.take());
        drawing += "\n";
      }
      if (part) drawing += this.#line.insert(part);
    }
    this.#put(drawing);
    if (done.length) this.onLines(done);
    if (this.#waiting.length > BATCH_SIZE) await this.#drawnMore();
  }

  /** Set by the owner: called with entered lines. */
  onLines(lines) {}
}
