// SPDX-License-Identifier: MIT
/**
 * A line of input that the user edits, and the sequences that show it on a screen.
 *
 * The cursor is at the end of the line. Each method that changes the line returns the
 * text that a terminal must draw. What the terminal shows is then the line: a control
 * character as `^A`, one without a glyph as its code point. Knows no terminal and no
 * page.
 */

const segmenter = new Intl.Segmenter("en", { granularity: "grapheme" });
/** Characters without a glyph. */
const HIDDEN = /[\p{Cc}\p{Zl}\p{Zp}\p{DI}\ufff9-\ufffb]/u;
/** Characters without a glyph that change the one before them, such as joiners. */
const CHANGING = /[\u034f\u180b-\u180d\u180f\u200c\u200d\ufe00-\ufe0f\u{e0100}-\u{e01ef}]/u;
const TAG = /[\u{e0020}-\u{e007f}]/u; // the letters of a flag
const FLAG = "\u{1f3f4}";
const PLAIN = /^[ -~]*$/;
/** Ends the character before: the next one does not join it. Terminals ignore it. */
const SEPARATOR = "\0";

/** Splits a text into the characters that a user perceives. */
function split(text) {
  if (PLAIN.test(text)) return [...text];
  return Array.from(segmenter.segment(text), ({ segment }) => segment);
}

/** Returns how a character is shown. */
function shown(segment) {
  if (!HIDDEN.test(segment)) return segment;
  const changes = (char) => CHANGING.test(char) || (TAG.test(char) && segment.startsWith(FLAG));
  return Array.from(segment, (char, index) => {
    if (!HIDDEN.test(char) || (index && changes(char))) return char;
    const code = char.codePointAt(0);
    if (code < 0x20 || code === 0x7f) return `^${String.fromCharCode(code ^ 0x40)}`;
    return `‹U+${code.toString(16).toUpperCase().padStart(4, "0")}›`;
  }).join("");
}

export class LineEditor {
  text = "";
  #cells = 0; // of the whole line
  #reachable = 0; // cells between the cursor and the start of the line or the screen
  #screen;
  #cellsOf;

  /** @param screen has cols and rows @param cells returns the width of a text */
  constructor(screen, cells) {
    this.#screen = screen;
    this.#cellsOf = cells;
  }

  /** Whether the whole line is on the screen. */
  get isVisible() {
    return this.#cells === this.#limit();
  }

  /** Adds a text without line breaks. */
  insert(text) {
    // It may change the last character, for example add an accent.
    const start = this.text.length - this.#last().length;
    const before = this.text.slice(start);
    const [first, ...more] = split(before + text);
    const kept = first === before;
    const erased = kept ? "" : this.#cut(start);
    this.text = this.text.slice(0, start) + before + text;
    return erased + this.#draw(kept ? more : [first, ...more]);
  }

  /** Deletes the last character. */
  deleteCharacter() {
    return this.#cut(this.text.length - this.#last().length);
  }

  /** Deletes the last word and the spaces after it. */
  deleteWord() {
    let start = this.text.trimEnd().length;
    while (start > 0 && /\S/.test(this.text[start - 1])) start -= 1;
    const character = start ? segmenter.segment(this.text).containing(start) : undefined;
    return this.#cut(character?.index ?? start);
  }

  deleteAll() {
    return this.#cut(0);
  }

  /** Removes the line from the screen, if all of it is there. */
  hide() {
    return this.#erase(this.#cells);
  }

  /** Shows the line after `hide`. */
  show() {
    return this.#draw(split(this.text));
  }

  /** Ends the line. Returns its text. */
  take() {
    const { text } = this;
    this.text = "";
    this.#cells = this.#reachable = 0;
    return text;
  }

  #last() {
    const { text } = this;
    return text && segmenter.segment(text).containing(text.length - 1).segment;
  }

  #cut(start) {
    const removed = this.#measure(split(this.text.slice(start)));
    this.text = this.text.slice(0, start);
    if (removed <= this.#limit()) return this.#erase(removed);
    // A cursor cannot move to lines above the screen: the rest is shown anew.
    this.#cells = this.#reachable = 0;
    return `\n${this.show()}`;
  }

  #draw(segments) {
    this.#advance(this.#measure(segments));
    return this.#sequence(segments);
  }

  #sequence(segments) {
    return segments.map((each) => (PLAIN.test(each) ? each : SEPARATOR + shown(each))).join("");
  }

  #measure(segments) {
    return segments.reduce((sum, each) => sum + this.#cellsOf(shown(each)), 0);
  }

  #advance(cells) {
    this.#cells += cells;
    this.#reachable += cells;
    this.#limit();
  }

  /** Returns the number of cells to which the cursor can move back. */
  #limit() {
    const { cols, rows } = this.#screen;
    this.#reachable = Math.min(this.#reachable, (cols - 1) * (rows - 1));
    return this.#reachable;
  }

  /** Moves the cursor back, also to the line before (mode 45), and erases each cell. */
  #erase(cells) {
    this.#cells -= cells;
    this.#reachable -= cells;
    return cells ? `\x1b[?45h${"\b\x1b[X".repeat(cells)}\x1b[?45l` : "";
  }
}
