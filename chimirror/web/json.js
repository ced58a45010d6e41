// SPDX-License-Identifier: MIT
/**
 * Structure of a JSON text (RFC 8259), as positions in the text.
 *
 * The text stays as it is: numbers keep their notation. Knows nothing of elements.
 */

const MAX_LENGTH = 100_000; // characters; longer texts are shown as they are
const MAX_LEVELS = 64; // values below are shown as they are
const TOKEN = /"[^"\\]*(?:\\.[^"\\]*)*"|[[\]{}:,]|[^\s[\]{}:,"]+/g;

/** Whether the text is an object or array that is shown as one. */
export function isStructure(text) {
  if (text.length > MAX_LENGTH || !/^\s*[[{]/.test(text)) return false;
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}

/**
 * Returns the outermost value of a JSON text.
 *
 * A value has its start, its end and, in an object, its key. An object or array has its
 * kind ("{" or "[") and its members.
 */
export function parse(text) {
  const root = { members: [] };
  const stack = [root];
  let [depth, key] = [0, undefined]; // depth below the last level
  for (const { 0: token, index } of text.matchAll(TOKEN)) {
    const end = index + token.length;
    const top = stack.at(-1);
    if (token === "{" || token === "[") {
      if (stack.length > MAX_LEVELS) {
        if (depth === 0) top.members.push({ key, start: index, end });
        depth += 1;
      } else {
        const value = { key, start: index, end, kind: token, members: [] };
        top.members.push(value);
        stack.push(value);
      }
      key = undefined;
    } else if (token === "}" || token === "]") {
      if (depth) depth -= 1;
      else stack.pop();
      if (depth === 0) (stack.at(-1) === top ? top.members.at(-1) : top).end = end;
    } else if (!depth && token !== ":" && token !== ",") {
      if (top.kind === "{" && key === undefined) key = token;
      else {
        top.members.push({ key, start: index, end });
        key = undefined;
      }
    }
  }
  return root.members[0];
}

/** Iterates over the tokens and the space between them: { kind, text }. */
export function* tokens(text, start, end) {
  let from = start;
  for (const { 0: token, index } of text.slice(start, end).matchAll(TOKEN)) {
    const at = start + index;
    if (at > from) yield { kind: "", text: text.slice(from, at) };
    from = at + token.length;
    yield { kind: kindOf(token, text, from), text: token };
  }
  if (from < end) yield { kind: "", text: text.slice(from, end) };
}

/** @param end the position after the token */
function kindOf(token, text, end) {
  if (token.startsWith('"')) return isKey(text, end) ? "key" : "string";
  if (/^[-\d]/.test(token)) return "number";
  return /^[tfn]/.test(token) ? "literal" : "";
}

function isKey(text, end) {
  while (/[ \t\r\n]/.test(text[end])) end += 1;
  return text[end] === ":";
}
