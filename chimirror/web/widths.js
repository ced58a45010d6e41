// SPDX-License-Identifier: MIT
/**
 * Widths of characters in a terminal, in two ways.
 *
 * GRAPHEMES: several code points that form one character share its cells. CODE_POINTS:
 * each has the width that wcwidth(3) of glibc gives, by which programs such as bash place
 * the cursor. Both correct the addon of xterm.js, whose data end before Unicode 14.
 */

import { UnicodeGraphemesAddon } from "./vendor/addon-unicode-graphemes.mjs";

export const GRAPHEMES = "graphemes";
export const CODE_POINTS = "code points";

const FLAG_HALF = /^[\u{1f1e6}-\u{1f1ff}]$/u;
const EMOJI = /^\p{Emoji_Presentation}$/u;
const MARK = /^[\p{Mn}\p{Me}]$/u;
const FORMAT = /^\p{Cf}$/u;
const SHOWN_FORMAT = /^[\xad\u0600-\u0605\u06dd\u070f\u0890\u0891\u08e2\u{110bd}\u{110cd}]$/u;
const JAMO = /^[\u1160-\u11ff\ud7b0-\ud7c6\ud7cb-\ud7fb]$/u; // vowels and final consonants
const WIDE = /^[\u302e\u302f\u3248-\u324f\u4dc0-\u4dff\u{1aff0}-\u{1afff}\u{1b000}-\u{1b2ff}]$/u;
const SMILEY = 0x1f600;
const ACUTE = 0x301;
const CACHED = 0x20000; // code points: the two planes of nearly all texts

// The value of xterm.js for a character: kind << 3 | width << 1 | joins the preceding one.
const widthOf = (properties) => (properties >> 1) & 3;
const joins = (properties) => (properties & 1) === 1;

/** Remembers the results of a function of a code point, each at most 254. */
function cached(find) {
  const found = new Uint8Array(CACHED);
  return (code) => {
    if (code >= CACHED) return find(code);
    return (found[code] ||= find(code) + 1) - 1;
  };
}

/** Returns the providers of the addon by version. */
function provided() {
  const providers = {};
  const register = (provider) => (providers[provider.version] = provider);
  new UnicodeGraphemesAddon().activate({ unicode: { register } });
  return providers;
}

const { "15-graphemes": clusters, 15: points } = provided();

/** Returns 1 for an emoji and 2 for a mark that the addon may not know, else 0. */
const kindOf = cached((code) => {
  const char = String.fromCodePoint(code);
  if (FLAG_HALF.test(char)) return 0;
  if (EMOJI.test(char)) return points.wcwidth(code) === 1 ? 1 : 0;
  return MARK.test(char) && points.wcwidth(code) === 1 ? 2 : 0;
});

class Graphemes {
  version = GRAPHEMES;

  wcwidth(code) {
    return clusters.wcwidth([code, SMILEY, ACUTE][kindOf(code)]);
  }

  /** Unknown characters have the properties of a known one of their kind. */
  charProperties(code, preceding) {
    const known = code < ACUTE ? code : [code, SMILEY, ACUTE][kindOf(code)];
    return clusters.charProperties(known, preceding);
  }
}

class CodePoints {
  version = CODE_POINTS;

  wcwidth = cached((code) => {
    const char = String.fromCodePoint(code);
    if (code < 32 || MARK.test(char) || JAMO.test(char)) return 0;
    if (FORMAT.test(char) && !SHOWN_FORMAT.test(char)) return 0;
    if ((EMOJI.test(char) && !FLAG_HALF.test(char)) || WIDE.test(char)) return 2;
    return widthOf(points.charProperties(code, 0));
  });

  /** A character without width joins the cell before it, also after a cursor movement. */
  charProperties(code, preceding) {
    const width = this.wcwidth(code);
    return width ? width << 1 : (widthOf(preceding) << 1) | 1;
  }
}

const graphemes = new Graphemes();

/** Adds both to the versions of a terminal of xterm.js. */
export function register(unicode) {
  unicode.register(graphemes);
  unicode.register(new CodePoints());
}

/** Returns the number of cells of a text after a control character, with GRAPHEMES. */
export function cells(text) {
  if (text.length === 1 && text < "\x7f") return 1;
  let [sum, preceding] = [0, 0];
  for (const char of text) {
    const properties = graphemes.charProperties(char.codePointAt(0), preceding);
    sum += widthOf(properties) - (joins(properties) ? widthOf(preceding) : 0);
    preceding = properties;
  }
  return sum;
}
