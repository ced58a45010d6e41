// SPDX-License-Identifier: MIT
/**
 * Colours and attributes of a text with escape sequences (ECMA-48, SGR).
 *
 * All other sequences are removed. Colours keep a contrast of 4.5 to 1 (WCAG 2.2, 1.4.3)
 * on light and dark pages: the style sheet chooses. Knows nothing of elements.
 */

const SCAN = 1 << 16; // characters of a text that are read for the screen
const MAX_PIECES = 400; // the text after them has no colours
const MAX_PARAMETERS = 128; // characters of one SGR sequence
const CONTRAST = 4.6; // the page rounds colours
/** Backgrounds of the transcript, as in console.css. */
const PAGES = {
  light: { stdout: [255, 255, 255], stderr: [253, 240, 238] },
  dark: { stdout: [18, 27, 27], stderr: [42, 23, 21] },
};
const TEXTS = {
  light: { stdout: [28, 38, 38], stderr: [179, 38, 30] },
  dark: { stdout: [223, 233, 232], stderr: [255, 138, 128] },
};
const BASIC = (
  "000000 c93b32 3a9a50 b58a00 3470bf a650ad 1f9aa3 d5dddc " +
  "7a8685 ff6b60 5fd07f f0c83c 6fb0ff dd8ae4 5fd9e0 ffffff"
)
  .split(" ")
  .map((hex) => [0, 2, 4].map((at) => parseInt(hex.slice(at, at + 2), 16)));

/** A control sequence, a string (OSC, DCS, SOS, PM, APC), or another sequence. */
const SEQUENCE =
  /\x1b\[([0-?]*)([ -/]*)([@-~])|\x1b[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b[ -/]*[0-OQ-WYZ\\`-~]/g;
const RESETS = ["\x1b[0m", "\x1b[m"];
/** An incomplete sequence at the end of a text that goes on. */
const INCOMPLETE = /\x1b(?:\[[0-?]*[ -/]*|[\]PX^_][^\x07\x1b]*\x1b?|[ -/]*)$/;

/** Whether a text has a part that is not read for the screen. */
export function isUnread(text) {
  return text.length > SCAN;
}

/** Splits a text into pieces ({ text, style }). @param style the style at its beginning */
export function pieces(text, style, isOpen = false) {
  let read = text.slice(0, SCAN);
  if (isOpen || read.length < text.length) read = read.replace(INCOMPLETE, "");
  const found = [];
  let from = 0;
  for (const match of read.matchAll(SEQUENCE)) {
    if (match.index > from) found.push({ text: read.slice(from, match.index), style });
    from = match.index + match[0].length;
    style = styleAfter(style, match);
  }
  if (from < read.length) found.push({ text: read.slice(from), style });
  if (found.length <= MAX_PIECES) return found;
  const rest = found.splice(MAX_PIECES).map((piece) => piece.text);
  return [...found, { text: rest.join("") }];
}

/** Returns the text without escape sequences. */
export function plain(text, isOpen = false) {
  if (!text.includes("\x1b")) return text;
  const read = text.slice(0, SCAN).replace(SEQUENCE, "");
  return isOpen || text.length > SCAN ? read.replace(INCOMPLETE, "") : read;
}

/** Returns the style after a text. */
export function endStyle(text, style) {
  const reset = Math.max(...RESETS.map((sequence) => text.lastIndexOf(sequence)));
  const read = text.slice(Math.max(reset, 0));
  if (!read.includes("\x1b[")) return style;
  for (const match of read.matchAll(SEQUENCE)) style = styleAfter(style, match);
  return style;
}

function styleAfter(style, [, parameters, intermediate, final]) {
  if (final !== "m" || intermediate || parameters.length > MAX_PARAMETERS) return style;
  if (/[<=>?]/.test(parameters)) return style;
  const changed = { ...style };
  const codes = parameters.split(";");
  while (codes.length) apply(changed, codes);
  return Object.keys(changed).length ? changed : undefined;
}

const SWITCHES = { 1: "bold", 3: "italic", 4: "underline", 7: "inverse", 9: "strike" };
const OFF = { 21: "", 22: "bold", 23: "italic", 24: "underline", 27: "inverse", 29: "strike" };

/** Applies the first of the codes, and removes it with its parameters. */
function apply(style, codes) {
  const [first, ...parts] = codes.shift().split(":");
  const code = Number(first);
  if (code === 0) for (const key of Object.keys(style)) delete style[key];
  else if (code === 4 && parts[0] === "0") delete style.underline;
  else if (SWITCHES[code]) style[SWITCHES[code]] = true;
  else if (code === 21) style.underline = true;
  else if (OFF[code]) delete style[OFF[code]];
  else if (code === 38 || code === 48 || code === 58) {
    const colour = extended(parts.length ? parts : codes, parts.length > 0);
    if (colour && code !== 58) style[code === 38 ? "front" : "back"] = colour;
  } else if (code === 39) delete style.front;
  else if (code === 49) delete style.back;
  else if (code >= 30 && code < 38) style.front = BASIC[code - 30];
  else if (code >= 40 && code < 48) style.back = BASIC[code - 40];
  else if (code >= 90 && code < 98) style.front = BASIC[code - 82];
  else if (code >= 100 && code < 108) style.back = BASIC[code - 92];
}

/** Reads a colour of the 256, or of red, green and blue. */
function extended(codes, isNested) {
  const kind = codes.shift();
  const isByte = (each) => Number.isInteger(each) && each >= 0 && each < 256;
  if (kind === "5") {
    const index = Number(codes.shift());
    return isByte(index) ? indexed(index) : undefined;
  }
  if (kind !== "2") return undefined;
  if (isNested && codes.length > 3) codes.shift(); // the colour space
  const colour = codes.splice(0, 3).map(Number);
  return colour.length === 3 && colour.every(isByte) ? colour : undefined;
}

function indexed(index) {
  if (index < 16) return BASIC[index];
  if (index >= 232) return Array(3).fill(8 + 10 * (index - 232));
  const level = (each) => (each ? 55 + 40 * each : 0);
  const at = index - 16;
  return [Math.floor(at / 36), Math.floor(at / 6) % 6, at % 6].map(level);
}

/** Relative luminance (WCAG 2.2). */
function luminance(colour) {
  const [red, green, blue] = colour.map((each) => {
    const part = each / 255;
    return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
}

export function contrast(one, other) {
  const [dark, light] = [luminance(one), luminance(other)].sort((a, b) => a - b);
  return (light + 0.05) / (dark + 0.05);
}

/** Returns the colour, closer to black or white where it could not be read. */
function readable(colour, back) {
  const end = luminance(back) > 0.18 ? 0 : 255;
  let found = colour;
  for (let part = 1; contrast(found, back) < CONTRAST && part <= 20; part += 1) {
    found = colour.map((each) => Math.round(each + ((end - each) * part) / 20));
  }
  return found;
}

/** Returns the colours of a style on a light or dark page. `back` may be absent. */
export function colours({ front, back, inverse }, stream, look) {
  const page = PAGES[look][stream] ?? PAGES[look].stdout;
  const text = TEXTS[look][stream] ?? TEXTS[look].stdout;
  let [fore, behind] = [front ?? text, back];
  if (inverse) [fore, behind] = [back ?? page, front ?? text];
  return { front: readable(fore, behind ?? page), back: behind };
}
