// SPDX-License-Identifier: MIT
/**
 * An editable text with line numbers and marked ranges.
 *
 * The textarea holds the text. A mirror behind it has the same characters at the same
 * positions, so that ranges can be underlined and measured. A place is that of LSP,
 * { line, character } in UTF-16, as JavaScript counts. A place outside of the text is
 * replaced by the nearest valid one. Knows nothing of the language server.
 */

const whole = (number) => (Number.isInteger(number) ? number : 0);
const within = (number, most) => Math.min(Math.max(whole(number), 0), most);

export class Sheet {
  #area;
  #mirror;
  #gutter;
  #marks = []; // { start, end, severity }
  #drawn = []; // the source of each drawn line

  constructor(area, mirror, gutter) {
    this.#area = area;
    this.#mirror = mirror;
    this.#gutter = gutter;
    this.draw();
  }

  get text() {
    return this.#area.value;
  }

  get caret() {
    return this.#area.selectionEnd;
  }

  // Places

  place(offset) {
    const before = this.text.slice(0, offset).split("\n");
    return { line: before.length - 1, character: before.at(-1).length };
  }

  offset(place) {
    const rows = this.text.split("\n");
    if (whole(place?.line) >= rows.length) return this.text.length;
    const line = within(place?.line, rows.length - 1);
    const before = rows.slice(0, line).reduce((sum, row) => sum + row.length + 1, 0);
    return before + within(place?.character, rows[line].length);
  }

  // Changes

  select(start, end = start) {
    this.#area.focus();
    this.#area.setSelectionRange(start, end);
  }

  /** Replaces text as if it were typed, so that it can be undone. */
  replace(start, end, text) {
    this.select(start, end);
    document.execCommand("insertText", false, text);
  }

  // Marks

  /** Marks ranges. Severities are those of LSP: 1 is an error, 4 a hint. */
  mark(marks) {
    this.#marks = marks;
    this.draw();
  }

  /** Draws the current text. Unchanged lines are not redrawn. */
  draw() {
    const rows = this.text.split("\n");
    const marks = rows.map(() => []);
    for (const { start, end, severity } of this.#marks) {
      const [from, to] = [this.place(this.offset(start)), this.place(this.offset(end))];
      for (let line = from.line; line <= to.line; line += 1) {
        const length = rows[line].length;
        const first = line === from.line ? Math.min(from.character, length - 1) : 0;
        const last = line === to.line ? to.character : length;
        marks[line].push([Math.max(first, 0), Math.max(last, first + 1), severity]);
      }
    }
    while (this.#drawn.length > rows.length) {
      this.#drawn.pop();
      this.#mirror.lastChild.remove();
      this.#gutter.lastChild.remove();
    }
    rows.forEach((row, line) => this.#drawLine(line, row, marks[line]));
  }

  #drawLine(line, row, marks) {
    const source = JSON.stringify([row, marks]);
    if (this.#drawn[line] === source) return;
    if (line === this.#drawn.length) {
      this.#mirror.append(document.createElement("div"));
      this.#gutter.append(document.createElement("div"));
      this.#gutter.lastChild.textContent = line + 1;
    }
    this.#drawn[line] = source;
    this.#mirror.children[line].replaceChildren(...pieces(row, marks));
    const worst = Math.min(...marks.map(([, , severity]) => severity));
    this.#gutter.children[line].className = marks.length ? `marked severity-${worst}` : "";
  }

  // Measures

  /** The position of a character: { left, top, bottom } in the window. */
  rectangle(offset) {
    const { line, character } = this.place(offset);
    const row = this.#mirror.children[line];
    const { left, top, bottom } = row.getBoundingClientRect();
    return { left: character ? extent(row, character) : left, top, bottom };
  }

  /** The offset of the character at a position in the window, or null. */
  at(x, y) {
    const rows = this.#mirror.children;
    const box = rows[0].getBoundingClientRect();
    const line = Math.floor((y - box.top) / box.height);
    const row = rows[line];
    const length = row?.textContent.length;
    if (!length || x < box.left || x >= extent(row, length)) return null;
    let [low, high] = [0, length - 1];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (x < extent(row, middle + 1)) high = middle;
      else low = middle + 1;
    }
    return this.offset({ line, character: low });
  }
}

/** Yields text nodes, and elements for marked ranges. The most severe mark wins. */
function* pieces(row, marks) {
  const cuts = new Set([0, row.length]);
  for (const [first, last] of marks) cuts.add(first).add(Math.min(last, row.length));
  const sorted = [...cuts].sort((one, other) => one - other);
  for (const [index, from] of sorted.slice(0, -1).entries()) {
    const text = row.slice(from, sorted[index + 1]);
    const over = marks.filter(([first, last]) => first <= from && from < last);
    if (!over.length) {
      yield document.createTextNode(text);
      continue;
    }
    const piece = document.createElement("span");
    piece.className = `severity-${Math.min(...over.map(([, , severity]) => severity))}`;
    piece.textContent = text;
    yield piece;
  }
}

/** The right edge of the first `length` characters of a line. */
function extent(row, length) {
  const range = document.createRange();
  range.setStart(row, 0);
  let left = length;
  for (const piece of row.childNodes) {
    const text = piece.firstChild ?? piece;
    range.setEnd(text, Math.min(left, text.length));
    if (left <= text.length) break;
    left -= text.length;
  }
  return range.getBoundingClientRect().right;
}
