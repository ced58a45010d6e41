// SPDX-License-Identifier: MIT
/**
 * Elements of a JSON text: objects and arrays that a button folds to one line.
 *
 * The text of the elements is that of the JSON text, with line breaks and indents where a
 * value is unfolded. An unfolded value is built when it is needed.
 */

import { made, visible } from "./elements.js";
import { isStructure, parse, tokens } from "./json.js";

const PREVIEWS = { outermost: 160, inner: 80 }; // characters of a folded value
const MAX_LEAF = 1000; // characters of another value
const STEP = 100; // members that are shown, and added by a button
const BUDGET = 8000; // characters that are unfolded at once
const LINE = 10; // characters that a line counts in addition
const KINDS = { "{": "Object", "[": "Array" };
const CLOSING = { "{": "}", "[": "]" };

/** Returns the outermost value of a JSON text, or undefined. */
export function structure(text, isUnfolded) {
  if (!isStructure(text)) return undefined;
  const start = text.search(/\S/);
  const value = { start, end: text.trimEnd().length, kind: text[start] };
  if (isUnfolded) {
    unfold(text, value);
    unfoldInner(value, BUDGET);
  }
  return value;
}

function unfold(text, value) {
  value.members ??= parse(text).members;
  value.open = value.members.length > 0;
  value.shown ??= STEP;
}

/** Unfolds a value and those in it while there is room. Returns the rest of the room. */
function unfoldInner(value, room) {
  const shown = value.members.slice(0, STEP);
  const size = ({ start, end, kind }) => Math.min(end - start, kind ? PREVIEWS.inner : MAX_LEAF);
  const cost = shown.reduce((sum, each) => sum + size(each) + LINE, 0);
  value.open = shown.length > 0 && cost <= room;
  value.shown = STEP;
  if (!value.open) return room;
  return shown.filter(({ kind }) => kind).reduce((left, each) => unfoldInner(each, left), room - cost);
}

/** Makes the element of a value. @param onFold called after the user has folded one */
export function makeValue(text, value, onFold, level = 0) {
  const node = made("span", "value");
  const again = (wanted = ":scope > .fold") => {
    const next = makeValue(text, value, onFold, level);
    node.replaceWith(next);
    (next.querySelector(wanted) ?? next.querySelector(".fold")).focus({ preventScroll: true });
    onFold();
  };
  const toggle = (open) => {
    if (open) unfold(text, value);
    else value.open = false;
    again();
  };
  const content = value.open
    ? unfolded(text, value, onFold, level, again)
    : folded(text, value, level);
  if (isFoldable(text, value)) node.append(foldButton(value, toggle));
  if (value.key) node.append(made("span", "key", visible(value.key)), ": ");
  node.append(...content);
  if (!value.open && isFoldable(text, value)) {
    node.classList.add("folded");
    node.addEventListener("click", ({ target }) => {
      if (target.closest(".value") === node && getSelection().isCollapsed) toggle(true);
    });
  }
  return node;
}

function isFoldable(text, { start, end, kind, members }) {
  return kind && (members ? members.length > 0 : /\S/.test(text.slice(start + 1, end - 1)));
}

function foldButton(value, toggle) {
  const button = made("button", "control fold");
  button.type = "button";
  button.tabIndex = -1; // the transcript leads to its controls
  button.setAttribute("aria-expanded", String(Boolean(value.open)));
  button.setAttribute("aria-label", [KINDS[value.kind], visible(value.key ?? "")].join(" ").trim());
  button.addEventListener("click", (event) => {
    event.stopPropagation();
    toggle(!value.open);
  });
  button.addEventListener("keydown", ({ key }) => {
    const wanted = { ArrowRight: true, ArrowLeft: false }[key];
    if (wanted !== undefined && wanted !== Boolean(value.open)) toggle(wanted);
  });
  return button;
}

/** Returns the nodes of a value in one line. */
function folded(text, { start, end, kind }, level) {
  const limit = kind ? PREVIEWS[level ? "inner" : "outermost"] : MAX_LEAF;
  const nodes = [];
  let room = limit;
  for (const token of tokens(text, start, end)) {
    const shown = visible(token.text.slice(0, room));
    nodes.push(token.kind ? made("span", token.kind, shown) : shown);
    room -= token.text.length;
    if (room < 0) break;
  }
  if (end - start <= limit) return nodes;
  const size = `(${(end - start).toLocaleString("en")} characters in all)`;
  return [...nodes, `…${CLOSING[kind] ?? ""} `, made("span", "quiet", size)];
}

/** Returns the nodes of a value with a line for each member. */
function unfolded(text, value, onFold, level, again) {
  const inner = `\n${"  ".repeat(level + 1)}`;
  const nodes = [value.kind];
  const shown = value.members.slice(0, value.shown);
  shown.forEach((member, index) => {
    const comma = index < value.members.length - 1 ? "," : "";
    nodes.push(inner, makeValue(text, member, onFold, level + 1), comma);
  });
  const hidden = value.members.length - shown.length;
  if (hidden) {
    const button = made("button", "control more", `… ${hidden.toLocaleString("en")} more`);
    button.type = "button";
    button.tabIndex = -1;
    button.addEventListener("click", () => {
      value.shown += STEP;
      again(":scope > .more");
    });
    nodes.push(inner, button);
  }
  return [...nodes, `\n${"  ".repeat(level)}`, CLOSING[value.kind]];
}
