// SPDX-License-Identifier: MIT
/**
 * What was said, line by line: kept within bounds, shown within smaller ones, saved.
 *
 * Law: text only ever becomes text of the page. A flood is shown at the pace of the
 * screen: what does not fit is counted, and the newest is what there is to see.
 */

const KEPT = 8 << 20; // characters that can be saved
const SHOWN = 600; // entries
const WIDEST = 4000; // characters of one entry on the screen
const LONGEST = 4 << 20; // characters of one line; a longer one is cut in two
const INDENTED = 100_000; // characters of the longest JSON text that is indented
const AT_ONCE = 200; // entries for one picture
export const NAMES = { stdin: "in", stdout: "out", stderr: "err", note: "note" };

/** A JSON object or array with line breaks; numbers stay as they are written. */
export function indented(text) {
  if (text.length > INDENTED || !/^\s*[[{]/.test(text)) return undefined;
  try {
    JSON.parse(text);
  } catch {
    return undefined;
  }
  const tokens = text.match(/"(?:[^"\\]|\\.)*"|[[\]{}:,]|[^\s[\]{}:,"]+/g);
  let depth = 0;
  let written = "";
  tokens.forEach((token, index) => {
    const line = `\n${"  ".repeat(Math.min(depth, 40))}`;
    const opened = /^[[{]$/.test(tokens[index - 1] ?? "");
    if (/^[\]}]$/.test(token)) {
      depth -= 1;
      written += (opened ? "" : `\n${"  ".repeat(Math.min(depth, 40))}`) + token;
    } else if (token === ",") written += token;
    else if (token === ":") written += ": ";
    else {
      if (opened || tokens[index - 1] === ",") written += line;
      written += token;
      if (/^[[{]$/.test(token)) depth += 1;
    }
  });
  return written;
}

/** Control characters as pictures of themselves. */
function visible(text) {
  return text.replace(/[\0-\x08\x0b-\x1f\x7f]/g, (found) =>
    String.fromCharCode(found === "\x7f" ? 0x2421 : 0x2400 + found.charCodeAt(0)),
  );
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

  constructor(element, onChange) {
    this.#element = element;
    this.#onChange = onChange;
  }

  get length() {
    return this.#entries.length;
  }

  /** Text of a stream; whatever follows its last line break stays open. */
  add(name, text) {
    const pieces = text.split("\n");
    pieces.forEach((piece, index) => {
      const last = index === pieces.length - 1;
      if (last && !piece) return;
      this.#append(name, piece, last);
    });
    this.#bound();
    this.#frame ||= requestAnimationFrame(() => this.#draw());
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
      entry = { at: new Date(), name, text: "", open: true };
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
        this.#size -= this.#entries[count].text.length;
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
    this.#frame = 0;
    const element = this.#element;
    const space = element.scrollHeight - element.scrollTop - element.clientHeight;
    const follow = space < 40;
    for (const entry of this.#changed) this.#write(entry);
    this.#changed.clear();
    const batch = this.#waiting.splice(0, AT_ONCE);
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
    if (this.#waiting.length) this.#frame = requestAnimationFrame(() => this.#draw());
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
        ({ at, name, text }) => `${at.toISOString()} ${NAMES[name].padEnd(4)} ${text}\n`,
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
