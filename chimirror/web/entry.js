// SPDX-License-Identifier: MIT
/** Elements of the transcript: a line of a stream, or the header of a session. */

import { copies } from "./copy.js";

export const MAX_SHOWN_LENGTH = 4000; // characters of one entry on the screen
const MAX_ID_LENGTH = 80; // characters of the id of a session on the screen
export const NAMES = { stdin: "in", stdout: "out", stderr: "err", note: "note" };

/** Characters without a glyph, and control characters that move others. */
const INVISIBLE =
  /[\0-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\u{e0000}-\u{e007f}]/gu;

/** Shows control characters as symbols or code points. */
export function visible(text) {
  return text.replace(INVISIBLE, (found) => {
    const code = found.codePointAt(0);
    if (code < 0x20) return String.fromCharCode(0x2400 + code);
    if (code === 0x7f) return "\u2421";
    return `‹U+${code.toString(16).toUpperCase().padStart(4, "0")}›`;
  });
}

export function made(tag, className, text = "") {
  const element = document.createElement(tag);
  element.className = className;
  element.textContent = text;
  return element;
}

/** Makes the element of an entry and writes its text. */
export function makeEntry(entry, options) {
  if (entry.name === "session") return makeHeader(entry);
  const node = made("div", `entry ${entry.name}`);
  node.append(made("span", "tag", NAMES[entry.name]), made("pre", "text"));
  entry.node = node;
  writeEntry(entry, options);
  return node;
}

/** Writes the text of an entry that has become longer or is shown differently. */
export function writeEntry(entry, options) {
  if (entry.name === "session") return writeResult(entry);
  const { text } = entry;
  const nice = options.indent && !entry.open ? options.indented(text) : undefined;
  const whole = nice ?? text;
  let shown = visible(whole.slice(0, MAX_SHOWN_LENGTH));
  if (whole.length > MAX_SHOWN_LENGTH) {
    shown += `… (${text.length.toLocaleString("en")} characters in all)`;
  }
  entry.node.lastElementChild.textContent = shown;
  entry.node.classList.toggle("json", nice !== undefined);
}

function makeHeader(entry) {
  const { at, session } = entry;
  const node = made("div", "entry session");
  node.append(made("h3", "application", visible(session.label)));
  if (session.id) {
    const id = made("span", "id");
    const button = made("button", "control", "Copy id");
    button.type = "button";
    button.tabIndex = -1; // the transcript leads to its controls
    copies(button, session.id);
    id.append(made("code", "", visible(session.id.slice(0, MAX_ID_LENGTH))), button);
    node.append(id);
  }
  const time = made("time", "", new Date(at).toLocaleString("sv"));
  time.dateTime = new Date(at).toISOString();
  node.append(time, made("span", "result"));
  entry.node = node;
  writeResult(entry);
  return node;
}

function writeResult({ node, session }) {
  node.lastElementChild.textContent = visible(session.result.slice(0, MAX_SHOWN_LENGTH));
  node.lastElementChild.dataset.state = session.state;
}

/** Returns the line of a header in a file. */
export function headerText({ label, id, framing, result }) {
  const which = id ? `Session ${id}` : "Session";
  return `${which} of ${label} (${framing}): ${result}`;
}
