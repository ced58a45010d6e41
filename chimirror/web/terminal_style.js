// SPDX-License-Identifier: MIT
/**
 * Colours of the terminal, and style elements of xterm.js under the policy of the page.
 *
 * It must be imported before xterm.js.
 */

const THEMES = {
  light: {
    background: "#ffffff",
    foreground: "#1c2626",
    cursor: "#155e63",
    cursorAccent: "#ffffff",
    selectionBackground: "#b9dcd9",
    red: "#b3261e",
    green: "#1b6e3c",
    yellow: "#7a5900",
    blue: "#1b5fa8",
    magenta: "#8a3a8f",
    cyan: "#0b6b73",
    white: "#5b6666",
    brightBlack: "#5b6666",
    brightWhite: "#1c2626",
  },
  dark: {
    background: "#0f1717",
    foreground: "#dfe9e8",
    cursor: "#8fe3d4",
    cursorAccent: "#0f1717",
    selectionBackground: "#2c5552",
    red: "#ff8a80",
    blue: "#7db4ff",
    brightBlack: "#93a3a2",
  },
};

/**
 * xterm.js writes style elements and attributes, which the page's policy forbids. The
 * policy allows the same through the object model, so these are replaced. (The option of
 * xterm.js for its own document does not cover all of them.)
 */
const create = document.createElement.bind(document);
document.createElement = (tag, options) => {
  const element = create(tag === "style" ? "span" : tag, options);
  if (tag === "style") {
    const sheet = new CSSStyleSheet();
    document.adoptedStyleSheets.push(sheet);
    element.hidden = true;
    Object.defineProperty(element, "textContent", { set: (text) => sheet.replaceSync(text) });
  }
  element.setAttribute = (name, value) => {
    if (name === "style") element.style.cssText = value;
    else Element.prototype.setAttribute.call(element, name, value);
  };
  return element;
};

/** Sets the colours of a terminal of xterm.js, now and when the user changes them. */
export function followColours(xterm) {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const set = () => (xterm.options.theme = THEMES[dark.matches ? "dark" : "light"]);
  dark.addEventListener("change", set);
  set();
}
