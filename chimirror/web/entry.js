// SPDX-License-Identifier: MIT
/** Elements of the transcript: a line of a stream, or the header of a session. */

import { colours, isUnread, pieces, plain } from "./ansi.js";
import { copies } from "./copy.js";
import { made, visible } from "./elements.js";
import { makeValue, structure } from "./folds.js";

export const MAX_SHOWN_LENGTH = 4000; // characters of one entry on the screen
const MAX_ID_LENGTH = 80; // characters of the id of a session on the screen
const MAX_COLOURS = 1000; // combinations that are kept
export const OUTPUT = { stdout: true, stderr: true };
export const NAMES = { stdin: "in", stdout: "out", stderr: "err", note: "note" };

/** Makes the element of an entry and writes its text. */
export function makeEntry(entry, options) {
  if (entry.name === "session") return makeHeader(entry);
  const node = made("div", `entry ${entry.name}`);
  const tag = made("span", "tag", NAMES[entry.name]);
  node.append(made("time", "at", timeOfDay(entry.at)), tag, made("pre", "text"));
  entry.node = node;
  writeEntry(entry, options);
  return node;
}

/** Writes the text of an entry that has become longer or is shown differently. */
export function writeEntry(entry, options) {
  if (entry.name === "session") return writeResult(entry);
  const target = entry.node.lastElementChild;
  const { text } = entry;
  const isRead = entry.open || entry.name === "note";
  const value = isRead ? undefined : (entry.value ??= structure(text, options.unfold));
  entry.node.classList.toggle("json", value !== undefined);
  if (value) target.replaceChildren(makeValue(text, value, options.onFold));
  else if (!(entry.name in OUTPUT)) target.textContent = limited(text, text);
  else if (!options.colours) target.textContent = limited(plain(text, entry.open), text);
  else if (!entry.style && !text.includes("\x1b")) target.textContent = limited(text, text);
  else target.replaceChildren(...styled(entry));
}

function timeOfDay(at) {
  const time = new Date(at);
  const milliseconds = String(time.getMilliseconds()).padStart(3, "0");
  return `${time.toTimeString().slice(0, 8)}.${milliseconds}`;
}

function rest(text) {
  return `… (${text.length.toLocaleString("en")} characters in all)`;
}

/** Returns the part of a text that is shown. */
function limited(shown, text) {
  const start = visible(shown.slice(0, MAX_SHOWN_LENGTH));
  return shown.length > MAX_SHOWN_LENGTH || isUnread(text) ? start + rest(text) : start;
}

/** Returns the nodes of a text with colours. */
function styled({ name, text, style, open }) {
  const nodes = [];
  let room = MAX_SHOWN_LENGTH;
  for (const piece of pieces(text, style, open)) {
    const shown = visible(piece.text.slice(0, room));
    nodes.push(piece.style ? span(shown, piece.style, name) : shown);
    if (piece.text.length > room) return [...nodes, rest(text)];
    room -= piece.text.length;
  }
  return isUnread(text) ? [...nodes, rest(text)] : nodes;
}

function span(text, style, stream) {
  const attributes = ["bold", "italic", "underline", "strike"].filter((each) => style[each]);
  const element = made("span", ["sgr", ...attributes].join(" "), text);
  for (const [name, value] of properties(style, stream)) element.style.setProperty(name, value);
  return element;
}

const kept = new Map();

/** Returns the properties of a style sheet that has the colours. */
function properties(style, stream) {
  const { front, back, inverse = false } = style;
  if (!front && !back && !inverse) return [];
  const key = [stream, front, back, inverse].join(";");
  if (kept.size > MAX_COLOURS) kept.clear();
  if (!kept.has(key)) {
    const found = ["light", "dark"].flatMap((look) => {
      const both = colours(style, stream, look);
      const named = [[`--${look}`, `rgb(${both.front})`]];
      return both.back ? [...named, [`--${look}-back`, `rgb(${both.back})`]] : named;
    });
    kept.set(key, found);
  }
  return kept.get(key);
}

function makeHeader(entry) {
  const { at, session } = entry;
  const node = made("div", "entry session");
  node.append(made("h3", "application", visible(session.label)), made("span", "result"));
  if (session.id) {
    const id = made("span", "id");
    const button = made("button", "control", "Copy id");
    button.type = "button";
    button.tabIndex = -1; // the transcript leads to its controls
    copies(button, session.id);
    id.append(made("code", "", visible(session.id.slice(0, MAX_ID_LENGTH))), button);
    node.append(id);
  }
  const [date, clock] = new Date(at).toLocaleString("sv").split(" ");
  const time = made("time", "");
  time.append(made("span", "date", `${date} `), clock);
  time.dateTime = new Date(at).toISOString();
  node.append(time);
  entry.node = node;
  writeResult(entry);
  return node;
}

function writeResult({ node, session }) {
  const result = node.querySelector(".result");
  result.textContent = visible(session.result.slice(0, MAX_SHOWN_LENGTH));
  result.dataset.state = session.state;
}

/** Returns the line of a header in a file. */
export function headerText({ label, id, framing, result }) {
  const which = id ? `Session ${id}` : "Session";
  return `${which} of ${label} (${framing}): ${result}`;
}
