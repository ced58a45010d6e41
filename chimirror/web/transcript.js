// SPDX-License-Identifier: MIT
/**
 * Transcript of a session, line by line: kept and shown up to limits, and saved.
 *
 * All text is shown as text. During a flood, the newest lines are drawn at the rate of the
 * screen, and the skipped lines are counted.
 */

import { Pace } from "./pace.js";

const MAX_KEPT = 8 << 20; // characters that can be saved
const ENTRY_OVERHEAD = 32; // characters that each line counts in addition
const MAX_SHOWN = 600; // entries
const MAX_SHOWN_LENGTH = 4000; // characters of one entry on the screen
const MAX_LINE = 4 << 20; // characters of one line, longer ones are split
const MAX_INDENTED = 100_000; // characters of a JSON text that is indented
const BATCH_SIZE = 200; // entries for one drawing
const FLOOD_DELAY = 100; // ms between two drawings during a flood
const MAX_AHEAD = 4 << 20; // received characters before a drawing
export const NAMES = { stdin: "in", stdout: "out", stderr: "err", note: "note" };

/** Indents a JSON object or array. Numbers keep their notation. */
export function indented(text) {
  if (text.length > MAX_INDENTED || !/^\s*[[{]/.test(text)) return undefined;
  try {
    JSON.parse(text);
  } catch {
    return undefined;
  }
  let [depth, before, written] = [0, "", ""];
  for (const [token] of text.matchAll(/"(?:[^"\\]|\\.)*"|[[\]{}:,]|[^\s[\]{}:,"]+/g)) {
    const opened = /^[[{]$/.test(before);
    const closes = /^[\]}]$/.test(token);
    if (closes) depth -= 1;
    const breaks = closes ? !opened : token !== "," && (opened || before === ",");
    if (breaks) written += `\n${"  ".repeat(Math.min(depth, 40))}`;
    written += token === ":" ? ": " : token;
    if (/^[[{]$/.test(token)) depth += 1;
    before = token;
    if (written.length > MAX_SHOWN_LENGTH) break; // the rest is not shown
  }
  return written;
}

/** Characters without a glyph, and control characters that move others. */
const INVISIBLE =
  /[\0-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\u{e0000}-\u{e007f}]/gu;

/** Shows control characters as symbols or code points. */
function visible(text) {
  return text.replace(INVISIBLE, (found) => {
    const code = found.codePointAt(0);
    if (code < 0x20) return String.fromCharCode(0x2400 + code);
    if (code === 0x7f) return "\u2421";
    return `‹U+${code.toString(16).toUpperCase().padStart(4, "0")}›`;
  });
}

export class Transcript {
  indent = true;
  #element;
  #onChange;
  #entries = []; // { at, name, text, open, node }
  #size = 0;
  #lost = 0; // number of dropped entries
  #open = {}; // the unterminated entry of each stream
  #waiting = []; // entries that are not drawn yet
  #changed = new Set(); // drawn entries that have become longer
  #skipped = 0;
  #frame = 0;
  #timer = 0; // delays drawing during a flood
  #ahead = 0; // characters since the last drawing
  #pace = new Pace();

  constructor(element, onChange) {
    this.#element = element;
    this.#onChange = onChange;
  }

  get length() {
    return this.#entries.length;
  }

  /** Adds text of a stream. The part after the last line break stays open. */
  add(name, text) {
    this.#ahead += text.length;
    const pieces = text.split("\n");
    pieces.forEach((piece, index) => {
      const last = index === pieces.length - 1;
      if (last && !piece) return;
      this.#append(name, piece, last);
    });
    this.#bound();
    if (!this.#timer) this.#schedule();
  }

  #schedule() {
    this.#timer = 0;
    this.#frame ||= requestAnimationFrame(() => this.#draw());
  }

  /** Waits for drawing if it is behind. */
  drawn() {
    return this.#pace.keep(this.#ahead > MAX_AHEAD);
  }

  /** Adds a complete entry. */
  line(name, text) {
    // Later text of a stream begins a new entry.
    for (const stream of Object.keys(this.#open)) this.#close(stream);
    this.add(name, `${text}\n`);
  }

  #append(name, piece, open) {
    let entry = this.#open[name];
    if (!entry) {
      entry = { at: Date.now(), name, text: "", open: true };
      this.#size += ENTRY_OVERHEAD;
      this.#entries.push(entry);
      this.#waiting.push(entry);
      this.#open[name] = entry;
    } else if (entry.node) {
      this.#changed.add(entry);
    }
    entry.text += piece;
    this.#size += piece.length;
    if (!open || entry.text.length > MAX_LINE) this.#close(name);
  }

  #close(name) {
    const entry = this.#open[name];
    if (!entry) return;
    entry.open = false;
    if (entry.text.endsWith("\r")) entry.text = entry.text.slice(0, -1);
    delete this.#open[name];
    if (entry.node) this.#changed.add(entry);
  }

  #bound() {
    if (this.#size > MAX_KEPT) {
      let count = 0;
      while (this.#size > MAX_KEPT / 2 && count < this.#entries.length - 1) {
        this.#size -= this.#entries[count].text.length + ENTRY_OVERHEAD;
        count += 1;
      }
      this.#entries.splice(0, count);
      this.#lost += count;
    }
    if (this.#waiting.length > MAX_SHOWN * 2) {
      const skipped = this.#waiting.length - MAX_SHOWN;
      this.#waiting.splice(0, skipped);
      this.#skipped += skipped;
    }
  }

  #draw() {
    this.#frame = this.#ahead = 0;
    this.#pace.reached();
    const element = this.#element;
    const space = element.scrollHeight - element.scrollTop - element.clientHeight;
    const follow = space < 40;
    for (const entry of this.#changed) this.#write(entry);
    this.#changed.clear();
    const batch = this.#waiting.splice(0, BATCH_SIZE);
    if (this.#skipped) this.#timer = setTimeout(() => this.#schedule(), FLOOD_DELAY);
    // Keeps screen readers from reading a whole flood.
    element.setAttribute("aria-busy", String(this.#waiting.length > 0));
    const fragment = document.createDocumentFragment();
    if (this.#skipped && batch.length) {
      const text = `${this.#skipped.toLocaleString("en")} lines were too many to show`;
      fragment.append(this.#made({ name: "note", text }));
      this.#skipped = 0;
    }
    for (const entry of batch) fragment.append(this.#made(entry));
    element.append(fragment);
    while (element.childElementCount > MAX_SHOWN) element.firstElementChild.remove();
    if (follow) element.scrollTop = element.scrollHeight;
    if (this.#waiting.length && !this.#timer) this.#schedule();
    this.#onChange();
  }

  #made(entry) {
    const node = document.createElement("div");
    node.className = `entry ${entry.name}`;
    const tag = document.createElement("span");
    tag.className = "tag";
    tag.textContent = NAMES[entry.name];
    const text = document.createElement("pre");
    text.className = "text";
    node.append(tag, text);
    entry.node = node;
    this.#write(entry);
    return node;
  }

  #write(entry) {
    const { text } = entry;
    const nice = this.indent && !entry.open ? indented(text) : undefined;
    const whole = nice ?? text;
    let shown = visible(whole.slice(0, MAX_SHOWN_LENGTH));
    if (whole.length > MAX_SHOWN_LENGTH) {
      shown += `… (${text.length.toLocaleString("en")} characters in all)`;
    }
    entry.node.lastElementChild.textContent = shown;
    entry.node.classList.toggle("json", nice !== undefined);
  }

  /** Redraws all entries on the screen. */
  redraw() {
    for (const entry of this.#entries) if (entry.node?.isConnected) this.#write(entry);
  }

  clear() {
    this.#entries = [];
    this.#waiting = [];
    this.#open = {};
    this.#changed.clear();
    this.#size = this.#lost = this.#skipped = 0;
    this.#element.replaceChildren();
    this.#onChange();
  }

  /** Returns the kept entries as the lines of a file. */
  saved() {
    const head = this.#lost ? [`(${this.#lost} earlier lines were not kept)\n`] : [];
    return head.concat(
      this.#entries.map(
        ({ at, name, text }) => `${new Date(at).toISOString()} ${NAMES[name].padEnd(4)} ${text}\n`,
      ),
    );
  }

  /** Iterates over the kept text of all streams, for another view. */
  *said() {
    for (const { name, text, open } of this.#entries) {
      if (name in NAMES && name !== "note") yield { name, text: open ? text : `${text}\n` };
    }
  }
}
