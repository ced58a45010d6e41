// SPDX-License-Identifier: MIT
/**
 * Transcript of sessions, line by line: kept and shown up to limits, and saved.
 *
 * All text is shown as text. Each session begins with a header. During a flood, the newest
 * lines are drawn at the rate of the screen, and the skipped lines are counted. While the
 * user reads earlier lines, they stay, and later lines wait.
 */

import { endStyle } from "./ansi.js";
import { handleControlKeys } from "./controls.js";
import { headerText, makeEntry, NAMES, OUTPUT, writeEntry } from "./entry.js";
import { Follow } from "./follow.js";
import { Pace } from "./pace.js";

const MAX_KEPT = 8 << 20; // characters that can be saved
const ENTRY_OVERHEAD = 32; // characters that each line counts in addition
const SHOWN = { entries: 600, elements: 10_000 }; // at most on the page
const READ = { entries: 1200, elements: 20_000 }; // while the user reads earlier entries
const MAX_LINE = 4 << 20; // characters of one line, longer ones are split
const BATCH_SIZE = 200; // entries for one drawing
const BATCH_LENGTH = 400_000; // characters for one drawing, except of the last entry
const BATCH_ELEMENTS = 1500; // elements for one drawing, except of the last entry
const FLOOD_DELAY = 100; // ms between two drawings during a flood
const MAX_AHEAD = 4 << 20; // received characters before a drawing

const owners = new WeakMap(); // the entry of each element
const sizeOf = (node) => node.querySelectorAll("*").length;
const isHeader = (node) => node.classList.contains("session");

export class Transcript {
  #options = { unfold: false, colours: true, onFold: () => this.#follow.keep() };
  #element;
  #onChange;
  #follow;
  #entries = []; // { at, name, text, style, open, ending, node } or { at, name, text, session, node }
  #session; // the header of the current session
  #size = 0;
  #lost = 0; // number of dropped entries
  #open = {}; // the unterminated entry of each stream
  #styles = {}; // of the next entry of each stream
  #waiting = []; // entries that are not drawn yet
  #changed = new Set(); // drawn entries that have become longer
  #skipped = 0;
  #frame = 0;
  #timer = 0; // delays drawing during a flood
  #ahead = 0; // characters since the last drawing
  #pace = new Pace();

  /** @param element the container @param button leads back to the end */
  constructor(element, button, onChange) {
    this.#element = element;
    this.#onChange = onChange;
    this.#follow = new Follow(element, button, () => this.#schedule());
    handleControlKeys(element);
  }

  /** Changes how entries are shown. @param name unfold or colours */
  set(name, value) {
    this.#options[name] = value;
    let elements = sizeOf(this.#element);
    for (const node of this.#fromView()) {
      const entry = owners.get(node);
      // Lines out of view stay as they are if there are too many elements.
      if (value && elements >= READ.elements) break;
      elements -= sizeOf(node);
      if (name === "unfold") delete entry.value;
      writeEntry(entry, this.#options);
      elements += sizeOf(node);
    }
    this.#follow.changed();
  }

  /** Returns the elements of lines: those in view and below, then those above, upwards. */
  #fromView() {
    const isLine = (node) => owners.has(node) && !isHeader(node);
    const drawn = [...this.#element.children].filter(isLine);
    const { top } = this.#element.getBoundingClientRect();
    const at = drawn.findIndex((node) => node.getBoundingClientRect().bottom > top);
    return [...drawn.slice(at), ...drawn.slice(0, at).reverse()];
  }

  showTimes(shown) {
    this.#element.classList.toggle("times", shown);
    this.#follow.changed();
  }

  get length() {
    return this.#entries.length;
  }

  /** Adds the header of a session. @param label the application, as text */
  begin(label, { id, framing }) {
    this.#closeAll();
    const session = { label, id: id && String(id), framing, state: "open", result: "running" };
    this.#styles = {};
    this.#session = { at: Date.now(), name: "session", text: "", session };
    this.#push(this.#session);
    this.#follow.resume();
  }

  /** Shows the result of the session in its header, and as the last entry. */
  end(state, result) {
    if (this.#session?.session.state === "open") {
      Object.assign(this.#session.session, { state, result });
      if (this.#session.node) this.#changed.add(this.#session);
    }
    this.line("note", result);
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

  #push(entry) {
    this.#size += ENTRY_OVERHEAD;
    this.#entries.push(entry);
    this.#waiting.push(entry);
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
    this.#closeAll();
    this.add(name, `${text}\n`);
  }

  /** Ends all open entries: later text of a stream begins a new one. */
  #closeAll() {
    for (const stream of Object.keys(this.#open)) this.#close(stream);
  }

  #append(name, piece, open) {
    let entry = this.#open[name];
    if (!entry) {
      const style = this.#styles[name];
      entry = { at: Date.now(), name, text: "", style, open: true, ending: "\n" };
      this.#push(entry);
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
    if (entry.text.endsWith("\r")) {
      entry.text = entry.text.slice(0, -1);
      entry.ending = "\r\n";
    }
    if (name in OUTPUT) this.#styles[name] = endStyle(entry.text, entry.style);
    delete this.#open[name];
    if (entry.node) this.#changed.add(entry);
  }

  #bound() {
    if (this.#size > MAX_KEPT) {
      let [count, size] = [0, this.#size];
      while (size > MAX_KEPT / 2 && count < this.#entries.length - 1) {
        size -= this.#entries[count].text.length + ENTRY_OVERHEAD;
        count += 1;
      }
      const removed = removeOldest(this.#entries, count);
      this.#size = size + (count - removed) * ENTRY_OVERHEAD;
      this.#lost += removed;
    }
    if (this.#waiting.length > SHOWN.entries * 2) {
      this.#skipped += removeOldest(this.#waiting, this.#waiting.length - SHOWN.entries);
    }
  }

  #draw() {
    this.#frame = this.#ahead = 0;
    this.#pace.reached();
    const element = this.#element;
    const isNew = this.#changed.size + this.#waiting.length > 0;
    for (const entry of this.#changed) if (entry.node) writeEntry(entry, this.#options);
    this.#changed.clear();
    const { following } = this.#follow;
    const room = following ? BATCH_SIZE : this.#roomToRead();
    const nodes = this.#make(Math.min(room, BATCH_SIZE));
    if (this.#skipped && nodes.length) {
      const text = `${this.#skipped.toLocaleString("en")} lines were too many to show`;
      nodes.unshift(makeEntry({ at: Date.now(), name: "note", text }, this.#options));
      this.#skipped = 0;
      this.#timer = setTimeout(() => this.#schedule(), FLOOD_DELAY);
    }
    element.append(...nodes);
    if (following) this.#removeShown();
    this.#follow.changed(isNew);
    const more = this.#waiting.length > 0 && room > 0;
    // Keeps screen readers from reading a whole flood.
    element.setAttribute("aria-busy", String(more));
    if (more && !this.#timer) this.#schedule();
    this.#onChange();
  }

  /** Returns how many entries may be added while the user reads earlier ones. */
  #roomToRead() {
    if (sizeOf(this.#element) >= READ.elements) return 0;
    return Math.max(0, READ.entries - this.#element.childElementCount);
  }

  /** Makes the elements of one drawing. @param most number of entries */
  #make(most) {
    const nodes = [];
    let [length, elements] = [0, 0];
    for (const entry of this.#waiting) {
      if (nodes.length >= most || length >= BATCH_LENGTH || elements >= BATCH_ELEMENTS) break;
      const node = makeEntry(entry, this.#options);
      owners.set(node, entry);
      nodes.push(node);
      length += entry.text.length;
      elements += sizeOf(node);
    }
    this.#waiting.splice(0, nodes.length);
    return nodes;
  }

  /** Removes the oldest entries on the screen, but not the header of the others. */
  #removeShown() {
    const element = this.#element;
    let { childElementCount: entries } = element;
    let elements = sizeOf(element);
    while (entries > SHOWN.entries || (elements > SHOWN.elements && entries > 2)) {
      const [first, second] = element.children;
      const oldest = isHeader(first) && !isHeader(second) ? second : first;
      if (oldest.contains(document.activeElement)) element.focus({ preventScroll: true });
      entries -= 1;
      elements -= 1 + sizeOf(oldest);
      oldest.remove();
      const entry = owners.get(oldest);
      if (entry) delete entry.node;
      if (entry) delete entry.value;
    }
  }

  clear() {
    this.#entries = [];
    this.#waiting = [];
    this.#open = {};
    this.#changed.clear();
    this.#size = this.#lost = this.#skipped = 0;
    this.#element.replaceChildren();
    this.#follow.resume();
    this.#onChange();
  }

  /** Returns the kept entries as the lines of a file. */
  saved() {
    const head = this.#lost ? [`(${this.#lost} earlier lines were not kept)\n`] : [];
    const line = ({ at, name, text, session }) => {
      const shown = session ? headerText(session) : text;
      const kind = NAMES[session ? "note" : name].padEnd(4);
      return `${new Date(at).toISOString()} ${kind} ${shown}\n`;
    };
    return head.concat(this.#entries.map(line));
  }

  /** Iterates over the kept text of all streams of the current session, for another view. */
  *said() {
    const begin = this.#entries.lastIndexOf(this.#session) + 1;
    for (const { name, text, open, ending } of this.#entries.slice(begin)) {
      if (name !== "note") yield { name, text: open ? text : text + ending };
    }
  }
}

/** Removes the first entries except the last header among them. Returns their number. */
function removeOldest(entries, count) {
  const removed = entries.splice(0, count);
  const header = removed.findLast(({ session }) => session);
  if (!header) return count;
  entries.unshift(header);
  return count - 1;
}
