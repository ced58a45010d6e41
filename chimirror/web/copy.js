// SPDX-License-Identifier: MIT
/** Copies text to the clipboard, also where a page has no access to it. */

/** Returns whether the text was copied. Must be called for an action of the user. */
export async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return copySelected(text); // without TLS, or without the permission
  }
}

function copySelected(text) {
  const focused = document.activeElement;
  const field = document.createElement("textarea");
  field.className = "copied";
  field.value = text;
  // Elements outside an open dialog cannot be selected.
  (focused?.closest("dialog") ?? document.body).append(field);
  field.select();
  const done = document.execCommand("copy");
  field.remove();
  focused?.focus({ preventScroll: true });
  return done;
}

/** Makes a button copy a text. Its label says so until it loses the focus. */
export function copies(button, text) {
  const label = button.textContent;
  button.addEventListener("click", async () => {
    const value = typeof text === "function" ? text() : text;
    button.textContent = (await copy(value)) ? "Copied" : "Cannot copy";
  });
  button.addEventListener("blur", (event) => {
    // The fallback moves the focus for a moment.
    if (!event.relatedTarget?.classList.contains("copied")) button.textContent = label;
  });
}
