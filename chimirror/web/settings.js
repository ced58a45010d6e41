// SPDX-License-Identifier: MIT
/** Settings of the page, kept by the browser where it allows that. */

const PREFIX = "chimirror.console.";

function read(name) {
  try {
    return localStorage.getItem(PREFIX + name);
  } catch {
    return null; // the browser keeps nothing for this page
  }
}

function write(name, value) {
  try {
    localStorage.setItem(PREFIX + name, value);
  } catch {
    // It holds until the page is closed.
  }
}

/** Gives a checkbox its kept state, and calls `apply` with each state. */
export function remember(checkbox, apply) {
  const kept = read(checkbox.id);
  if (kept !== null) checkbox.checked = kept === "true";
  checkbox.addEventListener("change", () => {
    write(checkbox.id, String(checkbox.checked));
    apply(checkbox.checked);
  });
  apply(checkbox.checked);
}
