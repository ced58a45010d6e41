// SPDX-License-Identifier: MIT
/**
 * What was said, line by line: kept within bounds, shown within smaller ones, saved.
 *
 * Law: text only ever becomes text of the page. A flood is shown at the pace of the
 * screen: what does not fit is counted, and the newest is what there is to see.
 */

import { Pace } from "./pace.js";

const KEPT = 8 << 20; // characters that can be saved
const ENTRY = 32; // characters that a line counts beside its own
const SHOWN = 600; // entries
const WIDEST = 4000; // characters of one entry on the screen
const LONGEST = 4 << 20; // characters of one line; a longer one is cut in two
const INDENTED = 100_000; // characters of the longest JSON text that is indented
const AT_ONCE = 200; // entries for one picture
const REST = 100; // ms between two pictures of a flood, which is to pass
const AHEAD = 4 << 20; // characters that may come before they are shown
export const NAMES = { stdin: "in", stdout: "out", stderr: "err", note: "note" };

/** A JSON object or array with line breaks; numbers stay as they are written. */
export function indented(text) {
  if (text.length > INDENTED || !/^\s*[[{]/.test(text)) return undefined;
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
    if (written.length > WIDEST) break; // no more is shown
  }
  return written;
}

/** What has no picture of its own, or would move others: controls, of text, too. */
const UNSEEN =
  /[\0-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\u{e0000}-\u{e007f}]/gu;

/** Control characters as pictures of themselves, or as their numbers. */
function visible(text) {
  return text.replace(UNSEEN, (found) => {
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
  #lost = 0; // entries that were let go of
  #open = {}; // the entry of each stream that has no end yet
  #waiting = []; // entries that are not on the screen
  #changed = new Set(); // those on the screen that have become longer
  #skipped = 0;
  #frame = 0;
  #timer = 0; // while nothing is drawn
  #ahead = 0; // characters since the last picture
  #pace = new Pace();

  constructor(element, onChange) {
    this.#element = element;
    this.#onChange = onChange;
  }

  get length() {
    return this.#entries.length;
  }

  /** Text of a stream; whatever follows its last line break stays open. */
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

  /** Waits for the screen, if it is behind. */
  drawn() {
    return this.#pace.keep(this.#ahead > AHEAD);
  }

  /** One whole entry. */
  line(name, text) {
    // What a stream says after this is a new line to the reader.
    for (const stream of Object.keys(this.#open)) this.#close(stream);
    this.add(name, `${text}\n`);
  }

  #append(name, piece, open) {
    let entry = this.#open[name];
    if (!entry) {
      entry = { at: Date.now(), name, text: "", open: true };
      this.#size += ENTRY;
      this.#entries.push(entry);
      this.#waiting.push(entry);
      this.#open[name] = entry;
    } else if (entry.node) {
      this.#changed.add(entry);
    }
    entry.text += piece;
    this.#size += piece.length;
    if (!open || entry.text.length > LONGEST) this.#close(name);
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
    if (this.#size > KEPT) {
      let count = 0;
      while (this.#size > KEPT / 2 && count < this.#entries.length - 1) {
        this.#size -= this.#entries[count].text.length + ENTRY;
        count += 1;
      }
      this.#entries.splice(0, count);
      this.#lost += count;
    }
    if (this.#waiting.length > SHOWN * 2) {
      const skipped = this.#waiting.length - SHOWN;
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
    const batch = this.#waiting.splice(0, AT_ONCE);
    if (this.#skipped) this.#timer = setTimeout(() => this.#schedule(), REST);
    // (A screen reader would read a flood for hours.)
    element.setAttribute("aria-busy", String(this.#waiting.length > 0));
    const fragment = document.createDocumentFragment();
    if (this.#skipped && batch.length) {
      const text = `${this.#skipped.toLocaleString("en")} lines were too many to show`;
      fragment.append(this.#made({ name: "note", text }));
      this.#skipped = 0;
    }
    for (const entry of batch) fragment.append(this.#made(entry));
    element.append(fragment);
    while (element.childElementCount > SHOWN) element.firstElementChild.remove();
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
    let shown = visible(whole.slice(0, WIDEST));
    if (whole.length > WIDEST) {
      shown += `… (${text.length.toLocaleString("en")} characters in all)`;
    }
    entry.node.lastElementChild.textContent = shown;
    entry.node.classList.toggle("json", nice !== undefined);
  }

  /** Writes everything on the screen anew. */
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

  /** All that is kept, as a file has it. */
  saved() {
    const head = this.#lost ? [`(${this.#lost} earlier lines were not kept)\n`] : [];
    return head.concat(
      this.#entries.map(
        ({ at, name, text }) => `${new Date(at).toISOString()} ${NAMES[name].padEnd(4)} ${text}\n`,
      ),
    );
  }

  /** What the application has said so far, for another view of it. */
  *said() {
    for (const { name, text, open } of this.#entries) {
      if (name in NAMES && name !== "note") yield { name, text: open ? text : `${text}\n` };
    }
  }
}
